import { looksSealed } from "@timedge/sdk/e2ee";
import { ClosedError, RefusedError, type Client, type Event, type Message, type RoomID, type Subscription } from "@timedge/sdk";
import { description } from "./bytes.js";
import { Choice } from "./choice.js";
import { ElementPlayer } from "./elementplayer.js";
import { dtypes, parseSample, parseText, type BroadcastInfo } from "./layout.js";
import { Outside, type Container, type OutsideConfig } from "./outside.js";
import { Player, type PlayerStats } from "./player.js";
import { latencies, type Latency } from "./playout.js";
import { Standing } from "./standing.js";
import { Talk } from "./talk.js";

/** How long a broadcast may say nothing before it counts as interrupted, and one of stills, which may be without sound, ms. */
const quietMillis = 1500;
const stillQuietMillis = 5000;
const tickMillis = 500;
/** How much of the latency that the viewer allows may stand in the path, and what is always let stand, ms. */
const standPart = 0.3;
const standLeast = 200;
/** How fast the delay grows on a path that has proved slow, and comes back, ms per tick: too slow to be heard. */
const floorUp = 40;
const floorDown = 10;
/** How often a viewer reports, ms. */
const reportMillis = 3000;
/** What comes from outside may come in fragments so long, ms. */
const outsideBunches = 10_000;

/**
 * What a viewer sees: `waiting`: the room is there and nobody sends yet; `interrupted`: the sender or the path pauses, and may come back; `unknown`:
 * there is no such room; `unsupported`: the browser lacks a codec; `locked`: the broadcast is encrypted, and not under a key that is here.
 */
export type WatchState = "locked" | "connecting" | "waiting" | "live" | "interrupted" | "ended" | "unknown" | "unsupported";

export interface WatchOptions {
  client: Client;
  room: RoomID;
  canvas: HTMLCanvasElement;
  worklet: string;
  latency?: Latency;
  onState?: (s: WatchState) => void;
  onInfo?: (i: BroadcastInfo) => void;
  /** What is watched comes from outside, by `timedge push`, and nobody talks there. */
  onOutside?: (c: Container) => void;
  onViewers?: (n: number) => void;
  onLine?: (from: string, text: string) => void;
  onDecoded?: (pts: number, wall: number) => void;
  onShown?: (pts: number, wall: number) => void;
}

export interface WatchStats extends PlayerStats {
  /** Bits per second that arrive. */
  bitrate: number;
  /** What decodes: WebCodecs' decoders, or a media element by MediaSource. */
  by: "decoders" | "element";
  /** Which of the broadcast's renditions is watched. */
  rendition: number;
  /** Gaps that the server told, by reason; those that come with joining aside. */
  gaps: Record<string, number>;
}

/** Watch plays a broadcast: it follows its sender over pauses and its qualities over slow paths. Start at {@link Watch.start}. */
export class Watch {
  state: WatchState = "connecting";
  info: BroadcastInfo | undefined;
  /** The account that sends. */
  sender = "";
  /** What cannot be played here: codecs, or a container; "" if all can. */
  lacks = "";
  readonly player: Player;
  private current: { room: RoomID; subscription: Subscription } | undefined;
  private readonly leaving = new Set<RoomID>();
  private switching = false;
  private choice = new Choice(1);
  private readonly standing = new Standing(standLeast);
  private pub = 0;
  private talk: Talk | undefined;
  private outside: { pub: number; dtype: number; demux: Outside; configs: OutsideConfig[]; element: ElementPlayer | undefined } | undefined;
  private byElement = false; // what comes from outside is played by a media element: WebCodecs lack a codec of it
  private heardAtLevel = 1;
  private chosen: Latency;
  private heardAt = -Infinity;
  private reportedAt = 0;
  private reported = "";
  private mayReport = true;
  private readonly gaps: Record<string, number> = {};
  private bytes: Array<{ at: number; n: number }> = [];
  private readonly timer: ReturnType<typeof setInterval>;
  private over = false;

