/** After so many ms without loss a better quality is tried; each time that fails within `proveMillis` the wait doubles. */
const calmMillis = 15_000;
const proveMillis = 10_000;
const maxCalm = 240_000;

/**
 * Choice decides which of several qualities, 0 the best, a viewer takes: one worse when the server had to leave out something because the path is
 * too slow, one better when it has long been quiet. Times in ms, on the caller's clock.
 */
export class Choice {
  /** The quality to take. */
  at = 0;
  private since = -Infinity; // of the last change, or loss
  private roseAt = -Infinity;
  private calm = calmMillis;

  constructor(public count: number) {}

  /** Something was left out for this viewer. Returns whether `at` has changed. */
  slow(now: number): boolean {
    if (now - this.since < 1000) return false; // the same loss, or one of the quality before
    if (now - this.roseAt < proveMillis) this.calm = Math.min(maxCalm, this.calm * 2);
    this.since = now;
    if (this.at >= this.count - 1) return false;
    this.at++;
    return true;
  }

  /** Time passes. Returns whether `at` has changed. */
  tick(now: number): boolean {
    if (this.since === -Infinity) this.since = now;
    if (this.at === 0 || now - this.since < this.calm) return false;
    this.at--;
    this.since = this.roseAt = now;
    return true;
  }
}
