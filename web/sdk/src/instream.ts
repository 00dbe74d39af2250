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
  /** A gap was told, and no message since. */
  gapped = false;
  /** Bytes of an unfinished message. */
  held = 0;
  private parts: Uint8Array[] = [];
  private first = 0;

  constructor(readonly pub: number, readonly dtype: number) {}

  /** Takes a frame. It returns a message when that is whole, and false if the frame is out of order. */
  take(f: StreamFrame, maxPayload: number): Joined | undefined | false {
    const inOrder = f.seq === this.expected && Boolean(f.flags & flagCont) === this.parts.length > 0;
    this.expected = f.seq + 1;
    if (!inOrder) this.drop();
    if (!inOrder && f.flags & flagCont) return false;
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
    this.gapped = false;
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
    const interrupted = this.parts.length > 0 ? this.first : 0;
    const inOrder = from === this.expected;
    this.drop();
    this.expected = to + 1;
    this.gapped = true;
    return { interrupted, inOrder };
  }

  drop(): void {
    this.parts = [];
    this.held = 0;
    this.first = 0;
  }
}
