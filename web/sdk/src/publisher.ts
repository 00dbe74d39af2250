import { flagCont, flagInit, flagKey, flagMore, maxFrame, maxPiece, streamHeader, type Fields } from "./codec.js";
import { codes, mayRetry, policies, type Policy } from "./codes.js";
import type { Connection } from "./connection.js";
import { ClosedError, RefusedError } from "./errors.js";
import { OutStream } from "./outstream.js";
import type { RoomID } from "./room.js";
import { Window } from "./window.js";

/** What a message is to a decoder: `key` can be started from, `init` is the header that it needs first, `delta` needs what came before. */
export type Kind = "delta" | "key" | "init";

/** What a publisher needs of its client. */
export interface PublisherHost {
  ask(p: Publisher, later?: { code: number; tries: number }): void;
  unpublish(p: Publisher): Promise<void>;
  forget(p: Publisher): void;
}

/** How often a publisher is brought in line with the server again before anything is acknowledged in between. */
const maxAstray = 3;
const maxWindow = 16 << 20;

/** How long a publisher has to be there before it is sent away again for that to be done at once, ms: two nodes may disagree, and each sends it to the other. */
const settledMillis = 100;

/**
 * Publisher pushes messages into one room. It survives reconnections, and its room's move to another node: what is not acknowledged is kept
 * and sent again. Messages of one dtype are sent in the order of their pushes; those of different dtypes take turns piece by piece.
 */
export class Publisher {
  policy: Policy = "live";
  /** Called with the numbers of subscribers and publishers in the room, if {@link PublishOptions.counts} asked for them. */
  onCount: ((subscribers: number, publishers: number) => void) | undefined;

  private readonly window = new Window();
  private readonly streams = new Map<number, OutStream>();
  private readonly turns = new Map<number, Promise<void>>();
  private pub = 0;
  private link: Connection | undefined; // on which the server has answered
  private answered = false;
  private astray = 0;
  private tries = 0;
  private since = 0; // of the server's last answer, ms
  private headless = false;
  private lost: Error | undefined;
  private over: Error | undefined;
  private flushing: Array<() => void> = [];
  private opening!: { resolve(p: Publisher): void; reject(e: Error): void };
  /** @internal */ readonly opened: Promise<Publisher>;

  /** @internal */
  constructor(readonly room: RoomID, readonly number: bigint, readonly to: string | undefined, readonly counts: boolean, private readonly host: PublisherHost, private readonly maxPayload: () => number) {
    this.opened = new Promise((resolve, reject) => (this.opening = { resolve, reject }));
    this.opened.catch(() => {}); // its caller sees it
  }

  /** How many bytes are pushed and not acknowledged. */
  get buffered(): number {
    return this.window.used;
  }

  /** How many bytes may be: 0 before the server's first answer. */
  get windowSize(): number {
    return this.window.size;
  }

  /**
   * Sends one message into the stream of that dtype. The promise is fulfilled when all of it is numbered and on its way, and the payload is the
   * caller's again; {@link flush} tells when it has arrived. While as much is unacknowledged as the server allows it waits: that is what slows a
   * caller down, and an encoder should be held to it. It rejects with why the publisher has ended; a message that was lost because the server
   * gave the publisher up is told once, as a ClosedError `gone`, by a push that has pushed nothing.
   */
  push(dtype: number, kind: Kind, payload: Uint8Array): Promise<void> {
    if (payload.length > this.maxPayload()) return Promise.reject(new RefusedError(codes.payload_size));
    const before = this.turns.get(dtype) ?? Promise.resolve();
    const turn = before.then(() => this.pushPieces(dtype, kind, payload));
    const after = turn.catch(() => {});
    this.turns.set(dtype, after);
    void after.then(() => {
      if (this.turns.get(dtype) === after) this.turns.delete(dtype);
    });
    return turn;
  }

  private fault(): void {
    if (this.over) throw this.over;
    if (this.lost) {
      const e = this.lost;
      this.lost = undefined;
      throw e;
    }
  }

  private async pushPieces(dtype: number, kind: Kind, payload: Uint8Array): Promise<void> {
    this.fault();
    const stream = this.stream(dtype);
    const flags = kind === "key" ? flagKey : kind === "init" ? flagInit : 0;
    const share = payload.length > maxPiece ? () => stream.bytes : undefined;
    let at = 0;
    do {
      const piece = payload.subarray(at, at + maxPiece);
      const wait = this.window.take(streamHeader + piece.length, share);
      if (wait) await wait;
      if (this.over || this.lost) {
        this.window.release(streamHeader + piece.length);
        this.fault();
      }
      const more = at + piece.length < payload.length;
      stream.push(flags | (at > 0 ? flagCont : 0) | (more ? flagMore : 0), piece);
      at += piece.length;
      this.send();
    } while (at < payload.length);
  }

