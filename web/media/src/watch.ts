import { ClosedError, RefusedError, type Client, type Event, type RoomID, type Subscription } from "@timedge/sdk";
import { Choice } from "./choice.js";
import { dtypes, parseText, type BroadcastInfo } from "./layout.js";
import { Player, type PlayerStats } from "./player.js";
import { type Latency } from "./playout.js";
import { Talk } from "./talk.js";

/** How long a broadcast may say nothing before it counts as interrupted, ms. */
const quietMillis = 1500;
const tickMillis = 500;
/** How often a viewer reports, ms. */
const reportMillis = 3000;

/**
 * What a viewer sees: `waiting`: the room is there and nobody sends yet; `interrupted`: the sender or the path pauses, and may come back; `unknown`:
 * there is no such room; `unsupported`: the browser lacks a codec.
 */
export type WatchState = "connecting" | "waiting" | "live" | "interrupted" | "ended" | "unknown" | "unsupported";

export interface WatchOptions {
  client: Client;
  room: RoomID;
  canvas: HTMLCanvasElement;
  worklet: string;
  latency?: Latency;
  onState?: (s: WatchState) => void;
  onInfo?: (i: BroadcastInfo) => void;
  onViewers?: (n: number) => void;
  onLine?: (from: string, text: string) => void;
  onDecoded?: (pts: number, wall: number) => void;
  onShown?: (pts: number, wall: number) => void;
}

export interface WatchStats extends PlayerStats {
  /** Bits per second that arrive. */
  bitrate: number;
  /** Which of the broadcast's renditions is watched. */
  rendition: number;
  /** Gaps that the server told, by reason; those that come with joining aside. */
  gaps: Record<string, number>;
}

/** Watch plays a broadcast: it follows its sender over pauses and its qualities over slow paths. Start at {@link Watch.start}. */
export class Watch {
  state: WatchState = "connecting";
  info: BroadcastInfo | undefined;
  readonly player: Player;
  private current: { room: RoomID; subscription: Subscription } | undefined;
  private switching = false;
  private choice = new Choice(1);
  private fixed: number | undefined;
  private pub = 0;
  private talk: Talk | undefined;
  private heardAt = -Infinity;
  private reportedAt = 0;
  private reported = "";
  private mayReport = true;
  private readonly gaps: Record<string, number> = {};
  private bytes: Array<{ at: number; n: number }> = [];
  private readonly timer: ReturnType<typeof setInterval>;
  private over = false;

  private constructor(private readonly o: WatchOptions) {
    this.player = new Player({
      canvas: o.canvas, worklet: o.worklet, ...(o.latency ? { latency: o.latency } : {}),
      onUnsupported: () => this.become("unsupported"),
      ...(o.onDecoded ? { onDecoded: o.onDecoded } : {}),
      onShown: (pts, wall) => {
        if (this.state !== "ended") this.become("live"); // what was buffered is still shown
        o.onShown?.(pts, wall);
      },
    });
    this.timer = setInterval(() => this.tick(), tickMillis);
  }

  /** Begins to watch. What comes of it the state tells. */
  static start(o: WatchOptions): Watch {
    const w = new Watch(o);
    void w.follow(o.room);
    return w;
  }

  private become(s: WatchState): void {
    if (this.state === s || this.over || (this.state === "ended" && s !== "live")) return;
    this.state = s;
    this.o.onState?.(s);
  }

  /** Takes a room's streams; those of the room before end when these begin. */
  private async follow(room: RoomID): Promise<void> {
    const before = this.current;
    let subscription: Subscription;
    try {
      subscription = await this.o.client.subscribe(room, { counts: true });
    } catch (e) {
      this.switching = false;
      if (before || this.over) return; // that quality is gone; this one goes on
      return this.become(e instanceof RefusedError && e.code === "room_unknown" ? "unknown" : "ended");
    }
    if (this.over) return void subscription.close();
    if (!before) {
      this.current = { room, subscription };
      this.become("waiting");
    }
    let here = before === undefined;
    try {
      for await (const e of subscription) {
        if (!here && e.type === "message" && e.dtype === dtypes.picture) {
          // Its first message is the configuration, the next one a key picture: this quality takes over.
          here = true;
          this.switching = false;
          this.current = { room, subscription };
          this.player.restart();
          void before?.subscription.close();
        }
        if (here && this.current?.subscription === subscription) this.take(e);
      }
    } catch (e) {
      if (this.current?.subscription === subscription) this.ended(e);
    }
  }

