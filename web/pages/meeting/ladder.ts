/** For so long a lower rung is left to show what it does; for so long it must be quiet before a higher one is tried, which doubles each time that it fails soon, ms. */
const settles = 4000;
const quiet = 10_000;
const fails = 10_000;
const maxQuiet = 240_000;

/** Ladder is how little is done where all of it is too much: down a rung with each trouble, up again when it is quiet. Times in ms, on the caller's clock. */
export class Ladder {
  /** The rung: 0 is all. */
  at = 0;
  private fellAt = -Infinity;
  private roseAt = -Infinity;
  private troubleAt = -Infinity;
  private wait = quiet;

  constructor(private readonly lowest: number) {}

  /** There is trouble, which keeps the rung where it is. */
  trouble(now: number): void {
    this.troubleAt = now;
  }

  /** There is so much trouble that less must be done. Returns whether the rung is another. */
  worse(now: number, settling = settles): boolean {
    this.troubleAt = now;
    if (now - this.fellAt < settling || this.at === this.lowest) return false;
    if (now - this.roseAt < fails) this.wait = Math.min(maxQuiet, this.wait * 2);
    this.at++;
    this.fellAt = now;
    return true;
  }

  /** Time passes. Returns whether the rung is another. */
  tick(now: number): boolean {
    if (this.at === 0 || now - Math.max(this.fellAt, this.roseAt, this.troubleAt) < this.wait) return false;
    this.at--;
    this.roseAt = now;
    return true;
  }
}