  private constructor(private readonly o: WatchOptions) {
    this.chosen = o.latency ?? latencies.balanced;
    this.player = new Player({
      canvas: o.canvas, worklet: o.worklet, ...(o.latency ? { latency: o.latency } : {}),
      onUnsupported: (codec) => this.lacking(codec),
      ...(o.onDecoded ? { onDecoded: o.onDecoded } : {}),
      onShown: (pts, wall) => this.showing(pts, wall),
    });
    this.timer = setInterval(() => this.tick(), tickMillis);
  }

  /** Begins to watch. What comes of it the state tells. */
  static start(o: WatchOptions): Watch {
    const w = new Watch(o);
    void w.follow(o.room);
    return w;
  }

  private showing(pts: number, wall: number): void {
    if (this.state !== "ended") this.become("live"); // what was buffered is still shown
    this.o.onShown?.(pts, wall);
  }

  /** WebCodecs lack a codec. Of what comes from outside a media element may have it: then all of it is played there, from what the server keeps on. */
  private lacking(codec: string): void {
    const configs = this.outside?.configs ?? [];
    if (this.byElement || configs.length === 0 || !configs.every((c) => ElementPlayer.can(c))) return this.cannot(codec);
    this.byElement = true;
    this.renew();
  }

  /** Takes what comes from outside anew, from what the server keeps on. */
  private renew(): void {
    this.leaveOutside();
    const from = this.current;
    if (!from) return;
    this.current = undefined;
    void from.subscription.close().then(() => (this.over ? undefined : this.follow(from.room)));
  }

  private leaveOutside(): void {
    this.outside?.demux.close();
    this.outside?.element?.close();
    this.outside = undefined;
    this.player.restart();
  }

  private cannot(what: string): void {
    if (!this.lacks.split(", ").includes(what)) this.lacks += `${this.lacks && ", "}${what}`;
    this.become("unsupported");
  }

  private become(s: WatchState): void {
    if (this.state === s || this.over || (this.state === "ended" && s !== "live")) return;
    this.state = s;
    this.o.onState?.(s);
  }

  /**
   * Takes a room's streams. What is on its way of the room before is still played. With `atOnce` that room is left before this one answers, since the
   * answer stands behind all that the path has not carried yet; else when the first picture from here is there.
   */
  private async follow(room: RoomID, atOnce = false): Promise<void> {
    const before = this.current;
    let subscription: Subscription;
    try {
      const opening = this.o.client.subscribe(room, { counts: true });
      if (atOnce) this.leave(before);
      subscription = await opening;
    } catch (e) {
      this.switching = false;
      if ((before && !atOnce) || this.over) return; // that quality is gone; this one goes on
      return this.become(e instanceof RefusedError && e.code === "room_unknown" ? "unknown" : "ended");
    }
    if (this.over) return void subscription.close();
    if (!before) {
      this.current = { room, subscription };
      this.become("waiting");
    }
    let pub = 0;
    try {
      for await (const e of subscription) {
        if (e.type === "joined") pub = e.pub;
        if (this.current?.room !== room && this.switching && e.type === "message" && e.dtype === dtypes.picture) {
          // Its first message is the configuration, the next one a key picture: this quality takes over.
          this.switching = false;
          this.current = { room, subscription };
          this.pub = pub;
          this.player.restart();
          this.leave(before);
        }
        if (this.current?.subscription === subscription) this.take(e);
        else if (e.type === "message" && e.dtype === dtypes.sound) this.hear(e); // of both, while they overlap
      }
    } catch (e) {
      if (this.current?.subscription === subscription) this.ended(e);
    }
  }

  private leave(from: { room: RoomID; subscription: Subscription } | undefined): void {
    if (!from) return;
    this.leaving.add(from.room);
    void from.subscription.drain().then(() => this.leaving.delete(from.room));
  }

  /** Takes sound, which tells how the path does. */
  private hear(m: Message): void {
    const now = (this.heardAt = performance.now());
    const sample = m.kind === "init" ? undefined : parseSample(m.payload);
    this.standing.limit = Math.max(standLeast, standPart * this.player.playout.latency.max);
    const stands = sample !== undefined && this.standing.arrived(sample.pts / 1000, now);
    this.player.message(m);
    if (!stands) return;
    this.player.playout.retreat(now);
    this.choice.slow(now);
    if (this.choice.at > this.rendition) this.choose();
  }

