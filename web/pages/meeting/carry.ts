import { even, type Quality } from "@timedge/media";
import { Ladder } from "./ladder.js";
import type { Ease } from "./strain.js";

/** How much is taken: all that is shown as large as it is shown; only the small sizes; those only of whom one looks at; nothing. Sound is always taken. */
export const levels = ["all", "small", "one", "none"] as const;
export type Level = (typeof levels)[number];
export type Size = "large" | "small" | "none";

/** So many ms behind, pictures say that the path is full; so many say that even what is left is too much. */
const late = 500;
const veryLate = 2000;
/** Sound goes first: so many ms behind it says the one, and so many the other. */
const soundLate = 300;
const soundVeryLate = 600;
/** When nothing comes less late than that for so long, a queue stands in the path, ms: what comes in a bunch after a break is over sooner. */
const stands = 400;
/** For so long taking less is left to show what it does while sound is late, ms. */
const soundSettles = 1500;

/** Queue tells by what arrives whether it stands in one. Times in ms, on the caller's clock. */
class Queue {
  private since = NaN; // all that came since then was late; anew each time that it has stood for long enough
  private least = 0;

  constructor(private readonly late: number) {}

  /** Takes how late something is. Returns how late all of it was at least when it has been late for long enough. */
  arrived(ms: number, now: number): number | undefined {
    if (ms < this.late) this.since = NaN;
    else if (Number.isNaN(this.since)) [this.since, this.least] = [now, ms];
    else this.least = Math.min(this.least, ms);
    if (!(now - this.since >= stands)) return undefined;
    this.since = NaN;
    return this.least;
  }
}

/**
 * Carry decides how much of the others' pictures a path carries, from how far they come behind and from what the server had to leave out. Times in ms, on
 * the caller's clock.
 */
export class Carry {
  private readonly ladder = new Ladder(levels.length - 1);
  private readonly pictures = new Queue(late);
  private readonly sounds = new Queue(soundLate);

  get level(): Level {
    return levels[this.ladder.at]!;
  }

  /** Takes how far a picture of somebody's has come behind its usual way. Returns whether the level has changed. */
  behind(ms: number, now: number): boolean {
    const least = this.pictures.arrived(ms, now);
    if (least === undefined) return false;
    if (this.ladder.at === 0 || least >= veryLate) return this.ladder.worse(now);
    this.ladder.trouble(now);
    return false;
  }

  /** Takes how far a piece of somebody's sound has come behind its usual way. Returns whether the level has changed. */
  behindSound(ms: number, now: number): boolean {
    const least = this.sounds.arrived(ms, now);
    return least !== undefined && (this.ladder.at === 0 || least >= soundVeryLate) && this.ladder.worse(now, soundSettles);
  }

  /** The server has left something out. Returns whether the level has changed. */
  dropped(now: number): boolean {
    return this.ladder.worse(now);
  }

  /** Time passes. Returns whether the level has changed. */
  tick(now: number): boolean {
    return this.ladder.tick(now);
  }
}

/** How long the quickest way is remembered, ms. */
const memory = 20_000;

/** Behind tells how much later than by the quickest way of late what arrives has come. Timestamps are the sender's. Times in ms. */
export class Behind {
  private quickest: Array<{ at: number; way: number }> = []; // rising ways: the first is the quickest

  arrived(pts: number, now: number): number {
    const way = now - pts;
    while (this.quickest.length > 0 && this.quickest.at(-1)!.way >= way) this.quickest.pop();
    this.quickest.push({ at: now, way });
    while (this.quickest.length > 1 && this.quickest[0]!.at < now - memory) this.quickest.shift();
    return way - this.quickest[0]!.way;
  }

  /** What follows goes another way. */
  forget(): void {
    this.quickest = [];
  }
}

/** A picture as it is shown. */
export interface Shown {
  /** Pixels of the screen that it is wide; 0: not shown. */
  width: number;
  /** One looks at it: it is pinned, speaks, or is alone. */
  looked: boolean;
}

/** Returns how much is taken, by what the path carries and what the machine can do. */
export function levelFor(path: Level, ease: Ease): Level {
  return path === "all" && ease !== "none" ? "small" : path;
}

/** Returns which size of a picture to take. `small` is how many pixels wide the small size is. */
export function sizeFor(s: Shown, level: Level, small: number): Size {
  if (s.width === 0 || level === "none") return "none";
  if (level === "one" && !s.looked) return "none";
  if (level !== "all") return "small";
  return s.width > small * 1.25 ? "large" : "small";
}

/** The small size of a picture: a quarter of its pixels, half as often. */
export function smallOf(q: Quality): Quality {
  return { width: even(q.width / 2), height: even(q.height / 2), fps: Math.max(1, Math.round(q.fps / 2)), bitrate: Math.round(q.bitrate / 6) };
}
