// Random clients in random rooms over WebSocket connections that break at random places, held against a model: every frame of every stream is
// delivered in order, once, as it was pushed, or announced as missing; in a lossless room nothing is missing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { maxPiece } from "../src/codec.js";
import { dial, everyone, webSocket, type Client, type Kind, type Policy, type Publisher, type RoomID } from "../src/index.js";
import { Proxy, serve } from "./server.js";

const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
const rounds = Number(process.env.ROUNDS ?? 1);

/** A generator of numbers below n, from a seed: xorshift. */
function generator(state: number): (n: number) => number {
  state ||= 1;
  return (n) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % n;
  };
}

interface Pushed {
  kind: Kind;
  size: number;
  first: number;
  last: number;
}

/** What was pushed into a room, by publisher and dtype. */
class Model {
  readonly streams = new Map<string, Pushed[]>();

  push(stream: string, kind: Kind, size: number): number {
    const list = this.streams.get(stream) ?? [];
    this.streams.set(stream, list);
    const first = (list.at(-1)?.last ?? 0) + 1;
    list.push({ kind, size, first, last: first + Math.max(1, Math.ceil(size / maxPiece)) - 1 });
    return list.length - 1;
  }
}

function payload(index: number, size: number): Uint8Array {
  const b = new Uint8Array(size);
  for (let i = 0; i < size; i++) b[i] = index * 31 + i * 7;
  return b;
}

const pause = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Reads a room until it has all that was pushed; leaves it and comes back now and then. */
async function read(client: Client, room: RoomID, policy: Policy, model: Model, random: (n: number) => number, done: () => boolean, subscribed: () => void): Promise<{ messages: number; gaps: number }> {
  const told = { messages: 0, gaps: 0 };
  for (;;) {
    const subscription = await client.subscribe(room);
    subscribed();
    const next = new Map<string, number>(); // frames expected
    const names = new Map<number, string>();
    const gone = new Set<string>(); // accounts; they come once each
    const leave = policy === "lossless" || done() ? Infinity : 20 + random(200);
    const all = (): boolean => done() && [...model.streams].every(([s, list]) => next.get(s) === list.at(-1)!.last + 1);
    for (let events = 0; events < leave && !all(); events++) {
      const e = await subscription.next();
      assert.ok(e, "the subscription has ended");
      if (random(8) === 0) await pause();
      if (random(100) === 0) for (let i = 0; i < 50; i++) await pause();
      if (e.type === "joined") names.set(e.pub, e.account);
      if (e.type === "joined") assert.ok(!gone.has(e.account), `${e.account} is told of once more`);
      if (e.type === "left") {
        assert.ok(!gone.has(e.account), `${e.account} leaves once more`);
        gone.add(e.account);
        if (policy === "lossless") for (const [s, list] of model.streams) if (s.startsWith(`${e.account}/`)) assert.equal(next.get(s), list.at(-1)!.last + 1, `${s} is not whole`);
      }
      if (e.type === "fault") throw e.error;
      if (e.type !== "message" && e.type !== "gap") continue;
      const stream = `${names.get(e.pub)}/${e.dtype}`;
      const expected = next.get(stream) ?? 1;
      const [from, to] = e.type === "gap" ? [e.interrupted || e.from, e.to] : [e.first, e.last]; // with what had arrived of a message that is cut off
      assert.equal(from, expected, `${policy} ${stream}: ${e.type} begins at ${from}, and ${expected} was to come`);
      assert.ok(to >= from);
      next.set(stream, to + 1);
      if (e.type === "gap") {
        told.gaps++;
        if (policy === "lossless") assert.equal(e.reason, "joined", `${stream}: frames ${from} to ${to} are missing`);
        continue;
      }
      told.messages++;
      const index = model.streams.get(stream)!.findIndex((p) => p.first === e.first);
      const p = model.streams.get(stream)![index];
      assert.ok(p && p.last === e.last && p.kind === e.kind, `${stream}: frames ${e.first} to ${e.last} are no message`);
      assert.equal(Buffer.compare(e.payload, payload(index, p.size)), 0, `${stream}: message ${index} is not what was pushed`);
    }
    const finished = all();
    await subscription.close();
    if (finished) return told;
  }
}