  private ended(e: unknown): void {
    if (e instanceof ClosedError && e.code === "node_lost") this.become("interrupted");
    this.become("ended");
  }

  private take(e: Event): void {
    switch (e.type) {
      case "joined":
        if (this.pub !== e.pub) {
          this.leaveOutside();
        }
        [this.pub, this.sender] = [e.pub, e.account];
        if (this.state === "ended") this.become("live"); // the sender is back
        return;
      case "left":
        if (e.pub === this.outside?.pub) {
          this.outside.demux.end();
          this.outside.element?.end();
        }
        if (e.pub === this.pub) this.become(e.account !== "" && e.code === codeLeft ? "ended" : "interrupted");
        return;
      case "count":
        return this.o.onViewers?.(e.subscribers);
      case "gap":
        if (e.reason !== "joined") this.gaps[e.reason] = (this.gaps[e.reason] ?? 0) + 1;
        if (e.reason === "refused" && this.heardAt === -Infinity) this.become("locked");
        if (e.reason === "slow" && this.choice.slow(performance.now())) this.choose();
        if (this.outside?.pub === e.pub && this.outside.dtype === e.dtype) this.outside.demux.gap();
        return this.player.gap(e);
      case "message":
        if (e.dtype >= dtypes.broadcast && looksSealed(e.payload)) return this.become("locked");
        this.heardAt = performance.now();
        this.bytes.push({ at: this.heardAt, n: e.payload.length });
        while (this.bytes[0]!.at < this.heardAt - 2000) this.bytes.shift();
        if (e.dtype < dtypes.broadcast) return this.takeOutside(e);
        if (e.dtype === dtypes.broadcast) return this.describe(e.payload);
        if (this.state === "interrupted" || (this.state === "waiting" && e.dtype === dtypes.sound && e.kind !== "init")) this.become("live");
        if (e.dtype === dtypes.sound) return this.hear(e);
        if (e.kind === "key") this.choose(); // who joins now gets little more than that picture
        return this.player.message(e);
    }
  }

  /** Takes a piece of a container; of several streams the first one counts. */
  private takeOutside(m: Message): void {
    this.outside ??= this.openOutside(m);
    if (this.outside.pub === m.pub && this.outside.dtype === m.dtype) this.outside.demux.message(m);
  }

  private openOutside(m: Message): NonNullable<Watch["outside"]> {
    const configs: OutsideConfig[] = [];
    const element = this.byElement ? this.openElement() : undefined;
    const demux: Outside = new Outside({
      tracks: (kinds) => element?.expect(kinds),
      config: (c) => {
        configs.push(c);
        if (demux.container) this.o.onOutside?.(demux.container);
        if (element) return element.configure(c);
        const d = description(c.config);
        const common = { codec: c.config.codec, clock: NaN, ...(d ? { description: d.slice() } : {}) };
        if (c.kind === "picture") this.player.configurePicture({ type: "picture", width: c.config.codedWidth ?? 0, height: c.config.codedHeight ?? 0, ...common });
        else this.player.configureSound({ type: "sound", sampleRate: c.config.sampleRate, channels: c.config.numberOfChannels, ...common });
      },
      sample: (s) => {
        if (s.kind === "sound" && (this.state === "waiting" || this.state === "interrupted")) this.become("live");
        if (element) element.take(s);
        else if (s.kind === "picture") this.player.takePicture(s.pts, s.key, s.data);
        else this.player.takeSound(s.pts, s.data);
      },
      gap: () => (element ?? this.player).cut(),
      unsupported: (what) => this.cannot(what),
    });
    this.player.bunches = outsideBunches;
    return { pub: m.pub, dtype: m.dtype, demux, configs, element };
  }

  private openElement(): ElementPlayer {
    const element: ElementPlayer = new ElementPlayer({
      canvas: this.o.canvas, latency: this.chosen,
      onShown: (pts) => this.showing(pts, NaN),
      onUnsupported: (codec) => this.cannot(codec),
      onFailed: () => {
        if (element !== this.outside?.element) return;
        if (element.started) this.renew();
        else this.cannot(this.outside.configs.map((c) => c.config.codec).join(", "));
      },
    });
    element.volume = this.heardAtLevel;
    return element;
  }