  private ended(e: unknown): void {
    if (e instanceof ClosedError && e.code === "node_lost") this.become("interrupted");
    this.become("ended");
  }

  private take(e: Event): void {
    switch (e.type) {
      case "joined":
        if (this.pub !== e.pub) this.player.restart();
        this.pub = e.pub;
        if (this.state === "ended") this.become("live"); // the sender is back
        return;
      case "left":
        if (e.pub === this.pub) this.become(e.account !== "" && e.code === codeLeft ? "ended" : "interrupted");
        return;
      case "count":
        return this.o.onViewers?.(e.subscribers);
      case "gap":
        if (e.reason !== "joined") this.gaps[e.reason] = (this.gaps[e.reason] ?? 0) + 1;
        if (e.reason === "slow" && this.choice.slow(performance.now())) this.choose();
        return this.player.gap(e);
      case "message":
        this.heardAt = performance.now();
        this.bytes.push({ at: this.heardAt, n: e.payload.length });
        while (this.bytes[0]!.at < this.heardAt - 2000) this.bytes.shift();
        if (e.dtype === dtypes.broadcast) return this.describe(e.payload);
        if (this.state === "interrupted" || (this.state === "waiting" && e.dtype === dtypes.sound && e.kind !== "init")) this.become("live");
        return this.player.message(e);
    }
  }

  private describe(payload: Uint8Array): void {
    const t = parseText(payload);
    if (t?.type !== "broadcast") return;
    const first = this.info === undefined;
    this.info = t;
    this.choice.count = Math.max(1, t.renditions.length);
    if (first) this.choice.at = Math.max(0, t.renditions.findIndex((r) => r.room === this.current?.room));
    this.o.onInfo?.(t);
    if (t.talk && !this.talk) {
      void Talk.join(this.o.client, t.talk, { line: (from, text) => this.o.onLine?.(from, text) }).then((talk) => {
        if (this.over) void talk.close();
        else this.talk = talk;
      }).catch(() => {});
    }
  }

  /** Takes a quality by its place in the broadcast's list, or, with undefined, what the path carries. */
  set quality(q: number | undefined) {
    this.fixed = q;
    this.choose();
  }

  private choose(): void {
    const r = this.info?.renditions[this.fixed ?? this.choice.at];
    if (!r || this.switching || r.room === this.current?.room) return;
    this.switching = true;
    void this.follow(r.room);
  }

  private tick(): void {
    const now = performance.now();
    if (this.state === "live" && now - this.heardAt > quietMillis) this.become("interrupted");
    if (this.choice.tick(now)) this.choose();
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

  /** Says something to all. It rejects for guests. */
  async say(text: string): Promise<void> {
    if (!this.talk) throw new Error("nobody talks here");
    await this.talk.say(text);
  }

  stats(): WatchStats {
    const now = performance.now();
    const n = this.bytes.filter((b) => b.at > now - 2000).reduce((sum, b) => sum + b.n, 0);
    const rendition = this.info?.renditions.findIndex((r) => r.room === this.current?.room) ?? -1;
    return { ...this.player.stats(), bitrate: n * 4, rendition, gaps: { ...this.gaps } };
  }

  async close(): Promise<void> {
    this.over = true;
    clearInterval(this.timer);
    this.player.close();
    await Promise.all([this.current?.subscription.close(), this.talk?.close()]);
  }
}

/** The code of `left` for a sender that has stopped. */
const codeLeft = 405;
