// What lies between pages and nodes: a line that may be slow, a balancer whose nodes die.

import { connect, createServer, type AddressInfo, type Socket } from "node:net";

export interface Path {
  /** Host and port of this end. */
  addr: string;
  /** How many bytes a second come through to the client, over all connections; Infinity at first. The other way is not slowed. */
  rate: number;
  /** How many have come since the beginning. */
  passed: number;
  /** While it is set nothing comes through: connections that there are break, and new ones do at once. */
  down: boolean;
  /** Breaks all connections that there are. */
  breakAll(): void;
  close(): void;
}

interface Pair {
  client: Socket;
  server: Socket;
}

/** So often bytes are let through on a slow path, ms; so much is saved up at most, s; so much goes at a time, so that connections take turns, bytes. */
const stepMillis = 10;
const burst = 0.2;
const turnBytes = 1400;

/** Opens a path to the first of these nodes that can be reached. Connections share what there is evenly. */
export async function path(...nodes: readonly string[]): Promise<Path> {
  const pairs: Pair[] = [];
  let budget = 0;
  const pump = (): void => {
    for (let idle = 0; pairs.length > 0 && idle < pairs.length && budget >= 1; ) {
      const pair = pairs.shift()!;
      pairs.push(pair);
      const { client, server } = pair;
      const most = p.rate === Infinity ? server.readableLength : Math.min(Math.floor(budget), turnBytes, server.readableLength);
      const chunk = most === 0 || client.writableNeedDrain ? null : (server.read(most) as Buffer | null);
      if (!chunk) {
        idle++;
        continue;
      }
      idle = 0;
      budget -= chunk.length;
      p.passed += chunk.length;
      client.write(chunk);
    }
  };
  const listener = createServer({ pauseOnConnect: true }, (client) => {
    client.on("error", () => {});
    if (p.down) return void client.destroy();
    const reach = (i: number): void => {
      if (i === nodes.length) return void client.destroy();
      const [host, port] = nodes[i]!.split(":");
      const server = connect({ host: host!, port: Number(port), noDelay: true });
      const pair = { client, server };
      server.on("error", () => {});
      server.on("connect", () => {
        pairs.push(pair);
        client.setNoDelay(true).pipe(server);
        client.on("drain", pump);
        server.on("readable", pump);
        client.on("close", () => {
          pairs.splice(pairs.indexOf(pair), 1);
          server.destroy();
        });
        if (client.destroyed) server.destroy();
      });
      server.on("close", () => (pairs.includes(pair) ? client.destroy() : client.destroyed || reach(i + 1)));
    };
    reach(0);
  });
  let last = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    budget = p.rate === Infinity ? Infinity : Math.min((Number.isFinite(budget) ? budget : 0) + ((now - last) * p.rate) / 1000, Math.max(p.rate * burst, 2 * turnBytes));
    last = now;
    pump();
  }, stepMillis);
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  let down = false;
  const p: Path = {
    addr: `127.0.0.1:${(listener.address() as AddressInfo).port}`, rate: Infinity, passed: 0,
    get down() {
      return down;
    },
    set down(is: boolean) {
      down = is;
      if (is) p.breakAll();
    },
    breakAll: () => pairs.forEach(({ client }) => client.destroy()),
    close() {
      clearInterval(timer);
      p.breakAll();
      listener.close();
    },
  };
  return p;
}
