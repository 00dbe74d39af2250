// A server in memory that a test plays: it says what the test has it say, and tells what the client asked.

import { encodeControl, encodeStream, frameLength, isStream, parseControl, type Control, type Fields } from "../src/codec.js";
import type { Dialer, Event, Receiver, Subscription } from "../src/index.js";

const preface = Uint8Array.from([0x54, 0x44, 0x47, 0x45, 1, 1, 1, 0]);
export const room = 0x1234n;

/** Lets all go on that waits for nothing but its turn. */
export const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** One connection of a client, as its server has it. */
export class Peer {
  open = true;
  /** What the client has sent, its hello being the first. */
  readonly asked: Control[] = [];

  constructor(readonly server: string, private readonly to: Receiver) {}

  /** @internal */
  take(bytes: Uint8Array): void {
    let b = bytes[0] === preface[0] ? bytes.subarray(preface.length) : bytes;
    for (let n; b.length > 0; b = b.subarray(n)) {
      n = frameLength(b);
      if (!isStream(b.subarray(0, n))) this.asked.push(parseControl(b.subarray(0, n)));
    }
  }

  send(name: string, fields: Fields): void {
    if (!this.open) return;
    if (name === "error") this.to.received(preface); // it is for a hello that is turned away
    this.to.received(encodeControl(name, fields));
  }

  welcome(pingMillis = 20_000): void {
    this.to.received(preface);
    this.send("welcome", { session: 1n, node: this.server, caps: 0n, max_payload: 1n << 20n, ping_millis: pingMillis });
  }

  /** Sends a frame of one byte. */
  frame(pub: number, dtype: number, seq: number, text: string, flags = 0): void {
    this.to.received(encodeStream({ flags, room, pub, dtype, seq, payload: new TextEncoder().encode(text) }));
  }

  joined(pub: number, account: string): void {
    this.send("joined", { room, pub, account });
  }

  left(pub: number, code: number): void {
    this.send("left", { room, pub, code });
  }

  /** Answers the newest subscribe, and returns it. */
  async subscribed(policy: number, window = 0): Promise<Control> {
    await turn();
    const m = this.asked.findLast((x) => x.name === "subscribe");
    if (!m) throw new Error("nobody subscribes");
    this.send("subscribed", { req: m.fields.req, room, policy, window });
    await turn();
    return m;
  }

  /** What the client has acknowledged on this connection, as pub/dtype/seq. */
  get acks(): string[] {
    return this.asked.filter((m) => m.name === "ack").map(({ fields: f }) => `${f.pub}/${f.dtype}/${f.seq}`);
  }

  break(): void {
    this.open = false;
    this.to.closed("broken");
  }
}

/** Servers whose connections the test is given, in the order in which they are made. */
export class Scripted {
  readonly peers: Peer[] = [];
  /** All that were dialed. */
  readonly tried: string[] = [];
  /** Those whom nobody reaches. */
  refuse = new Set<string>();
  readonly dialer: Dialer = (server, receiver) => {
    this.tried.push(server);
    if (this.refuse.has(server)) {
      queueMicrotask(() => receiver.closed("nobody listens"));
      return { send: () => {}, close: () => {} };
    }
    const p = new Peer(server, receiver);
    this.peers.push(p);
    queueMicrotask(() => receiver.opened());
    return {
      send: (bytes) => p.take(bytes),
      close: () => {
        p.open = false;
        receiver.closed("closed here");
      },
    };
  };

  /** Waits for the n-th connection, from 0. */
  async accept(n: number): Promise<Peer> {
    while (!this.peers[n]) await turn();
    return this.peers[n];
  }
}

/** Takes all events that wait, each as a line of words. */
export async function told(s: Subscription): Promise<string[]> {
  const out: string[] = [];
  while (s.pending > 0) out.push(words((await s.next())!));
  return out;
}

function words(e: Event): string {
  switch (e.type) {
    case "message":
      return `message ${e.first}-${e.last} ${new TextDecoder().decode(e.payload)}`;
    case "gap":
      return `gap ${e.from}-${e.to} ${e.reason}`;
    case "joined":
    case "left":
      return `${e.type} ${e.account}`;
    case "fault":
      return `fault ${e.error.message}`;
    default:
      return e.type;
  }
}
