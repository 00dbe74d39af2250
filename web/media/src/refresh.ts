/** A screen's refreshes are about so far apart, ms: what asks oftener than that is called no oftener. */
const frameMillis = 1000 / 60;
/** So far apart are the times when pictures are shown at most, ms. */
const maxPace = 2 * frameMillis;

/** Something that shows pictures. */
export interface Shows {
  /** How far its pictures are apart, ms; Infinity while it has none. */
  readonly every: number;
  /** Shows what is due until `ahead` ms from now, and asks again for what it has then. */
  show(ahead: number): void;
}

/** A page's clock, ms, its refreshes and its timers. */
export interface RefreshClock {
  now(): number;
  frame(f: () => void): number;
  noFrame(id: number): void;
  after(f: () => void, ms: number): ReturnType<typeof setTimeout>;
  notAfter(id: ReturnType<typeof setTimeout>): void;
}

const page: RefreshClock = {
  now: () => performance.now(),
  frame: (f) => requestAnimationFrame(f),
  noFrame: (id) => cancelAnimationFrame(id),
  after: (f, ms) => setTimeout(f, ms),
  notAfter: (id) => clearTimeout(id),
};

/**
 * Refresh shows all pictures of a page together, at a refresh of the screen near their moments: each refresh that is used has the browser go through the whole
 * page and put it together anew, whatever has changed. So none is used without a picture, and no more than two for each of those that come most often.
 */
export class Refresh {
  private readonly all = new Set<Shows>();
  private lastAt = -Infinity;
  private asked = Infinity; // the earliest moment that somebody asks for
  private timer: { id: ReturnType<typeof setTimeout>; at: number } | undefined;
  private frame: number | undefined;

  constructor(private readonly clock: RefreshClock = page) {}

  add(s: Shows): void {
    this.all.add(s);
  }

  remove(s: Shows): void {
    this.all.delete(s);
    if (this.all.size > 0) return;
    if (this.timer) this.clock.notAfter(this.timer.id);
    if (this.frame !== undefined) this.clock.noFrame(this.frame);
    [this.timer, this.frame, this.asked] = [undefined, undefined, Infinity];
  }

  /** How far apart the times are when pictures are shown, ms. */
  private get pace(): number {
    let every = Infinity;
    for (const s of this.all) every = Math.min(every, s.every);
    return Math.max(frameMillis, Math.min(every / 2, maxPace));
  }

  /** Somebody has a picture for a moment of the page's clock. */
  ask(at: number): void {
    this.asked = Math.min(this.asked, at);
    if (this.frame !== undefined) return;
    const want = Math.max(this.asked, this.lastAt + this.pace) - frameMillis / 2; // the refresh behind that is the nearest
    if (this.timer && this.timer.at <= want) return;
    if (this.timer) this.clock.notAfter(this.timer.id);
    this.timer = undefined;
    const rest = want - this.clock.now();
    if (rest < 1) return this.request();
    const id = this.clock.after(() => {
      this.timer = undefined;
      this.request();
    }, rest);
    this.timer = { id, at: want };
  }

  private request(): void {
    this.frame = this.clock.frame(() => {
      [this.frame, this.asked, this.lastAt] = [undefined, Infinity, this.clock.now()];
      const ahead = this.pace / 2;
      for (const s of this.all) s.show(ahead);
    });
  }
}

/** That of the page. */
export const refresh = new Refresh();
