// What callers wish for, and what they are told: no behaviour.

import type { Policy } from "./codes.js";
import type { Dialer } from "./transport.js";

/** Where to connect, as whom, and within which bounds. */
export interface Options {
  /** Addresses of one or several nodes, of which one is used: ws://host/path, wss://host/path, or what {@link dialer} takes. */
  servers: string | readonly string[];
  account: string;
  /** The proof of the account, "" where the server asks for none; or what returns it, asked before each connection and when it is about to end. */
  token?: string | (() => string | Promise<string>);
  /** Tells this client from others of the account, over all its connections; a page that keeps it over a reload goes on where it was. Default: random. */
  instance?: bigint;
  /** Default: WebSocket. */
  dialer?: Dialer;
  /** Told of connections made and lost. */
  onState?: (s: State) => void;
  /** How long one attempt may take, ms. Default: 15000, for which a server that many come to at once may have them wait; who gives up before comes again behind all others. */
  dialTimeout?: number;
  /**
   * How long a server may say nothing before the connection is given up, ms; from half of it on the client pings. When five eighths of it are over another server is
   * connected to, also by the same name where there is no other, and used at once if the silent one has still said nothing. Default, and at most: twice the server's
   * ping time. About 1000 has a frozen server found out soon. While servers are tried, the next one is asked after a quarter of it, 5 s at most, beside one that has
   * taken the connection and says nothing.
   */
  silence?: number;
  /** Bounds on the random wait before going round the servers again, ms. Defaults: 100 and 10000. */
  backoffMin?: number;
  backoffMax?: number;
  /** Bytes held of a subscription whose events are not taken. Default: 4 MiB. */
  receiveBuffer?: number;
  /** The largest message taken, whatever a server allows, bytes. Default: 16 MiB. */
  maxPayload?: number;
  /** Bytes held of unfinished messages of a subscription. Default: 64 MiB. */
  assemblyBuffer?: number;
}

export type State = { phase: "connecting" } | { phase: "connected"; server: string; node: string } | { phase: "disconnected"; why: string } | { phase: "draining"; server: string };

/** The wishes for a new room; what is left out is the server's to choose. Times in ms, sizes in bytes. */
export interface RoomOptions {
  policy?: Policy;
  idle?: number;
  expire?: number;
  queueBytes?: number;
  queueAge?: number;
  maxSubscribers?: number;
  /** How far back in each stream those begin who join late, in bytes of messages (20 more for each) and in time; with both, the nearer one counts. */
  history?: { bytes?: number; age?: number };
  /** The room does not end by `idle` while it has a subscriber. */
  idleUnlessOccupied?: boolean;
}

export interface PublishOptions {
  /** Tell how many are in the room, by Publisher.onCount. */
  counts?: boolean;
}

export interface SubscribeOptions {
  /** Leave out what this client itself publishes. */
  noEcho?: boolean;
  /** Send count events. */
  counts?: boolean;
}

/** The wishes for the account's inbox. */
export interface InboxOptions {
  /** What happens when one of the account's sessions falls behind. All of them have one inbox, which is open under one policy. */
  policy?: Policy;
  /**
   * Accounts, or {@link everyone}. They count where the inbox's list says nothing of an account yet, so that opening it does not undo what another
   * session of the account has said. Nobody is accepted by default.
   */
  accept?: readonly string[];
  block?: readonly string[];
}

/** What there is to know of a room. */
export interface Info {
  policy: Policy;
  owner: string;
  subscribers: number;
  publishers: number;
  frames: bigint;
  bytes: bigint;
  ageMillis: number;
  idleMillis: number;
}

/** Stands for all accounts where one is granted or accepted. */
export const everyone = "*";
