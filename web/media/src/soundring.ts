/** How much sound is held, ms. */
const heldMillis = 8000;
/** What a place in the ring has. */
const nothing = 0;
const sound = 1;
const silence = 2; // which is meant
const passed = 3; // nothing was there when it was to be played: it is counted as missed
/** Timestamps that differ by less from where the sound before ended go on there: they are rounded, ms. */
const snap = 10;
/** How fast a difference to the position that is wanted is made up for at most, as a part of the speed, and within what time, ms. */
const maxBend = 0.02;
const bendMillis = 1000;
/** A difference that is jumped over, ms. */
const jump = 80;
/** Sound that begins or ends in the middle is faded over so many samples. */
const fadeSamples = 96;

/**
 * SoundRing holds sound by its timestamps and plays it so that the position that is wanted and the one that is heard go together: by bending its speed
 * inaudibly, or by a jump; what was heard is not heard again. Where there is no sound there is silence, and time goes on. It runs inside an
 * AudioWorklet. Times in ms.
 */
export class SoundRing {
  private lost = 0; // samples that are missed
  private run = 0; // samples of the silence in the place of sound that goes on
  private most = 0; // and of the longest one that is over
  private readonly planes: Float32Array[];
  private readonly size: number;
  private readonly wrote: Uint8Array; // what is there, of each place between front - size and front
  private hushed = NaN; // index from which on silence is meant, until more sound is put
  private end = NaN; // index, on the timestamps' scale, behind the newest sample
  private front = NaN; // index behind the newest place of which anything is known: it is at least the end
  private read = NaN; // index of the next to play, not whole
  private heard = -Infinity; // index behind the newest that was played
  private again = -Infinity; // what is before it was played before the last jump
  private gain = 0;

  constructor(readonly rate: number, readonly channels: number) {
    this.size = Math.ceil((rate * heldMillis) / 1000);
    this.planes = Array.from({ length: channels }, () => new Float32Array(this.size));
    this.wrote = new Uint8Array(this.size);
  }

  /**
   * ms of silence in the place of sound that came late or not at all. Where nothing has come it is counted at its moment, and no more when it is said
   * later that silence was meant there.
   */
  get missed(): number {
    return (this.lost * 1000) / this.rate;
  }

  /** The longest of these silences, ms; see {@link forget}. */
  get longest(): number {
    return (Math.max(this.most, this.run) * 1000) / this.rate;
  }

  /** The timestamp that is played next; undefined before there is any. */
  get position(): number | undefined {
    return Number.isNaN(this.read) ? undefined : (this.read * 1000) / this.rate;
  }

  /** Puts sound in its place. Planes beyond the ring's channels are left out; missing ones repeat the first. */
  put(pts: number, planes: readonly Float32Array[]): void {
    let at = Math.round((pts * this.rate) / 1000);
    const n = planes[0]?.length ?? 0;
    if (n === 0 || n > this.size) return;
    if (Math.abs(at - this.end) < (snap * this.rate) / 1000) at = this.end;
    if (!(Math.abs(at - this.front) < this.size)) this.begin(at); // the first, or after a long silence, or of another time
    this.extend(at);
    for (let i = Math.max(this.hushed, this.front - this.size); i < at; i++) this.mean(i);
    const late = Math.min(at + n, Math.floor(this.read)); // up to here it is over: what was taken for a pause is none
    for (let i = at; i < late; i++) if (this.meant(i)) this.miss();
    this.extend(at + n);
    if (at >= this.hushed) this.resume();
    this.end = Number.isNaN(this.end) ? at + n : Math.max(this.end, at + n);
    const slot = this.slot(at);
    const first = Math.min(n, this.size - slot); // the rest goes on at the ring's beginning
    for (let c = 0; c < this.channels; c++) {
      const [from, to] = [planes[c] ?? planes[0]!, this.planes[c]!];
      to.set(from.subarray(0, first), slot);
      to.set(from.subarray(first), 0);
    }
    this.mark(at, at + n, sound);
  }

  /** Says what is at the indices from one to before another; of more than the ring has, at the last ones. */
  private mark(from: number, to: number, what: number): void {
    if (!(from < to)) return;
    if (to - from >= this.size) return void this.wrote.fill(what);
    const [a, b] = [this.slot(from), this.slot(to)];
    this.wrote.fill(what, a, a < b ? b : this.size);
    if (a >= b) this.wrote.fill(what, 0, b);
  }

  /** Nothing is known but that it goes on there: before that nothing is missing. */
  private begin(at: number): void {
    this.wrote.fill(silence);
    if (!(at > this.end)) this.heard = this.again = -Infinity; // another time
    this.end = NaN;
    this.front = at;
  }

  /** More places are known of. */
  private extend(to: number): void {
    this.mark(this.front, to, nothing);
    this.front = Math.max(this.front, to);
  }

  /** Silence is meant at an index, and was when it was counted as missed. */
  private mean(index: number): void {
    const s = this.slot(index);
    if (this.wrote[s] === passed) [this.lost, this.run] = [this.lost - 1, Math.max(0, this.run - 1)];
    if (this.wrote[s] !== sound) this.wrote[s] = silence;
  }

