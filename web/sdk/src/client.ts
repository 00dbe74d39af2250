import { sha256 } from "@noble/hashes/sha2.js";
import { EncodeError, encodeControl, type Control, type Fields } from "./codec.js";
import { codes, policies } from "./codes.js";
import type { Connection } from "./connection.js";
import { ClientClosedError, ClosedError } from "./errors.js";
import { everyone, type InboxOptions, type Info, type Options, type PublishOptions, type RoomOptions, type SubscribeOptions } from "./options.js";
import { Publisher } from "./publisher.js";
import { Reconnector } from "./reconnect.js";
import { Requests, type Broke } from "./requests.js";
import { formatRoom, parseRoom, type RoomID } from "./room.js";
import { Subscription } from "./subscription.js";

/** How long a client that is closed waits for the answers to its goodbyes, ms. */
const goodbyeMillis = 1000;

/**
 * Client is one connection to one server at a time, and what is done over it: requests, a Publisher and a Subscription for each room. It
 * reconnects by itself and takes these along. Start at {@link dial}.
 */
export class Client {
  private readonly publishers = new Map<bigint, Publisher>();
  private readonly subscriptions = new Map<bigint, Subscription>();
  private readonly inboxes = new Map<bigint, Fields>(); // of the subscriptions, those that are inboxes, and how they are opened
  private readonly requests = new Requests();
  private readonly connections: Reconnector;
  private terms: Fields = {}; // the last server's
  private over: Error | undefined;

  private constructor(private readonly o: Options) {
    this.connections = new Reconnector(o, {
      attach: (link) => this.attach(link),
      detach: () => this.detach(),
      control: (m, link) => this.control(m, link),
      stream: (f) => this.subscriptions.get(f.room)?.stream(f),
      settled: () => this.requests.settled(),
      ended: (why) => this.end(why),
    });
  }

  /**
   * Connects to one of the servers, each being tried once, in random order. From then on the client reconnects by itself, for ever, until it is
   * closed or a server says that connecting again is of no use.
   */
  static async dial(o: Options): Promise<Client> {
    const c = new Client(o);
    await c.connections.dial();
    return c;
  }

  private get link(): Connection | undefined {
    return this.connections.link;
  }

  /** Who the client is; "" for a guest. */
  get account(): string {
    return this.o.account;
  }

  /** The node that the client is connected to; undefined while it is not. */
  get node(): string | undefined {
    return this.link && (this.link.terms.node as string);
  }

  /** The largest message that the server takes, bytes. */
  get maxPayload(): number {
    return Math.min(Number((this.terms.max_payload as bigint | undefined) ?? 0n), this.o.maxPayload ?? 16 << 20);
  }

  // What its connection tells.

  private attach(link: Connection): void {
    this.terms = link.terms;
    for (const p of this.publishers.values()) this.askPublish(p);
    for (const s of this.subscriptions.values()) this.askSubscribe(s);
    this.requests.resend(link);
  }

  private detach(): void {
    this.requests.disconnected();
    for (const p of this.publishers.values()) p.disconnected();
    for (const s of this.subscriptions.values()) s.disconnected();
  }

  private control(m: Control, link: Connection): void {
    const f = m.fields;
    const room = f.room as bigint;
    switch (m.name) {
      case "ping":
        return link.send(encodeControl("pong", { echo: f.echo }));
      case "pong":
        return;
      case "expiring":
        void this.connections.token().then((token) => this.request("token", { token }, "fail"))
          .catch(() => {}); // the server closes, and says why
        return;
      case "joined":
        return this.subscriptions.get(room)?.joined(f.pub as number, f.account as string);
      case "left":
        return this.subscriptions.get(room)?.left(f.pub as number, f.code as number);
      case "gap":
        return this.subscriptions.get(room)?.gap(f);
      case "count":
        this.publishers.get(room)?.onCount?.(Number(f.subscribers), Number(f.publishers));
        return this.subscriptions.get(room)?.counted(Number(f.subscribers), Number(f.publishers));
      case "ack":
        return this.publishers.get(room)?.acknowledged(f.pub as number, f.dtype as number, f.seq as number);
      case "push_refused":
        return this.publishers.get(room)?.pushRefused(f.code as number, f.pub as number);
      case "closed":
        return this.closed(room, f.code as number);
    }
    this.requests.answer(m);
  }

