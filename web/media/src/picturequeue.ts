/** A coded picture. */
export interface Coded {
  pts: number; // ms
  key: boolean;
  data: Uint8Array;
}

/** How many decoded pictures are held: a hardware decoder has few. */
const maxDecoded = 8;
/** So far behind its moment a picture is not worth decoding if a key picture has come since, ms. */
const hopeless = 400;

/**
 * PictureQueue holds what a decoder needs and what it has made until its moment. After a gap it lets nothing through before the next key picture;
 * a decoder that cannot follow skips to the newest. It knows decoded pictures only by what the caller hands in, `F`. Positions and
 * timestamps in ms.
 */
export class PictureQueue<F> {
  /** Pictures that were never shown: cut off by a gap, not decoded, or too late. */
  missed = 0;
  private coded: Coded[] = [];
  private decoded: Array<{ pts: number; frame: F }> = [];
  private inDecoder = 0;
  private resync = true;

  /** A key picture is waited for. */
  get waits(): boolean {
    return this.resync;
  }

  /** Takes a picture as it arrives. */
  arrived(c: Coded): void {
    if (this.resync && !c.key) {
      this.missed++;
      return;
    }
    this.resync = false;
    this.coded.push(c);
  }

  /** Something is missing behind what has arrived. */
  gap(): void {
    this.resync = true;
  }

  /** Returns the next picture for the decoder, which has it from then on; undefined if there is none, or enough lies decoded. */
  decode(position: number): Coded | undefined {
    if (this.coded[0] && this.coded[0].pts < position - hopeless) {
      const key = this.coded.findLastIndex((c) => c.key);
      if (key > 0) {
        this.missed += key;
        this.coded.splice(0, key);
      }
    }
    if (this.inDecoder + this.decoded.length >= maxDecoded) return undefined;
    const c = this.coded.shift();
    if (c) this.inDecoder++;
    return c;
  }

  /** Takes what the decoder made. */
  made(pts: number, frame: F): void {
    this.inDecoder = Math.max(0, this.inDecoder - 1);
    this.decoded.push({ pts, frame });
    for (let i = this.decoded.length - 1; i > 0 && this.decoded[i - 1]!.pts > pts; i--) {
      [this.decoded[i - 1], this.decoded[i]] = [this.decoded[i]!, this.decoded[i - 1]!];
    }
  }

  /** The decoder has lost all that it had; it goes on at a key picture. */
  failed(): void {
    this.missed += this.inDecoder;
    this.inDecoder = 0;
    const key = this.coded.findIndex((c) => c.key);
    this.missed += key < 0 ? this.coded.length : key;
    this.coded.splice(0, key < 0 ? this.coded.length : key);
    if (key < 0) this.resync = true;
  }

  /** The moment of the next picture that is decoded; undefined while none is. */
  get next(): number | undefined {
    return this.decoded[0]?.pts;
  }

  /** Returns the picture whose moment it is, if that is another than before, and those that are over. All of them are the caller's. */
  show(position: number): { frame: F; pts: number; over: F[] } | undefined {
    let n = 0;
    while (n < this.decoded.length && this.decoded[n]!.pts <= position) n++;
    if (n === 0) return undefined;
    const due = this.decoded.splice(0, n);
    const { frame, pts } = due.pop()!;
    this.missed += due.length;
    return { frame, pts, over: due.map((d) => d.frame) };
  }

  /** Throws everything away, and returns what was decoded, which is the caller's. */
  clear(): F[] {
    this.coded = [];
    this.inDecoder = 0;
    this.resync = true;
    return this.decoded.splice(0).map((d) => d.frame);
  }
}
