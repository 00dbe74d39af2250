import { looksSealed, Member as SecretMember, nextKey, RekeyError, type Keys } from "@timedge/sdk/e2ee";
import { ClosedError, everyone, RefusedError, type Client, type Event, type Options, type Publisher, type RoomID, type Subscription } from "@timedge/sdk";
import { dtypes as media, encodeText, parseText, type PictureCodec, type Quality } from "@timedge/media";
import { levels } from "./carry.js";
import { Gallery } from "./gallery.js";
import { keepRemoval, type Keep, type Removal } from "./removal.js";
import { beat } from "./roster.js";
import { Sending } from "./sending.js";
import { Strain } from "./strain.js";
import { dtypes, encodeWord, parseWord, type Control, type Presence } from "./wire.js";

const tickMillis = 250;
/** What waits longer than this on the way out makes a line a poor one, ms. */
const waitsLong = 500;
/** Somebody waits for the other side: when a server says nothing, and when to go round the servers again, ms. */
const dialling = { backoffMin: 20, backoffMax: 1000, silence: 5000 };
/** What was sealed before somebody was removed, and is on its way, still opens for so long, ms. */
const oldSecretMillis = 5000;
/** So many words of the owner in a row that do not open: the key is another. */
const maxStrange = 3;

export interface MeetingOptions {
  /** Connects; called three times: for sound and words, for pictures out, for pictures in. */
  dial: (o: Partial<Options>) => Promise<Client>;
  room: RoomID;
  account: string;
  name: string;
  worklet: string;
  quality: Quality;
  codec?: PictureCodec | undefined;
  keep: Keep;
  /** Of an encrypted meeting: those that the clients seal and open with. */
  keys?: Keys | undefined;
  /** What the page before this one began, with the secret that `keys` have: it is finished first. */
  removal?: Removal | undefined;
  on: MeetingEvents;
}

export interface MeetingEvents {
  /** Who is here, or how they are, has changed. */
  changed(): void;
  line(from: string, text: string): void;
  reaction(pub: number, emoji: string): void;
  /** Somebody was removed from an encrypted meeting: its link has another key. */
  relinked?(): void;
  /** The server is away, or back. */
  away(is: boolean): void;
  /** It goes on no more: the owner has ended it, or removed this one; or something else. */
  ended(why: "ended" | "removed" | "closed" | "locked" | Error): void;
}

/** Makes a meeting's room. Whoever has its number may take part; it lasts while somebody is there. */
export async function makeMeeting(client: Client): Promise<RoomID> {
  const room = await client.register({ idleUnlessOccupied: true });
  await client.grant(room, everyone);
  return room;
}

/**
 * Meeting is one who takes part in a meeting: it sends sound into the meeting's room, and pictures in two sizes into rooms of its own; it plays everybody's
 * sound, and takes of the pictures what is shown and can be carried. Sound has a connection of its own, so that no picture stands in its way. Start at
 * {@link Meeting.join}.
 */
export class Meeting {
  owner = false;
  control: Control = { type: "control", open: true, muted: [] };
  hand = false;
  readonly gallery: Gallery;
  private readonly sending: Sending;
  private wantsSound = true; // the microphone is to be open
  private hasSound = false; // there is one
  private told = "";
  private toldAt = -Infinity;
  private publisher!: Publisher;
  private events!: Subscription;
  private line = 2;
  private controlledAt = -Infinity;
  private ownerName = "";
  private member: SecretMember | undefined;
  private strange = 0;
  private readonly removed = new Set<string>(); // accounts; what they say may still be here
  private removing: Promise<unknown> = Promise.resolve(); // one after the other: each has the next secret
  private readonly strain = new Strain();
  private tickedAt = NaN;
  private readonly timer: ReturnType<typeof setInterval>;
  private over = false;

  private constructor(private readonly o: MeetingOptions, private readonly hall: Client, private readonly outgoing: Client, incoming: Client) {
    this.gallery = new Gallery({ dial: (more) => o.dial({ ...dialling, ...more }), incoming, worklet: o.worklet, quality: o.quality, strain: this.strain, changed: () => o.on.changed() });
    this.sending = new Sending({
      client: outgoing, quality: o.quality, codec: o.codec, worklet: o.worklet,
      push: (kind, message) => this.push(media.sound, kind, message),
      onLevel: (level) => this.microphone && this.gallery.speaking.heard(0, level, performance.now()),
      changed: () => this.tell(),
      lost: (e) => this.end(e),
    });
    this.timer = setInterval(() => this.tick(), tickMillis);
  }

