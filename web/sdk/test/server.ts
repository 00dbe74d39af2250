// What the tests share: a server of their own, and a proxy whose connections break.

import { spawn, type ChildProcess } from "node:child_process";
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";

const binary = process.env.TIMEDGE ?? new URL("../../../bin/timedge", import.meta.url).pathname;

export interface TestServer {
  /** Addresses by TCP, and by WebSocket. */
  tcp: string;
  ws: string;
  pid: number;
  stop(): Promise<void>;
}

const children = new Set<ChildProcess>();
process.on("exit", () => children.forEach((p) => p.kill("SIGKILL")));

/** Ends a process with the tests at the latest: one that fails may not come to stop what it has started. */
export function diesWithUs(p: ChildProcess): void {
  children.add(p);
  p.on("exit", () => children.delete(p));
}

/** Starts a server on ports of its own. */
export function serve(...args: string[]): Promise<TestServer> {
  const p: ChildProcess = spawn(binary, ["serve", "--listen", "127.0.0.1:0", "--listen-ws", "127.0.0.1:0", "--web", "off", "--admin", "", ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  p.stderr!.on("data", (b: Buffer) => (said += b));
  const gone = new Promise<void>((resolve) => p.on("exit", () => resolve()));
  diesWithUs(p);
  return new Promise((resolve, reject) => {
    let out = "";
    p.on("error", reject);
    void gone.then(() => reject(new Error(`the server ended: ${said}`))); // later it changes nothing
    p.stdout!.on("data", (b: Buffer) => {
      out += b;
      const m = /timedge serves on (\S+)\n/.exec(out);
      if (!m) return;
      const [tcp, ws] = m[1]!.split(",");
      resolve({
        tcp: tcp!,
        pid: p.pid!,
        ws: ws!.startsWith("ws:") ? ws! : `ws://${ws}`,
        stop: async () => {
          p.kill("SIGTERM");
          await gone;
        },
      });
    });
  });
}

/** A proxy whose connections are cut after so many bytes, either way, and paused at will. */
export class Proxy {
  private readonly sockets = new Set<Socket>();
  cuts = 0;
  private constructor(private readonly server: Server, readonly addr: string) {}

  static async open(to: string, after: () => number = () => Infinity): Promise<Proxy> {
    const [host, port] = to.split(":");
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const p = new Proxy(server, `127.0.0.1:${(server.address() as AddressInfo).port}`);
    server.on("connection", (a) => {
      const b = connect(Number(port), host);
      let left = after();
      for (const [from, into] of [[a, b], [b, a]] as const) {
        p.sockets.add(from);
        from.on("error", () => {});
        from.on("close", () => {
          p.sockets.delete(from);
          into.destroy();
        });
        from.on("data", (chunk: Buffer) => {
          if (chunk.length < left) {
            left -= chunk.length;
            if (!into.write(chunk)) {
              from.pause();
              into.once("drain", () => from.resume());
            }
            return;
          }
          into.write(chunk.subarray(0, left), () => p.cut(a, b)); // in the middle of a frame, often
          left = Infinity;
        });
      }
    });
    return p;
  }

  /** Cuts all connections. */
  cutAll(): void {
    this.cuts++;
    for (const s of this.sockets) s.destroy();
  }

  /** Breaks all connections that there are. */
  breakAll(): void {
    for (const s of this.sockets) s.destroy();
    this.cuts++;
  }

  private cut(a: Socket, b: Socket): void {
    this.cuts++;
    a.destroy();
    b.destroy();
  }

  close(): Promise<void> {
    for (const s of this.sockets) s.destroy();
    return new Promise((resolve) => this.server.close(() => resolve()));
  }
}
