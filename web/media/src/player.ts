import type { Gap, Message } from "@timedge/sdk";
import { dtypes, parseSample, parseSilence, parseText, type PictureConfig, type SoundConfig } from "./layout.js";
import { PacketTimes, type Piece } from "./packettimes.js";
import { PictureQueue } from "./picturequeue.js";
import { latencies, Playout, type Latency } from "./playout.js";
import { refresh, type Shows } from "./refresh.js";
import { SoundOutput } from "./soundoutput.js";

/** How often sound is told where it should be, and pictures are looked after while the page is hidden, ms. */
const tickMillis = 50;
/** How many differences between sound and picture are kept for the figures. */
const maxSkews = 600;
/** Pictures go by what is heard, which bends its speed to where it should be, unless the two are so far apart that a jump is near, ms. */
const bentMillis = 100;
/** Pictures that are farther apart than that are no motion, ms. */
const maxApart = 200;

export interface PlayerOptions {
  canvas: HTMLCanvasElement;
  /** Where worklet.ts was built to. */
  worklet: string;
  latency?: Latency;
  /** Told of each picture when it is decoded, with its moment on the sender's wall clock, and when it is shown, ms. */
  onDecoded?: (pts: number, wall: number) => void;
  onShown?: (pts: number, wall: number) => void;
  /** While there is sound, pictures that come much later than it do not say how far behind to play: they are shown when they are there. */
  soundFirst?: boolean;
  /** Told of each decoded piece of sound, which stays the player's, whether or not it is played, with its timestamp, ms. */
  onSound?: (planes: readonly Float32Array[], pts: number) => void;
  /** A codec that this browser lacks. */
  onUnsupported?: (codec: string) => void;
}

/** How playing goes, for people. Times in ms. */
export interface PlayerStats {
  codec: string;
  width: number;
  height: number;
  fps: number;
  /** Pictures shown; never shown; pieces of messages that the server dropped. */
  shown: number;
  missedPictures: number;
  missedSound: number;
  /** Behind the newest that could be there. */
  delay: number;
  /** From the sender's capture to here, by both wall clocks. */
  age: number | undefined;
  /** The longest time without a new picture, since the first one, and the longest silence in the place of sound, both since {@link Player.forget}. */
  longestStill: number;
  longestSilence: number;
  /** Sound minus picture: median and 95th percentile of the amounts. */
  skew: { p50: number; p95: number } | undefined;
}

/** Player decodes one sender's picture and sound and plays them in time, picture on a canvas. */
export class Player implements Shows {
  readonly playout: Playout;
  private readonly queue = new PictureQueue<VideoFrame>();
  private readonly graphics: CanvasRenderingContext2D;
  private picture: PictureConfig | undefined;
  private sound: SoundConfig | undefined;
  private videoDecoder: VideoDecoder | undefined;
  private audioDecoder: AudioDecoder | undefined;
  private packets = new PacketTimes(); // of that decoder
  private output: SoundOutput | undefined;
  private level = 1;
  private chosen: Latency;
  private bunch = 0;
  private decodeDelay = 0;
  private readonly decoding = new Map<number, number>(); // µs -> when it was handed to the decoder
  private shownAt: number[] = [];
  private shown = 0;
  private longestStill = 0;
  private lastPts = NaN;
  private clock = NaN; // of the sender whose time lastPts is
  private lastSound = NaN; // timestamp of the newest
  private skews: number[] = [];
  private apart = Infinity; // pictures, ms
  private madePts = NaN; // of the last one
  private readonly timer: ReturnType<typeof setInterval>;
  private over = false;

  constructor(private readonly o: PlayerOptions) {
    this.chosen = o.latency ?? latencies.balanced;
    this.playout = new Playout(this.chosen);
    this.graphics = o.canvas.getContext("2d", { alpha: false, desynchronized: true })!;
    this.timer = setInterval(() => this.tick(), tickMillis);
    refresh.add(this);
  }

  /** How far apart pictures are, ms; Infinity while there are none. */
  get every(): number {
    return this.picture ? this.apart : Infinity;
  }

  set latency(l: Latency) {
    this.chosen = l;
    this.playout.latency = { min: l.min, max: Math.max(l.max, this.bunch) };
  }

