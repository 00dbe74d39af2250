import type { Client } from "@timedge/sdk";
import { pictures, SoundStream, SourceClock, type PictureCodec, type Quality, type Stop } from "@timedge/media";
import { PictureRoom } from "./picture.js";
import { smallOf } from "./carry.js";
import { eases, type Ease } from "./strain.js";

/** A screen is seldom so large and so quick that more is of use. */
const screenQuality: Quality = { width: 1920, height: 1080, fps: 15, bitrate: 1_500_000 };

export interface SendingOptions {
  /** What pictures go through: not what sound does. */
  client: Client;
  quality: Quality;
  codec: PictureCodec | undefined;
  worklet: string;
  /** Pushes sound. */
  push: (kind: "init" | "delta", message: Uint8Array) => void;
  /** Told of the level of what is captured, 0 to 1. */
  onLevel: (level: number) => void;
  /** Other rooms than before are to be told of. */
  changed: () => void;
  lost: (e: Error) => void;
}

/** Sending is what one shows and says: a microphone, a camera in two sizes, a screen, all on one clock. */
export class Sending {
  private readonly epoch = performance.now();
  private readonly sound: SoundStream;
  private large: PictureRoom | undefined;
  private small: PictureRoom | undefined;
  private screen: PictureRoom | undefined;
  private opening: Promise<void> | undefined; // of the camera's rooms
  private stopPicture: Stop | undefined;
  private stopScreen: Stop | undefined;
  private pictureOn = false;
  private eased: Ease = "none";
  private turn = 0; // of the camera's tracks
  private screenTurn = 0;
  private over = false;

  constructor(private readonly o: SendingOptions) {
    this.sound = new SoundStream({ worklet: o.worklet, epoch: this.epoch, voice: true, push: o.push, onLevel: o.onLevel });
  }

  /** The rooms that there is something in, "" for none. */
  get rooms(): { large: string; small: string; screen: string } {
    const room = (p: PictureRoom | undefined, on: boolean): string => (on && p ? p.room : "");
    return { large: room(this.large, this.pictureOn && this.makesLarge), small: room(this.small, this.pictureOn), screen: room(this.screen, true) };
  }

  private get all(): PictureRoom[] {
    return [this.large, this.small, this.screen].filter((p) => p !== undefined);
  }

  /** How long what was pushed waits beyond the way itself, ms. */
  get queued(): number {
    return Math.max(0, ...this.all.map((p) => (p.watched ? p.queued : 0)));
  }

  get sharing(): boolean {
    return this.screen !== undefined;
  }

  private get makesLarge(): boolean {
    return eases.indexOf(this.eased) < eases.indexOf("small");
  }

  /** Does less with the camera's pictures, or again all: see {@link eases}. */
  ease(e: Ease): void {
    this.eased = e;
    if (!this.makesLarge) this.large?.pause();
    this.o.changed();
  }

  set muted(m: boolean) {
    this.sound.muted = m;
  }

  takeSound(track: MediaStreamTrack | undefined): void {
    this.sound.take(track);
  }

  async takePicture(track: MediaStreamTrack | undefined): Promise<void> {
    this.stopPicture?.();
    this.stopPicture = undefined;
    this.pictureOn = track !== undefined;
    const turn = ++this.turn;
    if (track) {
      this.opening ??= this.openBoth();
      await this.opening;
      if (this.over || turn !== this.turn) return; // another one was taken meanwhile
      const each = Math.max(1, Math.round(this.o.quality.fps / smallOf(this.o.quality).fps));
      let n = 0;
      this.stopPicture = this.capture(track, (frame) => {
        const seldom = this.eased === "none" ? 1 : 2;
        if (n % seldom === 0 && this.makesLarge) this.large?.picture(frame);
        if (n++ % (each * seldom) === 0) this.small?.picture(frame);
      });
    } else for (const p of [this.large, this.small]) p?.pause();
    this.o.changed();
  }

  /** Opens the camera's rooms, once; if that fails the next one who wants them tries again. */
  private async openBoth(): Promise<void> {
    const q = this.o.quality;
    try {
      this.large = await this.open(q, (p) => (this.large = p));
      this.small = await this.open(smallOf(q), (p) => (this.small = p));
    } catch (e) {
      this.opening = undefined;
      throw e;
    }
  }

  async takeScreen(track: MediaStreamTrack | undefined): Promise<void> {
    this.stopScreen?.();
    this.stopScreen = undefined;
    const turn = ++this.screenTurn;
    const before = this.screen;
    this.screen = undefined;
    void before?.close();
    if (track) {
      const screen = await this.open(screenQuality, (p) => (this.screen = p));
      if (this.over || turn !== this.screenTurn) return void screen.close();
      this.screen = screen;
      this.stopScreen = this.capture(track, (frame) => this.screen?.picture(frame));
    }
    this.o.changed();
  }

  /** Opens a room; `again` is told of the one that takes its place should it end by itself. */
  private open(q: Quality, again: (p: PictureRoom | undefined) => void): Promise<PictureRoom> {
    return PictureRoom.open(this.o.client, q, performance.timeOrigin + this.epoch, this.o.codec, () => {
      if (this.over) return;
      again(undefined);
      void this.open(q, again).then(again, this.o.lost);
    });
  }

  private capture(track: MediaStreamTrack, each: (frame: VideoFrame) => void): Stop {
    const clock = new SourceClock();
    return pictures(track, (frame) => {
      const at = clock.place(frame.timestamp / 1000, performance.now());
      const placed = new VideoFrame(frame, { timestamp: Math.max(0, Math.round((at - this.epoch) * 1000)) });
      frame.close();
      each(placed);
      placed.close();
    });
  }

  /** Begins anew, for who has not been told what goes before pictures and sound. */
  again(): void {
    this.sound.again();
    for (const p of this.all) p.again();
  }

  /** Time passes. */
  tick(): void {
    for (const p of this.all) p.tick();
  }

  /** Nothing is captured any more. */
  stop(): void {
    this.over = true;
    this.sound.close();
    this.stopPicture?.();
    this.stopScreen?.();
  }

  /** Ends the rooms. */
  async close(): Promise<void> {
    this.stop();
    await Promise.all(this.all.map((p) => p.close()));
  }
}
