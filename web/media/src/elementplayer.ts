import { join } from "./bytes.js";
import type { OutsideConfig, OutsideSample } from "./outside.js";
import type { PlayerStats } from "./player.js";
import { latencies, type Latency } from "./playout.js";
import { trackOf, type Track } from "./track.js";

type Kind = OutsideSample["kind"];

/** How often the position is looked after, ms. */
const tickMillis = 100;
/** A stream that was announced is waited for so long, by the other's time, µs. */
const waitMicros = 1_000_000;
/** What lies so far behind the position is thrown away, and how much of it is kept, s. */
const keptSeconds = 20;
const leftSeconds = 10;
/** How far from where it should be the position is moved at once; nearer it goes there faster or slower than time, s. */
const jumpSeconds = 1;
const faster = 1.05;
const slower = 0.97;
/** What is added to the delay when it was not enough, and at most, ms. */
const moreMillis = 100;
const mostMillis = 2000;

export interface ElementPlayerOptions {
  canvas: HTMLCanvasElement;
  latency?: Latency;
  /** Told of each picture that is shown; ms on the stream's clock. */
  onShown?: (pts: number) => void;
  /** A codec that the browser's media element lacks, too. */
  onUnsupported?: (codec: string) => void;
  /** The element gave up what it was playing: at a damaged picture, say. */
  onFailed?: () => void;
}

/** One stream on its way into the element. */
interface Lane {
  track: Track;
  codec: string;
  mime: string; // as the buffer has it
  buffer: SourceBuffer | undefined;
  waiting: Array<{ mime: string; bytes: Uint8Array }>;
  resync: boolean; // a key picture is waited for
}

/** The browser's way to hand media over in pieces; on an iPhone it has another name. */
function mediaSource(): typeof MediaSource | undefined {
  const g = globalThis as { ManagedMediaSource?: typeof MediaSource; MediaSource?: typeof MediaSource };
  return g.MediaSource ?? g.ManagedMediaSource;
}

/**
 * ElementPlayer plays by a media element and MediaSource what WebCodecs cannot decode in this browser: on a page by plain http, which has no WebCodecs; in
 * Safari before 26, which decodes no sound there; in browsers that have a codec in the element alone. It shows it on a canvas, as Player does. It stays
 * as near the newest as what arrives, and the latency that is chosen, allow.
 */
export class ElementPlayer {
  private readonly video = document.createElement("video");
  private readonly source: MediaSource;
  private readonly url: string;
  private readonly graphics: CanvasRenderingContext2D;
  private readonly lanes = new Map<Kind, Lane>();
  private expected = new Set<Kind>(["picture", "sound"]);
  private opened = false; // the buffers are there: no more can come
  private placed = false; // the position is where something is
  private first = NaN; // µs
  private ending = false;
  private blocked = false;
  private over = false;
  private arrivedAt = NaN;
  private bunch = 0; // ms between what arrives
  private more = 0;
  private missed = 0;
  private shown = 0;
  private shownAt: number[] = [];
  private longestStill = 0;
  private readonly timer: ReturnType<typeof setInterval>;
  latency: Latency;

  /** Reports whether the element can play it. */
  static can(c: OutsideConfig): boolean {
    const track = trackOf(c);
    return track !== undefined && (mediaSource()?.isTypeSupported(track.mime) ?? false);
  }

  constructor(private readonly o: ElementPlayerOptions) {
    this.latency = o.latency ?? latencies.balanced;
    this.graphics = o.canvas.getContext("2d", { alpha: false })!;
    this.source = new (mediaSource()!)();
    this.url = URL.createObjectURL(this.source);
    this.source.addEventListener("sourceopen", () => this.pump());
    const v = this.video;
    v.playsInline = true;
    v.disableRemotePlayback = true; // else an iPhone takes no pieces
    v.src = this.url;
    v.onerror = () => this.over || this.o.onFailed?.();
    v.onwaiting = () => {
      if (this.placed && !this.ending) this.more = Math.min(mostMillis, this.more + moreMillis);
    };
    this.timer = setInterval(() => {
      this.more = Math.max(0, this.more - 1);
      this.steer();
    }, tickMillis);
    this.follow();
  }

