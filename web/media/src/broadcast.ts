import { ClosedError, everyone, type Client, type Publisher, type RoomID } from "@timedge/sdk";
import { pictures, type Stop } from "./capture.js";
import { even, pictureCodecs, pictureEncoder, type PictureCodec } from "./codecs.js";
import { KeyFrames } from "./keyframes.js";
import { dtypes, encodeSample, encodeText, type BroadcastInfo, type RenditionInfo, type Report } from "./layout.js";
import { RateControl } from "./rate.js";
import { SoundStream } from "./soundstream.js";
import { SourceClock } from "./sourceclock.js";
import { Talk } from "./talk.js";

/** How pictures are made. */
export interface Quality {
  width: number;
  height: number;
  fps: number;
  /** Bits per second at most. */
  bitrate: number;
}

export interface BroadcastOptions {
  client: Client;
  title: string;
  picture?: MediaStreamTrack | undefined;
  sound?: MediaStreamTrack | undefined;
  quality: Quality;
  /** The codec; default: the first that the machine has. */
  codec?: PictureCodec | undefined;
  /** Make a second, small picture, in a room of its own, for viewers who cannot carry the first. */
  small?: boolean;
  /** Where worklet.ts was built to. */
  worklet: string;
  /** Viewers, over all renditions. */
  onViewers?: (n: number) => void;
  onLine?: (from: string, text: string) => void;
  /** The broadcast has ended by itself, and why. */
  onEnd?: (why: Error) => void;
}

/** How a broadcast goes, for people. */
export interface BroadcastStats {
  codec: string;
  /** What the encoder is asked for, and what was pushed over the last seconds, bits per second. */
  target: number;
  bitrate: number;
  fps: number;
  /** Pictures encoded, and left out because the path or the machine does not take more. */
  pictures: number;
  skipped: number;
  /** ms that what was pushed waits beyond the way itself. */
  queued: number;
  /** By viewer who reports: what it missed. */
  reports: ReadonlyMap<string, Report>;
}

/** How long after the last one a viewer's wish for a key picture may cause one: see KeyFrames. The server's queue for one viewer, ms. */
const queueAge = 1500;
/** Stills are at least so far apart, ms: when a crowd comes, key pictures are more frequent. */
const stillMillis = 1500;
/** Which part of a rendition's bits its key pictures are, some 2 s apart: about, for those who choose. */
const stillsPart = 8;
/** So much sound has who takes to the stills at once, that nothing is missing where it left the room before, ms. */
const stillHistory = 1000;

/** One room of a broadcast: its pictures in one size, or another's key pictures, and the sound. */
export class Rendition {
  /** The rendition that gets this one's key pictures. */
  stills: Rendition | undefined;
  readonly keys = new KeyFrames();
  readonly rate: RateControl;
  viewers = 0;
  encoded = 0;
  skipped = 0;
  sent: Array<{ at: number; bytes: number; picture: boolean }> = [];
  private encoder: VideoEncoder | undefined;
  private config: VideoEncoderConfig | undefined;
  private configuring = false;
  private told = ""; // the init message that stands
  private pushed = 0;
  private waiting = 0; // bytes in pushes that wait for the window
  private acked = 0;
  private stillAt = -Infinity;

  constructor(readonly publisher: Publisher, readonly quality: Quality, private readonly codecs: readonly PictureCodec[], private readonly clock: number, private readonly lost: (e: Error) => void) {
    this.rate = new RateControl({ min: Math.min(60_000, quality.bitrate), max: quality.bitrate });
  }

  get codec(): string {
    return this.config?.codec ?? "";
  }

  private pace(now: number): void {
    this.acked = Math.max(this.acked, this.pushed - this.waiting - this.publisher.buffered);
    this.rate.update(now, this.pushed, this.acked);
  }

  /** Encodes a picture, whose timestamp is the broadcast's. It stays the caller's. */
  picture(frame: VideoFrame): void {
    const now = performance.now();
    this.pace(now);
    const size = this.fit(frame);
    if (!this.config || this.config.width !== size.width || this.config.height !== size.height) return this.configure(size);
    const encoder = this.encoder;
    if (!encoder || encoder.state !== "configured") return;
    if (!this.rate.admits(encoder.encodeQueueSize)) {
      this.skipped++;
      return;
    }
    if (Math.abs(this.rate.bitrate / this.config.bitrate! - 1) > 0.15) {
      this.config = { ...this.config, bitrate: Math.round(this.rate.bitrate) };
      encoder.configure(this.config);
    }
    encoder.encode(frame, { keyFrame: this.keys.take(now) });
  }

