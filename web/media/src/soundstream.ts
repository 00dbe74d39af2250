import { sounds, type Stop } from "./capture.js";
import { soundEncoder } from "./codecs.js";
import { encodeSample, encodeText } from "./layout.js";
import { SourceClock } from "./sourceclock.js";

/** What a sound stream needs of who sends it. */
export interface SoundStreamOptions {
  /** Where worklet.ts was built to. */
  worklet: string;
  /** The moment of timestamp 0 on the page's clock, ms. */
  epoch: number;
  push: (kind: "init" | "delta", message: Uint8Array) => void;
  /** Told of all that is captured, also while it is muted. The sound is the stream's. */
  onCaptured?: (sound: AudioData) => void;
}

/** SoundStream encodes the sound of one track after another into the messages of one stream. */
export class SoundStream {
  private stopTrack: Stop | undefined;
  private silent = false;
  private told = "";
  private over = false;
  private renew = (): void => {};

  constructor(private readonly o: SoundStreamOptions) {}

  /** While it is muted nothing is encoded. */
  get muted(): boolean {
    return this.silent;
  }

  set muted(m: boolean) {
    this.silent = m;
    if (m) this.renew(); // an encoder counts its samples, and would place what comes later too early
  }

  /** Begins anew: what goes before the sound is told again. */
  again(): void {
    this.told = "";
    this.renew();
  }

  /** Goes on with another track, or with none. */
  take(track: MediaStreamTrack | undefined): void {
    this.stopTrack?.();
    this.stopTrack = undefined;
    if (!track || this.over) return;
    let encoder: AudioEncoder | undefined;
    let shape = "";
    let configuring = false;
    let ended = false;
    const drop = (): void => {
      if (encoder && encoder.state !== "closed") encoder.close();
    };
    this.renew = () => (shape = "");
    const stop = sounds(track, this.o.worklet, (sound) => {
      this.o.onCaptured?.(sound);
      const is = `${sound.sampleRate} ${sound.numberOfChannels}`;
      if (!this.silent && is === shape && encoder?.state === "configured") encoder.encode(sound);
      const [rate, channels] = [sound.sampleRate, sound.numberOfChannels];
      sound.close();
      if (this.silent || configuring || (is === shape && encoder?.state === "configured")) return;
      configuring = true;
      void soundEncoder(rate, channels).then((config) => {
        configuring = false;
        if (!config || ended) return;
        drop();
        const clock = new SourceClock();
        encoder = new AudioEncoder({ output: (chunk, meta) => ended || this.heard(chunk, meta, config, clock), error: () => (shape = "") });
        encoder.configure(config);
        shape = is;
      });
    });
    this.stopTrack = () => {
      ended = true;
      stop();
      drop();
    };
  }

  private heard(chunk: EncodedAudioChunk, meta: EncodedAudioChunkMetadata | undefined, config: AudioEncoderConfig, clock: SourceClock): void {
    const d = meta?.decoderConfig;
    if (d || this.told === "") {
      const init = encodeText({ type: "sound", codec: d?.codec ?? config.codec, sampleRate: d?.sampleRate ?? config.sampleRate, channels: d?.numberOfChannels ?? config.numberOfChannels, clock: performance.timeOrigin + this.o.epoch });
      const text = String.fromCharCode(...init);
      if (text !== this.told) {
        this.told = text;
        this.o.push("init", init);
      }
    }
    // It is complete when its last sample was captured; so it was captured its own length ago.
    const at = clock.place(chunk.timestamp / 1000, performance.now() - (chunk.duration ?? 0) / 1000);
    this.o.push("delta", encodeSample(Math.max(0, Math.round((at - this.o.epoch) * 1000)), chunk.byteLength, (to) => chunk.copyTo(to)));
  }

  close(): void {
    this.over = true;
    this.take(undefined);
  }
}
