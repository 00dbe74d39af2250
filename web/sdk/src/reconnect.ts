import { answerWithin, type Control, type Fields, type StreamFrame } from "./codec.js";
import { codes, mayRetry, ProtocolError } from "./codes.js";
import { Connection } from "./connection.js";
import { ClientClosedError, ConnectionError } from "./errors.js";
import type { Options, State } from "./options.js";
import { Search } from "./search.js";
import { letGo, SilenceWatch, silenceOf, type Spare } from "./silence.js";
import { webSocket, type Dialer } from "./transport.js";

const capToken = 1n;

/** How long a connection must have stood for the next one to be tried without a pause, ms. */
const steadyMillis = 1000;

/** How many of the addresses are tried that a server which asks to leave names. */
const maxElsewhere = 16;

/** What a Reconnector tells of the connection in use. */
export interface Attached {
  /** Takes up again on a new connection what is going on. */
  attach(link: Connection): void;
  /** The connection is lost, or left. */
  detach(): void;
  control(m: Control, link: Connection): void;
  stream(f: StreamFrame): void;
  /** Fulfilled when no request is out that must not be sent twice; new ones wait for the next connection. */
  settled(): Promise<void>;
  /** No connection is looked for any more. */
  ended(why: Error): void;
}

/** Why a connection is over, and what has been begun in its place. */
interface Lost {
  why: Error;
  spare: Spare | undefined;
  /** It was left, for the one that the spare has found. */
  left: boolean;
}

/** Reconnector keeps a client connected to one of its servers, or to one that a server names which asks to leave. */
export class Reconnector {
  /** The connection in use; undefined while there is none. */
  link: Connection | undefined;
  private readonly servers: string[];
  private readonly dialer: Dialer;
  private readonly instance: bigint;
  private readonly backoffMin: number;
  private readonly backoffMax: number;
  private readonly patience: number; // of one attempt, ms
  private searching: Search | undefined;
  private stopped = false;
  private rounds = 0; // of the servers, since a connection last stood for a while

  constructor(private readonly o: Options, private readonly user: Attached) {
    this.servers = typeof o.servers === "string" ? [o.servers] : [...o.servers];
    if (this.servers.length === 0) throw new TypeError("no servers are named");
    this.dialer = o.dialer ?? webSocket();
    this.instance = o.instance ?? crypto.getRandomValues(new BigUint64Array(1))[0]!;
    [this.backoffMin, this.backoffMax] = [o.backoffMin ?? 100, o.backoffMax ?? 10_000];
    this.patience = o.dialTimeout ?? answerWithin;
  }

  /** Connects to one of the servers, each being tried once; from then on it reconnects by itself. */
  async dial(): Promise<void> {
    this.state({ phase: "connecting" });
    const search = this.search();
    try {
      void this.run(await search.round(this.order(), this.patience));
    } finally {
      search.end();
    }
  }

  /** Ends the connection, and the search for one. */
  stop(): void {
    this.stopped = true;
    this.searching?.end();
    this.link?.close();
  }

  /** Returns the proof of the account. */
  async token(): Promise<Uint8Array> {
    const t = typeof this.o.token === "function" ? await this.o.token() : (this.o.token ?? "");
    return new TextEncoder().encode(t);
  }

  /** Returns how long to wait before something is tried for the n-th time, n from 0, ms: a random time, and one that grows. */
  backoff(n: number, min = this.backoffMin, max = this.backoffMax): number {
    return Math.random() * Math.min(max, min * 2 ** Math.min(n, 16));
  }

  private state(s: State): void {
    this.o.onState?.(s);
  }

  /** Looks for a server; there is one search at a time beside that of a silent connection. */
  private search(): Search {
    return (this.searching = new Search((server, signal) => this.attempt(server, signal), {
      dial: this.patience, silence: this.o.silence, pause: (n) => this.backoff(n),
    }));
  }

  /** The servers in random order, one of them last. */
  private order(last = ""): string[] {
    return shuffle([...this.servers]).sort((a, b) => Number(a === last) - Number(b === last));
  }

