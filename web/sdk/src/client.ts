import { sha256 } from "@noble/hashes/sha2.js";
import { answerWithin, EncodeError, encodeControl, type Control, type Fields } from "./codec.js";
import { codes, mayRetry, policies, ProtocolError } from "./codes.js";
import { Connection } from "./connection.js";
import { ClientClosedError, ClosedError, ConnectionError } from "./errors.js";
import { everyone, type InboxOptions, type Info, type Options, type PublishOptions, type RoomOptions, type State, type SubscribeOptions } from "./options.js";
import { Publisher } from "./publisher.js";
import { Requests } from "./requests.js";
import { formatRoom, parseRoom, type RoomID } from "./room.js";
import { Search } from "./search.js";
import { SilenceWatch, silenceOf, type Spare } from "./silence.js";
import { Subscription } from "./subscription.js";
import { webSocket, type Dialer } from "./transport.js";

const capToken = 1n;

/** How long a connection must have stood for the next one to be tried without a pause, ms. */
const steadyMillis = 1000;

/** How long a client that is closed waits for the answers to its goodbyes, ms. */
const goodbyeMillis = 1000;

/**
 * Client is one connection to one server at a time, and what is done over it: requests, a Publisher and a Subscription for each room. It
 * reconnects by itself and takes these along. Start at {@link dial}.
 */
export class Client {
  private readonly servers: string[];
  private readonly dialer: Dialer;
  private readonly instance: bigint;
  private readonly publishers = new Map<bigint, Publisher>();
  private readonly subscriptions = new Map<bigint, Subscription>();
  private readonly inboxes = new Map<bigint, Fields>(); // of the subscriptions, those that are inboxes, and how they are opened
  private readonly requests = new Requests();
  private link: Connection | undefined;
  private welcome: Fields = {};
  private over: Error | undefined;
  private stopped = false;
  private searching: Search | undefined;
  private rounds = 0; // of the servers, since a connection last stood for a while

  private constructor(private readonly o: Options) {
    this.servers = typeof o.servers === "string" ? [o.servers] : [...o.servers];
    if (this.servers.length === 0) throw new TypeError("no servers are named");
    this.dialer = o.dialer ?? webSocket();
    this.instance = o.instance ?? crypto.getRandomValues(new BigUint64Array(1))[0]!;
  }

  /**
   * Connects to one of the servers, each being tried once, in random order. From then on the client reconnects by itself, for ever, until it is
   * closed or a server says that connecting again is of no use.
   */
  static async dial(o: Options): Promise<Client> {
    const c = new Client(o);
    c.state({ phase: "connecting" });
    const search = c.search();
    try {
      void c.run(await search.round(c.order(), o.dialTimeout ?? answerWithin));
      return c;
    } finally {
      search.end();
    }
  }

  /** Who the client is; "" for a guest. */
  get account(): string {
    return this.o.account;
  }

  /** The node that the client is connected to; undefined while it is not. */
  get node(): string | undefined {
    return this.link && (this.welcome.node as string);
  }

  /** The largest message that the server takes, bytes. */
  get maxPayload(): number {
    return Math.min(Number((this.welcome.max_payload as bigint | undefined) ?? 0n), this.o.maxPayload ?? 16 << 20);
  }

  // Connections

  private state(s: State): void {
    this.o.onState?.(s);
  }

  /** Looks for a server; there is one search at a time beside that of a silent connection. */
  private search(): Search {
    const [min, max] = [this.o.backoffMin ?? 100, this.o.backoffMax ?? 10_000];
    return (this.searching = new Search((server, signal) => this.attempt(server, signal), {
      dial: this.o.dialTimeout ?? answerWithin, silence: this.o.silence, pause: (n) => backoff(n, min, max),
    }));
  }

  /** The servers in random order, one of them last. */
  private order(last = ""): string[] {
    return shuffle([...this.servers]).sort((a, b) => Number(a === last) - Number(b === last));
  }

  private async token(): Promise<Uint8Array> {
    const t = typeof this.o.token === "function" ? await this.o.token() : (this.o.token ?? "");
    return new TextEncoder().encode(t);
  }

  private async attempt(server: string, signal: AbortSignal): Promise<Connection> {
    const hello = { account: this.o.account, token: await this.token(), instance: this.instance, caps: capToken };
    if (signal.aborted) throw new ClientClosedError();
    const link = new Connection(server, this.dialer, hello);
    const giveUp = (): void => link.close();
    const timeout = setTimeout(giveUp, this.o.dialTimeout ?? answerWithin);
    signal.addEventListener("abort", giveUp);
    try {
      await link.welcome;
    } catch (e) {
      throw final(e as Error) ? new ConnectionError(server, (e as ProtocolError).code, (e as Error).message) : e;
    } finally {
      clearTimeout(timeout);
      signal.removeEventListener("abort", giveUp);
    }
    return link;
  }

  private async run(link: Connection): Promise<void> {
    for (;;) {
      const since = performance.now();
      const { why, spare } = await this.serve(link);
      if (this.stopped) return spare?.search.end();
      this.state({ phase: "disconnected", why: why.message });
      if (final(why)) return this.end(new ConnectionError(link.server, (why as ProtocolError).code, why.message));
      this.state({ phase: "connecting" });
      try {
        link = await this.reconnect(link, spare, why, performance.now() - since);
      } catch (e) {
        if (!this.stopped) this.end(e as Error);
        return;
      }
    }
  }

