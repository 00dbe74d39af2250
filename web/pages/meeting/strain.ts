import { Ladder } from "./ladder.js";

/** When what is to happen at a moment happens so much later, on average, the machine has more to do than it can, ms; so much is trouble that is borne. */
const strained = 40;
const troubled = 15;
/** Over so many moments the average goes, about; one alone counts for no more than that, ms: a page that stood still for once is not slow. */
const memory = 12;
const most = 400;

/** What a machine does that cannot do all: it takes small pictures, and sends its own half as often; it sends no large ones. Nobody's picture goes. */
export const eases = ["none", "half", "small"] as const;
export type Ease = (typeof eases)[number];

/**
 * Strain tells from how late a page's timers come whether the machine follows. Sound is decoded and mixed by threads of their own, but is handed on by the page's:
 * when that is late by some tens of ms, sound is soon missing. So less is done with pictures before it is.
 */
export class Strain {
  private readonly ladder = new Ladder(eases.length - 1);
  private average = 0;

  get ease(): Ease {
    return eases[this.ladder.at]!;
  }

  /** How late things happen here, ms. */
  get late(): number {
    return this.average;
  }

  /** A timer has come so many ms late. Returns whether there is another {@link ease}. */
  timer(late: number, now: number): boolean {
    this.average += (Math.max(0, Math.min(late, most)) - this.average) / memory;
    if (this.average > troubled) this.ladder.trouble(now);
    if (this.average > strained && this.ladder.worse(now)) {
      this.average = troubled; // what comes now shows what that does
      return true;
    }
    return this.ladder.tick(now);
  }
}
