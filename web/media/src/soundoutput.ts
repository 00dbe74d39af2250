import type { FromPlayer, ToPlayer } from "./worklet.js";

/** The audio thread is handed what there is no oftener than this, ms: each time costs as much as decoding a piece does. */
const gatherMillis = 20;
/** How long a decoded piece takes to the audio thread, with what it may be late by, ms. */
const handOver = gatherMillis + 20;
/** So many pieces are held for an audio thread that has not begun. */
const maxHeld = 500;
/** A position that differs by less from where the audio thread is going to need not be told, ms; and how often it is told anyhow. */
const slack = 1;
const tellMillis = 1000;

type Message = ToPlayer extends infer T ? (T extends { id: number } ? Omit<T, "id"> : never) : never;

/** Mixer plays all sound of one rate, on one audio thread. */
class Mixer {
  readonly context: AudioContext;
  private readonly outputs = new Map<number, SoundOutput>();
  private node: AudioWorkletNode | undefined;
  private waiting: ToPlayer[] = [];
  private moved: Transferable[] = [];
  private timer: ReturnType<typeof setTimeout> | undefined;
  private flushedAt = -Infinity;
  private last = 0;

  constructor(worklet: string, private readonly sampleRate: number) {
    this.context = new AudioContext({ sampleRate, latencyHint: "interactive" });
    void this.context.audioWorklet.addModule(worklet).then(() => {
      this.node = new AudioWorkletNode(this.context, "timedge-player", { numberOfInputs: 0, outputChannelCount: [2] });
      this.node.port.onmessage = (m: MessageEvent<FromPlayer[]>) => {
        for (const f of m.data) this.outputs.get(f.id)?.told(f);
      };
      this.node.connect(this.context.destination);
      this.flush();
    }).catch((e: unknown) => {
      if (this.outputs.size > 0) throw e; // else it was closed before it was there
    });
  }

  add(o: SoundOutput): number {
    this.outputs.set(++this.last, o);
    return this.last;
  }

  post(m: ToPlayer, ...moved: Transferable[]): void {
    if (this.waiting.length > maxHeld) return;
    this.waiting.push(m);
    this.moved.push(...moved);
    const rest = this.flushedAt + gatherMillis - performance.now();
    if (rest <= 0) this.flush(); // in a page that nobody sees timers come late
    else this.timer ??= setTimeout(() => this.flush(), rest);
  }

  private flush(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    if (!this.node || this.waiting.length === 0) return;
    this.flushedAt = performance.now();
    this.node.port.postMessage(this.waiting, this.moved);
    [this.waiting, this.moved] = [[], []];
  }

  remove(id: number): void {
    this.outputs.delete(id);
    this.post({ id, close: true });
    if (this.outputs.size > 0) return;
    clearTimeout(this.timer);
    mixers.delete(this.sampleRate);
    void this.context.close();
  }
}

const mixers = new Map<number, Mixer>(); // by rate

/**
 * SoundOutput plays sound at its moments, on an audio thread that it shares. Browsers keep it silent until the user has done something on the page:
 * see {@link blocked}.
 */
export class SoundOutput {
  /** ms of silence in the place of sound. */
  missed = 0;
  /** The longest of these silences, since {@link forget}. */
  longest = 0;
  private readonly mixer: Mixer;
  private readonly context: AudioContext;
  private readonly id: number;
  private heardAt: { pts: number; at: number } | undefined; // what is played at a time of the context, s
  private ahead = NaN; // of the context's time, in ms, is the position that was told last
  private toldAt = -Infinity;

  constructor(worklet: string, readonly sampleRate: number, readonly channels: number) {
    this.mixer = mixers.get(sampleRate) ?? new Mixer(worklet, sampleRate);
    mixers.set(sampleRate, this.mixer);
    this.context = this.mixer.context;
    this.id = this.mixer.add(this);
    this.post({ channels });
  }

  private post(m: Message, ...moved: Transferable[]): void {
    this.mixer.post({ ...m, id: this.id } as ToPlayer, ...moved);
  }

  /** @internal */
  told(f: FromPlayer): void {
    [this.missed, this.longest] = [f.missed, f.longest];
    this.heardAt = f.position === undefined ? undefined : { pts: f.position, at: f.at };
  }

  /** The browser waits for a click before it lets anything be heard. */
  get blocked(): boolean {
    return this.context.state === "suspended";
  }

  /** Call it when the user has clicked. */
  async resume(): Promise<void> {
    await this.context.resume();
  }

  set volume(volume: number) {
    this.post({ volume });
  }

  /** ms from here to the ear. */
  get latency(): number {
    return handOver + this.latencyOut;
  }

  private get latencyOut(): number {
    return (this.context.outputLatency || this.context.baseLatency || 0) * 1000;
  }

  /** Puts sound in its place; the planes are given away. */
  put(pts: number, planes: Float32Array[]): void {
    this.post({ pts, planes }, ...planes.map((p) => p.buffer));
  }

  /** From a timestamp on there is no sound, and none is missing, until more is put. */
  hush(pts: number): void {
    this.post({ silentFrom: pts });
  }

  /** Says what is to be heard: `position` tells the timestamp of a moment on the page's clock. Call it some ten times a second. */
  follow(position: (now: number) => number | undefined): void {
    const [at, now] = [this.context.currentTime, performance.now()];
    const wanted = position(now + this.latencyOut);
    const ahead = wanted === undefined ? NaN : wanted - at * 1000;
    if (Math.abs(ahead - this.ahead) < slack && now - this.toldAt < tellMillis) return;
    [this.ahead, this.toldAt] = [ahead, now];
    this.post({ wanted: wanted ?? -1, at });
  }

  /** The timestamp that is heard now; undefined while there is none. */
  get heard(): number | undefined {
    const h = this.heardAt;
    if (!h || this.context.state !== "running") return undefined;
    return h.pts + (this.context.currentTime - h.at) * 1000 - this.latencyOut;
  }

  forget(): void {
    this.longest = 0;
    this.post({ forget: true });
  }

  close(): void {
    this.mixer.remove(this.id);
  }
}