/** Pushes messages of all kinds and sizes into streams of its own. */
async function write(publisher: Publisher, account: string, model: Model, random: (n: number) => number, n: number): Promise<void> {
  const pushing: Promise<void>[] = [];
  for (let i = 0; i < n; i++) {
    const stream = `${account}/${1 + random(2)}`;
    const kind: Kind = !model.streams.has(stream) || random(20) === 0 ? "key" : random(60) === 0 ? "init" : "delta";
    const size = random(12) === 0 ? random(4 * maxPiece) : random(3000);
    pushing.push(publisher.push(Number(stream.at(-1)), kind, payload(model.push(stream, kind, size), size)));
    if (random(3) === 0) await Promise.all(pushing.splice(0));
    if (random(5) === 0) await pause();
  }
  await Promise.all(pushing);
  await publisher.flush();
}

/** Those who come, push a little, and leave. */
async function guests(connect: (account: string) => Promise<Client>, room: RoomID, model: Model, random: (n: number) => number): Promise<void> {
  for (let i = 0; i < 12; i++) {
    const c = await connect(`g${i}`);
    const p = await c.publish(room);
    await write(p, `g${i}`, model, random, 8);
    await p.close();
  }
}

async function round(ws: string, policy: Policy, random: (n: number) => number): Promise<void> {
  const proxies: Proxy[] = [];
  const clients: Client[] = [];
  const connect = async (account: string): Promise<Client> => {
    const proxy = await Proxy.open(ws.replace("ws://", ""), () => 20_000 + random(600_000));
    proxies.push(proxy);
    const c = await dial({ servers: `ws://${proxy.addr}`, account, dialer: webSocket(), backoffMin: 5, backoffMax: 50 });
    clients.push(c);
    return c;
  };
  const owner = await dial({ servers: ws, account: "owner", dialer: webSocket() }); // whose requests are not cut off
  try {
    const room = await owner.register({ policy });
    await owner.grant(room, everyone);
    const model = new Model();
    const writers = ["w1", "w2"];
    const publishers = await Promise.all(writers.map(async (a) => (await connect(a)).publish(room)));
    const readers = await Promise.all(["r1", "r2", "r3"].map(connect));
    let done = false;
    let there = 0;
    let allThere!: () => void;
    const beginning = new Promise<void>((resolve) => (allThere = resolve));
    const told = await Promise.all([
      ...readers.map((c) => read(c, room, policy, model, random, () => done, () => void (++there === readers.length && allThere()))),
      Promise.all([
        ...publishers.map((p, i) => write(p, writers[i]!, model, random, 150)),
        ...(policy === "lossless" ? [beginning.then(() => guests(connect, room, model, random))] : []), // in others who comes late has never heard of them
      ]).then(async () => {
        done = true;
        const last = await owner.publish(room); // who has read all before the writers knew is woken by this
        await last.push(1, "key", payload(model.push("owner/1", "key", 10), 10));
        return { messages: 1, gaps: 0 };
      }),
    ]);
    assert.ok(told.every((t) => t.messages > 0));
    const cuts = proxies.reduce((n, p) => n + p.cuts, 0);
    assert.ok(cuts > 5, `${cuts} connections broke`);
  } finally {
    await Promise.all([owner, ...clients].map((c) => c.close()));
    await Promise.all(proxies.map((p) => p.close()));
  }
}

for (const policy of ["live", "latest", "lossless"] as const) {
  test(`random clients over connections that break: ${policy}, SEED=${seed}`, { timeout: 120_000, skip: typeof WebSocket === "undefined" }, async () => {
    const server = await serve("--idle", "1h");
    try {
      for (let i = 0; i < rounds; i++) await round(server.ws, policy, generator(seed + i * 7919 + policy.length));
    } finally {
      await server.stop();
    }
  });
}