  /** The size within the quality's that keeps the picture's shape. */
  private fit(frame: VideoFrame): { width: number; height: number } {
    const scale = Math.min(1, Math.max(this.quality.width, this.quality.height) / Math.max(frame.displayWidth, frame.displayHeight), Math.min(this.quality.width, this.quality.height) / Math.min(frame.displayWidth, frame.displayHeight));
    return { width: even(frame.displayWidth * scale), height: even(frame.displayHeight * scale) };
  }

  private configure(size: { width: number; height: number }): void {
    if (this.configuring) return;
    this.configuring = true;
    void pictureEncoder({ ...size, fps: this.quality.fps, bitrate: Math.round(this.rate.bitrate) }, this.codecs).then((config) => {
      this.configuring = false;
      if (!config) return this.lost(new Error("this browser cannot encode pictures of that kind"));
      this.close();
      const encoder = new VideoEncoder({
        output: (chunk, meta) => this.output(chunk, meta, config),
        error: () => {
          // An encoder that has failed is made anew; its pictures are gone.
          if (this.encoder === encoder) this.config = undefined;
        },
      });
      encoder.configure(config);
      this.keys.want();
      [this.encoder, this.config] = [encoder, config];
    });
  }

  private output(chunk: EncodedVideoChunk, meta: EncodedVideoChunkMetadata | undefined, asked: VideoEncoderConfig): void {
    const d = meta?.decoderConfig;
    if (d) {
      const description = d.description && new Uint8Array(ArrayBuffer.isView(d.description) ? d.description.buffer.slice(d.description.byteOffset, d.description.byteOffset + d.description.byteLength) : d.description.slice(0) as ArrayBuffer);
      const init = encodeText({ type: "picture", codec: d.codec, width: d.codedWidth ?? asked.width, height: d.codedHeight ?? asked.height, clock: this.clock, ...(description ? { description } : {}) });
      const text = String.fromCharCode(...init.subarray(0, 4096));
      if (text !== this.told) {
        this.told = text;
        this.push(dtypes.picture, "init", init);
        this.stills?.push(dtypes.picture, "init", init);
      }
    }
    this.encoded++;
    const message = encodeSample(chunk.timestamp, chunk.byteLength, (to) => chunk.copyTo(to));
    if (chunk.type !== "key") return this.push(dtypes.picture, "delta", message);
    this.push(dtypes.picture, "key", message);
    this.stills?.still(message);
  }

  private still(message: Uint8Array): void {
    const now = performance.now();
    if (now - this.stillAt < stillMillis) return;
    this.stillAt = now;
    this.push(dtypes.picture, "key", message);
  }

  push(dtype: number, kind: "init" | "key" | "delta", message: Uint8Array): void {
    const now = performance.now();
    this.pushed += message.length;
    this.waiting += message.length;
    this.sent.push({ at: now, bytes: message.length, picture: dtype === dtypes.picture && kind !== "init" });
    while (this.sent[0]!.at < now - 2000) this.sent.shift();
    void this.publisher.push(dtype, kind, message).catch((e: Error) => {
      // A lost message breaks the pictures that follow; everything else is the end.
      if (e instanceof ClosedError && e.code === "gone") this.keys.want();
      else this.lost(e);
    }).finally(() => (this.waiting -= message.length));
  }

  /** Nothing is shown for a while: a key message that holds no picture, so that who joins meanwhile gets none that is old. It may be told again. */
  pause(): void {
    this.close();
    this.config = undefined;
    this.push(dtypes.picture, "key", encodeSample(0, 0, () => {}));
  }

  /** Begins anew: what goes before the pictures is told again. */
  again(): void {
    this.told = "";
    this.close();
    this.config = undefined;
  }

  close(): void {
    if (this.encoder && this.encoder.state !== "closed") this.encoder.close();
    this.encoder = undefined;
  }
}

/**
 * Broadcast encodes a picture track and a sound track and pushes them into a room that it registers, and, if asked to, a small picture into another;
 * into one more the sound with the key pictures of the last of these, for paths that carry no more.
 * What viewers and server cannot take it does not make: bit rate and pictures follow the acknowledgements. Start at {@link Broadcast.start}.
 */
export class Broadcast {
  readonly room: RoomID;
  private readonly renditions: Rendition[] = [];
  private readonly coded: Rendition[] = []; // of them, those whose pictures are coded for them
  private readonly reports = new Map<string, Report>();
  private talk: Talk | undefined;
  private stopPicture: Stop | undefined;
  private readonly sound: SoundStream;
  private over = false;

  private constructor(private readonly o: BroadcastOptions, private readonly epoch: number, rooms: RoomID[]) {
    this.room = rooms[0]!;
    this.sound = new SoundStream({ worklet: o.worklet, epoch, push: (kind, message) => {
      for (const r of this.renditions) r.push(dtypes.sound, kind, message);
    } });
  }

