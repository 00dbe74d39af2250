/** How fast a source's clock may run against ours, ms per second: crystals differ by far less. */
const slew = 2;
/** A step that no crystal explains, ms. */
const stepMillis = 1000;
/** How long a source is got to know, by its quickest arrival, ms. */
const learnMillis = 1000;

/**
 * SourceClock puts the timestamps of one source, whose zero and pace are its own, onto the page's clock, so that picture and sound from different
 * devices go together. The quickest way from a capture to its arrival here counts as none. What it returns always rises. Times in ms.
 */
export class SourceClock {
  private offset = NaN;
  private began = 0;
  private at = 0;
  private last = -Infinity;
  private window = { until: 0, least: Infinity };

  /** Returns when a capture with the source's timestamp, which arrives now, was made. */
  place(timestamp: number, now: number): number {
    const o = now - timestamp;
    if (Number.isNaN(this.offset) || Math.abs(o - this.offset) > stepMillis) {
      this.offset = o;
      this.began = this.at = now;
      this.window = { until: now + learnMillis, least: Infinity };
    } else if (now - this.began < learnMillis) {
      this.offset = Math.min(this.offset, o);
      this.at = now;
    } else {
      this.window.least = Math.min(this.window.least, o);
      if (now >= this.window.until) {
        const most = (slew * (now - this.at)) / 1000;
        this.offset += Math.max(-most, Math.min(this.window.least - this.offset, most));
        this.at = now;
        this.window = { until: now + learnMillis, least: Infinity };
      }
    }
    return (this.last = Math.max(this.last + 0.001, timestamp + this.offset));
  }
}