  /** What is sent may come in bunches so long, ms: as far behind the newest playing may go, whatever latency is chosen. */
  set bunches(ms: number) {
    this.bunch = ms;
    this.latency = this.chosen;
  }

  set volume(v: number) {
    this.level = v;
    if (this.output) this.output.volume = v;
  }

  /** The browser wants a click before sound is heard. */
  get soundBlocked(): boolean {
    return this.output?.blocked ?? false;
  }

  async resumeSound(): Promise<void> {
    await this.output?.resume();
  }

  /** A picture was shown. */
  get started(): boolean {
    return this.shown > 0;
  }

  /** Pictures cannot go on before the next key picture. */
  get needsKey(): boolean {
    return this.picture !== undefined && this.queue.waits;
  }

  /** When a picture was shown last, on the page's clock; NaN before the first. */
  get lastShown(): number {
    return this.shownAt.at(-1) ?? NaN;
  }

  /** Takes a message of the sender's. */
  message(m: Message): void {
    if (this.over) return;
    if (m.kind === "init") {
      const t = parseText(m.payload);
      if (m.dtype === dtypes.picture && t?.type === "picture") this.configurePicture(t);
      if (m.dtype === dtypes.sound && t?.type === "sound") this.configureSound(t);
      return;
    }
    const s = parseSample(m.payload);
    if (s && m.dtype === dtypes.picture) this.takePicture(s.pts, m.kind === "key", s.data);
    if (s && m.dtype === dtypes.sound) this.takeSound(s.pts, s.data);
    const silent = m.dtype === dtypes.sound ? parseSilence(m.payload) : undefined;
    if (silent !== undefined && this.packets.pause(silent / 1000)) this.output?.hush(silent / 1000);
  }

  /** Takes a coded picture; pts in µs on the sender's clock. */
  takePicture(pts: number, key: boolean, data: Uint8Array): void {
    if (this.over || !this.picture) return;
    const now = performance.now();
    if (this.o.soundFirst) this.playout.arrivedPicture(pts / 1000, now);
    else this.playout.arrived(pts / 1000, now);
    this.queue.arrived({ pts: pts / 1000, key, data });
    this.decode();
  }

  /** Takes a coded packet of sound; pts as for a picture. */
  takeSound(pts: number, data: Uint8Array): void {
    if (this.over || this.audioDecoder?.state !== "configured") return;
    if (pts / 1000 <= this.lastSound) return; // another quality begins with what was there already
    this.lastSound = pts / 1000;
    this.packets.packet(pts / 1000);
    this.audioDecoder.decode(new EncodedAudioChunk({ type: "key", timestamp: pts, data }));
  }

  /** Takes what will not come. */
  gap(g: Gap): void {
    if (g.dtype !== dtypes.picture) return;
    if (g.reason !== "joined") this.queue.missed += g.to - g.from + 1;
    this.queue.gap();
  }

  /** What follows begins at a key picture. */
  cut(): void {
    this.queue.gap();
  }

  /** What follows comes from elsewhere: another quality, or the sender after a pause. Time, and sound that is there, go on. */
  restart(): void {
    this.dropPictures();
    if (this.videoDecoder && this.videoDecoder.state !== "closed") this.videoDecoder.close();
    this.videoDecoder = undefined;
    this.picture = undefined;
  }

  private dropPictures(): void {
    for (const f of this.queue.clear()) f.close();
    this.decoding.clear();
  }

  // Pictures

  /** Says how the pictures that follow are coded. `clock` is NaN where the sender's wall clock is not known. */
  configurePicture(c: PictureConfig): void {
    this.dropPictures();
    if (c.clock !== this.clock) [this.clock, this.lastPts] = [c.clock, NaN]; // another sender's time
    this.picture = c;
    this.makeVideoDecoder();
  }

