/** Bounds of a {@link RateControl}, bits per second. */
export interface RateBounds {
  min: number;
  max: number;
  start?: number;
}

interface Mark {
  at: number;
  pushed: number;
}

/** What waits longer than this beyond the way itself says that the path is full, ms. */
const fullAfter = 300;
/** What waits so long that pictures are better left out than queued, ms. */
const skipAfter = 800;
/** Pictures that may be inside the encoder. */
const maxInEncoder = 2;
/** How long the shortest delay counts as that of the way, and a cut or a rise keeps the next one away, ms. */
const baseMillis = 10_000;
const holdMillis = 1000;

/**
 * RateControl finds the bit rate that a path carries, from acknowledgements alone: a browser's own counters do not see what lies in lower
 * buffers. How long a byte waits beyond the shortest wait of the last seconds is queue; with a queue the rate falls to what arrives, without
 * one it rises slowly. Times in ms, on the caller's clock.
 */
export class RateControl {
  /** What the encoder should make, bits per second. */
  bitrate: number;
  /** How long what was pushed waits for its acknowledgement beyond the way itself, ms. */
  queued = 0;
  private marks: Mark[] = [];
  private delivered: Mark[] = []; // acknowledged bytes over time
  private bases: Array<{ at: number; delay: number }> = []; // rising delays: the first is the shortest of the last baseMillis
  private changed = -Infinity;
  private began = NaN;

  constructor(private readonly bounds: RateBounds) {
    this.bitrate = Math.max(bounds.min, Math.min(bounds.start ?? bounds.max, bounds.max));
  }

  /** Tells how many bytes were pushed, and how many of them are acknowledged, since the beginning. Call it some ten times a second or oftener. */
  update(now: number, pushed: number, acked: number): void {
    if (Number.isNaN(this.began)) this.began = now;
    if (pushed > (this.marks.at(-1)?.pushed ?? 0)) this.marks.push({ at: now, pushed });
    if (acked > (this.delivered.at(-1)?.pushed ?? -1)) this.delivered.push({ at: now, pushed: acked });
    while (this.delivered.length > 2 && this.delivered[1]!.at < now - 2000) this.delivered.shift();
    let delay: number | undefined;
    while (this.marks[0] && this.marks[0].pushed <= acked) delay = now - this.marks.shift()!.at;
    if (delay !== undefined) this.base(now, delay);
    const waits = Math.max(delay ?? 0, this.marks[0] ? now - this.marks[0].at : 0);
    this.queued = Math.max(0, waits - (this.bases[0]?.delay ?? 0));
    this.adapt(now);
  }

  private base(now: number, delay: number): void {
    while (this.bases.length > 0 && this.bases.at(-1)!.delay >= delay) this.bases.pop();
    this.bases.push({ at: now, delay });
    while (this.bases.length > 1 && this.bases[0]!.at < now - baseMillis) this.bases.shift();
  }

  private adapt(now: number): void {
    if (now - this.changed < holdMillis || now - this.began < holdMillis) return;
    if (this.queued > fullAfter) this.bitrate = Math.min(this.bitrate * 0.85, this.arrives(now) * 0.9);
    else if (this.queued < fullAfter / 3) this.bitrate *= 1.08;
    else return;
    this.bitrate = Math.max(this.bounds.min, Math.min(this.bitrate, this.bounds.max));
    this.changed = now;
  }

  /** Bits per second that were acknowledged of late. */
  private arrives(now: number): number {
    const [a, b] = [this.delivered[0], this.delivered.at(-1)];
    if (!a || !b) return this.bounds.min;
    return ((b.pushed - a.pushed) * 8000) / Math.max(500, now - a.at);
  }

  /** Reports whether the next picture should be encoded, with so many inside the encoder; if not, it is left out. */
  admits(inEncoder: number): boolean {
    return inEncoder <= maxInEncoder && this.queued < skipAfter;
  }
}
