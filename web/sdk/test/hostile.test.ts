// A server that does what it likes: the SDK fails with a protocol error, and holds a bounded amount, whatever comes.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { encodeControl, encodeStream, flagMore } from "../src/codec.js";
import { Connection } from "../src/connection.js";
import { ClosedError, dial, formatRoom, type Client, type Dialer, type Receiver, type Subscription } from "../src/index.js";

const preface = Uint8Array.from([0x54, 0x44, 0x47, 0x45, 1, 1, 1, 0]);
const welcome = encodeControl("welcome", { session: 1n, node: "n", caps: 0n, max_payload: 16n << 20n, ping_millis: 60_000 });
const room = 0x1234n;

/** A server in memory, which answers the first request as it is told; what it sends later goes through `send`. */
function hostile(policy: number, window = 0): { dialer: Dialer; send(b: Uint8Array): void } {
  let to: Receiver | undefined;
  let first = true;
  return {
    send: (b) => to?.received(b),
    dialer: (_, receiver) => {
      to = receiver;
      queueMicrotask(() => receiver.opened());
      return {
        send: () => {
          if (first) {
            first = false;
            queueMicrotask(() => {
              receiver.received(preface);
              receiver.received(welcome);
            });
          } else queueMicrotask(() => receiver.received(encodeControl("subscribed", { req: 1, room, policy, window })));
        },
        close: () => {
          receiver.closed("closed here");
          to = undefined;
        },
      };
    },
  };
}

async function subscribed(policy: number, window = 0): Promise<{ client: Client; sub: Subscription; send(b: Uint8Array): void }> {
  const h = hostile(policy, window);
  const c = await dial({ servers: "memory", account: "a", dialer: h.dialer, receiveBuffer: 1 << 20, assemblyBuffer: 1 << 20, maxPayload: 1 << 20 });
  return { client: c, sub: await c.subscribe(formatRoom(room)), send: h.send };
}

/** What a subscription that nobody reads holds, bytes; what it has ended with. */
async function held(sub: Subscription): Promise<{ bytes: number; events: number; why: unknown }> {
  let [bytes, events] = [0, 0];
  while (sub.pending > 0) {
    const e = await sub.next();
    events++;
    if (e?.type === "message") bytes += e.payload.length;
  }
  const why = await Promise.race([sub.next().catch((e: unknown) => e), new Promise((resolve) => setImmediate(() => resolve(undefined)))]);
  return { bytes, events, why };
}

const frame = (o: { pub?: number; dtype?: number; seq: number; flags?: number; size: number }): Uint8Array =>
  encodeStream({ flags: o.flags ?? 0, room, pub: o.pub ?? 1, dtype: o.dtype ?? 0, seq: o.seq, payload: new Uint8Array(o.size) });

const floods: Array<{ name: string; policy: number; window?: number; frames: (i: number) => Uint8Array; n: number; ends: boolean }> = [
  { name: "messages", policy: 0, frames: (i) => frame({ seq: i + 1, size: 60_000 }), n: 1000, ends: false },
  { name: "key messages", policy: 0, frames: (i) => frame({ seq: i + 1, size: 60_000, flags: 1 }), n: 1000, ends: false },
  { name: "init messages", policy: 0, frames: (i) => frame({ seq: i + 1, size: 60_000, flags: 2 }), n: 1000, ends: true },
  { name: "beginnings of messages", policy: 0, frames: (i) => frame({ dtype: i % 256, pub: 1 + (i >> 8), seq: 1, size: 60_000, flags: flagMore }), n: 1000, ends: false },
  { name: "messages in a lossless room, beyond a window of 4 GB", policy: 3, window: 0xffffffff, frames: (i) => frame({ seq: i + 1, size: 60_000 }), n: 2000, ends: true },
  { name: "those who join", policy: 0, frames: (i) => encodeControl("joined", { room, pub: 1 + (i % 60_000), account: "a".repeat(100) }), n: 100_000, ends: true },
  { name: "streams", policy: 0, frames: (i) => frame({ pub: 1 + (i >> 8), dtype: i % 256, seq: 1, size: 0 }), n: 200_000, ends: true },
  { name: "streams out of order", policy: 0, frames: (i) => frame({ seq: 1 + (i % 7), size: 10 }), n: 60000, ends: true },
];

for (const f of floods) {
  test(`a flood of ${f.name}`, async () => {
    const { client, sub, send } = await subscribed(f.policy, f.window);
    for (let i = 0; i < f.n; i++) send(f.frames(i));
    const { bytes, events, why } = await held(sub);
    void client.close();
    assert.ok(bytes <= (f.policy === 3 ? 34 << 20 : 2 << 20), `${bytes} bytes held`);
    assert.ok(events <= 20_000, `${events} events held`);
    if (f.ends) assert.ok(why instanceof ClosedError && why.code === "too_slow", String(why));
    else assert.equal(why, undefined);
  });
}

// The vectors of the protocol, with bytes changed, cut and joined at random from a fixed seed: nothing but a protocol error comes of it.
test("the parser stands any bytes", () => {
  let state = 0x2545f491;
  const random = (n: number): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % n;
  };
  const text = readFileSync(new URL("../../../codec/testdata/vectors.json", import.meta.url), "utf8");
  const seeds = [...text.matchAll(/"([0-9a-f]{6,4000})"/g)].map((m) => Uint8Array.from(m[1]!.match(/../g) ?? [], (x) => parseInt(x, 16)));
  assert.ok(seeds.length > 20, `${seeds.length} seeds`);
  let [ended, taken] = [0, 0];
  for (let run = 0; run < 4000; run++) {
    let over = false;
    const c = new Connection("memory", () => ({ send: () => {}, close: () => {} }), {});
    c.welcome.catch(() => {});
    c.received(preface);
    c.received(welcome);
    c.listen({ control: () => taken++, stream: () => taken++, closed: () => (over = true) });
    const parts = Array.from({ length: 1 + random(4) }, () => seeds[random(seeds.length)]!.slice());
    for (const p of parts) {
      for (let changes = random(4); changes > 0; changes--) p[random(p.length)] = random(256);
      for (let at = 0; at < p.length && !over; ) {
        const n = 1 + random(p.length);
        c.received(p.subarray(at, at + n));
        at += n;
      }
    }
    if (over) ended++;
  }
  assert.ok(ended > 100 && taken > 100, `${ended} ended, ${taken} frames taken`);
});