  private async attempt(server: string, signal: AbortSignal): Promise<Connection> {
    const hello = { account: this.o.account, token: await this.token(), instance: this.instance, caps: capToken };
    if (signal.aborted) throw new ClientClosedError();
    const link = new Connection(server, this.dialer, hello);
    const giveUp = (): void => link.close();
    const timeout = setTimeout(giveUp, this.patience);
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
      const lost = await this.serve(link);
      if (this.stopped) return lost.spare && letGo(lost.spare);
      if (!lost.left) {
        this.state({ phase: "disconnected", why: lost.why.message });
        if (final(lost.why)) {
          if (lost.spare) letGo(lost.spare);
          return this.user.ended(new ConnectionError(link.server, (lost.why as ProtocolError).code, lost.why.message));
        }
        this.state({ phase: "connecting" });
      }
      try {
        link = await this.reconnect(link, lost, performance.now() - since);
      } catch (e) {
        if (!this.stopped) this.user.ended(e as Error);
        return;
      }
    }
  }

  /** Uses a connection until it is over, and returns why it is. */
  private serve(link: Connection): Promise<Lost> {
    return new Promise((resolve) => {
      this.link = link;
      let spare: Spare | undefined;
      let [leaving, left] = [false, false];
      let gone = (): void => {};
      const broken = new Promise<void>((r) => (gone = r));
      // The silent one comes last: a balancer of that name may have others behind it, and the server itself may have
      // lost but the connection.
      const look = (): Spare => {
        const search = this.search();
        return { search, found: search.round(this.order(link.server)).catch(() => undefined) };
      };
      const silence = silenceOf(link.terms.ping_millis as number, this.o.silence);
      const watch = new SilenceWatch(link, silence, look, (s) => {
        spare = s;
        link.close(codes.silent, "heard nothing");
      });
      const away = async (m: Fields): Promise<void> => {
        leaving = true;
        watch.stop(); // another one is looked for anyhow
        spare = this.leave(link, m, broken);
        const next = await spare.found.catch(() => undefined);
        if (next) await within((m.within_millis as number) / 4, Promise.race([this.user.settled(), broken]));
        left = next !== undefined;
        link.close(0, "the server has asked to leave");
      };
      this.state({ phase: "connected", server: link.server, node: link.terms.node as string });
      link.listen({
        control: (m) => {
          if (m.name !== "go_away") this.user.control(m, link);
          else if (!leaving) void away(m.fields);
        },
        stream: (f) => this.user.stream(f),
        closed: (code, text) => {
          watch.stop();
          this.link = undefined;
          gone();
          this.user.detach();
          resolve({ why: code ? new ProtocolError(code, text) : new Error(text), spare, left });
        },
      });
      if (this.stopped) return link.close();
      if (this.link === link) this.user.attach(link);
    });
  }

  /** Follows a go-away: it looks for another server while the connection still works, first where that one says. */
  private leave(link: Connection, m: Fields, broken: Promise<void>): Spare {
    this.state({ phase: "draining", server: link.server });
    const named = shuffle([...(m.addrs as string[])]).slice(0, maxElsewhere);
    const elsewhere = named.map((a) => sibling(link.server, a)).filter((s) => s !== undefined);
    const order = (): string[] => [...elsewhere, ...this.order(link.server)];
    const search = this.search();
    const find = async (): Promise<Connection> => {
      await within((Math.random() * (m.within_millis as number)) / 2, broken);
      if (this.stopped) throw new ClientClosedError();
      if (this.rounds > 0) return search.until(order, this.rounds);
      return search.round(order()).catch((e: Error) => {
        if (e instanceof ConnectionError || this.stopped) throw e;
        return search.until(order);
      });
    };
    return { search, found: find() };
  }

  /**
   * Follows the loss of a connection, which stood for a while, ms. The servers are tried at once, the one lost last, and not before a pause if it closed the
   * connection by a word of its own, or is silent. What was begun while it was in use goes on.
   */
  private async reconnect(link: Connection, { why, spare }: Lost, stood: number): Promise<Connection> {
    if (stood >= this.backoffMax) this.rounds = 0;
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
}

/**
 * Returns the server at an address that a go_away names, host:port, as one reaches the server that names it: by the same scheme and path. So nobody
 * who has come by TLS goes on without. Undefined: it is no address.
 */
export function sibling(server: string, address: string): string | undefined {
  if (!/^(\[[0-9a-fA-F:.]+\]|[^\s[\]:/?#@]+):\d{1,5}$/.test(address)) return undefined;
  const [, scheme, rest] = /^([a-z]+:\/\/)[^/?#]*(.*)$/.exec(server) ?? [];
  return scheme === undefined ? address : `${scheme}${address}${rest}`;
}

/** Waits for something, for some ms at most. */
async function within(ms: number, something: Promise<void>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  await Promise.race([something, new Promise((resolve) => (timer = setTimeout(resolve, ms)))]);
  clearTimeout(timer);
}

/** After these codes connecting again helps, too: the token may be another one, and what took too long need not again. */
const passing: readonly number[] = [codes.token_expired, codes.token_revoked, codes.silent, codes.hello_timeout];

/** Reports whether an error is the server's word that connecting again is of no use. */
function final(e: Error): boolean {
  return e instanceof ProtocolError && !mayRetry(e.code) && !passing.includes(e.code);
}

function shuffle<T>(list: T[]): T[] {
  for (let i = list.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [list[i], list[j]] = [list[j]!, list[i]!];
  }
  return list;
}
