import { ClosedError, everyone, type Client, type Publisher, type RoomID } from "@timedge/sdk";
import type { Disk } from "./disk.js";
import { pieces } from "./pieces.js";
import { head, heard, label, say, type Want } from "./wire.js";

const pieceBytes = 256 << 10;

export interface Receiver {
  account: string;
  sent: number; // bytes of all files, with those that it had before
  done: boolean;
  problem: string; // why nothing goes there; it is tried again when the receiver wants
}

/** Sender offers files in a room, and sends to each receiver what it wants, at its pace. */
export class Sender {
  readonly receivers = new Map<string, Receiver>();
  paused = false;
  onChange: () => void = () => {};
  private readonly jobs = new Map<string, AbortController>();
  private readonly sums = new Map<number, Promise<Uint8Array>>();
  private wake: Array<() => void> = [];
  private offer!: Publisher;

  private constructor(private readonly client: Client, readonly room: RoomID, private readonly files: readonly { name: string; file: File }[], private readonly disk: Disk) {}

  /** Offers the files in a new room, or in one from before the page was loaded anew. */
  static async start(client: Client, files: readonly { name: string; file: File }[], disk: Disk, room?: RoomID): Promise<Sender> {
    if (!room) {
      room = await client.register({ idle: 12 * 3600_000 });
      await client.grant(room, everyone);
    }
    const s = new Sender(client, room, files, disk);
    s.offer = await client.publish(room);
    await s.offer.push(0, "key", say({ t: "offer", files: files.map((f) => ({ name: f.name, size: f.file.size })) }));
    void s.listen().catch(() => {}); // the client, or the room, has ended
    return s;
  }

  get total(): number {
    return this.files.reduce((n, f) => n + f.file.size, 0);
  }

  pause(paused: boolean): void {
    this.paused = paused;
    this.stir();
  }

  private stir(): void {
    for (const w of this.wake.splice(0)) w();
    this.onChange();
  }

  private async listen(): Promise<void> {
    for await (const e of await this.client.subscribe(this.room, { noEcho: true })) {
      if (e.type !== "message") continue;
      const s = heard(e);
      if (s?.t === "want") this.want(s, e.publisher);
    }
  }

  /** Takes a wish, in the place of the same receiver's before. */
  private want(w: Want, account: string): void {
    this.jobs.get(w.receiver)?.abort();
    const old = this.receivers.get(w.receiver);
    if (old && old.account !== account) return; // somebody else uses its number
    const job = new AbortController();
    this.jobs.set(w.receiver, job);
    const wanted = w.files.filter((f) => this.files[f.file] && f.offset <= this.files[f.file]!.file.size);
    const left = wanted.reduce((n, f) => n + this.files[f.file]!.file.size - f.offset, 0);
    const r: Receiver = { account, sent: wanted.length > 0 ? this.total - left : (old?.sent ?? 0), done: false, problem: "" };
    this.receivers.set(w.receiver, r);
    this.onChange();
    if (wanted.length === 0) return;
    void this.send({ ...w, files: wanted }, r, job.signal).catch((e: unknown) => {
      if (job.signal.aborted) return; // it wants something else
      r.problem = e instanceof Error ? e.message : String(e);
      this.onChange();
    });
  }

  private async send(w: Want, r: Receiver, stop: AbortSignal): Promise<void> {
    const pub = await this.client.publish(w.room, { counts: true });
    let there = true;
    pub.onCount = (subscribers) => {
      there = subscribers > 0;
      this.stir();
    };
    stop.addEventListener("abort", () => {
      this.stir();
      void pub.close().catch(() => {});
    });
    try {
      await this.sendInto(pub, w, r, stop, () => there);
    } finally {
      await pub.close().catch((e: unknown) => {
        if (!(e instanceof ClosedError)) throw e;
      });
    }
  }

  private async sendInto(pub: Publisher, w: Want, r: Receiver, stop: AbortSignal, there: () => boolean): Promise<void> {
    const go = async (): Promise<void> => {
      while ((this.paused || !there()) && !stop.aborted) await new Promise<void>((resolve) => this.wake.push(resolve));
      stop.throwIfAborted();
    };
    for (const { file, offset } of w.files) {
      const f = this.files[file]!.file;
      if (!this.sums.has(file)) {
        const sum = this.disk.do<Uint8Array>({ do: "hash", file: f });
        this.sums.set(file, sum);
        sum.catch(() => this.sums.delete(file)); // the file could not be read, which the receiver's turn finds as well
      }
      let at = offset;
      await go();
      for await (const b of pieces(f, at, pieceBytes, head)) {
        await go();
        label(b, { file, offset: at, sum: false });
        await pub.push(1, "delta", b); // and then b is ours again
        at += b.length - head;
        r.sent += b.length - head;
        this.onChange();
      }
      await go();
      const last = new Uint8Array(head + 32);
      label(last, { file, offset: f.size, sum: true });
      last.set(await this.sums.get(file)!, head);
      await pub.push(1, "delta", last);
    }
    await pub.flush();
    r.done = true;
    this.onChange();
  }

  /** The SHA-256 of a file, once it is known. */
  sum(file: number): Promise<Uint8Array> | undefined {
    return this.sums.get(file);
  }
}
