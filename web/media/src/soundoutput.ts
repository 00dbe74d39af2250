import type { FromPlayer, PlayerMade, ToPlayer } from "./worklet.js";

/** How long a decoded piece takes to the audio thread, with what it may be late by, ms. */
const handOver = 25;

/** Sound of one rate: what plays it shares a context, and with that its thread. */
interface Shared {
  context: AudioContext;
  ready: Promise<void>;
  users: number;
}

const contexts = new Map<number, Shared>(); // by rate

function share(worklet: string, sampleRate: number): Shared {
  let s = contexts.get(sampleRate);
  if (!s) {
    const context = new AudioContext({ sampleRate, latencyHint: "interactive" });
    contexts.set(sampleRate, (s = { context, ready: context.audioWorklet.addModule(worklet), users: 0 }));
  }
  s.users++;
  return s;
}

/**
 * SoundOutput plays sound at its moments, on an audio thread. Browsers keep it silent until the user has done something on the page:
 * see {@link blocked}.
 */
export class SoundOutput {
  /** ms of silence in the place of sound. */
  missed = 0;
  /** The longest of these silences, since {@link forget}. */
  longest = 0;
  private readonly shared: Shared;
  private readonly context: AudioContext;
  private readonly gain: GainNode;
  private node: AudioWorkletNode | undefined;
  private heardAt: { pts: number; at: number } | undefined; // what is played at a time of the context, s
  private over = false;

  constructor(worklet: string, readonly sampleRate: number, readonly channels: number) {
    this.shared = share(worklet, sampleRate);
    this.context = this.shared.context;
    this.gain = this.context.createGain();
    this.gain.connect(this.context.destination);
    void this.shared.ready.then(() => {
      if (this.over) return;
      this.node = new AudioWorkletNode(this.context, "timedge-player", { numberOfInputs: 0, outputChannelCount: [channels], processorOptions: { channels } satisfies PlayerMade });
      this.node.port.onmessage = (m: MessageEvent<FromPlayer>) => {
        [this.missed, this.longest] = [m.data.missed, m.data.longest];
        this.heardAt = m.data.position === undefined ? undefined : { pts: m.data.position, at: m.data.at };
      };
      this.node.connect(this.gain);
    }).catch((e: unknown) => {
      if (!this.over) throw e; // else it was closed before it was there
    });
  }

  /** The browser waits for a click before it lets anything be heard. */
  get blocked(): boolean {
    return this.context.state === "suspended";
  }

  /** Call it when the user has clicked. */
  async resume(): Promise<void> {
    await this.context.resume();
  }

  set volume(v: number) {
    this.gain.gain.setTargetAtTime(v, this.context.currentTime, 0.01);
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
    this.node?.port.postMessage({ pts, planes } satisfies ToPlayer, planes.map((p) => p.buffer));
  }

  /** From a timestamp on there is no sound, and none is missing, until more is put. */
  hush(pts: number): void {
    this.node?.port.postMessage({ silentFrom: pts } satisfies ToPlayer);
  }

  /** Says what is to be heard: `position` tells the timestamp of a moment on the page's clock. Call it some ten times a second. */
  follow(position: (now: number) => number | undefined): void {
    const at = this.context.currentTime;
    const wanted = position(performance.now() + this.latencyOut);
    this.node?.port.postMessage({ wanted: wanted ?? -1, at } satisfies ToPlayer);
  }

  /** The timestamp that is heard now; undefined while there is none. */
  get heard(): number | undefined {
    const h = this.heardAt;
    if (!h || this.context.state !== "running") return undefined;
    return h.pts + (this.context.currentTime - h.at) * 1000 - this.latencyOut;
  }

  forget(): void {
    this.longest = 0;
    this.node?.port.postMessage({ forget: true } satisfies ToPlayer);
  }

  close(): void {
    this.over = true;
    this.node?.port.postMessage({ close: true } satisfies ToPlayer);
    this.node?.disconnect();
    this.gain.disconnect();
    if (--this.shared.users > 0) return;
    contexts.delete(this.sampleRate);
    void this.context.close();
  }
}
