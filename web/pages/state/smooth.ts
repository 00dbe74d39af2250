import { Playout, type Latency } from "@timedge/media";

/** What lies further apart was no movement: the value before stood still until so long before the next one, ms. */
const stepMillis = 50;
/** So many samples are held at most. */
const maxSamples = 256;

interface Sample {
  at: number;
  values: readonly number[];
}

/** Returns what is between two values, `part` of the way from a to b. */
export type Mix = (a: readonly number[], b: readonly number[], part: number) => number[];

export const mixLinear: Mix = (a, b, part) => a.map((v, i) => v + (b[i]! - v) * part);

/**
 * Smooth turns samples that come unevenly into even movement: it shows them as far behind the newest as the jitter of the last seconds needs, and no
 * further, and mixes the two samples between which that moment lies. The last sample is always reached. Times in ms.
 */
export class Smooth {
  private readonly playout: Playout;
  private samples: Sample[] = [];

  constructor(latency: Latency = { min: 20, max: 250 }, private readonly mix: Mix = mixLinear) {
    this.playout = new Playout(latency);
  }

  /** Takes a sample that was made at `at` on the sender's clock and arrives now. What is older than the newest changes nothing. */
  put(at: number, values: readonly number[], now: number): void {
    const newest = this.samples.at(-1);
    if (newest && at <= newest.at) return;
    // The sample behind a moment has to be there as well as the one before it.
    if (newest && at - newest.at <= stepMillis) this.playout.lead += (at - newest.at - this.playout.lead) / 8;
    if (newest && at - newest.at > stepMillis) this.samples.push({ at: at - stepMillis, values: newest.values });
    this.samples.push({ at, values });
    if (this.samples.length > maxSamples) this.samples.splice(0, this.samples.length - maxSamples);
    this.playout.arrived(at, now);
  }

  /** Returns what is to be seen at that moment; undefined before the first sample. The moments asked for rise. */
  get(now: number): readonly number[] | undefined {
    const position = this.playout.position(now);
    if (position === undefined) return undefined;
    let i = 0;
    while (i + 1 < this.samples.length && this.samples[i + 1]!.at <= position) i++;
    this.samples.splice(0, i);
    const [a, b] = [this.samples[0]!, this.samples[1]];
    if (!b || position <= a.at) return a.values;
    return this.mix(a.values, b.values, (position - a.at) / (b.at - a.at));
  }

  /** The newest sample, whether or not it is time to show it. */
  get last(): readonly number[] | undefined {
    return this.samples.at(-1)?.values;
  }

  /** How far what is seen is behind the newest that could be there, ms. */
  get delay(): number {
    return this.playout.delay;
  }
}
