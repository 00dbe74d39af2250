import { flagCont, flagInit, flagKey, flagMore, type StreamFrame } from "./codec.js";
import { free } from "./memory.js";
import type { Kind } from "./publisher.js";

/** A message that was joined from its pieces. */
export interface Joined {
  kind: Kind;
  first: number;
  last: number;
  payload: Uint8Array;
}

/** InStream is the receiving end of one stream: it holds it to its order, and joins pieces. */
export class InStream {
  expected = 1;
  /** Of a publisher that had left and is back: what comes again up to here was there before. */
  had = 0;
  /** Lossless: the highest number that the caller is done with. */
  consumed = 0;
  /** A gap was told, and no message since but init messages: the server may have waited for a key message. */
  gapped = false;
  /** Bytes of an unfinished message. */
  held = 0;
  private parts: Uint8Array[] = [];
  private first = 0; // of an unfinished message; 0: there is none
  private rest = false; // that the rest of a message does not come was told

  constructor(readonly pub: number, readonly dtype: number) {}

  /** Takes a frame. It returns a message when that is whole, and false if the frame is out of order. */
  take(f: StreamFrame, maxPayload: number): Joined | undefined | false {
    const cont = Boolean(f.flags & flagCont);
    const known = cont && this.rest && f.seq === this.expected;
    const inOrder = f.seq === this.expected && cont === this.parts.length > 0;
    this.expected = f.seq + 1;
    if (known) return undefined;
    if (!inOrder) this.drop();
    this.rest = false;
    if (!(f.flags & flagInit)) this.gapped = false;
    if (!inOrder && cont) return false;
    if (this.held + f.payload.length > maxPayload) {
      this.drop();
      return false;
    }
    if (this.parts.length === 0) this.first = f.seq;
    this.parts.push(f.payload.slice());
    this.held += f.payload.length;
    if (f.flags & flagMore) return inOrder ? undefined : false;
    const payload = this.parts.length === 1 ? this.parts[0]! : this.join();
    const first = this.first;
    this.drop();
    const kind: Kind = f.flags & flagInit ? "init" : f.flags & flagKey ? "key" : "delta";
    return inOrder ? { kind, first, last: f.seq, payload } : false;
  }

  /** Joins the pieces, whose memory is given back. */
  private join(): Uint8Array {
    const whole = new Uint8Array(this.held);
    let at = 0;
    for (const p of this.parts) {
      whole.set(p, at);
      at += p.length;
      free(p.buffer);
    }
    return whole;
  }

  /** Takes a gap; returns the first frame of a message that it cuts off, 0 if none, and whether it is in order. */
  skip(from: number, to: number): { interrupted: number; inOrder: boolean } {
    const interrupted = this.first;
    const inOrder = from === this.expected;
    this.drop();
    this.rest = false;
    this.expected = to + 1;
    this.gapped = true;
    return { interrupted, inOrder };
  }

  /** The last frame that counts as consumed once all up to `last` is: pieces behind it, of a message that is not whole, are nobody's to consume. */
  upTo(last: number): number {
    return this.first > 0 && this.first <= last + 1 ? this.expected - 1 : last;
  }

  /** Takes back what came from a frame on, with the pieces of an unfinished message: the server sends it again. `interrupted`: as {@link skip} returned it. */
  rewind(to: number, interrupted = 0): void {
    this.drop();
    this.expected = to;
    this.first = interrupted;
  }

  /** Gives up what there is of a message; its rest is of no use, and comes without a word. */
  end(): void {
    this.rest = this.parts.length > 0;
    this.drop();
  }

  drop(): void {
    this.parts = [];
    this.held = 0;
    this.first = 0;
  }
}