  /** Joins. It rejects with the server's refusal: `room_unknown`, `not_granted` where the owner lets nobody else in, `not_allowed` for guests. */
  static async join(o: MeetingOptions): Promise<Meeting> {
    const clients: Client[] = [];
    let m: Meeting | undefined;
    const hall = await o.dial({ ...dialling, onState: (s) => m?.state(s.phase) });
    clients.push(hall);
    try {
      const [publisher, info] = await Promise.all([hall.publish(o.room), hall.stat(o.room)]);
      const [outgoing, incoming] = await Promise.all([o.dial(dialling), o.dial(dialling)]);
      clients.push(outgoing, incoming);
      m = new Meeting(o, hall, outgoing, incoming);
      [m.publisher, m.ownerName, m.owner] = [publisher, info.owner, info.owner === o.account];
      const kept = m.owner ? parseWord(new TextEncoder().encode(o.keep.get(o.room, "control") ?? "")) : undefined;
      if (kept?.type === "control") m.control = kept;
      if (o.keys) m.member = await SecretMember.create();
      if (m.owner && o.removal) await m.carryOut(o.removal);
      m.events = await hall.subscribe(o.room, { noEcho: true });
      void m.listen();
      m.tell();
      return m;
    } catch (e) {
      m?.stop();
      for (const c of clients) void c.close();
      throw e;
    }
  }

  private state(phase: string): void {
    if (phase === "disconnected") this.o.on.away(true);
    if (phase !== "connected") return;
    this.gallery.roster.resumed(performance.now());
    this.o.on.away(false);
  }

  private push(dtype: number, kind: "init" | "key" | "delta", message: Uint8Array): void {
    if (this.over) return;
    void this.publisher.push(dtype, kind, message).catch((e: Error) => {
      if (!(e instanceof ClosedError && e.code === "gone")) this.end(e);
    });
  }

  // What the others send

  private async listen(): Promise<void> {
    try {
      for await (const e of this.events) await this.take(e); // what follows a new secret is sealed under it
    } catch (e) {
      this.end(e as Error);
    }
  }

  private async take(e: Event): Promise<void> {
    const now = performance.now();
    if (e.type === "joined") this.gallery.roster.joined(e.pub, e.account, now);
    if (e.type === "left") {
      this.gallery.roster.left(e.pub);
      this.gallery.settle();
    }
    // What is said is encrypted, and does not open here. The owner's word counts: others may push what nobody has sealed.
    if (e.type === "gap" && e.reason === "refused" && e.publisher === this.ownerName && e.dtype === dtypes.presence && ++this.strange >= maxStrange) return this.finish("locked");
    if (e.type !== "message") return;
    if (looksSealed(e.payload)) return this.finish("locked");
    if (e.publisher === this.ownerName) this.strange = 0;
    this.gallery.roster.heard(e.pub, now);
    switch (e.dtype) {
      case media.sound:
        return this.gallery.sound(e, this.control.muted);
      case media.chat: {
        const t = parseText(e.payload);
        if (t?.type === "chat") this.o.on.line(this.gallery.nameOf(e.pub) || e.publisher, t.text);
        return;
      }
    }
    if (e.dtype === dtypes.secret) return e.publisher === this.ownerName ? this.takeSecret(e.payload) : undefined;
    const w = parseWord(e.payload);
    if (w?.type === "presence" && e.dtype === dtypes.presence) {
      this.gallery.roster.said(e.pub, w, now);
      this.gallery.settle();
    } else if (w?.type === "reaction" && e.dtype === dtypes.reaction) this.o.on.reaction(e.pub, w.emoji);
    else if (w?.type === "control" && e.dtype === dtypes.control && e.publisher === this.ownerName) this.obey(w);
  }

