/**
 * KeyFrames decides which pictures become key pictures: one each `every` ms, and the next one when somebody needs it, but never two within
 * `least` ms, so that a crowd that comes at once costs one.
 */
export class KeyFrames {
  private last = -Infinity;
  private wanted = true;

  constructor(private readonly every = 2000, private readonly least = 400) {}

  /** Somebody cannot go on without. */
  want(): void {
    this.wanted = true;
  }

  /** Reports whether the picture that is encoded now is to be a key picture, and counts it as one. */
  take(now: number): boolean {
    const since = now - this.last;
    if (since < this.least || (since < this.every && !this.wanted)) return false;
    this.last = now;
    this.wanted = false;
    return true;
  }
}
