/** After so many ms without trouble a better quality is tried; each time that fails within `proveMillis` the wait doubles. */
const calmMillis = 5_000;
const proveMillis = 10_000;
const maxCalm = 240_000;

/**
 * Choice decides which of several qualities, 0 the best and the last the lightest, a viewer takes. A path that is too slow gets the lightest at once,
 * so that sound goes on while what waits in the path goes by; then one better at a time is tried, seldom where that has failed. Times in ms, on the
 * caller's clock.
 */
export class Choice {
  /** The quality to take. */
  at = 0;
  private since = -Infinity; // of the last change, or trouble
  private roseAt = -Infinity;
  private calm = calmMillis;
  private wish = 0;

  constructor(public count: number) {}

  /** The best quality to take: the viewer's wish. It is taken at once. */
  set best(q: number) {
    this.wish = this.at = Math.max(0, Math.min(q, this.count - 1));
  }

  /** A better quality than this one was too much. */
  get pressed(): boolean {
    return this.at > this.wish;
  }

  /** The path does not carry what is taken. Returns whether `at` has changed. */
  slow(now: number): boolean {
    if (now - this.since < 1000) return false; // the same trouble, or what is left of the quality before
    this.since = now;
    if (this.at >= this.count - 1) return false;
    this.calm = now - this.roseAt < proveMillis ? Math.min(maxCalm, this.calm * 2) : calmMillis;
    this.at = this.count - 1;
    return true;
  }

  /** Time passes. Returns whether `at` has changed. */
  tick(now: number): boolean {
    if (this.since === -Infinity) this.since = now;
    if (!this.pressed || now - this.since < this.calm) return false;
    this.at--;
    this.since = this.roseAt = now;
    return true;
  }
}
