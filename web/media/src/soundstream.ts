import { CaptureTimes } from "./capturetimes.js";
import { sounds, type Stop } from "./capture.js";
import { soundEncoder } from "./codecs.js";
import { Gate, levelOf } from "./gate.js";
import { encodeSample, encodeSilence, encodeText } from "./layout.js";
import { SourceClock } from "./sourceclock.js";

/** What a sound stream needs of who sends it. */
export interface SoundStreamOptions {
  /** Where worklet.ts was built to. */
  worklet: string;
  /** The moment of timestamp 0 on the page's clock, ms. */
  epoch: number;
  push: (kind: "init" | "delta", message: Uint8Array) => void;
  /** It is speech: one channel at 32 kbit/s, and nothing of it while nobody says anything. */
  voice?: boolean;
  /** Told of the level, 0 to 1, of each piece of speech, also while it is muted. */
  onLevel?: (level: number) => void;
}

/** SoundStream encodes the sound of one track after another into the messages of one stream. */
export class SoundStream {
  private stopTrack: Stop | undefined;
  private silent = false;
  private told = "";
  private end = NaN; // timestamp behind the last packet, µs; NaN: silence has been told since
  private over = false;
  private renew = (): void => {};

  constructor(private readonly o: SoundStreamOptions) {}

  /** While it is muted nothing is encoded. */
  get muted(): boolean {
    return this.silent;
  }

  set muted(m: boolean) {
    this.silent = m;
    if (!m) return;
    this.renew(); // an encoder counts its samples, and would place what comes later too early
    this.hush();
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
    if (this.over) return;
    this.hush();
    if (!track) return;
    let encoder: AudioEncoder | undefined;
    let shape = "";
    let configuring = false;
    let ended = false;
    const gate = new Gate();
    let times = new CaptureTimes(); // of that encoder
    const drop = (): void => {
      if (encoder && encoder.state !== "closed") encoder.close();
    };
    this.renew = () => (shape = "");
    const stop = sounds(track, this.o.worklet, (captured) => {
      const sound = this.o.voice ? this.speech(captured, gate) : captured;
      const is = `${sound.sampleRate} ${sound.numberOfChannels}`;
      const [rate, channels] = [sound.sampleRate, sound.numberOfChannels];
      if (!this.silent && is === shape && encoder?.state === "configured") {
        times.piece(sound.timestamp, (sound.numberOfFrames * 1e6) / rate, gate.open);
        encoder.encode(sound);
      }
      sound.close();
      if (this.silent || configuring || (is === shape && encoder?.state === "configured")) return;
      configuring = true;
      void soundEncoder(rate, channels, this.o.voice).then((config) => {
        configuring = false;
        if (!config || ended) return;
        drop();
        const clock = new SourceClock();
        encoder = new AudioEncoder({
          output: (chunk, meta) => {
            if (ended) return;
            const { at, open } = times.packet(chunk.timestamp, chunk.duration ?? 0, Number.isNaN(this.end));
            const sounds = open || !this.o.voice;
            if (sounds) this.heard(chunk, at, meta, config, clock);
            if (!sounds || this.silent) this.hush();
          },
          error: () => (shape = ""),
        });
        encoder.configure(config);
        [shape, times] = [is, new CaptureTimes()];
      });
    });
    this.stopTrack = () => {
      ended = true;
      stop();
      drop();
    };
  }

  /** Mixes what is captured into one channel, and tells the gate, and who asked, how loud it is. It is given away; what is returned is the caller's. */
  private speech(sound: AudioData, gate: Gate): AudioData {
    const [frames, channels] = [sound.numberOfFrames, sound.numberOfChannels];
    const [data, plane] = [new Float32Array(frames), new Float32Array(frames)];
    for (let planeIndex = 0; planeIndex < channels; planeIndex++) {
      sound.copyTo(plane, { planeIndex, format: "f32-planar" });
      for (let i = 0; i < frames; i++) data[i]! += plane[i]! / channels;
    }
    const level = levelOf([data]);
    gate.heard(level, (frames * 1000) / sound.sampleRate);
    this.o.onLevel?.(level);
    if (channels === 1) return sound;
    const one = new AudioData({ format: "f32-planar", sampleRate: sound.sampleRate, numberOfFrames: frames, numberOfChannels: 1, timestamp: sound.timestamp, data });
    sound.close();
    return one;
  }

  /** Says that there is no sound behind what was pushed, and none missing. */
  private hush(): void {
    if (!Number.isNaN(this.end)) this.o.push("delta", encodeSilence(this.end));
    this.end = NaN;
  }

  private heard(chunk: EncodedAudioChunk, captured: number, meta: EncodedAudioChunkMetadata | undefined, config: AudioEncoderConfig, clock: SourceClock): void {
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
    const at = clock.place(captured / 1000, performance.now() - (chunk.duration ?? 0) / 1000);
    const pts = Math.max(0, Math.round((at - this.o.epoch) * 1000));
    this.end = pts + (chunk.duration ?? 0);
    this.o.push("delta", encodeSample(pts, chunk.byteLength, (to) => chunk.copyTo(to)));
  }

  close(): void {
    this.over = true;
    this.take(undefined);
  }
}
