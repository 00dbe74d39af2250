import type { Client, Message, Options } from "@timedge/sdk";
import { encodeSilence, levelOf, parseSample, Player, type Latency, type Quality } from "@timedge/media";
import { Behind, Carry, levelFor, levels, sizeFor, smallOf, type Level, type Shown, type Size } from "./carry.js";
import { Taking } from "./picture.js";
import { Roster, type Member } from "./roster.js";
import { Speaking } from "./speaking.js";
import type { Strain } from "./strain.js";

/** Near enough to talk, far enough for a node that is lost not to be heard, ms. */
const latency: Latency = { min: 150, max: 1000 };
/** When no server is there for pictures the next try is so much later, ms. */
const retryMillis = 500;

/** Somebody else, with what is needed to see and hear it. */
export interface Other extends Member {
  canvas: HTMLCanvasElement;
  screenCanvas: HTMLCanvasElement;
}

interface Held {
  member: Member;
  canvas: HTMLCanvasElement;
  taking: Taking;
  soundWay: Behind;
  screen: { canvas: HTMLCanvasElement; taking: Taking } | undefined;
}

export interface GalleryOptions {
  /** Connects anew, when what is on its way is to be given up. */
  dial: (o: Partial<Options>) => Promise<Client>;
  /** What pictures come through: not what sound does. It is the gallery's. */
  incoming: Client;
  worklet: string;
  /** That of the large pictures. */
  quality: Quality;
  /** How this machine follows: what it is late by itself is not the path's. */
  strain: Strain;
  /** Who is here, or how they are, has changed. */
  changed: () => void;
}

/** Gallery is the others in a meeting: who is here, each one's player, and which of the pictures are taken, by what is shown and what the path carries. */
export class Gallery {
  readonly roster = new Roster();
  readonly speaking = new Speaking<number>(); // by publisher; 0 is who looks
  private readonly carry = new Carry();
  private readonly held = new Map<number, Held>();
  private readonly shownAs = new Map<number, { picture: Shown; screen: Shown }>();
  private incoming: Client | undefined; // undefined while it is replaced
  private changing: Promise<void> = Promise.resolve(); // of what comes in
  private seen = ""; // how the members were when that was told last
  private over = false;

  constructor(private readonly o: GalleryOptions) {
    this.incoming = o.incoming;
  }

  /** Brings what is held in line with who is here. */
  settle(): void {
    if (this.over) return;
    const members = this.roster.members(performance.now());
    const here = new Set(members.map((m) => m.pub));
    for (const [pub, h] of this.held) {
      if (here.has(pub)) continue;
      h.taking.close();
      h.screen?.taking.close();
      this.held.delete(pub);
      this.shownAs.delete(pub);
      this.speaking.left(pub);
    }
    let now = "";
    for (const member of members) {
      let h = this.held.get(member.pub);
      if (!h) this.held.set(member.pub, (h = this.hold(member)));
      h.member = member;
      now += JSON.stringify([member.pub, member.silent, member.presence]);
      if (member.presence.screen !== "" && !h.screen) {
        const canvas = document.createElement("canvas");
        h.screen = { canvas, taking: this.taking(new Player({ canvas, worklet: this.o.worklet, latency })) };
      } else if (member.presence.screen === "" && h.screen) {
        h.screen.taking.close();
        h.screen = undefined;
      }
    }
    this.choose();
    if (now === this.seen) return;
    this.seen = now;
    this.o.changed();
  }

  private hold(member: Member): Held {
    const canvas = document.createElement("canvas");
    const player = new Player({
      canvas, worklet: this.o.worklet, latency, soundFirst: true,
      onSound: (planes) => this.speaking.heard(member.pub, levelOf(planes), performance.now()),
    });
    return { member, canvas, taking: this.taking(player), soundWay: new Behind(), screen: undefined };
  }

  private taking(player: Player): Taking {
    return new Taking(this.incoming, player, {
      behind: (ms) => {
        if (this.carry.behind(ms - this.o.strain.late, performance.now())) this.relieve();
      },
      dropped: () => {
        if (this.carry.dropped(performance.now())) this.relieve();
      },
    });
  }

