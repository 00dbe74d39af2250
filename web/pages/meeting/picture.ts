import type { Client, Event, Gap, Message, RoomID, Subscription } from "@timedge/sdk";
import { dtypes, parseSample, pictureCodecs, Rendition, type PictureCodec, type Player, type Quality } from "@timedge/media";
import { Behind, type Size } from "./carry.js";

/** So often a room that nobody watches is used, for it not to end, ms. */
const keepMillis = 30_000;
/** So long after the last viewer has gone pictures are still made: a relay that takes over counts anew, ms. */
const graceMillis = 2000;
/** The server's queue for one viewer, ms. */
const queueAge = 1500;
/** After a subscription was refused it is asked for again so much later, ms. */
const retryMillis = 1000;

/** PictureRoom is one size of one's own picture, in a room of its own. While nobody watches it nothing is encoded. */
export class PictureRoom {
  private viewers = 0;
  private leftAt = -Infinity; // when the last of them went
  private making = false;
  private usedAt = performance.now();

  private constructor(private readonly client: Client, readonly room: RoomID, private readonly rendition: Rendition) {}

  /** Registers a room. `lost` is told when it has ended by itself. */
  static async open(client: Client, quality: Quality, clock: number, codec: PictureCodec | undefined, lost: (e: Error) => void): Promise<PictureRoom> {
    const room = await client.register({ queueAge, idleUnlessOccupied: true });
    const publisher = await client.publish(room, { counts: true });
    const p = new PictureRoom(client, room, new Rendition(publisher, quality, codec ? [codec] : pictureCodecs, clock, lost));
    publisher.onCount = (n) => p.counted(n);
    return p;
  }

  private counted(n: number): void {
    if (n > this.viewers) this.rendition.keys.want();
    else if (n === 0 && this.viewers > 0) this.leftAt = performance.now();
    this.viewers = n;
  }

  /** Somebody takes this size, or has until a moment ago. */
  get watched(): boolean {
    return this.viewers > 0 || performance.now() - this.leftAt < graceMillis;
  }

  /** How long what was pushed waits beyond the way itself, ms. */
  get queued(): number {
    return this.rendition.rate.queued;
  }

  /** Takes a picture, which stays the caller's. */
  picture(frame: VideoFrame): void {
    if (!this.watched) return;
    this.making = true;
    this.usedAt = performance.now();
    this.rendition.picture(frame);
  }

  /** Nothing is to be seen for a while. */
  pause(): void {
    this.making = false;
    this.usedAt = performance.now();
    this.rendition.pause();
  }

  /** Begins anew, for who has not been told what goes before the pictures. */
  again(): void {
    this.rendition.again();
  }

  /** Time passes. */
  tick(): void {
    if ((this.making && !this.watched) || performance.now() - this.usedAt > keepMillis) this.pause();
  }

  async close(): Promise<void> {
    this.rendition.close();
    await this.rendition.publisher.close().catch(() => {});
    await this.client.remove(this.room).catch(() => {});
  }
}

/** What a Taking tells of the path. */
export interface TakingEvents {
  /** How far pictures come behind their usual way, ms. */
  behind(ms: number): void;
  /** The server has left pictures out, since the path does not take them. */
  dropped(): void;
}

/**
 * Taking is another one's picture as it is shown here: of its rooms it takes the one that is wanted, and changes from one to the other at a key picture,
 * without a break.
 */
export class Taking {
  /** The size that is shown. */
  shown: Size = "none";
  private wanted: Size = "none";
  private rooms: Record<Size, RoomID> = { large: "", small: "", none: "" };
  private current: Subscription | undefined;
  private coming: { room: RoomID; subscription: Subscription | undefined } | undefined;
  private readonly way = new Behind();
  private retry = 0;
  private over = false;

  constructor(private client: Client | undefined, readonly player: Player, private readonly on: TakingEvents) {}

  /** Says which rooms there are, and which size is wanted. */
  want(size: Size, rooms: { large: RoomID; small: RoomID }): void {
    this.wanted = size;
    this.rooms = { ...rooms, none: "" };
    this.settle();
  }

  /** Goes on with another client; undefined: with none for now, and what is shown stays. What the one before had on its way is given up. */
  move(client: Client | undefined): void {
    this.client = client;
    [this.current, this.coming] = [undefined, undefined];
    this.settle();
  }

  private settle(): void {
    if (this.over) return;
    const room = this.rooms[this.wanted];
    if (this.coming && this.coming.room !== room) {
      void this.coming.subscription?.close();
      this.coming = undefined;
    }
    if (room === "") {
      void this.current?.close();
      this.current = undefined;
      this.shown = "none";
    } else if (this.client && !this.coming && this.current?.room !== room) void this.follow(this.client, room, this.wanted);
  }

  private async follow(client: Client, room: RoomID, size: Size): Promise<void> {
    const coming: { room: RoomID; subscription: Subscription | undefined } = (this.coming = { room, subscription: undefined });
    let subscription: Subscription;
    try {
      subscription = await client.subscribe(room);
    } catch {
      if (this.coming !== coming) return;
      // It has ended, and another one is told of soon; or the client has.
      clearTimeout(this.retry);
      this.retry = window.setTimeout(() => {
        if (this.coming !== coming) return;
        this.coming = undefined;
        this.settle();
      }, retryMillis);
      return;
    }
    if (this.over || this.coming !== coming) return void subscription.close();
    coming.subscription = subscription;
    let configuration: Message[] = [];
    try {
      for await (const e of subscription) {
        if (this.current === subscription) {
          this.take(e);
          continue;
        }
        if (this.coming !== coming) break;
        if (e.type !== "message" || e.dtype !== dtypes.picture) continue;
        if (e.kind === "init") configuration = [e];
        if (e.kind !== "key" || !parseSample(e.payload)) continue;
        // A picture that can be begun with: this room takes over.
        void this.current?.close();
        [this.current, this.coming, this.shown] = [subscription, undefined, size];
        this.player.restart();
        this.way.forget();
        for (const m of [...configuration, e]) this.take(m);
      }
    } catch {
      // The room has ended, or the client.
    }
    if (this.current === subscription) [this.current, this.shown] = [undefined, "none"];
    if (this.coming === coming) this.coming = undefined;
    if (client === this.client && !this.over) this.settle();
  }

  private take(e: Event): void {
    if (e.type === "gap") {
      this.player.gap(e as Gap);
      if (e.reason === "slow") this.on.dropped();
    }
    if (e.type !== "message" || e.dtype !== dtypes.picture) return;
    const s = e.kind === "init" ? undefined : parseSample(e.payload);
    if (s) this.on.behind(this.way.arrived(s.pts / 1000, performance.now()));
    this.player.message(e);
  }

  close(): void {
    this.over = true;
    clearTimeout(this.retry);
    void this.coming?.subscription?.close();
    void this.current?.close();
    this.player.close();
  }
}
