import { encodeControl } from "./codec.js";
import type { Connection } from "./connection.js";

/** How many parts the longest silence has. From the middle of it on the server is pinged; after lookAfter of them another one is connected to beside it, and whichever of the two says something first is used. */
const silentTicks = 16;
const lookAfter = (silentTicks * 3) / 4;
/** A tick that comes late counts for so many at most: a page that was frozen itself has not listened. */
const lateTicks = silentTicks / 4;

/** How long a server may say nothing, whatever ping time it names, ms. */
const maxSilence = 120_000;

/** How long a server may say nothing that names a ping time, ms: twice that, or less if the options say so. */
export function silenceOf(pingMillis: number, own?: number): number {
  return Math.min(maxSilence, 2 * pingMillis || Infinity, own || Infinity);
}

/** Watches over a connection until it is over or stopped, and leaves it when the server says nothing any more. */
export class SilenceWatch {
  private readonly timer: ReturnType<typeof setInterval>;
  private silent = 0; // ticks in a row
  private last = performance.now();
  private looking: AbortController | undefined;

  /**
   * `limit`: how long the server may say nothing, ms. `look` connects to another one; it resolves to undefined if there is none to be had. `leave` is called
   * once, with that other one if it answers before the limit.
   */
  constructor(private readonly link: Connection, limit: number, private readonly look: (signal: AbortSignal) => Promise<Connection | undefined>, private readonly leave: (next?: Connection) => void) {
    const tick = Math.max(10, limit / silentTicks);
    this.timer = setInterval(() => this.tick(tick), tick);
  }

  private tick(length: number): void {
    const now = performance.now();
    const ticks = Math.min(lateTicks, Math.max(1, Math.round((now - this.last) / length)));
    this.last = now;
    if (this.link.heard) [this.silent, this.link.heard] = [0, false];
    else this.silent += ticks;
    if (this.silent >= silentTicks) {
      this.stop();
      return this.leave();
    }
    if (this.silent >= lookAfter && this.silent - ticks < lookAfter && !this.looking) void this.lookAround();
    if (this.silent >= silentTicks / 2) this.link.send(encodeControl("ping", { echo: BigInt(Math.floor(now)) }));
  }

  private async lookAround(): Promise<void> {
    const looking = (this.looking = new AbortController());
    const next = await this.look(looking.signal);
    this.looking = undefined;
    if (!next) return;
    if (looking.signal.aborted || this.silent < lookAfter || this.link.heard) return next.close(); // it lives after all
    this.stop();
    this.leave(next);
  }

  /** Stops watching, and gives up what is being connected to. */
  stop(): void {
    clearInterval(this.timer);
    this.looking?.abort();
  }
}