  /**
   * Follows the loss of a connection, which stood for a while, ms. The servers are tried at once, the one lost last, and not before a pause if it closed the
   * connection by a word of its own, or is silent. What was begun while it was silent goes on.
   */
  private async reconnect(link: Connection, spare: Spare | undefined, why: Error, stood: number): Promise<Connection> {
    if (stood >= (this.o.backoffMax ?? 10_000)) this.rounds = 0;
    const search = (this.searching = spare?.search ?? this.search());
    const order = (): string[] => this.order(link.server);
    try {
      if (spare) {
        this.rounds++;
        return (await spare.found) ?? (await search.until(order, this.rounds));
      }
      const first = why instanceof ProtocolError ? order().filter((s) => s !== link.server) : order();
      if (first.length > 0 && (this.rounds === 0 || stood >= steadyMillis)) {
        this.rounds++;
        const next = await search.round(first).catch((e: Error) => {
          if (e instanceof ConnectionError || this.stopped) throw e;
        });
        if (next) return next;
      }
      return await search.until(order, this.rounds++);
    } finally {
      search.end();
    }
  }

  /** Uses a connection until it is over, and returns why it is; and the search for another one, if the server says nothing any more. */
  private serve(link: Connection): Promise<{ why: Error; spare?: Spare | undefined }> {
    return new Promise((resolve) => {
      this.link = link;
      this.welcome = link.terms;
      let spare: Spare | undefined;
      // The silent one comes last: a balancer of that name may have others behind it, and the server itself may have lost but the connection.
      const look = (): Spare => {
        const search = this.search();
        return { search, found: search.round(this.order(link.server)).catch(() => undefined) };
      };
      const watch = new SilenceWatch(link, silenceOf(this.welcome.ping_millis as number, this.o.silence), look, (s) => {
        spare = s;
        link.close(codes.silent, "heard nothing");
      });
      link.listen({
        control: (m) => this.control(m, link),
        stream: (f) => this.subscriptions.get(f.room)?.stream(f),
        closed: (code, text) => {
          watch.stop();
          this.down();
          resolve({ why: code ? new ProtocolError(code, text) : new Error(text), spare });
        },
      });
      this.state({ phase: "connected", server: link.server, node: this.welcome.node as string });
      if (this.stopped) return link.close();
      for (const p of this.publishers.values()) this.askPublish(p);
      for (const s of this.subscriptions.values()) this.askSubscribe(s);
      this.requests.repeat(link);
    });
  }

  private down(): void {
    this.link = undefined;
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
      case "go_away":
        this.state({ phase: "draining", server: link.server });
        if (this.servers.length > 1) setTimeout(() => link.close(), Math.random() * (f.within_millis as number));
        return;
      case "expiring":
        void this.token().then((token) => this.request("token", { token }, false)).catch(() => {}); // the server closes, and says why
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

  private async request(name: string, fields: Fields, repeat: boolean, ext?: ReadonlyMap<number, Uint8Array>): Promise<Control> {
    if (this.over) throw this.over;
    return this.requests.ask(this.link, name, fields, repeat, ext);
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
    const min = code === codes.moved ? 5 : (this.o.backoffMin ?? 100);
    setTimeout(() => {
      if (link && this.link === link) again();
    }, backoff(tries, min, code === codes.moved ? 200 : (this.o.backoffMax ?? 10_000)));
  }

  /** Asks for a new room, owned by the client's account. It is not repeated when the connection breaks before the answer. */
  async register(o: RoomOptions = {}): Promise<RoomID> {
    const m = await this.request("register", {
      policy: policies.indexOf(o.policy ?? "live"), idle_millis: o.idle ?? 0, expire_millis: o.expire ?? 0, queue_bytes: o.queueBytes ?? 0,
      queue_millis: o.queueAge ?? 0, max_subs: o.maxSubscribers ?? 0,
    }, false, keepField(o));
    return formatRoom(m.fields.room as bigint);
  }

  /** Ends a room; only its owner may. It is not repeated when the connection breaks before the answer. */
  async remove(room: RoomID): Promise<void> {
    await this.request("remove", { room: numberOf(room) }, false);
  }

  /** Lets an account push into the room; only its owner may. */
  async grant(room: RoomID, account: string): Promise<void> {
    await this.request("grant", { room: numberOf(room), account }, true);
  }

  /** Takes a grant back and cuts the account's streams off at once. */
  async revoke(room: RoomID, account: string): Promise<void> {
    await this.request("revoke", { room: numberOf(room), account }, true);
  }

  /** Tells what there is to know of a room; anyone who knows its number may ask. */
  async stat(room: RoomID): Promise<Info> {
    const { fields: f } = await this.request("stat", { room: numberOf(room) }, true);
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
      unpublish: async () => void (await this.request("unpublish", { room: number }, false)),
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
    await this.request(how, { room: number, account }, true);
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
      unsubscribe: async () => void (await this.request("unsubscribe", { room: number }, false)),
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
    this.stopped = true;
    this.requests.close(why);
    for (const p of [...this.publishers.values()]) p.end(why);
    for (const s of [...this.subscriptions.values()]) s.end(why);
    this.searching?.end();
    this.link?.close();
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

/** After these codes connecting again helps, too: the token may be another one, and what took too long need not again. */
const passing: readonly number[] = [codes.token_expired, codes.token_revoked, codes.silent, codes.hello_timeout];

/** Reports whether an error is the server's word that connecting again is of no use. */
function final(e: Error): boolean {
  return e instanceof ProtocolError && !mayRetry(e.code) && !passing.includes(e.code);
}

function backoff(tries: number, min: number, max: number): number {
  return Math.random() * Math.min(max, min * 2 ** Math.min(tries, 16));
}

function shuffle<T>(list: T[]): T[] {
  for (let i = list.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [list[i], list[j]] = [list[j]!, list[i]!];
  }
  return list;
}
