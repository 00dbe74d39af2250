import { maxSeq, type Fields, type StreamFrame } from "./codec.js";
import { codes, gapReason, mayRetry, policies, type GapReason, type Policy } from "./codes.js";
import type { Connection } from "./connection.js";
import { Departures } from "./departed.js";
import { ClosedError, RefusedError, StreamError } from "./errors.js";
import { InStream } from "./instream.js";
import type { Kind } from "./publisher.js";
import type { RoomID } from "./room.js";

/** One payload as it was pushed. The payload is the caller's. */
export interface Message {
  type: "message";
  room: RoomID;
  publisher: string; // account
  pub: number; // number of the publisher in this room
  dtype: number;
  kind: Kind;
  first: number; // number of its first frame in the stream (room, pub, dtype)
  last: number;
  payload: Uint8Array;
}

/** The frames from to to, both included, do not come. A subscription to a stream that runs already begins with one (`joined`). */
export interface Gap {
  type: "gap";
  room: RoomID;
  publisher: string;
  pub: number;
  dtype: number;
  from: number;
  to: number;
  reason: GapReason;
  /** First frame of a message that had arrived in part, and is dropped; 0: none. */
  interrupted: number;
}

export type Event =
  | Message
  | Gap
  | { type: "joined"; room: RoomID; pub: number; account: string }
  | { type: "left"; room: RoomID; pub: number; account: string; code: number }
  | { type: "count"; room: RoomID; subscribers: number; publishers: number }
  | { type: "resumed"; room: RoomID }
  | { type: "fault"; room: RoomID; error: StreamError };

/** What a subscription needs of its client. */
export interface SubscriptionHost {
  ask(s: Subscription, later?: { code: number; tries: number }): void;
  acknowledge(s: Subscription, pub: number, dtype: number, seq: number): void;
  unsubscribe(s: Subscription): Promise<void>;
  forget(s: Subscription): void;
}

/** Bounds on what a subscription holds, bytes. */
export interface Bounds {
  /** Of messages that the caller has not taken, before the room's policy acts on them. */
  receive: number;
  /** Of one message. */
  payload: number;
  /** Of all unfinished messages. */
  assembly: number;
}

/** What an event is counted as beside its payload, bytes; and how many streams a subscription follows: what a server may make it hold is bounded. */
const eventBytes = 200;
const maxStreams = 1 << 16;
const maxWindow = 16 << 20;

/** How many streams, and publishers of which nothing has come, a client names when it comes back (codec/PROTOCOL.md, "Limits"). */
const maxPositions = 4096;

interface Held {
  event: Event;
  size: number;
  /** Whose message or gap it is, as it came. */
  stream?: InStream | undefined;
  /** Takes back what the event has changed here. Of those that come and go in a lossless room only. */
  undo?: (() => void) | undefined;
}

/**
 * Subscription receives all streams of one room: iterate over it, or call {@link next}. It survives reconnections: every stream goes on after
 * the last frame received, or with a gap that says what is missing. What the caller does not take is held up to a bound; then the room's policy
 * acts on it here as the server's does there, and what goes is told by gaps. A lossless room's publisher waits for the caller instead.
 */
export class Subscription implements AsyncIterable<Event> {
  policy: Policy = "live";
  private readonly streams = new Map<number, InStream>();
  private readonly publishers = new Map<number, string>();
  private readonly departed = new Departures(); // lossless
  private readonly skipping = new Set<number>(); // streams of which the next key message is waited for
  private queue: Held[] = [];
  private size = 0;
  private shedBeyond = 0;
  private assembled = 0;
  private waiting: Array<{ resolve(e: Event | undefined): void; reject(e: Error): void }> = [];
  private over: Error | undefined;
  private tries = 0;
  private answered = false;
  private draining = false;
  private window = 0;
  private consumed: Held | undefined; // lossless: what the caller took last, and has not come back for
  private readonly owed = new Map<InStream, number>(); // up to where each is consumed, and not acknowledged
  private owedBytes = 0;
  private opening!: { resolve(s: Subscription): void; reject(e: Error): void };
  /** @internal */ readonly opened: Promise<Subscription>;
  /** @internal */ link: Connection | undefined;

  /** @internal */
  constructor(readonly room: RoomID, readonly number: bigint, readonly flags: number, private readonly host: SubscriptionHost, private readonly bounds: Bounds) {
    this.opened = new Promise((resolve, reject) => (this.opening = { resolve, reject }));
    this.opened.catch(() => {}); // its caller sees it
  }

  /** How many events wait to be taken. */
  get pending(): number {
    return this.queue.length;
  }

