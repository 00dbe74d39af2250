/** So long each arrival has to be late before something stands in the path: a burst behind a pause is over sooner, ms. */
const standMillis = 250;
/** How long the quickest arrival is remembered, ms: at least, and at most twice as long. */
const memoryMillis = 15_000;

/**
 * Standing finds the queue that grows in a path, in buffers that nobody else sees: all that arrives is late, not only some (the idea of CoDel,
 * RFC 8289). It is found while it is short, for whatever is done about it, what stands there already has to go by first. Times in ms; now is on the
 * caller's clock, pts on the sender's.
 */
export class Standing {
  private since = NaN; // when arrivals began to be late without exception
  private quickest = Infinity;
  private before = Infinity; // the quickest of the time before
  private began = -Infinity;

  /** `limit` is how much later than the quickest an arrival is late. */
  constructor(public limit: number) {}

  /** Notes an arrival. Returns whether a queue stands in the path; while it stands on, that is told again each 250 ms. */
  arrived(pts: number, now: number): boolean {
    const transit = now - pts;
    if (Math.abs(transit - this.quickest) > 60_000) this.restart(now); // another clock
    if (now - this.began > memoryMillis) [this.before, this.quickest, this.began] = [this.quickest, Infinity, now];
    this.quickest = Math.min(this.quickest, transit);
    if (transit - Math.min(this.quickest, this.before) <= this.limit) {
      this.since = NaN;
      return false;
    }
    if (Number.isNaN(this.since)) this.since = now;
    if (now - this.since < standMillis) return false;
    this.since = now;
    return true;
  }

  private restart(now: number): void {
    [this.since, this.quickest, this.before, this.began] = [NaN, Infinity, Infinity, now];
  }
}
