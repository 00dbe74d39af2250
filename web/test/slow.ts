// A path of so many bytes a second, for all connections together that go through it.

import { connect, createServer, type AddressInfo, type Socket } from "node:net";

export interface SlowPath {
  /** Host and port. */
  addr: string;
  /** How many bytes a second come through to the client. */
  rate: number;
  /** How many have come since the beginning. */
  passed: number;
  close(): void;
}

/** So often bytes are let through, ms, and so much is saved up at most, in s. */
const stepMillis = 10;
const burst = 0.2;

/** Opens a path to an address, as wide as can be. The other way is not slowed. Connections share what there is evenly. */
export async function slowPath(to: string): Promise<SlowPath> {
  const [host, port] = to.split(":");
  const pairs = new Set<{ client: Socket; server: Socket }>();
  const server = createServer((client) => {
    const pair = { client, server: connect(Number(port), host) };
    pairs.add(pair);
    client.setNoDelay(true);
    client.pipe(pair.server);
    client.on("error", () => pair.server.destroy());
    pair.server.on("error", () => client.destroy());
    pair.server.on("close", () => client.destroy());
    client.on("close", () => {
      pairs.delete(pair);
      pair.server.destroy();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  let budget = 0;
  let last = performance.now();
  const path: SlowPath = {
    addr: `127.0.0.1:${(server.address() as AddressInfo).port}`, rate: 1e9, passed: 0,
    close: () => {
      clearInterval(timer);
      server.close();
      for (const p of pairs) p.client.destroy();
    },
  };
  const timer = setInterval(() => {
    const now = performance.now();
    budget = Math.min(budget + ((now - last) * path.rate) / 1000, path.rate * burst);
    last = now;
    for (let ready = [...pairs]; ready.length > 0 && budget >= 1; ) {
      const share = Math.floor(budget / ready.length);
      ready = ready.filter(({ client, server: from }) => {
        const n = Math.min(share, from.readableLength);
        const chunk = n > 0 && client.writableLength < 1 << 20 ? (from.read(n) as Buffer | null) : null;
        if (!chunk) return false;
        budget -= chunk.length;
        path.passed += chunk.length;
        client.write(chunk);
        return from.readableLength > 0;
      });
      if (share < 1) break;
    }
  }, stepMillis);
  return path;
}