  set volume(v: number) {
    this.video.volume = v;
    if (!this.blocked) this.video.muted = v === 0; // on an iPhone the volume is the device's
  }

  /** The browser wants a click before sound is heard. */
  get soundBlocked(): boolean {
    return this.blocked;
  }

  async resumeSound(): Promise<void> {
    this.blocked = false;
    this.video.muted = this.video.volume === 0;
    await this.play();
  }

  /** A picture was shown. */
  get started(): boolean {
    return this.shown > 0;
  }

  /** Says which streams there are: the element takes them together or not at all. */
  expect(kinds: readonly Kind[]): void {
    if (!this.opened) this.expected = new Set(kinds);
  }

  configure(c: OutsideConfig): void {
    const track = trackOf(c);
    const lane = this.lanes.get(c.kind);
    if (!track || !mediaSource()!.isTypeSupported(track.mime) || (!lane && this.opened)) {
      this.expected.delete(c.kind);
      return this.o.onUnsupported?.(c.config.codec);
    }
    if (lane) [lane.track, lane.codec] = [track, c.config.codec];
    else this.lanes.set(c.kind, { track, codec: c.config.codec, mime: track.mime, buffer: undefined, waiting: [], resync: c.kind === "picture" });
  }

  take(s: OutsideSample): void {
    const lane = this.lanes.get(s.kind);
    if (!lane || this.over) return;
    if (lane.resync && !s.key) {
      this.missed++;
      return;
    }
    lane.resync = false;
    lane.waiting.push({ mime: lane.track.mime, bytes: lane.track.write(s) });
    if (Number.isNaN(this.first)) this.first = s.pts;
    if (!this.opened && s.pts - this.first > waitMicros) this.expected = new Set(this.lanes.keys());
    this.ending = false;
    this.note(performance.now());
    this.pump();
  }

  /** What follows begins at a key picture. */
  cut(): void {
    const lane = this.lanes.get("picture");
    if (lane) lane.resync = true;
  }

  /** Nothing more comes: what is there is played to its end. */
  end(): void {
    this.ending = true;
    this.pump();
  }

  private note(now: number): void {
    if (!Number.isNaN(this.arrivedAt)) {
      const passed = now - this.arrivedAt;
      this.bunch = Math.max(Math.min(passed, mostMillis * 5), this.bunch - passed / 20);
    }
    this.arrivedAt = now;
  }

  /** Hands on what waits, as far as the element takes it now. */
  private pump(): void {
    if (this.over || this.source.readyState === "closed" || this.video.error) return;
    if (!this.opened && !this.open()) return;
    let idle = true;
    for (const lane of this.lanes.values()) {
      const b = lane.buffer;
      if (!b) continue;
      if (!b.updating) this.append(lane, b);
      idle &&= !b.updating && lane.waiting.length === 0;
    }
    if (idle && this.ending && this.source.readyState === "open") this.source.endOfStream();
  }

  private open(): boolean {
    if (this.source.readyState !== "open" || this.lanes.size === 0) return false;
    for (const kind of this.expected) if (!this.lanes.get(kind)?.waiting.length) return false;
    this.opened = true;
    for (const [kind, lane] of this.lanes) {
      if (!this.expected.has(kind)) continue;
      lane.buffer = this.source.addSourceBuffer(lane.mime);
      lane.buffer.addEventListener("updateend", () => {
        this.steer();
        this.pump();
      });
    }
    return true;
  }

  private append(lane: Lane, b: SourceBuffer): void {
    const at = this.video.currentTime;
    if (b.buffered.length > 0 && b.buffered.start(0) < at - keptSeconds) return b.remove(0, at - leftSeconds);
    const next = lane.waiting[0];
    if (!next) return;
    if (next.mime !== lane.mime) {
      b.changeType(next.mime);
      lane.mime = next.mime;
    }
    let n = 1;
    while (n < lane.waiting.length && lane.waiting[n]!.mime === next.mime) n++;
    const bytes = lane.waiting.slice(0, n).map((w) => w.bytes);
    try {
      b.appendBuffer(join(...bytes));
      lane.waiting.splice(0, n);
    } catch (e) {
      if (!(e instanceof DOMException) || e.name !== "QuotaExceededError") throw e;
      lane.waiting = []; // far more lies there than is played
      lane.resync = true;
    }
  }

