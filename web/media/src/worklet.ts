// The part that runs on the audio thread: one processor plays, one captures where the browser has no MediaStreamTrackProcessor.

import { SoundRing } from "./soundring.js";

declare const currentTime: number;
declare const currentFrame: number;
declare const sampleRate: number;
declare class AudioWorkletProcessor {
  readonly port: MessagePort;
}
declare function registerProcessor(name: string, make: new (o: { processorOptions?: unknown }) => AudioWorkletProcessor): void;

/** How a player is made. */
export interface PlayerMade {
  channels: number;
}
/** To the player: sound, from when on none is meant, or which timestamp is to be played at which time of the context; -1 stops. */
export type ToPlayer = { pts: number; planes: Float32Array[] } | { silentFrom: number } | { wanted: number; at: number } | { forget: true } | { close: true };
/** From the player, some times a second: what it plays. Times of the context in s, the rest in ms. */
export interface FromPlayer {
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

/** Blocks of 128 samples between two reports, some 40 ms. */
const reportEvery = 15;

class Player extends AudioWorkletProcessor {
  private readonly ring: SoundRing;
  private wanted: { pts: number; at: number } | undefined;
  private blocks = 0;
  private over = false;

  constructor(o: { processorOptions?: unknown }) {
    super();
    this.ring = new SoundRing(sampleRate, (o.processorOptions as PlayerMade).channels);
    this.port.onmessage = (m: MessageEvent<ToPlayer>) => {
      const d = m.data;
      if ("planes" in d) this.ring.put(d.pts, d.planes);
      else if ("silentFrom" in d) this.ring.hush(d.silentFrom);
      else if ("wanted" in d) this.wanted = d.wanted < 0 ? undefined : { pts: d.wanted, at: d.at };
      else if ("forget" in d) this.ring.forget();
      else this.over = true;
    };
  }

  process(_: unknown, outputs: Float32Array[][]): boolean {
    const w = this.wanted;
    this.ring.pull(outputs[0]!, w && w.pts + (currentTime - w.at) * 1000);
    if (++this.blocks % reportEvery === 0) {
      const at = currentTime + outputs[0]![0]!.length / sampleRate;
      this.port.postMessage({ position: this.ring.position, at, missed: this.ring.missed, longest: this.ring.longest } satisfies FromPlayer);
    }
    return !this.over;
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