  private async takeSecret(message: Uint8Array): Promise<void> {
    try {
      const next = await this.member?.open(this.o.room, message);
      if (next && next.epoch === this.o.keys!.link.epoch + 1) this.rotate(next);
    } catch (e) {
      if (e instanceof RekeyError && e.fault === "removed") this.finish("removed");
      else if (!(e instanceof RekeyError)) throw e;
    }
  }

  /** Takes the next secret up. Who comes from now on has only that one: all that they need is told again. */
  private rotate(next: Keys["link"]): void {
    const keys = this.o.keys!;
    keys.rotate(next);
    setTimeout(() => keys.link.epoch === next.epoch && keys.forget(), oldSecretMillis);
    this.told = "";
    this.tell();
    this.sending.again();
    if (this.owner) this.command({});
    this.o.on.relinked?.();
  }

  /** Takes what the owner wants; it may be this one, on another page. */
  private obey(c: Control): void {
    this.control = c;
    if (this.owner) return this.o.on.changed();
    if (c.muted.includes(this.o.account)) this.setMicrophone(false);
    this.o.on.changed();
  }

  /** The node that sound goes to; undefined while there is none. */
  get node(): string | undefined {
    return this.hall.node;
  }

  // What this one sends

  /** How this one's line does: 2 good, 1 only small pictures, 0 less. */
  get quality(): number {
    return this.line;
  }

  private presence(leaving = false): Presence {
    return {
      type: "presence", name: this.o.name, ...this.sending.rooms,
      microphone: this.microphone, hand: this.hand, line: this.line, leaving,
      ...(this.member ? { key: btoa(String.fromCharCode(...this.member.publicKey)) } : {}),
    };
  }

  private tell(): void {
    if (this.over) return;
    const p = this.presence();
    const text = JSON.stringify(p);
    const now = performance.now();
    if (text === this.told && now - this.toldAt < beat) return;
    [this.told, this.toldAt] = [text, now];
    this.push(dtypes.presence, "key", encodeWord(p));
  }

  private tick(): void {
    const now = performance.now();
    // Of a page that nobody sees timers come seldom.
    if (!document.hidden && !Number.isNaN(this.tickedAt) && this.strain.timer(now - this.tickedAt - tickMillis, now)) {
      this.sending.ease(this.strain.ease);
      this.gallery.choose();
    }
    this.tickedAt = document.hidden ? NaN : now;
    this.sending.tick();
    const out = this.sending.queued;
    this.line = out > 2 * waitsLong || levels.indexOf(this.gallery.level) > 1 ? 0 : out > waitsLong || this.gallery.level === "small" ? 1 : 2;
    this.tell();
    if (this.owner && now - this.controlledAt > beat) this.command({});
    this.gallery.tick(now);
  }

  /** This machine cannot do all: it sends and takes less of the pictures. */
  get eased(): boolean {
    return this.strain.ease !== "none";
  }

  /** How late things happen here, on average, ms. */
  get late(): number {
    return this.strain.late;
  }

  /** The microphone is open; it is not where there is none. */
  get microphone(): boolean {
    return this.wantsSound && this.hasSound;
  }

  /** Sends another microphone's sound from now on, or none. */
  takeSound(track: MediaStreamTrack | undefined): void {
    this.hasSound = track !== undefined;
    this.sending.muted = !this.microphone;
    this.sending.takeSound(track);
    this.tell();
    this.o.on.changed();
  }

  /** Opens or closes the microphone; it stays closed while the owner has muted this one. */
  setMicrophone(on: boolean): void {
    this.wantsSound = on && !this.mutedByOwner;
    this.sending.muted = !this.microphone;
    this.tell();
    this.o.on.changed();
  }

  get mutedByOwner(): boolean {
    return this.control.muted.includes(this.o.account);
  }

  setHand(up: boolean): void {
    this.hand = up;
    this.tell();
    this.o.on.changed();
  }

  /** Sends another camera's pictures from now on, or none. */
  takePicture(track: MediaStreamTrack | undefined): Promise<void> {
    return this.sending.takePicture(track);
  }

  /** Shows a screen beside the camera, or, with undefined, no more. */
  takeScreen(track: MediaStreamTrack | undefined): Promise<void> {
    return this.sending.takeScreen(track);
  }