  /** Registers what it needs and begins. */
  static async start(o: BroadcastOptions): Promise<Broadcast> {
    const rooms = [await o.client.register({ queueAge })];
    if (o.small && o.picture) rooms.push(await o.client.register({ queueAge }));
    if (o.picture) rooms.push(await o.client.register({ queueAge, history: { age: stillHistory } }));
    const epoch = performance.now();
    const b = new Broadcast(o, epoch, rooms);
    const clock = performance.timeOrigin + epoch;
    const small: Quality = { width: even(o.quality.width / 2), height: even(o.quality.height / 2), fps: o.quality.fps, bitrate: Math.round(o.quality.bitrate / 4) };
    const talk = await o.client.register();
    await o.client.grant(talk, everyone);
    const infos: RenditionInfo[] = [];
    for (const [i, room] of rooms.entries()) {
      const stills = i > 0 && i === rooms.length - 1;
      const quality = i === 0 || (stills && !o.small) ? o.quality : small;
      const publisher = await o.client.publish(room, { counts: true });
      const r = new Rendition(publisher, quality, o.codec ? [o.codec] : pictureCodecs, clock, (e) => b.lost(e));
      publisher.onCount = (n) => b.counted(r, n);
      if (stills) b.coded.at(-1)!.stills = r;
      else b.coded.push(r);
      b.renditions.push(r);
      infos.push({ room, width: quality.width, height: quality.height, bitrate: stills ? Math.round(quality.bitrate / stillsPart) : quality.bitrate, ...(stills ? { stills } : {}) });
    }
    const info: BroadcastInfo = { type: "broadcast", title: o.title, renditions: infos, talk };
    for (const r of b.renditions) r.push(dtypes.broadcast, "init", encodeText(info));
    b.talk = await Talk.join(o.client, talk, {
      line: (from, text) => o.onLine?.(from, text),
      report: (from, r) => b.reported(from, r),
      left: (from) => b.reports.delete(from),
    });
    b.take(o.picture, o.sound);
    return b;
  }

  /** Goes on with other tracks: another camera, a screen. */
  take(picture: MediaStreamTrack | undefined, sound: MediaStreamTrack | undefined): void {
    this.stopPicture?.();
    this.stopPicture = undefined;
    if (picture) {
      const clock = new SourceClock();
      this.stopPicture = pictures(picture, (frame) => {
        const at = clock.place(frame.timestamp / 1000, performance.now());
        const placed = new VideoFrame(frame, { timestamp: this.pts(at) });
        frame.close();
        for (const r of this.coded) r.picture(placed);
        placed.close();
      });
    }
    this.sound.take(sound);
  }

  /** The broadcast's time of a moment on the page's clock, µs. */
  private pts(at: number): number {
    return Math.max(0, Math.round((at - this.epoch) * 1000));
  }

  private counted(r: Rendition, viewers: number): void {
    if (viewers > r.viewers) r.keys.want();
    r.viewers = viewers;
    this.o.onViewers?.(this.viewers);
  }

  private reported(from: string, report: Report): void {
    if (this.reports.size < 10_000 || this.reports.has(from)) this.reports.set(from, report);
    if (report.needsKey) for (const r of this.coded) r.keys.want();
  }

  private lost(why: Error): void {
    if (this.over) return;
    this.end();
    this.o.onEnd?.(why);
  }

  get viewers(): number {
    return this.renditions.reduce((n, r) => n + r.viewers, 0);
  }

  stats(): BroadcastStats {
    const r = this.renditions[0]!;
    const now = performance.now();
    const recent = r.sent.filter((s) => s.at > now - 2000);
    const span = Math.max(500, now - (recent[0]?.at ?? now));
    return {
      codec: r.codec, target: r.rate.bitrate, bitrate: (recent.reduce((n, s) => n + s.bytes, 0) * 8000) / span, fps: (recent.filter((s) => s.picture).length * 1000) / span,
      pictures: r.encoded, skipped: r.skipped, queued: r.rate.queued, reports: this.reports,
    };
  }

  /** Says something to the viewers. */
  async say(text: string): Promise<void> {
    await this.talk?.say(text);
  }

  private end(): void {
    this.over = true;
    this.stopPicture?.();
    this.sound.close();
    for (const r of this.renditions) r.close();
  }

  /** Ends the broadcast: what was pushed arrives, then viewers are told. */
  async stop(): Promise<void> {
    if (this.over) return;
    this.end();
    await Promise.all(this.renditions.map((r) => r.publisher.close().catch(() => {})));
    await this.talk?.close();
    const rooms = [...this.renditions.map((r) => r.publisher.room), ...(this.talk ? [this.talk.room] : [])];
    await Promise.all(rooms.map((room) => this.o.client.remove(room).catch(() => {})));
  }
}
