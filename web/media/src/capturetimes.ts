/** A difference between what an encoder counts and when its sound was captured that is no jitter of timestamps, µs: some was lost before it. */
const lostMicros = 40_000;

/**
 * CaptureTimes says of each packet that an encoder makes when its sound was captured, and whether the gate was open: encoders tell the first timestamp
 * and count samples from there, as if none were ever lost on a machine that is busy. Times in µs, of the source.
 */
export class CaptureTimes {
  private given: Array<{ from: number; end: number; at: number; open: boolean }> = []; // what the encoder has; from and end are counted
  private count = 0;
  private began = NaN; // the encoder's first timestamp
  private lost = 0; // of what was captured until now

  /** A piece that was captured at that time was handed to the encoder. */
  piece(at: number, micros: number, open: boolean): void {
    this.given.push({ from: this.count, end: (this.count += micros), at, open });
  }

  /** Returns when what is in a packet was captured. `anew` says that nothing has been heard just before it, so that it may be placed anew. */
  packet(timestamp: number, micros: number, anew: boolean): { at: number; open: boolean } {
    if (Number.isNaN(this.began)) this.began = timestamp;
    const [from, end] = [timestamp - this.began, timestamp - this.began + micros];
    while (this.given.length > 1 && this.given[0]!.end <= from) this.given.shift();
    const first = this.given[0];
    const open = this.given.some((g) => g.open && g.from < end);
    const off = first ? first.at + (from - first.from) - timestamp - this.lost : 0;
    if (off > lostMicros || (anew && off < -lostMicros)) this.lost += off;
    return { at: timestamp + this.lost, open };
  }
}