  private async play(): Promise<void> {
    try {
      await this.video.play();
    } catch (e) {
      if (!(e instanceof DOMException) || e.name !== "NotAllowedError" || this.video.muted) return;
      this.blocked = this.video.muted = true;
      await this.play();
    }
  }

  /** How far behind the newest the position is to be, s. */
  private get goal(): number {
    return Math.max(this.latency.min, this.bunch * 1.2 + this.more) / 1000;
  }

  /** Keeps the position where something is, and near the newest. */
  private steer(): void {
    const v = this.video;
    const ranges = v.buffered;
    const last = ranges.length - 1;
    if (this.over || last < 0) return;
    const end = ranges.end(last);
    const wish = Math.max(ranges.start(last), end - this.goal);
    if (!this.placed) {
      this.placed = true;
      v.currentTime = wish;
      return void this.play();
    }
    if (v.seeking || this.ending) {
      v.playbackRate = 1;
      return;
    }
    const behind = end - v.currentTime;
    let inside = false;
    for (let i = 0; i <= last; i++) inside ||= v.currentTime >= ranges.start(i) && v.currentTime < ranges.end(i);
    // Behind a gap, which is nothing that comes: go over it.
    if (!inside && ranges.start(last) > v.currentTime) v.currentTime = wish;
    else if (behind > this.goal + jumpSeconds) v.currentTime = wish;
    else v.playbackRate = behind > this.goal * 1.3 + 0.05 ? faster : behind < this.goal * 0.6 ? slower : 1;
  }

  /** Draws each picture of the element's. */
  private follow(): void {
    const v = this.video;
    if (v.requestVideoFrameCallback) {
      const step = (_: number, m: VideoFrameCallbackMetadata): void => {
        if (this.over) return;
        this.draw(m.mediaTime * 1000);
        v.requestVideoFrameCallback(step);
      };
      v.requestVideoFrameCallback(step);
      return;
    }
    let at = NaN;
    const step = (): void => {
      if (this.over) return;
      if (v.readyState >= v.HAVE_CURRENT_DATA && v.videoWidth > 0 && v.currentTime !== at) this.draw((at = v.currentTime) * 1000);
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  private draw(pts: number): void {
    const [v, canvas, now] = [this.video, this.o.canvas, performance.now()];
    if (canvas.width !== v.videoWidth || canvas.height !== v.videoHeight) [canvas.width, canvas.height] = [v.videoWidth, v.videoHeight];
    this.graphics.drawImage(v, 0, 0);
    if (this.started) this.longestStill = Math.max(this.longestStill, now - this.shownAt.at(-1)!);
    this.shown++;
    this.shownAt.push(now);
    while (this.shownAt[0]! < now - 2000) this.shownAt.shift();
    this.o.onShown?.(pts);
  }

  stats(): PlayerStats {
    const [v, now] = [this.video, performance.now()];
    const ranges = v.buffered;
    const since = this.started ? Math.max(500, now - this.shownAt[0]!) : 1;
    return {
      codec: [...this.lanes.values()][0]?.codec ?? "", width: this.o.canvas.width, height: this.o.canvas.height, fps: (this.shownAt.filter((t) => t > now - 2000).length * 1000) / since,
      shown: this.shown, missedPictures: this.missed + (v.getVideoPlaybackQuality?.().droppedVideoFrames ?? 0), missedSound: 0,
      delay: ranges.length > 0 ? Math.max(0, ranges.end(ranges.length - 1) - v.currentTime) * 1000 : 0, age: undefined,
      longestStill: Math.max(this.longestStill, this.started ? now - this.shownAt.at(-1)! : 0), longestSilence: 0, skew: undefined,
    };
  }

  close(): void {
    this.over = true;
    clearInterval(this.timer);
    this.video.pause();
    this.video.removeAttribute("src");
    this.video.load();
    URL.revokeObjectURL(this.url);
  }
}
