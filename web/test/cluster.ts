// A cluster of real nodes that speak WebSocket, whose processes can be killed and started anew.

import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { diesWithUs } from "../sdk/test/server.js";

const binary = process.env.TIMEDGE ?? new URL("../../../bin/timedge", import.meta.url).pathname;

const given = new Set<number>();

/** A port that nobody listens on, another one each time. It is below those that connections are given, so that none has it when the node comes to listen. */
async function freePort(): Promise<number> {
  for (;;) {
    const port = 12_000 + Math.floor(Math.random() * 20_000);
    const s = createServer();
    const free = await new Promise<boolean>((resolve) => {
      s.on("error", () => resolve(false));
      s.listen(port, "127.0.0.1", () => resolve(true));
    });
    await new Promise((resolve) => s.close(resolve));
    if (!free || given.has(port)) continue;
    given.add(port);
    return port;
  }
}

export interface Node {
  name: string;
  ws: string;
  /** host:port of its pages, if it has them. */
  web: string;
  /** host:port for programs that speak the protocol by themselves. */
  tcp: string;
  /** host:port for operators. */
  admin: string;
}

export class Cluster {
  readonly nodes: Node[] = [];
  private readonly processes = new Map<string, ChildProcess>();
  private readonly ports = new Map<string, number>();
  private readonly dir = mkdtempSync(join(tmpdir(), "timedge-cluster-"));

  private constructor(private readonly args: readonly string[]) {}

  /** Starts nodes, with arguments beside those that make a cluster of them. */
  static async start(size: number, ...args: string[]): Promise<Cluster> {
    const c = new Cluster(args);
    writeFileSync(join(c.dir, "key"), execFileSync(binary, ["key"]), { mode: 0o600 });
    for (let i = 0; i < size; i++) {
      const name = `n${i + 1}`;
      c.nodes.push({ name, ws: `ws://127.0.0.1:${await freePort()}`, web: `127.0.0.1:${await freePort()}`, tcp: `127.0.0.1:${await freePort()}`, admin: `127.0.0.1:${await freePort()}` });
      c.ports.set(name, await freePort());
    }
    for (const n of c.nodes) await c.run(n);
    return c;
  }

  /** Starts a node, and waits until it serves. */
  async run(n: Node): Promise<void> {
    const at = (name: string): string => `127.0.0.1:${this.ports.get(name)!}`;
    const join0 = this.nodes.filter((o) => o !== n && this.processes.has(o.name)).flatMap((o) => ["--join", at(o.name)]);
    const p = spawn(binary, ["serve", "--listen", n.tcp, "--listen-ws", n.ws.slice(5), "--web", n.web, "--admin", n.admin, "--idle", "1h", "--node", n.name, "--cluster", at(n.name),
      "--cluster-key-file", join(this.dir, "key"), ...this.args, ...join0], { stdio: ["ignore", "pipe", "pipe"] });
    diesWithUs(p);
    this.processes.set(n.name, p);
    let said = "";
    await new Promise<void>((resolve, reject) => {
      p.on("error", reject);
      p.on("exit", () => reject(new Error(`node ${n.name} ended: ${said}`)));
      p.stderr.on("data", (b: Buffer) => (said += b));
      p.stdout.on("data", (b: Buffer) => /serves on/.test((said += b)) && resolve());
    });
  }

  /** Kills a node as a machine that loses its power is. */
  async kill(name: string): Promise<void> {
    const p = this.processes.get(name)!;
    this.processes.delete(name);
    p.kill("SIGKILL");
    await new Promise((resolve) => p.on("exit", resolve));
  }

  async stop(): Promise<void> {
    await Promise.all([...this.processes.keys()].map((name) => this.kill(name)));
    rmSync(this.dir, { recursive: true });
  }
}
