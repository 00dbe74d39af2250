import { encodeControl, encodeStream, flagCont, flagInit, flagMore, maxSeq } from "./codec.js";
import { RefusedError } from "./errors.js";
import { codes } from "./codes.js";

/** A frame that was numbered: a stream frame, or a gap. */
interface OutFrame {
  seq: number;
  flags: number; // of a gap: 0
  bytes: Uint8Array;
  ackedAt: number; // ms; 0: not
}

// So long, and so many bytes of a stream, is kept what is acknowledged: a node that takes the server's place may have less.
const keepMillis = 5000;
const keepBytes = 1 << 20;

/** How many bytes of init messages are kept, for a server that knows nothing of the stream. */
const keepInit = 1 << 20;

/**
 * OutStream is one dtype of a publisher: the frames that are not acknowledged, of which the connection has the first `sent`, and for a while
 * those that are.
 */
export class OutStream {
  next = 1; // number of the next frame
  acked = 0;
  bytes = 0; // of queue
  /** How many frames were numbered before the numbers began anew: what a caller was told stays right. */
  base = 0;
  /** base, under publisher numbers that the client had before. */
  private readonly bases = new Map<number, number>();
  private queue: OutFrame[] = [];
  private kept: OutFrame[] = [];
  private keptBytes = 0;
  private sent = 0; // frames of queue
  private init: OutFrame[] = [];
  private initBytes = 0;

  constructor(private readonly room: bigint, readonly dtype: number, private pub: number) {}

  /** Numbers a frame and queues it; returns its size. */
  push(flags: number, payload: Uint8Array): number {
    if (this.next >= maxSeq) throw new RefusedError(codes.sequence, "the stream has no numbers left");
    const seq = this.next++;
    const bytes = encodeStream({ flags, room: this.room, pub: this.pub, dtype: this.dtype, seq, payload });
    const f = { seq, flags, bytes, ackedAt: 0 };
    this.queue.push(f);
    this.bytes += bytes.length;
    if (flags & flagInit) {
      const begins = !(flags & flagCont) && !(this.init.length > 0 && this.init.at(-1)!.seq === seq - 1);
      if (begins) [this.init, this.initBytes] = [[], 0];
      this.initBytes += bytes.length;
      if (this.initBytes <= keepInit) this.init.push(f);
      else this.init = [];
    }
    return bytes.length;
  }

  /** Gives up the next number: a message that has begun goes on no more. Returns the size of what says so. */
  giveUp(): number {
    const seq = this.next++;
    const bytes = this.gap(seq, seq);
    this.queue.push({ seq, flags: 0, bytes, ackedAt: 0 });
    this.bytes += bytes.length;
    return bytes.length;
  }

  private gap(from: number, to: number): Uint8Array {
    return encodeControl("gap", { room: this.room, pub: this.pub, dtype: this.dtype, from, to, reason: 5 });
  }

  /** Hands out what the connection has not got. */
  take(send: (frame: Uint8Array) => void): void {
    for (; this.sent < this.queue.length; this.sent++) send(this.queue[this.sent]!.bytes);
  }

  /** Takes an acknowledgement; returns how many bytes it frees. */
  acknowledge(seq: number, now: number): number {
    let freed = 0;
    let n = 0;
    while (n < this.sent && this.queue[n]!.seq <= seq) {
      const f = this.queue[n++]!;
      freed += f.bytes.length;
      f.ackedAt = now;
      this.kept.push(f);
      this.keptBytes += f.bytes.length;
      this.acked = f.seq;
    }
    this.queue.splice(0, n);
    this.sent -= n;
    this.bytes -= freed;
    n = 0;
    while (n < this.kept.length && (this.keptBytes > keepBytes || now - this.kept[n]!.ackedAt > keepMillis)) {
      this.keptBytes -= this.kept[n++]!.bytes.length;
    }
    this.kept.splice(0, n);
    return freed;
  }

  private first(): number {
    return this.queue[0]?.seq ?? this.next;
  }