  private makeVideoDecoder(): void {
    const c = this.picture;
    if (!c) return;
    if (typeof VideoDecoder === "undefined") return this.o.onUnsupported?.(c.codec);
    if (this.videoDecoder && this.videoDecoder.state !== "closed") this.videoDecoder.close();
    const decoder = new VideoDecoder({
      output: (frame) => {
        if (this.videoDecoder !== decoder) return frame.close();
        this.made(frame);
      },
      error: (e) => {
        if (this.videoDecoder !== decoder) return;
        this.videoDecoder = undefined;
        this.decoding.clear();
        this.queue.failed();
        if (e.name !== "NotSupportedError") this.makeVideoDecoder(); // the next would not be, either
      },
    });
    const shape = { codec: c.codec, ...(c.width > 0 ? { codedWidth: c.width, codedHeight: c.height } : {}) }; // what comes from outside may not say
    try {
      decoder.configure({ ...shape, optimizeForLatency: true, ...(c.description ? { description: c.description } : {}) });
    } catch {
      return this.o.onUnsupported?.(c.codec);
    }
    this.videoDecoder = decoder;
    void VideoDecoder.isConfigSupported(shape)
      .then(({ supported }) => supported || this.o.onUnsupported?.(c.codec)).catch(() => this.o.onUnsupported?.(c.codec));
  }

  private decode(): void {
    const d = this.videoDecoder;
    if (d?.state !== "configured") return;
    const position = this.playout.position(performance.now()) ?? 0;
    for (let c = this.queue.decode(position); c; c = this.queue.decode(position)) {
      const timestamp = Math.round(c.pts * 1000);
      this.decoding.set(timestamp, performance.now());
      d.decode(new EncodedVideoChunk({ type: c.key ? "key" : "delta", timestamp, data: c.data }));
    }
  }

  private made(frame: VideoFrame): void {
    const pts = frame.timestamp / 1000;
    const began = this.decoding.get(frame.timestamp);
    this.decoding.delete(frame.timestamp);
    if (began !== undefined) {
      this.decodeDelay += (performance.now() - began - this.decodeDelay) / 16;
      this.lead();
    }
    this.o.onDecoded?.(pts, this.picture!.clock + pts);
    this.queue.made(pts, frame);
    if (pts > this.madePts) this.apart = Number.isFinite(this.apart) ? this.apart + (Math.min(pts - this.madePts, maxApart) - this.apart) / 8 : pts - this.madePts;
    this.madePts = pts;
    if (!this.started) return this.show(); // a viewer sees at once where it is
    this.ask();
    this.decode();
  }

  /** Asks for a refresh at the next picture's moment. */
  private ask(): void {
    const [now, next] = [performance.now(), this.queue.next];
    const position = next === undefined ? undefined : this.moment(now);
    if (position !== undefined) refresh.ask(now + next! - position);
  }

  private lead(): void {
    this.playout.lead = Math.max(2 * this.decodeDelay, this.output && !this.output.blocked ? this.output.latency : 0);
  }

  /** The timestamp whose picture is to be seen: what is heard, or, without sound, what is to be. */
  private moment(now: number): number | undefined {
    const position = this.playout.position(now);
    const heard = this.output?.heard;
    return position !== undefined && heard !== undefined && Math.abs(heard - position) < bentMillis ? heard : position;
  }

  /** Shows the picture whose moment it is, or will be within `ahead` ms. */
  show(ahead = 0): void {
    const now = performance.now();
    const position = this.started ? this.moment(now) : Infinity;
    const due = position === undefined ? undefined : this.queue.show(position + ahead);
    if (due) this.draw(due, now);
    this.ask();
  }

  private draw(due: { frame: VideoFrame; pts: number; over: VideoFrame[] }, now: number): void {
    for (const f of due.over) f.close();
    const { frame, pts } = due;
    if (pts <= this.lastPts) {
      frame.close(); // another quality begins with what was seen already
      return this.decode();
    }
    const canvas = this.o.canvas;
    if (canvas.width !== frame.displayWidth || canvas.height !== frame.displayHeight) [canvas.width, canvas.height] = [frame.displayWidth, frame.displayHeight];
    this.graphics.drawImage(frame, 0, 0);
    frame.close();
    if (this.started) this.longestStill = Math.max(this.longestStill, now - this.lastShown);
    this.shown++;
    this.lastPts = pts;
    this.shownAt.push(now);
    while (this.shownAt[0]! < now - 2000) this.shownAt.shift();
    const heard = this.output?.heard;
    if (heard !== undefined) {
      this.skews.push(Math.abs(heard - pts));
      if (this.skews.length > maxSkews) this.skews.shift();
    }
    this.o.onShown?.(pts, this.picture!.clock + pts);
    this.decode();
  }

  // Sound