  /** A room's last word, or that of one's part in it. */
  private closed(room: bigint, code: number): void {
    const subscription = code !== codes.revoked && code !== codes.superseded && code !== codes.moved && code !== codes.recipient_away;
    const publishing = code !== codes.too_slow && code !== codes.replaced;
    if (publishing) this.publishers.get(room)?.closed(code);
    if (subscription) this.subscriptions.get(room)?.end(new ClosedError(formatRoom(room), code));
  }

  // Requests

  private async request(
    name: string, fields: Fields, broke: Broke, ext?: ReadonlyMap<number, Uint8Array>,
  ): Promise<Control> {
    if (this.over) throw this.over;
    return this.requests.ask(this.link, name, fields, broke, ext);
  }

  private ask(name: string, fields: Fields, answered: (m: Control) => void, ext?: ReadonlyMap<number, Uint8Array>): void {
    if (this.link) this.requests.expect(this.link, name, fields, answered, ext); // the next connection begins with it
  }

  private askPublish(p: Publisher): void {
    const link = this.link;
    const ext = p.to === undefined ? undefined : new Map([[2, new TextEncoder().encode(p.to)]]);
    this.ask("publish", { room: p.number, flags: p.counts ? 1 : 0 }, (m) => {
      if (m.name === "refused") p.refused(m.fields.code as number, m.fields.text as string);
      else if (this.link === link) p.take(m.fields, link!);
    }, ext);
  }

  private askSubscribe(s: Subscription): void {
    const inbox = this.inboxes.get(s.number);
    if (!inbox) return this.askRoom(s);
    const link = this.link;
    this.ask("inbox", inbox, (m) => {
      if (this.link !== link || this.subscriptions.get(s.number) !== s) return;
      if (m.name === "refused") s.refused(m.fields.code as number, m.fields.text as string);
      else this.askRoom(s);
    });
  }

  private askRoom(s: Subscription): void {
    const link = this.link;
    const where = s.have();
    if (!where) return;
    const { have, gapped, resumes } = where;
    const ext = new Map<number, Uint8Array>();
    if (gapped.length > 0) ext.set(2, varints(gapped));
    if (resumes) ext.set(6, new Uint8Array());
    this.ask("subscribe", { room: s.number, flags: s.flags, have }, (m) => {
      if (m.name === "refused") s.refused(m.fields.code as number, m.fields.text as string);
      else s.subscribed(m.fields, link!);
    }, ext);
  }

  /** Asks again after a pause, if the connection is still the same then: another one begins with it anyhow. */
  private later(code: number, tries: number, again: () => void): void {
    const link = this.link;
    const soon: [] | [number, number] = code === codes.moved ? [5, 200] : [];
    setTimeout(() => {
      if (link && this.link === link) again();
    }, this.connections.backoff(tries, ...soon));
  }

  /** Asks for a new room, owned by the client's account. It is not repeated when the connection breaks before the answer. */
  async register(o: RoomOptions = {}): Promise<RoomID> {
    const m = await this.request("register", {
      policy: policies.indexOf(o.policy ?? "live"), idle_millis: o.idle ?? 0, expire_millis: o.expire ?? 0, queue_bytes: o.queueBytes ?? 0,
      queue_millis: o.queueAge ?? 0, max_subs: o.maxSubscribers ?? 0,
    }, "fail", keepField(o));
    return formatRoom(m.fields.room as bigint);
  }

  /** Ends a room; only its owner may. It is not repeated when the connection breaks before the answer. */
  async remove(room: RoomID): Promise<void> {
    await this.request("remove", { room: numberOf(room) }, "fail");
  }

  /** Lets an account push into the room; only its owner may. */
  async grant(room: RoomID, account: string): Promise<void> {
    await this.request("grant", { room: numberOf(room), account }, "resend");
  }

  /** Takes a grant back and cuts the account's streams off at once. */
  async revoke(room: RoomID, account: string): Promise<void> {
    await this.request("revoke", { room: numberOf(room), account }, "resend");
  }

