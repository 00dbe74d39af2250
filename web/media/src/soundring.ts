/** How much sound is held, ms. */
const heldMillis = 8000;
/** What a place in the ring has. */
const nothing = 0;
const sound = 1;
const silence = 2; // which is meant
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
 * SoundRing holds sound by its timestamps and plays it so that the position that is wanted and the one that is heard go together: by bending its
 * speed inaudibly, or by a jump. Where there is no sound there is silence, and time goes on. It runs inside an AudioWorklet. Times in ms.
 */
export class SoundRing {
  /** ms of silence that had to be played because sound came late or not at all. */
  missed = 0;
  /** The longest of these silences, ms; see {@link forget}. */
  longest = 0;
  private run = 0; // samples of the silence that goes on
  private readonly planes: Float32Array[];
  private readonly size: number;
  private readonly wrote: Uint8Array; // what is there: nothing, sound, silence
  private hushed = NaN; // index from which on silence is meant, until more sound is put
  private end = NaN; // index, on the timestamps' scale, behind the newest sample
  private read = NaN; // index of the next to play, not whole
  private gain = 0;

  constructor(readonly rate: number, readonly channels: number) {
    this.size = Math.ceil((rate * heldMillis) / 1000);
    this.planes = Array.from({ length: channels }, () => new Float32Array(this.size));
    this.wrote = new Uint8Array(this.size);
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
    if (!(Math.abs(at - this.end) < this.size)) this.wrote.fill(nothing); // the first, or after a long silence
    else for (let i = this.end; i < at; i++) this.wrote[this.slot(i)] = nothing;
    for (let i = Math.max(this.hushed, at - this.size); i < at; i++) this.wrote[this.slot(i)] = silence;
    if (at >= this.hushed) this.hushed = NaN;
    this.end = Number.isNaN(this.end) ? at + n : Math.max(this.end, at + n);
    for (let c = 0; c < this.channels; c++) {
      const [from, to] = [planes[c] ?? planes[0]!, this.planes[c]!];
      for (let i = 0; i < n; i++) to[this.slot(at + i)] = from[i]!;
    }
    for (let i = 0; i < n; i++) this.wrote[this.slot(at + i)] = sound;
  }

  /** Says that from a timestamp on silence is meant, until more sound is put: who speaks makes a pause. */
  hush(pts: number): void {
    const at = Math.round((pts * this.rate) / 1000);
    this.hushed = Number.isNaN(this.end) ? at : Math.max(at, this.end);
  }

  private slot(index: number): number {
    const s = index % this.size;
    return s < 0 ? s + this.size : s;
  }

  private has(index: number): boolean {
    return index < this.end && index >= this.end - this.size && this.wrote[this.slot(index)] === sound;
  }

  /** Reports whether the silence at an index, where there is no sound, is meant. */
  private meant(index: number): boolean {
    return index >= this.hushed || (index < this.end && index >= this.end - this.size && this.wrote[this.slot(index)] === silence);
  }

  /** Reports whether all of a stretch of the stream is silence that is meant. */
  private quiet(from: number, to: number): boolean {
    if (from >= this.hushed) return true;
    for (let i = from; i <= to; i++) if (!this.meant(i)) return false;
    return true;
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
    if (jumps) [this.read, this.gain] = [want, 0];
    if (jumps && this.quiet(Math.floor(want), Math.ceil(want) + n)) {
      for (const o of out) o.fill(0);
      this.read += n;
      this.run = 0;
      return false;
    }
    const bend = jumps ? 0 : Math.max(-maxBend, Math.min(off / ((bendMillis * this.rate) / 1000), maxBend));
    let silent = 0;
    for (let i = 0; i < n; i++) {
      const at = Math.floor(this.read);
      const there = this.has(at) && this.has(at + 1);
      const missing = !there && !this.meant(at) && !this.meant(at + 1);
      if (missing) silent++;
      this.run = missing ? this.run + 1 : 0;
      this.longest = Math.max(this.longest, (this.run * 1000) / this.rate);
      this.gain = there ? Math.min(1, this.gain + 1 / fadeSamples) : 0;
      const part = this.read - at;
      const [a, b] = [this.slot(at), this.slot(at + 1)];
      for (let c = 0; c < out.length; c++) {
        const plane = this.planes[Math.min(c, this.channels - 1)]!;
        out[c]![i] = there ? this.gain * (plane[a]! * (1 - part) + plane[b]! * part) : 0;
      }
      this.read += 1 + bend;
    }
    this.missed += (silent * 1000) / this.rate;
    return true;
  }

  /** The longest silence is that of the time from now on. */
  forget(): void {
    this.longest = this.run = 0;
  }
}
