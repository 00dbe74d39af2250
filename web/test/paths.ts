// What lies between pages and nodes: a line that is slow, a balancer whose nodes die.

import { connect, createServer, type AddressInfo, type Socket } from "node:net";

export interface Path {
  /** host:port of this end. */
  addr: string;
  /** Breaks all connections that there are. */
  breakAll(): void;
  close(): void;
}

export interface PathOptions {
  /** Bytes a second that go through to the client, over all connections; default: any number. */
  rate?: () => number;
}

/** Opens a path to the first of these nodes that can be reached. */
export async function path(nodes: readonly string[], o: PathOptions = {}): Promise<Path> {
  const pairs = new Set<[Socket, Socket]>();
  const server = createServer({ pauseOnConnect: true }, (a) => {
    a.on("error", () => {});
    const go = (i: number): void => {
      if (i === nodes.length) return void a.destroy();
      const [host, port] = nodes[i]!.split(":");
      const b = connect(Number(port), host);
      let through = false;
      b.on("connect", () => {
        through = true;
        const pair: [Socket, Socket] = [a, b];
        pairs.add(pair);
        a.pipe(b);
        a.resume();
        if (!o.rate) b.pipe(a);
        a.on("close", () => {
          pairs.delete(pair);
          b.destroy();
        });
      });
      b.on("error", () => through || go(i + 1));
      b.on("close", () => through && a.destroy());
    };
    go(0);
  });
  let [budget, last, first] = [0, performance.now(), 0];
  const timer = o.rate && setInterval(() => {
    const now = performance.now();
    budget = Math.min(budget + ((now - last) * o.rate!()) / 1000, Math.max(o.rate!() / 5, 2000));
    last = now;
    const list = [...pairs];
    first++;
    for (let i = 0, idle = 0; list.length > 0 && idle < list.length && budget >= 1; i++) { // in turns
      const [a, b] = list[(first + i) % list.length]!;
      const chunk = a.writableNeedDrain ? null : (b.read(Math.min(Math.floor(budget), 1400, b.readableLength)) as Buffer | null);
      idle = chunk && chunk.length > 0 ? 0 : idle + 1;
      if (!chunk || chunk.length === 0) continue;
      budget -= chunk.length;
      a.write(chunk);
    }
  }, 10);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const breakAll = (): void => {
    for (const [a] of pairs) a.destroy();
  };
  return {
    addr: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    breakAll,
    close: () => {
      clearInterval(timer);
      breakAll();
      server.close();
    },
  };
}