  /** Tells what there is to know of a room; anyone who knows its number may ask. */
  async stat(room: RoomID): Promise<Info> {
    const { fields: f } = await this.request("stat", { room: numberOf(room) }, "resend");
    return {
      policy: policies[f.policy as number] ?? "live", owner: f.owner as string, subscribers: Number(f.subscribers), publishers: Number(f.publishers),
      frames: f.frames as bigint, bytes: f.bytes as bigint, ageMillis: Number(f.age_millis), idleMillis: Number(f.idle_millis),
    };
  }

  /** Makes the client a publisher of the room, which takes its owner or an account that the owner granted. One for a room at a time. */
  publish(room: RoomID, o: PublishOptions = {}): Promise<Publisher> {
    return this.publisher(numberOf(room), undefined, o);
  }

  /** Makes the client a publisher of an account's inbox; the errors are those of {@link sendTo}. One for an account at a time. */
  publishTo(account: string, o: PublishOptions = {}): Promise<Publisher> {
    return this.publisher(inboxOf(named(account)), account, o);
  }

  private publisher(number: bigint, to: string | undefined, o: PublishOptions): Promise<Publisher> {
    const room = formatRoom(number);
    if (this.over) return Promise.reject(this.over);
    if (this.publishers.has(number)) return Promise.reject(new Error(`already publishing into room ${room}`));
    const p: Publisher = new Publisher(room, number, to, o.counts ?? false, {
      ask: (_, later) => (later ? this.later(later.code, later.tries, () => this.askPublish(p)) : this.askPublish(p)),
      unpublish: async () => void (await this.request("unpublish", { room: number }, "settle")),
      forget: () => void (this.publishers.get(number) === p && this.publishers.delete(number)),
    }, () => this.maxPayload);
    this.publishers.set(number, p);
    this.askPublish(p);
    return p.opened;
  }

  /**
   * Sends one message to an account, as a stream of that dtype, and waits until it has arrived: in a lossless inbox until every session of the
   * recipient has consumed it. A RefusedError says that nothing was sent: `not_accepted`, the account does not accept this one, has no inbox open, or
   * does not exist; `recipient_away`, it accepts and is not there; `not_allowed`, the client's token does not let it. A ClosedError says that the
   * recipient went away, or blocked the client, before the message had arrived. The client keeps a publisher for the account.
   */
  async sendTo(account: string, dtype: number, payload: Uint8Array): Promise<void> {
    const number = inboxOf(named(account));
    const p = await (this.publishers.get(number)?.opened ?? this.publishTo(account));
    await p.push(dtype, "delta", payload);
    await p.flush();
  }

  /**
   * Opens the account's inbox: a subscription to what other accounts send to it, `publisher` being the sender, which the server vouches for. It is
   * opened again after a reconnection. A client has one at a time.
   */
  async inbox(o: InboxOptions = {}): Promise<Subscription> {
    const number = inboxOf(this.o.account);
    const s = this.subscription(number, {}, { room: number, policy: policies.indexOf(o.policy ?? "live"), accept: [...(o.accept ?? [])], block: [...(o.block ?? [])] });
    return s.opened;
  }

  /** Lets an account, or {@link everyone}, send to the inbox, which some session of the client's account has open. */
  accept(account: string): Promise<void> {
    return this.listed(account, "grant");
  }

  /** Forbids an account, or {@link everyone}, to send to the inbox, and cuts off what it sends. */
  block(account: string): Promise<void> {
    return this.listed(account, "revoke");
  }

  private async listed(account: string, how: "grant" | "revoke"): Promise<void> {
    const number = inboxOf(this.o.account);
    await this.request(how, { room: number, account }, "resend");
    const inbox = this.inboxes.get(number);
    if (!inbox) return;
    const without = (list: unknown): string[] => (list as string[]).filter((a) => a !== account);
    const [accept, block] = [without(inbox.accept), without(inbox.block)];
    (how === "grant" ? accept : block).push(account);
    this.inboxes.set(number, { ...inbox, accept, block });
  }

