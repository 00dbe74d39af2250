/** Sound below this level is none, and from that on it is some whatever else is heard: root mean square, 0 to 1. */
const faint = 0.001;
const clear = 0.015;
/** So many times louder than what is always there somebody speaks. */
const over = 2.5;
/** So long after it is silence, ms: words end softly. */
const hold = 300;
/** What is always there is the quietest of the last while: at least so long, and at most twice as long, ms. */
const memory = 2000;

/** Gate tells by the levels of a microphone's sound whether there is anything to send: what is always there, as a fan is, is nothing. */
export class Gate {
  /** There is. */
  open = true;
  private left = hold; // ms until it closes
  private quietest = Infinity;
  private before = Infinity; // the quietest of the while before
  private passed = 0;

  /** Takes the level of some ms of sound. */
  heard(level: number, millis: number): void {
    if ((this.passed += millis) > memory) [this.before, this.quietest, this.passed] = [this.quietest, Infinity, 0];
    this.quietest = Math.min(this.quietest, level);
    const noise = Math.min(this.quietest, this.before);
    const loud = level > Math.min(clear, Math.max(faint, over * noise));
    this.left = loud ? hold : Math.max(0, this.left - millis);
    this.open = this.left > 0;
  }
}

/** Returns the level of sound: the root mean square of its samples, 0 to 1. */
export function levelOf(planes: readonly Float32Array[]): number {
  let [sum, n] = [0, 0];
  for (const p of planes) {
    for (const v of p) sum += v * v;
    n += p.length;
  }
  return n === 0 ? 0 : Math.sqrt(sum / n);
}
