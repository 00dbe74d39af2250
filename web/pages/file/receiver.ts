import { looksSealed } from "@timedge/sdk/e2ee";
import { everyone, type Client, type Event, type Publisher, type RoomID, type Subscription } from "@timedge/sdk";
import type { Disk } from "./disk.js";
import { heard, hex, readPiece, say, type Offer } from "./wire.js";

export interface Received {
  name: string;
  size: number;
  have: number;
  sum: string; // SHA-256, in hex, when it is whole
  state: "waiting" | "whole" | "damaged";
  /** How often what came was not what was sent. */
  spoilt: number;
}

/** What is remembered of a room over a reload: beside it there is what lies on the disk. */
interface Kept {
  receiver: string;
  sums: Record<number, string>;
  at: number; // of the last use, ms since 1970
}

/** Why it does not go on: something is missing, or comes that was not offered, or is not what was sent; the sender is away. */
export type Trouble = "missing" | "unoffered" | "damaged" | "away";

class TroubleError extends Error {
  constructor(readonly trouble: Trouble) {
    super(trouble);
  }
}

/** How often a file that arrives damaged is taken anew. */
const maxSpoilt = 3;
/** How long what was received, and not asked for again, stays on the browser's disk, ms. */
const keptMillis = 24 * 3600_000;

/** Receiver takes the files that a room offers, once they are accepted, and goes on where it was after whatever happened in between. */
export class Receiver {
  sender = "";
  files: Received[] = [];
  state: "looking" | "offered" | "running" | "paused" | "done" | "damaged" = "looking";
  /** What holds it up; "" if nothing does. Beside a {@link Trouble} there are the words of errors. */
  problem: Trouble | string = "";
  /** What is said in the room is encrypted, and not under a key that is here. */
  locked = false;
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
    await tidy(room);
    const offers = await client.subscribe(room, { noEcho: true });
    r.wishes = await client.publish(room);
    void (async () => {
      for await (const e of offers) {
        if (r.sender === "" && (e.type === "gap" ? e.reason === "refused" : e.type === "message" && looksSealed(e.payload))) {
          r.locked = true;
          r.fail(new Error("encrypted"));
        }
        if (e.type !== "message") continue;
        const s = heard(e);
        if (s?.t === "offer" && (r.sender === "" || r.sender === e.publisher)) r.offered(s, e.publisher);
      }
    })().catch((e: unknown) => r.fail(e));
    return r;
  }

  private get key(): string {
    return keyOf(this.room);
  }

  private keep(): void {
    this.kept!.at = Date.now();
    localStorage.setItem(this.key, JSON.stringify(this.kept));
  }

  private fail(e: unknown): void {
    if (this.state === "done") return;
    this.problem = e instanceof TroubleError ? e.trouble : e instanceof Error ? e.message : String(e);
    this.onChange();
  }

  private offered(o: Offer, sender: string): void {
    this.sender = sender;
    if (this.files.length === 0) {
      this.files = o.files.map((f, i) => {
        const sum = this.kept?.sums[i] ?? "";
        return { name: f.name, size: f.size, have: sum ? f.size : 0, sum, state: sum ? "whole" as const : "waiting" as const, spoilt: 0 };
      });
    }
    if (this.state === "looking") this.state = "offered";
    this.onChange();
    if (this.kept && this.state !== "paused" && this.state !== "done") void this.accept(); // was accepted before, or the sender is back
  }

  /** Takes the files: they come until all are there. */
  async accept(): Promise<void> {
    this.kept ??= { receiver: crypto.randomUUID(), sums: {}, at: 0 };
    this.keep();
    for (const f of this.files) if (f.state === "damaged") [f.state, f.spoilt] = ["waiting", 0];
    const run = ++this.run;
    this.state = "running";
    this.problem = "";
    this.onChange();
    for (;;) {
      try {
        return await this.take(run);
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
    try {
      await this.client.grant(room, everyone);
      this.data = await this.client.subscribe(room);
      await this.wishes.push(0, "key", say({ t: "want", receiver: this.kept!.receiver, room, files }));
      for await (const e of this.data) {
        if (run !== this.run) return;
        await this.event(e);
        if (this.files.every((f) => f.state !== "waiting")) return this.end();
      }
    } finally {
      void this.data?.close();
      void this.client.remove(room).catch(() => {});
    }
  }

  private async event(e: Event): Promise<void> {
    if (e.type === "gap") throw new TroubleError("missing");
    if (e.type === "left" && e.account === this.sender) {
      this.problem = "away"; // it comes back, and offers again
      this.onChange();
    }
    if (e.type !== "message" || e.publisher !== this.sender) return;
    const p = readPiece(e.payload);
    const f = p && this.files[p.file];
    if (!p || !f || f.state === "whole") return;
    this.problem = "";
    if (p.sum) return this.finish(p.file, f, hex(p.bytes));
    const n = p.bytes.length;
    if (f.have + n > f.size) throw new TroubleError("unoffered");
    if (!(await this.disk.do<boolean>({ do: "write", file: p.file, offset: p.offset, bytes: p.bytes }, [p.bytes.buffer]))) throw new TroubleError("missing");
    f.have += n;
    this.onChange();
  }

  /** All of a file is there. If that is not what was sent it is thrown away, and taken anew. */
  private async finish(file: number, f: Received, wanted: string): Promise<void> {
    const sum = hex(await this.disk.do<Uint8Array>({ do: "finish", file }));
    this.opened.delete(file);
    f.sum = sum;
    if (sum === wanted) {
      f.state = "whole";
      this.kept!.sums[file] = sum;
      this.keep();
      return this.onChange();
    }
    await this.disk.do({ do: "discard", folder: this.room, file });
    f.have = 0;
    if (++f.spoilt < maxSpoilt) throw new TroubleError("damaged");
    f.state = "damaged";
    this.onChange();
  }

  private end(): void {
    this.state = this.files.some((f) => f.state === "damaged") ? "damaged" : "done";
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

const keyOf = (room: RoomID): string => `timedge.file.${room}`;

/** Frees the disk of what was received long ago. */
async function tidy(room: RoomID): Promise<void> {
  const root = await navigator.storage.getDirectory();
  for await (const name of root.keys()) {
    const kept = JSON.parse(localStorage.getItem(keyOf(name)) ?? "null") as Kept | null;
    if (name === room || (kept && kept.at > Date.now() - keptMillis)) continue;
    localStorage.removeItem(keyOf(name));
    await root.removeEntry(name, { recursive: true }).catch(() => {}); // another tab has it open
  }
}