  private describe(payload: Uint8Array): void {
    const t = parseText(payload);
    if (t?.type !== "broadcast") return;
    const first = this.info === undefined;
    this.info = t;
    this.choice.count = Math.max(1, t.renditions.length);
    if (first) this.choice.best = Math.max(0, t.renditions.findIndex((r) => r.room === this.current?.room));
    this.o.onInfo?.(t);
    if (t.talk && !this.talk) {
      void Talk.join(this.o.client, t.talk, { line: (from, text) => this.o.onLine?.(from, text) }).then((talk) => {
        if (this.over) void talk.close();
        else this.talk = talk;
      }).catch(() => {});
    }
  }

  /** Takes a quality by its place in the broadcast's list, or the best, with undefined; in its place the lightest while the path carries no more. */
  set quality(q: number | undefined) {
    this.choice.best = q ?? 0;
    this.choose();
  }

  private get rendition(): number {
    return this.info?.renditions.findIndex((r) => r.room === this.current?.room) ?? -1;
  }

  /** The path does not carry the quality that is wished for. */
  get slow(): boolean {
    return this.choice.pressed;
  }

  /** Takes what is chosen. A lighter quality cannot wait for anything. */
  private choose(): void {
    const r = this.info?.renditions[this.choice.at];
    if (!r || this.switching || r.room === this.current?.room || this.leaving.has(r.room)) return;
    this.switching = true;
    void this.follow(r.room, this.choice.pressed && this.choice.at > this.rendition);
  }

  private tick(): void {
    const now = performance.now();
    const stills = this.info?.renditions[this.rendition]?.stills ?? false;
    if (this.state === "live" && now - this.heardAt > (stills ? stillQuietMillis : quietMillis)) this.become("interrupted");
    this.choice.tick(now); // what becomes of it is taken with the next key picture
    const playout = this.player.playout;
    playout.floor = this.choice.pressed ? Math.min(playout.floor + floorUp, playout.latency.max) : Math.max(0, playout.floor - floorDown);
    void this.report(now);
  }

  private async report(now: number): Promise<void> {
    if (!this.talk || !this.mayReport || this.state !== "live") return;
    const s = this.player.stats();
    const needsKey = this.player.needsKey;
    const report = { type: "report" as const, needsKey, missedPictures: s.missedPictures, missedSound: Math.round(s.missedSound) };
    const text = JSON.stringify(report);
    if (text === this.reported || (now - this.reportedAt < reportMillis && !needsKey)) return;
    [this.reported, this.reportedAt] = [text, now];
    await this.talk.report(report).catch(() => (this.mayReport = false)); // a guest may not
  }

  /** What the viewer has chosen: how far behind the newest to be, and how loud, 0 to 1. */
  set latency(l: Latency) {
    this.chosen = this.player.latency = l;
    if (this.outside?.element) this.outside.element.latency = l;
  }

  set volume(v: number) {
    this.heardAtLevel = this.player.volume = v;
    if (this.outside?.element) this.outside.element.volume = v;
  }

  /** The browser wants a click before sound is heard. */
  get soundBlocked(): boolean {
    return (this.outside?.element ?? this.player).soundBlocked;
  }

  async resumeSound(): Promise<void> {
    await (this.outside?.element ?? this.player).resumeSound();
  }

  /** Says something to all. It rejects for guests. */
  async say(text: string): Promise<void> {
    if (!this.talk) throw new Error("nobody talks here");
    await this.talk.say(text);
  }

  stats(): WatchStats {
    const now = performance.now();
    const n = this.bytes.filter((b) => b.at > now - 2000).reduce((sum, b) => sum + b.n, 0);
    return { ...(this.outside?.element ?? this.player).stats(), bitrate: n * 4, by: this.byElement ? "element" : "decoders", rendition: this.rendition, gaps: { ...this.gaps } };
  }

  async close(): Promise<void> {
    this.over = true;
    clearInterval(this.timer);
    this.leaveOutside();
    this.player.close();
    await Promise.all([this.current?.subscription.close(), this.talk?.close()]);
  }
}

/** The code of `left` for a sender that has stopped. */
const codeLeft = 405;