  /** Asks for all streams of a room: anyone who knows its number may. One for a room at a time. */
  async subscribe(room: RoomID, o: SubscribeOptions = {}): Promise<Subscription> {
    return this.subscription(numberOf(room), o).opened;
  }

  private subscription(number: bigint, o: SubscribeOptions, inbox?: Fields): Subscription {
    const room = formatRoom(number);
    if (this.over) throw this.over;
    if (this.subscriptions.has(number)) throw new Error(`already subscribed to room ${room}`);
    const bounds = { receive: this.o.receiveBuffer ?? 4 << 20, payload: this.o.maxPayload ?? 16 << 20, assembly: this.o.assemblyBuffer ?? 64 << 20 };
    const s: Subscription = new Subscription(room, number, (o.noEcho ? 1 : 0) | (o.counts ? 2 : 0), {
      ask: (_, later) => (later ? this.later(later.code, later.tries, () => this.askSubscribe(s)) : this.askSubscribe(s)),
      acknowledge: (_, pub, dtype, seq) => this.link?.send(encodeControl("ack", { room: number, pub, dtype, seq })),
      unsubscribe: async () => void (await this.request("unsubscribe", { room: number }, "settle")),
      forget: () => {
        if (this.subscriptions.get(number) !== s) return;
        this.subscriptions.delete(number);
        this.inboxes.delete(number);
      },
    }, bounds);
    this.subscriptions.set(number, s);
    if (inbox) this.inboxes.set(number, inbox);
    this.askSubscribe(s);
    return s;
  }

  /**
   * Ends the client: it says goodbye to the rooms that it is in, so that nobody waits for it, and closes. Flush publishers before. Without `goodbye` it
   * closes at once, and what is on its way to it is given up: on a path that is full the answers stand behind that.
   */
  async close({ goodbye = true } = {}): Promise<void> {
    if (this.over) return;
    if (!goodbye) return this.end(new ClientClosedError());
    const goodbyes = [...this.subscriptions.values()].map((s) => s.close());
    let timer: ReturnType<typeof setTimeout> | undefined;
    await Promise.race([Promise.all(goodbyes), new Promise((resolve) => (timer = setTimeout(resolve, goodbyeMillis)))]);
    clearTimeout(timer);
    this.end(new ClientClosedError());
  }

  private end(why: Error): void {
    this.over = why;
    this.requests.close(why);
    for (const p of [...this.publishers.values()]) p.end(why);
    for (const s of [...this.subscriptions.values()]) s.end(why);
    this.connections.stop();
  }
}

/** Connects to one of the servers: see {@link Client.dial}. */
export function dial(o: Options): Promise<Client> {
  return Client.dial(o);
}

function numberOf(room: RoomID): bigint {
  const n = parseRoom(room);
  if (n === undefined) throw new TypeError(`${JSON.stringify(room)} is no room number`);
  return n;
}

/** Refuses what is no single account's name. */
function named(account: string): string {
  if (account === "" || account === everyone) throw new TypeError(`${JSON.stringify(account)} is no account's name`);
  return account;
}

/** The number of an account's inbox: see PROTOCOL.md, section "Inboxes". */
export function inboxOf(account: string): bigint {
  const sum = sha256(new TextEncoder().encode(`timedge inbox\0${account}`));
  return new DataView(sum.buffer, sum.byteOffset).getBigUint64(0) || 1n;
}

/** The optional field of register that says what a room keeps; undefined if that is nothing. */
export function keepField(o: RoomOptions): ReadonlyMap<number, Uint8Array> | undefined {
  const fields = [o.idleUnlessOccupied ? 1 : 0, o.history?.bytes ?? 0, o.history?.age ?? 0];
  if (!fields.every((v) => Number.isSafeInteger(v) && v >= 0)) throw new EncodeError("history: not a number of bytes or ms");
  return fields.some((v) => v !== 0) ? new Map([[4, varints(fields)]]) : undefined;
}

function varints(list: readonly number[]): Uint8Array {
  const out: number[] = [];
  for (let v of list) {
    for (; v >= 0x80; v = Math.floor(v / 0x80)) out.push((v % 0x80) | 0x80);
    out.push(v);
  }
  return Uint8Array.from(out);
}
