/** What a decoder has made of a packet: when it was captured, and from when on silence is meant behind it, undefined for none. In ms. */
export interface Piece {
  pts: number;
  silentFrom: number | undefined;
}

/** Timestamps are rounded, ms. */
const rounding = 1;

/**
 * PacketTimes says of each piece that a decoder makes when it was captured: it makes one of each packet, in their order. What decoders say themselves is
 * no help: Chromium's tell where they begin and count samples from there, so that all behind a pause or a loss came too early. Pauses stay
 * where they are among the packets, however far behind the decoder is. Times in ms.
 */
export class PacketTimes {
  private given: Piece[] = []; // of which nothing has been made
  private end = NaN; // behind the last piece

  /** A packet was handed to the decoder. */
  packet(pts: number): void {
    this.given.push({ pts, silentFrom: undefined });
  }

  /** Silence is meant from a timestamp on. Returns whether that is so at once: else it is told with the piece before it. */
  pause(pts: number): boolean {
    const last = this.given.at(-1);
    if (last) last.silentFrom = pts;
    return last === undefined;
  }

  /**
   * Returns what the decoder has made, so long. What it says itself of its first piece tells whether it made nothing of packets before. Of a decoder that
   * makes several pieces of a packet they follow one another.
   */
  piece(millis: number, said: number): Piece {
    if (Number.isNaN(this.end)) while (this.given.length > 1 && this.given[1]!.pts <= said + rounding) this.given.shift();
    const p = this.given.shift() ?? { pts: this.end, silentFrom: undefined };
    this.end = p.pts + millis;
    return p;
  }
}
