// The part that runs on the audio thread: one processor plays all that is played, one captures where the browser has no MediaStreamTrackProcessor.

import { SoundRing } from "./soundring.js";

declare const currentTime: number;
declare const currentFrame: number;
declare const sampleRate: number;
declare class AudioWorkletProcessor {
  readonly port: MessagePort;
}
declare function registerProcessor(name: string, make: new (o: { processorOptions?: unknown }) => AudioWorkletProcessor): void;

/**
 * To the player, of one of those that it plays: how many channels it has, which begins it; sound; from when on none is meant; how loud it is; or which
 * timestamp is to be played at which time of the context, -1 being none.
 */
export type ToPlayer = { id: number } & (
  | { channels: number }
  | { pts: number; planes: Float32Array[] }
  | { silentFrom: number }
  | { volume: number }
  | { wanted: number; at: number }
  | { forget: true }
  | { close: true }
);
/** From the player, some times a second: what it plays of each. Times of the context in s, the rest in ms. */
export interface FromPlayer {
  id: number;
  position: number | undefined;
  at: number;
  missed: number;
  longest: number;
}
/** From the recorder: one block and when it began. */
export interface FromRecorder {
  at: number;
  planes: Float32Array[];
}

/** Blocks of 128 samples between two reports, some 80 ms. */
const reportEvery = 30;
/** How much of the way to another volume is gone with each block. */
const volumeStep = 0.25;

/** Voice is one of those that are played. */
class Voice {
  readonly ring: SoundRing;
  readonly out: Float32Array[];
  wanted: { pts: number; at: number } | undefined;
  volume = 1;
  gain = 1;

  constructor(channels: number, size: number) {
    this.ring = new SoundRing(sampleRate, channels);
    this.out = Array.from({ length: channels }, () => new Float32Array(size));
  }
}

/** Player mixes all voices into one output. */
class Player extends AudioWorkletProcessor {
  private readonly voices = new Map<number, Voice>();
  private blocks = 0;

  constructor() {
    super();
    this.port.onmessage = (m: MessageEvent<ToPlayer[]>) => m.data.forEach((d) => this.take(d));
  }

  private take(d: ToPlayer): void {
    if ("channels" in d) this.voices.set(d.id, new Voice(d.channels, 128));
    const v = this.voices.get(d.id);
    if (!v) return;
    if ("planes" in d) v.ring.put(d.pts, d.planes);
    else if ("silentFrom" in d) v.ring.hush(d.silentFrom);
    else if ("volume" in d) v.volume = d.volume;
    else if ("wanted" in d) v.wanted = d.wanted < 0 ? undefined : { pts: d.wanted, at: d.at };
    else if ("forget" in d) v.ring.forget();
    else if ("close" in d) this.voices.delete(d.id);
  }

  process(_: unknown, outputs: Float32Array[][]): boolean {
    const to = outputs[0]!;
    const n = to[0]!.length;
    for (const v of this.voices.values()) {
      if (v.out[0]!.length !== n) v.out.forEach((_, c) => (v.out[c] = new Float32Array(n)));
      v.gain += (v.volume - v.gain) * volumeStep;
      const w = v.wanted;
      if (!v.ring.pull(v.out, w && w.pts + (currentTime - w.at) * 1000)) continue;
      for (let c = 0; c < to.length; c++) {
        const [from, into] = [v.out[Math.min(c, v.out.length - 1)]!, to[c]!];
        for (let i = 0; i < n; i++) into[i]! += v.gain * from[i]!;
      }
    }
    if (++this.blocks % reportEvery === 0) {
      const at = currentTime + n / sampleRate;
      this.port.postMessage([...this.voices].map(([id, { ring }]): FromPlayer => ({ id, position: ring.position, at, missed: ring.missed, longest: ring.longest })));
    }
    return true;
  }
}

/** How much sound is captured at a time, samples. */
const recordSamples = 480;

class Recorder extends AudioWorkletProcessor {
  private planes: Float32Array[] = [];
  private used = 0;
  private at = 0;

  process(inputs: Float32Array[][]): boolean {
    const input = inputs[0]!;
    if (input.length === 0) return true;
    if (this.planes.length !== input.length) [this.planes, this.used] = [input.map(() => new Float32Array(recordSamples)), 0];
    for (let from = 0; from < input[0]!.length; ) {
      if (this.used === 0) this.at = (currentFrame + from) / sampleRate;
      const n = Math.min(recordSamples - this.used, input[0]!.length - from);
      input.forEach((p, c) => this.planes[c]!.set(p.subarray(from, from + n), this.used));
      [this.used, from] = [this.used + n, from + n];
      if (this.used < recordSamples) continue;
      this.port.postMessage({ at: this.at, planes: this.planes } satisfies FromRecorder, this.planes.map((p) => p.buffer));
      [this.planes, this.used] = [input.map(() => new Float32Array(recordSamples)), 0];
    }
    return true;
  }
}

registerProcessor("timedge-player", Player);
registerProcessor("timedge-recorder", Recorder);