  /** The pause is over; what of it was played already was silent. */
  private resume(): void {
    this.hushed = NaN;
    const over = Math.floor(this.read);
    if (!(over > this.front && over - this.front < this.size)) return;
    const from = this.front;
    this.extend(over);
    for (let i = from; i < over; i++) this.mean(i);
  }

  private miss(): void {
    this.lost++;
    this.run++;
  }

  private interrupt(): void {
    this.most = Math.max(this.most, this.run);
    this.run = 0;
  }

  /** Says that from a timestamp on silence is meant, until more sound is put: who speaks makes a pause. */
  hush(pts: number): void {
    const at = Math.round((pts * this.rate) / 1000);
    const from = Number.isNaN(this.end) ? at : Math.max(at, this.end);
    if (this.hushed <= from) return; // it is silent since then
    this.hushed = from;
    for (let i = Math.max(this.hushed, this.front - this.size); i < this.front; i++) this.mean(i);
  }

  private slot(index: number): number {
    const s = index % this.size;
    return s < 0 ? s + this.size : s;
  }

  private known(index: number): boolean {
    return index < this.front && index >= this.front - this.size;
  }

  private has(index: number): boolean {
    return this.known(index) && this.wrote[this.slot(index)] === sound;
  }

  /** Reports whether the silence at an index, where there is no sound, is meant. */
  private meant(index: number): boolean {
    return index >= this.hushed || (this.known(index) && this.wrote[this.slot(index)] === silence);
  }

  /** Reports whether all of a stretch of the stream is silence that is meant. */
  private quiet(from: number, to: number): boolean {
    if (from >= this.hushed) return true;
    for (let i = from; i <= to; i++) if (!this.meant(i)) return false;
    return true;
  }

  /** Passes an index where silence was played. */
  private pass(index: number): void {
    if (this.meant(index) || index < this.again) return this.interrupt();
    if (index >= this.front) {
      this.front = Math.max(this.front, index - this.size);
      this.extend(index + 1);
    }
    const s = this.slot(index);
    if (!this.known(index) || this.wrote[s] !== nothing) return;
    this.wrote[s] = passed;
    this.miss();
  }

  /** Fills one block per channel, and returns whether there is anything in it. `wanted` is the timestamp that its first sample should have; undefined: silence. */
  pull(out: readonly Float32Array[], wanted: number | undefined): boolean {
    const n = out[0]?.length ?? 0;
    if (wanted === undefined || Number.isNaN(this.end)) {
      for (const o of out) o.fill(0);
      return false;
    }
    const want = (wanted * this.rate) / 1000;
    const off = want - this.read;
    const jumps = this.gain === 0 || Math.abs(off) > (jump * this.rate) / 1000; // nobody hears silence jump
    if (jumps) [this.read, this.gain, this.again] = [want, 0, this.heard];
    if (jumps && this.quiet(Math.floor(want), Math.ceil(want) + n)) {
      for (const o of out) o.fill(0);
      this.read += n;
      this.interrupt();
      return false;
    }
    const bend = jumps ? 0 : Math.max(-maxBend, Math.min(off / ((bendMillis * this.rate) / 1000), maxBend));
    if (this.playWhole(out, n, 1 + bend)) return true;
    for (let i = 0; i < n; i++) {
      const at = Math.floor(this.read);
      const there = at >= this.again && this.has(at) && this.has(at + 1);
      this.gain = there ? Math.min(1, this.gain + 1 / fadeSamples) : 0;
      const part = this.read - at;
      const [a, b] = [this.slot(at), this.slot(at + 1)];
      for (let c = 0; c < out.length; c++) {
        const plane = this.planes[Math.min(c, this.channels - 1)]!;
        out[c]![i] = there ? this.gain * (plane[a]! * (1 - part) + plane[b]! * part) : 0;
      }
      this.read += 1 + bend;
      if (there) {
        this.heard = Math.max(this.heard, at + 1);
        this.interrupt();
      } else for (let k = at; k < Math.floor(this.read); k++) this.pass(k);
    }
    return true;
  }

  /** Plays a block all of which is there, which nearly all are: the audio thread has little time. Returns whether it was one. */
  private playWhole(out: readonly Float32Array[], n: number, speed: number): boolean {
    const at = Math.floor(this.read);
    const last = Math.ceil(this.read + n * speed) + 1;
    const [a, count] = [this.slot(at), last - at + 1];
    if (at < this.again || last >= this.front || at < this.front - this.size || a + count > this.size) return false;
    for (let s = a; s < a + count; s++) if (this.wrote[s] !== sound) return false;
    const begins = this.read - at;
    for (let c = 0; c < out.length; c++) {
      const [from, to] = [this.planes[Math.min(c, this.channels - 1)]!, out[c]!];
      for (let i = 0, r = begins; i < n; i++, r += speed) {
        const k = Math.floor(r);
        const v = from[a + k]!;
        to[i] = v + (from[a + k + 1]! - v) * (r - k);
      }
      if (this.gain < 1) for (let i = 0; i < n; i++) to[i]! *= Math.min(1, this.gain + (i + 1) / fadeSamples);
    }
    this.gain = Math.min(1, this.gain + n / fadeSamples);
    this.heard = Math.max(this.heard, Math.floor(this.read + (n - 1) * speed) + 1);
    this.read += n * speed;
    this.interrupt();
    return true;
  }

  /** The longest silence is that of the time from now on. */
  forget(): void {
    this.most = this.run = 0;
  }
}