  /**
   * Brings the stream in line with a server that expects frame `known`; undefined: it knows nothing of the stream. `fresh` says that it
   * counts this client as a new publisher, whose streams begin at 1. It returns how many bytes of the window are used more, and whether a
   * message was lost on the way. What is to be sent before the queue goes to `send`.
   */
  resume(known: number | undefined, pub: number, fresh: boolean, headless: boolean, send: (frame: Uint8Array) => void): { used: number; lost: boolean } {
    const before = this.bytes;
    let lost = false;
    this.sent = 0;
    if (fresh) lost = this.restart(pub, known);
    else if (headless) this.forget(known ?? this.first());
    else this.recall(known ?? this.kept[0]?.seq ?? this.first());
    const from = known ?? this.begin(send);
    if (known !== undefined) {
      while (this.sent < this.queue.length && this.queue[this.sent]!.seq < known) this.sent++; // it has them, and has not said so
    }
    if (this.sent === 0) {
      if (this.first() > from || headless) lost = this.behead() || lost;
      if (this.queue.length === 0) this.next = Math.max(this.next, from);
      if (this.first() > from) send(this.gap(from, this.first() - 1));
    }
    return { used: this.bytes - before, lost };
  }

  /** Sends the newest init messages to a server that knows nothing of the stream, and returns the number behind them. */
  private begin(send: (frame: Uint8Array) => void): number {
    const last = this.init.at(-1);
    if (!last || last.seq >= this.first()) return this.first();
    for (const f of this.init) send(f.bytes);
    return last.seq + 1;
  }

  /** Makes the queue begin with frame seq if that is kept; otherwise with the oldest message of which all is there. */
  private recall(seq: number): void {
    let at = this.kept.length;
    while (at > 0 && this.kept[at - 1]!.seq >= seq) at--;
    const back = this.kept.splice(at);
    if (at === 0 && back[0] && back[0].seq > seq) {
      while (back[0] && back[0].flags & flagCont) back.shift();
    }
    for (const f of back) this.bytes += f.bytes.length;
    this.queue.unshift(...back);
    this.keptBytes = this.kept.reduce((n, f) => n + f.bytes.length, 0);
    this.acked = this.first() - 1;
  }

  private forget(known: number): void {
    this.kept = [];
    this.keptBytes = 0;
    while (this.queue[0] && this.queue[0].seq < known) this.bytes -= this.queue.shift()!.bytes.length;
  }

  /** Drops the rest of a message whose beginning is gone. */
  private behead(): boolean {
    let lost = false;
    while (this.queue[0] && this.queue[0].flags & flagCont) {
      this.bytes -= this.queue.shift()!.bytes.length;
      lost = true;
    }
    return lost;
  }

  /**
   * Numbers the stream as that of another publisher: from 1, its init messages first. Where the server gives back a number that the client had
   * before it goes on as it was numbered then, and where it knows a stream that the client does not, with the number that it names.
   */
  private restart(pub: number, known: number | undefined): boolean {
    const lost = this.behead();
    const before = this.bases.get(pub);
    this.bases.set(this.pub, this.base);
    this.pub = pub;
    if (before !== undefined || known !== undefined) {
      const less = before !== undefined ? before - this.base : this.first() - known!;
      for (const f of [...this.queue, ...this.init.filter((f) => !this.queue.includes(f))]) {
        f.seq -= less;
        f.bytes = readdress(f.bytes, pub, f.seq);
      }
      [this.kept, this.keptBytes, this.acked] = [[], 0, 0];
      this.next -= less;
      this.base += less;
      return lost;
    }
    this.kept = [];
    this.keptBytes = 0;
    const first = this.first();
    const again = this.init.filter((f) => f.seq < first).map((f) => ({ ...f, ackedAt: 0 }));
    const whole = again.length > 0 && !(again[0]!.flags & flagCont) && !(again.at(-1)!.flags & flagMore);
    this.queue.unshift(...(whole ? again : []));
    for (const f of whole ? again : []) this.bytes += f.bytes.length;
    const numbered = this.next - first + (whole ? again.length : 0);
    this.base += this.next - 1 - numbered;
    let seq = 1;
    for (const f of this.queue) {
      f.bytes = readdress(f.bytes, pub, seq);
      f.seq = seq++;
    }
    this.init = this.queue.filter((f) => f.flags & flagInit);
    this.next = seq;
    this.acked = 0;
    return lost;
  }
}

/** Returns a copy of a frame, or of a gap of one frame, under another publisher and number. */
function readdress(bytes: Uint8Array, pub: number, seq: number): Uint8Array {
  const b = bytes.slice();
  const view = new DataView(b.buffer);
  view.setUint16(11, pub);
  const write = (at: number): void => {
    view.setUint16(at, Math.floor(seq / 2 ** 32));
    view.setUint32(at + 2, seq % 2 ** 32);
  };
  write(14);
  if (!(b[2]! & 0x80)) write(20);
  return b;
}
