import type { Digest } from "./wire.js";

/** What is younger is on its way anyhow, ms. */
const onTheWay = 1000;
/** How much longer than the one before each waits for somebody else to help, and how long what was sent may take to be told, ms. */
const turn = 300;
const told = 2000;

/**
 * Repair decides who sends again what somebody lacks of a board, by the digests that all tell all: those present take turns by the numbers that they
 * draw as, so that usually one does it, and the next one if that one does not. Times in ms, on the caller's clock.
 */
export class Repair {
  private readonly others = new Map<number, { author: number; digest: Digest; lacksSince: number; sentAt: number }>(); // by publisher number
  private past: Array<{ at: number; digest: Digest }> = [];

  /** Notes what another one, by its publisher's number, has, and as which author it draws. */
  heard(pub: number, author: number, digest: Digest): void {
    const o = this.others.get(pub);
    if (o) [o.author, o.digest] = [author, digest];
    else this.others.set(pub, { author, digest, lacksSince: NaN, sentAt: -Infinity });
  }

  left(pub: number): void {
    this.others.delete(pub);
  }

  /**
   * Returns what to send now, as pairs of what somebody has and what it should have. `own` is this one's digest, `self` the author that it draws as. Call it some times
   * a second.
   */
  due(now: number, self: number, own: Digest): Array<{ has: Digest; should: Digest }> {
    this.past.push({ at: now, digest: own });
    while (this.past.length > 1 && this.past[1]!.at <= now - onTheWay) this.past.shift();
    const settled = this.past[0]!.at <= now - onTheWay ? this.past[0]!.digest : new Map<number, number>();
    const found: Array<{ has: Digest; should: Digest }> = [];
    for (const o of this.others.values()) {
      if (![...settled].some(([author, seq]) => (o.digest.get(author) ?? 0) < seq)) {
        o.lacksSince = NaN;
        continue;
      }
      if (Number.isNaN(o.lacksSince)) o.lacksSince = now;
      const rank = [...this.others.values()].filter((p) => p !== o && p.author < self).length;
      if (now - o.lacksSince < rank * turn || now - o.sentAt < told) continue;
      o.sentAt = now;
      found.push({ has: o.digest, should: settled });
    }
    return found;
  }
}