  /**
   * Waits for the next event; undefined once the caller has closed the subscription. It rejects with why the subscription has ended, after all
   * that came before, on every call. In a lossless room the next call is what tells the publisher that the event before was consumed.
   */
  async next(signal?: AbortSignal): Promise<Event | undefined> {
    signal?.throwIfAborted();
    this.consume();
    const held = this.queue.shift();
    if (held) {
      this.size -= held.size;
      return this.hand(held);
    }
    this.settle();
    if (this.over) {
      if (this.over instanceof ClosedError && this.over.number === codes.left) return undefined;
      throw this.over;
    }
    return new Promise((resolve, reject) => {
      const w = {
        resolve: (e: Event | undefined) => {
          signal?.removeEventListener("abort", abort);
          resolve(e);
        },
        reject: (e: Error) => {
          signal?.removeEventListener("abort", abort);
          reject(e);
        },
      };
      const abort = (): void => {
        this.waiting = this.waiting.filter((x) => x !== w);
        reject(signal!.reason as Error);
      };
      signal?.addEventListener("abort", abort, { once: true });
      this.waiting.push(w);
    });
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Event> {
    for (let e = await this.next(); e; e = await this.next()) yield e;
  }

  /** Ends the subscription, and waits for the server's answer. What was not taken is thrown away. */
  async close(): Promise<void> {
    if (this.over) return;
    this.consume();
    this.settle();
    this.queue = [];
    const told = this.host.unsubscribe(this);
    this.end(new ClosedError(this.room, codes.left));
    await told.catch(() => {});
  }

  /** Ends the subscription as {@link close} does, but what is on its way still comes: {@link next} returns undefined behind the last of it. */
  async drain(): Promise<void> {
    if (this.over || this.draining) return;
    this.draining = true;
    await this.host.unsubscribe(this).catch(() => {}); // the answer comes behind all that was on its way
    this.end(new ClosedError(this.room, codes.left));
  }

  private hand(h: Held): Event {
    if (this.policy === "lossless" && h.stream) this.consumed = h;
    return h.event;
  }

  /** Notes that the caller is done with what it took last. */
  private consume(): void {
    const { event: e, stream: s } = this.consumed ?? {};
    this.consumed = undefined;
    if (e?.type === "message") this.done(s!, s!.upTo(e.last), e.payload.length + 20 * (e.last - e.first + 1));
    if (e?.type === "gap") this.done(s!, s!.upTo(e.to), 0);
  }

  /** Notes that a stream is consumed up to a frame, by so many bytes. */
  private done(s: InStream, seq: number, bytes: number): void {
    s.consumed = Math.max(s.consumed, seq);
    this.owed.set(s, seq);
    this.owedBytes += bytes;
    if (this.owedBytes >= this.window / 8) this.settle();
  }

  /** Acknowledges what the caller has consumed. */
  private settle(): void {
    if (!this.link) return; // the next one begins with it
    for (const [s, seq] of this.owed) this.host.acknowledge(this, s.pub, s.dtype, seq);
    this.owed.clear();
    this.owedBytes = 0;
  }

  private emit(event: Event, size = 0, more: Pick<Held, "stream" | "undo"> = {}): void {
    if (this.over) return;
    const held: Held = { event, size: size + eventBytes, ...more };
    const w = this.waiting.shift();
    if (w) return w.resolve(this.hand(held));
    if (this.policy !== "latest" || !this.replaces(held)) this.queue.push(held);
    this.size += held.size;
    if (this.policy === "lossless") {
      if (this.size > this.bounds.receive + 2 * Math.min(this.window, maxWindow)) this.flooded();
    } else if (this.size > Math.max(this.bounds.receive, this.shedBeyond)) {
      this.shed();
      this.shedBeyond = this.size > this.bounds.receive ? this.size + this.bounds.receive / 8 : 0; // not again for each that cannot be dropped
      if (this.size > 2 * this.bounds.receive) this.flooded(); // by what no policy drops
    }
  }

  /** A server sends more than it may: the subscription ends. */
  private flooded(): void {
    this.queue = [];
    this.size = 0;
    this.streams.clear();
    void this.host.unsubscribe(this).catch(() => {});
    this.end(new ClosedError(this.room, codes.too_slow));
  }

  /**
   * Of a stream in a `latest` room only the newest message waits: it takes the place of the one before, behind a gap, so that a caller who takes
   * less than comes gets all streams in turn. Reports whether it has. It stays behind init messages, and behind what says whose stream it is.
   */
  private replaces(newer: Held): boolean {
    const m = newer.event;
    if (m.type !== "message" || m.kind === "init") return false;
    const ours = (e: Event): boolean => (e.type === "message" || e.type === "gap") && e.pub === m.pub && e.dtype === m.dtype;
    const at = this.queue.findLastIndex(({ event: e }) => ours(e) && e.type === "message" && e.kind !== "init");
    const old = this.queue[at]?.event;
    if (old?.type !== "message") return false;
    const behind = this.queue.slice(at + 1);
    const stays = ({ event: e }: Held): boolean => e.type === "resumed" || ((e.type === "joined" || e.type === "left") && e.pub === m.pub) || (ours(e) && e.type === "message");
    if (behind.some(stays)) {
      this.dropWhere((x) => x === old, "newer");
      return false;
    }
    const kept = behind.filter((h) => !ours(h.event)); // gaps become part of the one before it
    this.size -= this.queue[at]!.size + eventBytes * (behind.length - kept.length);
    const gap = this.queue[at - 1]?.event;
    if (gap?.type === "gap" && ours(gap) && gap.to === old.first - 1 && gap.reason === "newer") {
      gap.to = m.first - 1;
      this.queue.splice(at, Infinity, newer, ...kept);
    } else {
      const { room, publisher, pub, dtype } = m;
      const event: Gap = { type: "gap", room, publisher, pub, dtype, from: old.first, to: m.first - 1, reason: "newer", interrupted: 0 };
      this.queue.splice(at, Infinity, { event, size: eventBytes }, newer, ...kept);
      this.size += eventBytes;
    }
    return true;
  }

  /** Drops whole groups: all before a stream's newest key message; without one, the older half. Nobody but this caller is behind. */
  private shed(): void {
    const keys = new Map<number, number>();
    for (const { event: e } of this.queue) if (e.type === "message" && e.kind === "key") keys.set(keyOf(e.pub, e.dtype), e.first);
    this.dropWhere((m) => m.kind !== "init" && m.first < (keys.get(keyOf(m.pub, m.dtype)) ?? 0), "slow");
    if (this.size <= this.bounds.receive) return;
    // The newest groups alone are too large: they go, and so does what follows of them, up to the next key message.
    for (const key of keys.keys()) this.skipping.add(key);
    this.dropWhere((m) => m.kind !== "init" && keys.has(keyOf(m.pub, m.dtype)), "slow");
    let excess = this.size - this.bounds.receive / 2;
    this.dropWhere((m) => {
      if (m.kind === "init" || excess <= 0) return false;
      excess -= m.payload.length + eventBytes;
      return true;
    }, "slow");
  }

  /** Puts gaps in the place of messages. Neighbours of a stream become one. */
  private dropWhere(drop: (m: Message) => boolean, reason: GapReason): void {
    const last = new Map<number, Gap>();
    const kept: Held[] = [];
    for (const h of this.queue) {
      const e = h.event;
      if (e.type !== "message") {
        if (e.type === "gap") last.delete(keyOf(e.pub, e.dtype));
        kept.push(h);
        continue;
      }
      const key = keyOf(e.pub, e.dtype);
      if (!drop(e)) {
        last.delete(key);
        kept.push(h);
        continue;
      }
      this.size -= h.size;
      const before = last.get(key);
      if (before && before.to === e.first - 1) {
        before.to = e.last;
        continue;
      }
      const gap: Gap = { type: "gap", room: e.room, publisher: e.publisher, pub: e.pub, dtype: e.dtype, from: e.first, to: e.last, reason, interrupted: 0 };
      last.set(key, gap);
      kept.push({ event: gap, size: eventBytes });
      this.size += eventBytes;
    }
    this.queue = kept;
  }

  // What the client tells.

  /**
   * @internal The positions to go on from: frames that arrived, which of them ended a gap, and whether it was in the room before. A publisher of whom nothing
   * has come is position 0 of stream 0: only so the server tells when that has left. Undefined: there are more than can be named, and the subscription has ended.
   */
  have(): { have: Fields[]; gapped: number[]; resumes: boolean } | undefined {
    const lossless = this.policy === "lossless";
    if (lossless) this.rewind();
    const have: Fields[] = [];
    const gapped: number[] = [];
    const silent = new Set(this.publishers.keys());
    for (const s of [...this.departed.streams(), ...this.streams.values()]) {
      if (s.expected === 1) continue;
      if (!lossless && (s.gapped || this.skipping.has(keyOf(s.pub, s.dtype)))) gapped.push(have.length);
      have.push({ pub: s.pub, dtype: s.dtype, last: s.expected - 1 });
      silent.delete(s.pub);
    }
    if (have.length > maxPositions) {
      this.flooded();
      return undefined;
    }
    for (const pub of silent) if (have.length < maxPositions) have.push({ pub, dtype: 0, last: 0 });
    return { have, gapped, resumes: this.answered };
  }

  /** Takes back what waits for the caller: in a lossless room a position is an acknowledgement, too, and the server sends what is behind it again. */
  private rewind(): void {
    const kept: Held[] = [];
    const staying = new Set<number>(); // publishers of whom a message is kept, pieces of which are acknowledged
    for (const h of this.queue.reverse()) {
      const e = h.event;
      if (e.type === "message" && e.first <= h.stream!.consumed) staying.add(e.pub);
      if ("pub" in e && staying.has(e.pub)) kept.push(h);
      else if (h.stream && (e.type === "message" || e.type === "gap")) {
        this.assembled -= h.stream.held;
        if (e.type === "message") h.stream.rewind(e.first);
        else h.stream.rewind(e.from, e.interrupted);
      } else if (h.undo) h.undo();
      else kept.push(h);
    }
    this.queue = kept.reverse();
    this.size = kept.reduce((n, h) => n + h.size, 0);
  }

  /** @internal */
  subscribed(m: Fields, link: Connection): void {
    const again = this.answered;
    this.link = link;
    this.policy = policies[m.policy as number] ?? "live";
    this.window = m.window as number;
    this.tries = 0;
    this.answered = true;
    if (this.policy === "lossless") {
      for (const s of this.streams.values()) if (s.consumed > 0) this.owed.set(s, s.consumed); // the server may have missed it
      this.settle();
    }
    if (again) this.emit({ type: "resumed", room: this.room });
    this.opening.resolve(this);
  }

  /** @internal */
  refused(code: number, text: string): void {
    if (this.over) return;
    if (!this.answered && code !== codes.moved) return this.end(new RefusedError(code, text));
    if (!mayRetry(code)) return this.end(new ClosedError(this.room, code));
    this.host.ask(this, { code, tries: ++this.tries });
  }

  /** @internal */
  stream(f: StreamFrame): void {
    const gone = this.departed.get(f.pub);
    const before = gone?.streams.find((s) => s.dtype === f.dtype && f.seq < s.expected);
    if (before) return this.again(before, f.seq, f.payload.length + 20);
    if (gone) this.back(f.pub);
    const s = this.streamOf(f.pub, f.dtype);
    if (f.seq <= s.had && f.seq < s.expected) return this.again(s, f.seq, f.payload.length + 20);
    const expected = s.expected;
    const held = s.held;
    const got = s.take(f, this.bounds.payload);
    this.assembled += s.held - held;
    if (got === undefined && this.policy === "lossless" && s.upTo(s.consumed) > s.consumed) this.done(s, s.upTo(s.consumed), f.payload.length + 20);
    if (got === false) return this.emit({ type: "fault", room: this.room, error: new StreamError(this.room, f.pub, f.dtype, expected, f.seq) });
    if (this.assembled > this.bounds.assembly) return this.dropLargest();
    if (got && this.skipping.has(keyOf(f.pub, f.dtype))) {
      if (got.kind === "key") this.skipping.delete(keyOf(f.pub, f.dtype));
      else if (got.kind === "delta") return this.tellSkipped(f.pub, f.dtype, got.first, got.last);
    }
    if (got) this.emit({ type: "message", room: this.room, publisher: this.publishers.get(f.pub) ?? "", pub: f.pub, dtype: f.dtype, ...got }, got.payload.length, { stream: s });
  }

  /** Acknowledges a frame of so many bytes that had come before: what the server has sent, though more was consumed. */
  private again(s: InStream, seq: number, size: number): void {
    if (seq > s.consumed) return; // its first coming waits for the caller
    if (this.owed.size === 0) queueMicrotask(() => this.settle());
    this.done(s, seq, size);
  }

  private tellSkipped(pub: number, dtype: number, from: number, to: number): void {
    const last = this.queue.at(-1)?.event;
    if (last?.type === "gap" && last.pub === pub && last.dtype === dtype && last.to === from - 1) last.to = to;
    else this.emit({ type: "gap", room: this.room, publisher: this.publishers.get(pub) ?? "", pub, dtype, from, to, reason: "slow", interrupted: 0 });
  }

  /** Gives up the largest unfinished message: a server, or a publisher, leaves too many of them unfinished. */
  private dropLargest(): void {
    const s = [...this.streams.values()].reduce((a, b) => (b.held > a.held ? b : a));
    this.assembled -= s.held;
    s.drop();
    this.emit({ type: "fault", room: this.room, error: new StreamError(this.room, s.pub, s.dtype, s.expected, s.expected) });
  }

  /** @internal */
  gap(m: Fields): void {
    const [pub, dtype, to] = [m.pub as number, m.dtype as number, m.to as number];
    const gone = this.departed.get(pub);
    if (gone) {
      // Frames that had not come before will not come: the publisher is there. A gap up to the highest number says only that nobody knows where its stream ended.
      if (to === maxSeq || gone.streams.some((s) => s.dtype === dtype && to < s.expected)) return;
      this.back(pub);
    }
    const s = this.streamOf(pub, dtype);
    if (to <= s.had) return this.again(s, to, 20);
    const from = (m.from as number) <= s.had ? Math.min(s.expected, to) : (m.from as number);
    const expected = s.expected;
    this.assembled -= s.held;
    const { interrupted, inOrder } = s.skip(from, to);
    if (!inOrder) this.emit({ type: "fault", room: this.room, error: new StreamError(this.room, pub, dtype, expected, from) });
    this.emit({ type: "gap", room: this.room, publisher: this.publishers.get(pub) ?? "", pub, dtype, from, to, reason: gapReason(m.reason as number), interrupted }, 0, { stream: s });
  }

  private streamOf(pub: number, dtype: number): InStream {
    const key = keyOf(pub, dtype);
    let s = this.streams.get(key);
    if (!s) this.streams.set(key, (s = new InStream(pub, dtype)));
    if (this.streams.size > maxStreams) this.flooded();
    return s;
  }

  /** @internal */
  joined(pub: number, account: string): void {
    if (this.departed.get(pub)) return; // what a node says that has not heard of it yet
    const known = this.publishers.get(pub) === account;
    this.publishers.set(pub, account);
    this.emit({ type: "joined", room: this.room, pub, account }, 0, this.undoing(() => {
      if (!known) this.drop(pub);
    }));
  }

  /** A publisher that had left is there: something comes of it that had not come before. */
  private back(pub: number): void {
    const d = this.departed.get(pub)!;
    this.departed.delete(pub);
    for (const s of d.streams) {
      s.had = s.expected - 1;
      this.streams.set(keyOf(pub, s.dtype), s);
    }
    this.publishers.set(pub, d.account);
    this.emit({ type: "joined", room: this.room, pub, account: d.account }, 0, this.undoing(() => {
      this.drop(pub);
      this.departed.add(pub, d);
    }));
  }

  /** @internal */
  left(pub: number, code: number): void {
    if (this.departed.get(pub)) return;
    const known = this.publishers.has(pub);
    const account = this.publishers.get(pub) ?? "";
    const streams = this.drop(pub);
    if (this.policy === "lossless" && streams.length > 0) this.departed.add(pub, { account, streams });
    this.emit({ type: "left", room: this.room, pub, account, code }, 0, this.undoing(() => {
      this.departed.delete(pub);
      for (const s of streams) this.streams.set(keyOf(pub, s.dtype), s);
      if (known) this.publishers.set(pub, account);
    }));
  }

  private undoing(undo: () => void): Pick<Held, "undo"> {
    return this.policy === "lossless" ? { undo } : {};
  }

  /** Forgets a publisher, whose number means nobody now, and returns its streams. */
  private drop(pub: number): InStream[] {
    this.publishers.delete(pub);
    const streams: InStream[] = [];
    for (const [key, s] of this.streams) {
      if (s.pub !== pub) continue;
      this.assembled -= s.held;
      s.end();
      streams.push(s);
      this.streams.delete(key);
      this.skipping.delete(key);
    }
    return streams;
  }

  /** @internal */
  counted(subscribers: number, publishers: number): void {
    const counts = this.queue.filter((h) => h.event.type === "count");
    if (counts.length > 0) this.queue = this.queue.filter((h) => h.event.type !== "count");
    this.size -= counts.length * eventBytes;
    this.emit({ type: "count", room: this.room, subscribers, publishers });
  }

  /** @internal */
  disconnected(): void {
    this.link = undefined;
  }

  /** @internal */
  end(why: Error): void {
    if (this.over) return;
    this.over = why;
    this.link = undefined;
    this.opening.reject(why);
    const left = why instanceof ClosedError && why.number === codes.left;
    for (const w of this.waiting.splice(0)) left ? w.resolve(undefined) : w.reject(why);
    this.host.forget(this);
  }
}

function keyOf(pub: number, dtype: number): number {
  return (pub << 8) | dtype;
}
