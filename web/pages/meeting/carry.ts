import { even, type Quality } from "@timedge/media";

/** How much is taken: all that is shown as large as it is shown; only the small sizes; those only of whom one looks at; nothing. Sound is always taken. */
export const levels = ["all", "small", "one", "none"] as const;
export type Level = (typeof levels)[number];
export type Size = "large" | "small" | "none";

/** So many ms behind, pictures say that the path is full; so many say that even what is left is too much. */
export const late = 700;
const veryLate = 2000;
/** For so long a change is left to show what it does, and for so long the path must be quiet before more is tried; that doubles each time it fails soon, ms. */
const settles = 4000;
const quiet = 10_000;
const fails = 10_000;
const maxQuiet = 240_000;

/**
 * Carry decides how much of the others' pictures a path carries, from how far they come behind and from what the server had to leave out. Times in ms, on
 * the caller's clock.
 */
export class Carry {
  private at = 0;
  private changed = -Infinity;
  private troubleAt = -Infinity;
  private roseAt = -Infinity;
  private wait = quiet;

  get level(): Level {
    return levels[this.at]!;
  }

  /** Takes how far pictures come behind their usual way. Returns whether the level has changed. */
  behind(ms: number, now: number): boolean {
    if (ms < late) return false;
    if (this.at === 0 || ms >= veryLate) return this.worse(now);
    this.troubleAt = now;
    return false;
  }

  /** The server has left something out. Returns whether the level has changed. */
  dropped(now: number): boolean {
    return this.worse(now);
  }

  private worse(now: number): boolean {
    this.troubleAt = now;
    if (now - this.changed < settles || this.at === levels.length - 1) return false;
    if (now - this.roseAt < fails) this.wait = Math.min(maxQuiet, this.wait * 2);
    this.at++;
    this.changed = now;
    return true;
  }

  /** Time passes. Returns whether the level has changed. */
  tick(now: number): boolean {
    if (this.at === 0 || now - Math.max(this.changed, this.troubleAt) < this.wait) return false;
    this.at--;
    this.changed = this.roseAt = now;
    return true;
  }
}

/** How long the quickest way is remembered, ms. */
const memory = 20_000;

/** Behind tells how much later than by the quickest way of late what arrives has come. Timestamps are the sender's. Times in ms. */
export class Behind {
  private quickest: Array<{ at: number; way: number }> = []; // rising ways: the first is the quickest
  /** Smoothed over some pictures. */
  ms = 0;

  arrived(pts: number, now: number): number {
    const way = now - pts;
    while (this.quickest.length > 0 && this.quickest.at(-1)!.way >= way) this.quickest.pop();
    this.quickest.push({ at: now, way });
    while (this.quickest.length > 1 && this.quickest[0]!.at < now - memory) this.quickest.shift();
    return (this.ms += (way - this.quickest[0]!.way - this.ms) / 8);
  }

  /** What follows goes another way. */
  forget(): void {
    this.quickest = [];
    this.ms = 0;
  }
}

/** A picture as it is shown. */
export interface Shown {
  /** Pixels of the screen that it is wide; 0: not shown. */
  width: number;
  /** One looks at it: it is pinned, speaks, or is alone. */
  looked: boolean;
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