  /** Says how the sound that follows is coded. */
  configureSound(c: SoundConfig): void {
    if (typeof AudioDecoder === "undefined") return this.o.onUnsupported?.(c.codec);
    const was = this.sound;
    if (c.clock !== was?.clock) this.lastSound = NaN;
    this.sound = c;
    if (was && this.audioDecoder?.state === "configured" && JSON.stringify({ ...was, clock: 0 }) === JSON.stringify({ ...c, clock: 0 })) return;
    if (this.audioDecoder && this.audioDecoder.state !== "closed") this.audioDecoder.close();
    const packets = (this.packets = new PacketTimes());
    const decoder = new AudioDecoder({
      output: (d) => this.heard(packets.piece(d.duration / 1000, d.timestamp / 1000), d),
      error: (e) => {
        if (this.audioDecoder !== decoder) return;
        this.audioDecoder = undefined;
        if (e.name !== "NotSupportedError") this.configureSound(c);
      },
    });
    const config = { codec: c.codec, sampleRate: c.sampleRate, numberOfChannels: c.channels, ...(c.description ? { description: c.description } : {}) };
    try {
      decoder.configure(config);
    } catch {
      return this.o.onUnsupported?.(c.codec);
    }
    this.audioDecoder = decoder;
    const lacking = (): void => void (this.over || this.o.onUnsupported?.(c.codec));
    void AudioDecoder.isConfigSupported(config).then(({ supported }) => supported || lacking(), lacking);
  }

  private heard({ pts, silentFrom }: Piece, d: AudioData): void {
    if (this.over) return d.close();
    this.arrived(pts, d.duration / 1000);
    const channels = Math.min(2, d.numberOfChannels);
    if (!this.output || this.output.sampleRate !== d.sampleRate || this.output.channels < channels) {
      this.output?.close();
      this.output = new SoundOutput(this.o.worklet, d.sampleRate, channels);
      this.output.volume = this.level;
    }
    const planes = Array.from({ length: channels }, (_, planeIndex) => {
      const plane = new Float32Array(d.numberOfFrames);
      d.copyTo(plane, { planeIndex, format: "f32-planar" });
      return plane;
    });
    this.o.onSound?.(planes, pts);
    this.output.put(pts, planes);
    if (silentFrom !== undefined) this.output.hush(silentFrom);
    d.close();
  }

  /** Sound is there when it is decoded: on a machine that is busy that takes longer, and varies more, than the path. */
  private arrived(pts: number, millis: number): void {
    const now = performance.now();
    if (!this.o.soundFirst) this.playout.arrived(pts, now); // what is late all the time is then for who looks after the path: see Watch
    else this.playout.arrivedSound(pts, millis, now, this.output?.latency ?? 0);
  }

  private tick(): void {
    this.lead();
    this.output?.follow((now) => this.playout.position(now));
    if (document.hidden) this.show(); // no refreshes come
    else this.ask(); // its moment may be another than it was
  }

  /** The longest times and the differences between sound and picture are those from now on. */
  forget(): void {
    [this.longestStill, this.skews] = [0, []];
    this.output?.forget();
  }

  stats(): PlayerStats {
    const now = performance.now();
    const clock = this.picture?.clock ?? this.sound?.clock;
    const skews = [...this.skews].sort((a, b) => a - b);
    const at = (p: number): number => skews[Math.min(skews.length - 1, Math.floor(skews.length * p))]!;
    const since = this.started ? Math.max(500, now - this.shownAt[0]!) : 1;
    return {
      codec: this.picture?.codec ?? this.sound?.codec ?? "", width: this.o.canvas.width, height: this.o.canvas.height, fps: (this.shownAt.filter((t) => t > now - 2000).length * 1000) / since,
      shown: this.shown, missedPictures: this.queue.missed, missedSound: this.output?.missed ?? 0, delay: this.playout.delay,
      age: clock === undefined || Number.isNaN(clock + this.lastPts) ? undefined : performance.timeOrigin + this.lastShown - (clock + this.lastPts),
      longestStill: Math.max(this.longestStill, this.started ? now - this.lastShown : 0), longestSilence: this.output?.longest ?? 0, skew: skews.length > 0 ? { p50: at(0.5), p95: at(0.95) } : undefined,
    };
  }

  close(): void {
    this.over = true;
    clearInterval(this.timer);
    refresh.remove(this);
    this.restart();
    if (this.audioDecoder && this.audioDecoder.state !== "closed") this.audioDecoder.close();
    this.output?.close();
  }
}
