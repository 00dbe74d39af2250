/** What a viewer chooses between: how far behind the newest it wants to be at least, and at most, ms. */
export interface Latency {
  min: number;
  max: number;
}

export const latencies = {
  lowest: { min: 0, max: 400 },
  balanced: { min: 150, max: 1000 },
  smooth: { min: 600, max: 3000 },
} as const satisfies Record<string, Latency>;

/** How long arrivals are remembered, ms, and how many at most. */
const memoryMillis = 8000;
const memoryCount = 600;
/** Of all arrivals so many are to be in time. */
const inTime = 0.98;
/** How much slower and faster than time the position moves while the delay changes. */
const slower = 0.1;
const faster = 0.03;
/** A difference that is jumped over, ms. */
const jump = 400;
/** When sound has come after its moment for so long, without exception, the position goes back to it, ms. */
const lateMillis = 80;
/** Where sound goes first: a picture that is so far behind its moment, while sound has come within so long, says nothing, ms. */
const latePictureMillis = 150;
const soundlessMillis = 1000;
/** After the first arrival, and after a pause so long, a burst that catches up says nothing of the path, ms. */
const startMillis = 500;

/**
 * Playout says which moment of a broadcast is to be seen and heard now. It learns from arrivals how much the path's delay varies and stays as far
 * behind as nearly all of them need, no further: that far back is quickly gone to, and slowly come back from. Picture and sound follow the one
 * position, which keeps them together. Positions are the sender's timestamps. All in ms, on the caller's clock.
 */
export class Playout {
  /** How long before its moment a sample has to be there, for decoding and for the way to the loudspeaker, ms. */
  lead = 0;
  /** How far behind the newest to be at least, beside the latency that is chosen: for a path that is expected to become slower, ms. */
  floor = 0;
  private arrivals: Array<{ at: number; transit: number }> = [];
  private started = NaN;
  private heard = NaN;
  private shift = NaN; // what the position is behind the caller's clock
  private at = 0;
  private goal = 0;
  private decided = -Infinity;
  private soundAt = -Infinity; // when sound came last
  private lateSince = NaN; // when sound began to come after its moment without exception

  constructor(public latency: Latency = latencies.balanced) {}

  /** Notes that a sample has arrived. */
  arrived(pts: number, now: number): void {
    const transit = now - pts;
    const first = Number.isNaN(this.shift);
    if (first || now - this.heard > startMillis || Math.abs(transit - this.goal) > 60_000) this.started = now;
    this.heard = now;
    const starting = now - this.started < startMillis;
    const least = this.base();
    // While a burst catches up, each arrival is quicker than the ones before: only the quickest counts.
    if (first || Math.abs(transit - least) > 60_000 || (starting && transit < least - 5)) this.arrivals = [];
    else if (starting && transit > least + 200) return;
    this.arrivals.push({ at: now, transit });
    while (this.arrivals.length > memoryCount || this.arrivals[0]!.at < now - memoryMillis) this.arrivals.shift();
    if (!starting && now - this.decided < 50) return;
    this.decide(now);
    if (first) [this.shift, this.at] = [this.goal, now];
  }

  /** Notes that a picture has arrived where sound goes first: while there is sound, what comes much later does not say how far behind to play. */
  arrivedPicture(pts: number, now: number): void {
    if (now - this.soundAt < soundlessMillis && (this.position(now) ?? pts) - pts > latePictureMillis) return;
    this.arrived(pts, now);
  }

  /**
   * Notes that a piece of sound has arrived where sound goes first, so long, that has to be there `need` ms before its moment. The position goes back slowly, and what comes after
   * its moment meanwhile is not heard at all: when that goes on it goes back at once, for one silence in the place of ten times as much. A burst behind a
   * break is over sooner.
   */
  arrivedSound(pts: number, millis: number, now: number, need: number): void {
    this.soundAt = now;
    this.arrived(pts, now);
    if (pts + millis >= now - this.shift + need) this.lateSince = NaN;
    else if (Number.isNaN(this.lateSince)) this.lateSince = now;
    else if (now - this.lateSince >= lateMillis) {
      this.lateSince = NaN;
      this.goBack(now, now - pts);
    }
  }

  private base(): number {
    let least = Infinity;
    for (const a of this.arrivals) least = Math.min(least, a.transit);
    return least;
  }

  private decide(now: number): void {
    this.decided = now;
    const sorted = Float64Array.from(this.arrivals, (a) => a.transit).sort(); // as numbers, and several times faster than by a function
    const [least, most] = [sorted[0]!, sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * inTime))]!];
    const delay = Math.max(this.latency.min, Math.min(this.floor, this.latency.max), Math.min((most - least) * 1.05 + this.lead, Math.max(this.latency.max, this.lead)));
    this.goal = least + delay;
  }

  /**
   * All that arrives is late: the path is not what it was. If the last arrival came after its moment the position goes back to it, for late is better
   * than never, and the path is learnt anew.
   */
  retreat(now: number): void {
    const last = this.arrivals.at(-1);
    if (last && last.transit > this.shift) this.goBack(now, last.transit);
  }

  private goBack(now: number, transit: number): void {
    this.arrivals = [{ at: now, transit }];
    this.decide(now);
    [this.shift, this.at] = [this.goal, now];
  }

  /** How far the position is behind the newest that could be there, ms. */
  get delay(): number {
    return Number.isNaN(this.shift) ? 0 : this.shift - this.base();
  }

  /** Returns the timestamp that is to be seen and heard at that moment; undefined before anything has arrived. The moments asked for rise. */
  position(now: number): number | undefined {
    if (Number.isNaN(this.shift)) return undefined;
    const passed = Math.max(0, now - this.at);
    const off = this.goal - this.shift;
    if (Math.abs(off) > jump || now - this.started < startMillis) this.shift = this.goal;
    else this.shift += off > 0 ? Math.min(off, passed * slower) : Math.max(off, -passed * faster);
    this.at = Math.max(this.at, now);
    return now - this.shift;
  }
}