  get sharing(): boolean {
    return this.sending.sharing;
  }

  /** Says something to all. */
  say(text: string): void {
    this.push(media.chat, "delta", encodeText({ type: "chat", text }));
  }

  react(emoji: string): void {
    this.push(dtypes.reaction, "delta", encodeWord({ type: "reaction", emoji }));
  }

  // What the owner may

  private command(c: Partial<Control>): void {
    this.control = { ...this.control, ...c };
    this.controlledAt = performance.now();
    this.o.keep.set(this.o.room, "control", JSON.stringify(this.control));
    this.push(dtypes.control, "key", encodeWord(this.control));
    if (Object.keys(c).length > 0) this.o.on.changed();
  }

  /** Mutes an account for everybody, or lets it be heard again. */
  mute(account: string, is: boolean): void {
    this.command({ muted: [...this.control.muted.filter((a) => a !== account), ...(is ? [account] : [])] });
  }

  /** Lets newcomers take part, or not. Who is here stays. */
  async open(is: boolean): Promise<void> {
    if (is) await this.hall.grant(this.o.room, everyone);
    else {
      for (const account of new Set(this.gallery.roster.members(performance.now()).map((m) => m.account))) await this.hall.grant(this.o.room, account);
      await this.hall.revoke(this.o.room, everyone);
    }
    this.command({ open: is });
  }

  /** Removes an account: the server takes nothing from it any more, and of what is encrypted it has the key no more. */
  remove(account: string): Promise<void> {
    const done = this.removing.then(() => this.removeNow(account));
    this.removing = done.catch(() => {});
    return done;
  }

  private async removeNow(account: string): Promise<void> {
    const { keys, keep, room } = this.o;
    if (!keys) return this.hall.revoke(room, account);
    this.removed.add(account);
    const stay = this.gallery.roster.members(performance.now()).filter((m) => !this.removed.has(m.account) && m.presence.key);
    const removal = { account, before: keys.link, ...(await nextKey(keys, room, stay.map((m) => keyOf(m.presence)))) };
    keepRemoval(keep, room, removal);
    await this.carryOut(removal);
  }

  /** Has the server cut somebody off, and the others take up the next secret. A page that goes away in its middle does it anew when it is back. */
  private async carryOut(r: Removal): Promise<void> {
    const { keep, room } = this.o;
    try {
      await this.hall.revoke(room, r.account);
    } catch (e) {
      if (e instanceof RefusedError) keepRemoval(keep, room, undefined);
      throw e;
    }
    this.push(dtypes.secret, "delta", r.message); // sealed under the secret that there still is
    this.rotate(r.next);
    void this.publisher.flush().then(() => keepRemoval(keep, room, undefined), () => {});
  }

  // The end

  private end(why: Error): void {
    const code = why instanceof ClosedError || why instanceof RefusedError ? why.code : "";
    this.finish(code === "revoked" ? "removed" : code === "removed" ? "ended" : code === "not_granted" ? "closed" : why);
  }

  private finish(why: Parameters<MeetingEvents["ended"]>[0]): void {
    if (this.over) return;
    this.stop();
    this.o.on.ended(why);
    this.hangUp();
  }

  private stop(): void {
    this.over = true;
    clearInterval(this.timer);
    this.sending.stop();
    this.gallery.stop();
  }

  private hangUp(): void {
    void Promise.all([this.hall.close(), this.outgoing.close(), this.gallery.close()]);
  }

  /** Leaves; everybody sees it at once. With `all` the owner ends the meeting for everybody. */
  async leave(all = false): Promise<void> {
    if (this.over) return;
    // First, and without waiting: the page may be gone in a moment.
    this.push(dtypes.presence, "key", encodeWord(this.presence(true)));
    this.stop();
    if (all && this.owner) await this.hall.remove(this.o.room).catch(() => {});
    await Promise.all([this.publisher.close().catch(() => {}), this.sending.close()]);
    this.hangUp();
  }
}

/** The public key that somebody says; no bytes if it is none. */
function keyOf(p: Presence): Uint8Array {
  try {
    return Uint8Array.from(atob(p.key ?? ""), (c) => c.charCodeAt(0));
  } catch {
    return new Uint8Array();
  }
}