  /**
   * Less is taken from now on. What has queued up goes with the connection that it is in, and first of all: behind it the small pictures would come as late,
   * and the large ones would go on queueing until then.
   */
  private relieve(): void {
    const before = this.incoming;
    this.move(undefined);
    this.choose();
    if (!before) return; // another one is on its way
    void before.close({ goodbye: false });
    this.changing = this.changing.then(async () => {
      while (!this.over) {
        const next = await this.o.dial({}).catch(() => undefined);
        if (this.over) return void next?.close();
        if (next) return this.move(next);
        await new Promise((resolve) => setTimeout(resolve, retryMillis));
      }
    });
  }

  private move(incoming: Client | undefined): void {
    this.incoming = incoming;
    for (const h of this.held.values()) {
      h.taking.move(incoming);
      h.screen?.taking.move(incoming);
    }
  }

  /** Takes what somebody's microphone sends; of who is muted by the owner nothing is played. */
  sound(m: Message, muted: readonly string[]): void {
    const h = this.held.get(m.pub);
    if (!h) return;
    const sample = m.kind === "init" ? undefined : parseSample(m.payload);
    const now = performance.now();
    if (sample && this.carry.behindSound(h.soundWay.arrived(sample.pts / 1000, now) - this.o.strain.late, now)) this.relieve();
    const unheard = muted.includes(h.member.account) ? sample : undefined;
    h.taking.player.message(unheard ? { ...m, payload: encodeSilence(unheard.pts) } : m); // none of it is missing
  }

  /** Says how somebody's picture and screen are shown. */
  show(pub: number, picture: Shown, screen: Shown): void {
    this.shownAs.set(pub, { picture, screen });
    this.choose();
  }

  /** Takes what is shown and can be carried, and what the machine can do. */
  choose(): void {
    const width = smallOf(this.o.quality).width;
    for (const [pub, h] of this.held) {
      const { large, small, screen } = h.member.presence;
      const as = this.shownAs.get(pub);
      h.taking.want(as && (large || small) ? sizeFor(as.picture, this.level, width) : "none", { large: large || small, small: small || large });
      if (!h.screen) continue;
      const carried = levels.indexOf(this.level) < 2; // of screens there is one size only
      h.screen.taking.want(as && as.screen.width > 0 && carried ? "large" : "none", { large: screen, small: screen });
    }
  }

  /** Time passes. */
  tick(now: number): void {
    if (this.carry.tick(now)) this.choose();
    this.settle();
  }

  /** Who else is here. */
  others(): Other[] {
    return [...this.held.values()].map((h) => ({ ...h.member, canvas: h.canvas, screenCanvas: h.screen?.canvas ?? h.canvas }));
  }

  nameOf(pub: number): string {
    return this.held.get(pub)?.member.presence.name ?? "";
  }

  /** The size of somebody's picture that is shown. */
  sizeOf(pub: number): Size {
    return this.held.get(pub)?.taking.shown ?? "none";
  }

  /** How much is taken: what the path carries, and the machine can do. */
  get level(): Level {
    return levelFor(this.carry.level, this.o.strain.ease);
  }


  /** What plays somebody's picture and sound. */
  playerOf(pub: number): Player | undefined {
    return this.held.get(pub)?.taking.player;
  }

  /** The browser wants a click before anything is heard. */
  get soundBlocked(): boolean {
    return [...this.held.values()].some((h) => h.taking.player.soundBlocked);
  }

  async resumeSound(): Promise<void> {
    await Promise.all([...this.held.values()].map((h) => h.taking.player.resumeSound()));
  }

  set volume(v: number) {
    for (const h of this.held.values()) h.taking.player.volume = v;
  }

  /** Nothing is shown and heard any more. */
  stop(): void {
    this.over = true;
    for (const h of this.held.values()) {
      h.taking.close();
      h.screen?.taking.close();
    }
    this.held.clear();
  }

  /** Ends the connection, after {@link stop}. */
  async close(): Promise<void> {
    await this.changing;
    await this.incoming?.close();
  }
}
