import { encodeControl } from "./codec.js";
import type { Connection } from "./connection.js";
import type { Search } from "./search.js";

/** How many parts the longest silence has. From the middle of it on the server is pinged; after lookAfter of them another one is looked for, and whichever of the two says something first is used. */
const silentTicks = 16;
const lookAfter = (silentTicks * 5) / 8;
/** A tick that comes late counts for so many at most: a page that was frozen itself has not listened. */
const lateTicks = silentTicks / 8;

/** How long a server may say nothing, whatever ping time it names, ms. */
const maxSilence = 120_000;

/** How long a server may say nothing that names a ping time, ms: twice that, or less if the options say so. */
export function silenceOf(pingMillis: number, own?: number): number {
  return Math.min(maxSilence, 2 * pingMillis || Infinity, own || Infinity);
}

/** A search that goes on while the connection in use says nothing, or is to be left. */
export interface Spare {
  search: Search;
  /** Undefined: a round brought none. */
  found: Promise<Connection | undefined>;
}

/** Ends such a search, and closes what it has found. */
export function letGo({ search, found }: Spare): void {
  search.end();
  found.then((next) => next?.close(), () => {});
}

/** Watches over a connection until it is over or stopped, and leaves it when the server says nothing any more. */
export class SilenceWatch {
  private readonly timer: ReturnType<typeof setInterval>;
  private silent = 0; // ticks in a row
  private last = performance.now();
  private spare: Spare | undefined;
  private over = false;

  /**
   * `limit`: how long the server may say nothing, ms. `look` begins to look for another connection; `leave` is called once, with that search if it has
   * found one or still goes on.
   */
  constructor(private readonly link: Connection, limit: number, private readonly look: () => Spare, private readonly leave: (spare?: Spare) => void) {
    const tick = Math.max(10, limit / silentTicks);
    this.timer = setInterval(() => this.tick(tick), tick);
  }

  private tick(length: number): void {
    const now = performance.now();
    const ticks = Math.min(lateTicks, Math.max(1, Math.round((now - this.last) / length)));
    this.last = now;
    const before = this.silent;
    if (this.link.heard) [this.silent, this.link.heard] = [0, false];
    else this.silent += ticks;
    if (this.silent >= silentTicks) return this.part();
    if (before < lookAfter && this.silent >= lookAfter && !this.spare) void this.lookAround();
    if (this.silent >= silentTicks / 2) this.link.send(encodeControl("ping", { echo: BigInt(Math.floor(now)) }));
  }

  private async lookAround(): Promise<void> {
    const { search, found } = (this.spare = this.look());
    const next = await found;
    if (this.over) return;
    if (next && this.silent >= lookAfter && !this.link.heard) return this.part();
    next?.close(); // it lives after all
    search.end();
    this.spare = undefined;
  }

  private part(): void {
    this.over = true;
    clearInterval(this.timer);
    this.leave(this.spare);
  }

  /** Stops watching, and gives up what is being connected to. */
  stop(): void {
    if (this.over) return;
    this.over = true;
    clearInterval(this.timer);
    if (this.spare) letGo(this.spare);
  }
}
