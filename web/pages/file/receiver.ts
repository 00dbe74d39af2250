import { everyone, type Client, type Publisher, type RoomID, type Subscription } from "@timedge/sdk";
import type { Disk } from "./disk.js";
import { heard, hex, readPiece, say, type Offer } from "./wire.js";

export interface Received {
  name: string;
  size: number;
  have: number;
  sum: string; // SHA-256, in hex, when it is whole
  state: "waiting" | "whole" | "damaged";
}

interface Kept {
  receiver: string;
  sums: Record<number, string>;
}

/** Receiver takes the files that a room offers, once they are accepted, and goes on where it was after whatever happened in between. */
export class Receiver {
  sender = "";
  files: Received[] = [];
  state: "looking" | "offered" | "running" | "paused" | "done" = "looking";
  problem = "";
  onChange: () => void = () => {};
  private wishes!: Publisher;
  private kept: Kept | undefined;
  private data: Subscription | undefined;
  private run = 0;
  private opened = new Set<number>();

  private constructor(private readonly client: Client, readonly room: RoomID, private readonly disk: Disk) {
    this.kept = JSON.parse(localStorage.getItem(this.key) ?? "null") as Kept | undefined;
  }

  static async start(client: Client, room: RoomID, disk: Disk): Promise<Receiver> {
    const r = new Receiver(client, room, disk);
    const offers = await client.subscribe(room, { noEcho: true });
    r.wishes = await client.publish(room);
    void (async () => {
      for await (const e of offers) {
        if (e.type !== "message") continue;
        const s = heard(e);
        if (s?.t === "offer" && (r.sender === "" || r.sender === e.publisher)) await r.offered(s, e.publisher);
      }
    })().catch((e: unknown) => r.fail(e));
    return r;
  }

  private get key(): string {
    return `timedge.file.${this.room}`;
  }

  private keep(): void {
    localStorage.setItem(this.key, JSON.stringify(this.kept));
  }

  private fail(e: unknown): void {
    if (this.state === "done") return;
    this.problem = e instanceof Error ? e.message : String(e);
    this.onChange();
  }

  private async offered(o: Offer, sender: string): Promise<void> {
    this.sender = sender;
    if (this.files.length === 0) {
      this.files = o.files.map((f, i) => {
        const sum = this.kept?.sums[i] ?? "";
        return { name: f.name, size: f.size, have: sum ? f.size : 0, sum, state: sum ? "whole" as const : "waiting" as const };
      });
    }
    if (this.state === "looking") this.state = "offered";
    this.onChange();
    if (this.kept && this.state !== "paused" && this.state !== "done") await this.accept(); // was accepted before, or the sender is back
  }

  /** Takes the files: they come until all are there. */
  async accept(): Promise<void> {
    this.kept ??= { receiver: crypto.randomUUID(), sums: {} };
    this.keep();
    const run = ++this.run;
    this.state = "running";
    this.problem = "";
    this.onChange();
    for (;;) {
      try {
        await this.take(run);
        return;
      } catch (e) {
        if (run !== this.run) return;
        this.fail(e);
        await new Promise((resolve) => setTimeout(resolve, 1000));
        if (run !== this.run) return;
      }
    }
  }

  private async take(run: number): Promise<void> {
    await this.data?.close();
    const files: Array<{ file: number; offset: number }> = [];
    for (const [file, f] of this.files.entries()) {
      if (f.state === "whole") continue;
      if (!this.opened.has(file)) {
        f.have = await this.disk.do<number>({ do: "open", folder: this.room, file });
        this.opened.add(file);
      }
      files.push({ file, offset: f.have });
    }
    this.onChange();
    if (files.length === 0) return this.end();
    const room = await this.client.register({ policy: "lossless", idle: 3600_000 });
    await this.client.grant(room, everyone);
    const data = (this.data = await this.client.subscribe(room));
    await this.wishes.push(0, "key", say({ t: "want", receiver: this.kept!.receiver, room, files }));
    for await (const e of data) {
      if (run !== this.run) return;
      if (e.type === "gap") throw new Error("a piece is missing");
      if (e.type !== "message" || e.publisher !== this.sender) continue;
      const p = readPiece(e.payload);
      const f = p && this.files[p.file];
      if (!p || !f) continue;
      this.problem = "";
      if (!p.sum) {
        const n = p.bytes.length;
        if (f.have + n > f.size) throw new Error("more comes than was offered");
        if (!(await this.disk.do<boolean>({ do: "write", file: p.file, offset: p.offset, bytes: p.bytes }, [p.bytes.buffer]))) throw new Error("a piece is missing");
        f.have += n;
        this.onChange();
        continue;
      }
      const sum = hex(await this.disk.do<Uint8Array>({ do: "finish", file: p.file }));
      this.opened.delete(p.file);
      f.sum = sum;
      f.state = sum === hex(p.bytes) ? "whole" : "damaged";
      if (f.state === "whole") {
        this.kept!.sums[p.file] = sum;
        this.keep();
      }
      this.onChange();
      if (this.files.every((x) => x.state !== "waiting")) break;
    }
    await data.close();
    await this.client.remove(room).catch(() => {});
    return this.end();
  }

  private end(): void {
    this.state = "done";
    this.onChange();
  }

  /** Stops until {@link accept} is called again. */
  async pause(): Promise<void> {
    this.run++;
    this.state = "paused";
    this.onChange();
    await this.wishes.push(0, "key", say({ t: "want", receiver: this.kept!.receiver, room: this.room, files: [] }));
    await this.data?.close();
  }

  /** A whole file, from the disk. */
  async file(index: number): Promise<File> {
    const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle(this.room);
    return (await folder.getFileHandle(String(index))).getFile();
  }
}