  private stream(dtype: number): OutStream {
    let s = this.streams.get(dtype);
    if (!s) this.streams.set(dtype, (s = new OutStream(this.number, dtype, this.pub)));
    return s;
  }

  private send(): void {
    const link = this.link;
    if (link) for (const s of this.streams.values()) s.take((f) => link.send(f));
  }

  /** Waits until all that was pushed before the call has arrived: in a lossless room until every subscriber has consumed it. */
  async flush(): Promise<void> {
    await Promise.all(this.turns.values());
    const want = [...this.streams.values()].map((s) => [s, s.base + s.next - 1] as const);
    for (;;) {
      this.fault();
      if (want.every(([s, seq]) => s.base + s.acked >= seq || s.bytes === 0)) return;
      await new Promise<void>((resolve) => this.flushing.push(resolve));
    }
  }

  /** Flushes and then ends the publisher, so that subscribers are told that it left. */
  async close(): Promise<void> {
    try {
      await this.flush();
    } finally {
      if (!this.over) {
        this.end(new ClosedError(this.room, codes.left));
        await this.host.unpublish(this).catch(() => {});
      }
    }
  }

  // What the client tells.

  /** @internal */
  take(published: Fields, link: Connection): void {
    const pub = published.pub as number;
    const fresh = this.answered && pub !== this.pub;
    const known = new Map((published.streams as Fields[]).map((s) => [s.dtype as number, s.next as number]));
    for (const dtype of known.keys()) this.stream(dtype);
    this.pub = pub;
    this.policy = policies[published.policy as number] ?? "live";
    let used = 0;
    for (const s of this.streams.values()) {
      const r = s.resume(known.get(s.dtype), pub, fresh || !this.answered, this.headless, (f) => link.send(f));
      used += r.used;
      if (r.lost) this.lost = new ClosedError(this.room, codes.gone);
    }
    this.headless = false;
    this.answered = true;
    this.since = performance.now();
    this.link = link;
    this.window.used += used;
    this.window.resize(Math.max(maxFrame, Math.min(published.window as number, maxWindow)));
    this.send();
    this.wake();
    this.opening.resolve(this);
  }

  /** @internal */
  refused(code: number, text: string): void {
    if (this.over) return;
    if ((!this.answered && code !== codes.moved) || !mayRetry(code)) return this.end(new RefusedError(code, text));
    if (code === codes.recipient_away) return this.end(new ClosedError(this.room, code));
    this.again(code);
  }

  private again(code: number): void {
    this.link = undefined;
    this.host.ask(this, { code, tries: ++this.tries });
  }

  /** @internal */
  pushRefused(code: number, pub: number): void {
    if (this.over || pub !== this.pub || !this.link) return;
    const thread = code === codes.sequence || code === codes.bad_pieces;
    if (code === codes.moved || code === codes.superseded || code === codes.not_publishing) return this.moved();
    if ((!mayRetry(code) && !thread) || (thread && this.astray === maxAstray)) return this.end(new RefusedError(code, "push"));
    if (!thread) return this.again(code);
    this.headless = code === codes.bad_pieces;
    this.astray++;
    this.link = undefined;
    this.host.ask(this);
  }

  private moved(): void {
    this.link = undefined;
    if (this.tries++ > 0) this.host.ask(this, { code: codes.moved, tries: this.tries });
    else this.host.ask(this);
  }

  /** @internal */
  acknowledged(pub: number, dtype: number, seq: number): void {
    if (pub !== this.pub || !this.link) return;
    const freed = this.streams.get(dtype)?.acknowledge(seq, performance.now()) ?? 0;
    if (freed === 0) return;
    this.astray = 0;
    if (performance.now() - this.since > settledMillis) this.tries = 0;
    this.window.release(freed);
    this.wake();
  }

  /** @internal */
  closed(code: number): void {
    if (code === codes.moved || code === codes.superseded) this.moved();
    else this.end(new ClosedError(this.room, code));
  }

  /** @internal The connection broke: what the next one does is told by take. */
  disconnected(): void {
    this.link = undefined;
  }

  /** @internal */
  end(why: Error): void {
    if (this.over) return;
    this.over = why;
    this.link = undefined;
    this.opening.reject(why);
    this.window.close(why);
    this.wake();
    this.host.forget(this);
  }

  private wake(): void {
    for (const resolve of this.flushing.splice(0)) resolve();
  }
}
