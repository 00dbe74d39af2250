/** A level, root mean square of 0 to 1, from which on somebody is heard, and how long it must last, ms. */
const loud = 0.015;
const begins = 120;
/** After so long without, somebody speaks no more, ms. */
const ends = 900;
/** Who speaks stays the one for so long, though another one has begun, ms. */
const holds = 1500;

interface Voice {
  loudSince: number; // NaN: it is not
  loudAt: number;
  speaks: boolean;
  spokeAt: number;
}

/** Speaking tells by their levels who speaks, and whom to look at: short noises and pauses between words aside. Times in ms, on the caller's clock. */
export class Speaking<K> {
  private readonly voices = new Map<K, Voice>();
  private at: K | undefined;
  private since = -Infinity;

  /** Takes the level of some ms of somebody's sound. */
  heard(who: K, level: number, now: number): void {
    let v = this.voices.get(who);
    if (!v) this.voices.set(who, (v = { loudSince: NaN, loudAt: -Infinity, speaks: false, spokeAt: -Infinity }));
    if (level < loud) return;
    if (!(now - v.loudAt < begins)) v.loudSince = now;
    v.loudAt = now;
    if (!v.speaks && now - v.loudSince >= begins) v.speaks = true;
    if (v.speaks) v.spokeAt = now;
  }

  left(who: K): void {
    this.voices.delete(who);
    if (this.at === who) [this.at, this.since] = [undefined, -Infinity];
  }

  speaks(who: K, now: number): boolean {
    const v = this.voices.get(who);
    if (v?.speaks && now - v.loudAt > ends) v.speaks = false;
    return v?.speaks ?? false;
  }

  /** When somebody spoke last; -Infinity: never. */
  spokeAt(who: K): number {
    return this.voices.get(who)?.spokeAt ?? -Infinity;
  }

  /** Returns the one to look at: who speaks, or spoke last. */
  current(now: number): K | undefined {
    if (this.at !== undefined && (this.speaks(this.at, now) || now - this.since < holds)) return this.at;
    for (const who of this.voices.keys()) {
      if (!this.speaks(who, now) || who === this.at) continue;
      [this.at, this.since] = [who, now];
      break;
    }
    return this.at;
  }
}
