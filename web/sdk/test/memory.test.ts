// What was received is the caller's, and the transport's memory is its own again: a browser's page gives it back at once.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { encodeControl, encodeStream, flagCont, flagInit, flagMore, maxPiece } from "../src/codec.js";
import { dial, formatRoom, type Receiver } from "../src/index.js";

const preface = Uint8Array.from([0x54, 0x44, 0x47, 0x45, 1, 1, 1, 0]);
const room = 0x1234n;

/** A message as its frames, the first of which has number `seq`. */
function frames(payload: Uint8Array, seq: number): Uint8Array[] {
  const out: Uint8Array[] = [];
  for (let at = 0; at === 0 || at < payload.length; at += maxPiece) {
    const flags = flagInit | (at > 0 ? flagCont : 0) | (at + maxPiece < payload.length ? flagMore : 0);
    out.push(encodeStream({ flags, room, pub: 1, dtype: 1, seq: seq + out.length, payload: payload.subarray(at, at + maxPiece) }));
  }
  return out;
}

/** Hands bytes on in memory that is gone when the receiver returns, as pieces of Node's Buffer, which are views when they are sliced. */
function lend(to: Receiver, bytes: Uint8Array): void {
  const memory = new ArrayBuffer(bytes.length + 3);
  const lent = Buffer.from(memory, 3, bytes.length);
  lent.set(bytes);
  to.received(lent);
  structuredClone(memory, { transfer: [memory] });
}

test("messages outlive the memory in which they came, however it is cut", { timeout: 60_000 }, async () => {
  const size = fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: maxPiece - 3, max: 3 * maxPiece + 3 }));
  await fc.assert(fc.asyncProperty(fc.array(size, { minLength: 1, maxLength: 6 }), fc.array(fc.integer({ min: 1, max: 100_000 }), { minLength: 1, maxLength: 20 }), async (sizes, cuts) => {
    let to!: Receiver;
    const client = await dial({ servers: "memory", account: "a", dialer: (_, receiver) => {
      to = receiver;
      let said = 0;
      queueMicrotask(() => receiver.opened());
      return {
        send: () => queueMicrotask(() => {
          if (said++ === 0) {
            lend(receiver, preface);
            lend(receiver, encodeControl("welcome", { session: 1n, node: "n", caps: 0n, max_payload: 16n << 20n, ping_millis: 60_000 }));
          } else lend(receiver, encodeControl("subscribed", { req: said - 1, room, policy: 0, window: 0 }));
        }),
        close: () => receiver.closed("closed here"),
      };
    } });
    const sub = await client.subscribe(formatRoom(room));
    const messages = sizes.map((n, i) => Uint8Array.from({ length: n }, (_, at) => at * 7 + i));
    let seq = 1;
    const all = Buffer.concat([encodeControl("joined", { room, pub: 1, account: "bob" }), ...messages.flatMap((m) => {
      const f = frames(m, seq);
      seq += f.length;
      return f;
    })]);
    for (let at = 0, n = 0; at < all.length; n++) {
      const cut = cuts[n % cuts.length]!;
      lend(to, all.subarray(at, at + cut));
      at += cut;
    }
    assert.deepEqual(await sub.next(), { type: "joined", room: formatRoom(room), pub: 1, account: "bob" });
    for (const m of messages) {
      const e = await sub.next();
      assert.ok(e?.type === "message" && Buffer.compare(e.payload, m) === 0 && e.payload.buffer.byteLength === m.length, "its own memory, and no more than that");
    }
    void client.close();
  }), { numRuns: 50 });
});
