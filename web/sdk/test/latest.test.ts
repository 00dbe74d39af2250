import assert from "node:assert/strict";
import { test } from "node:test";
import { flagInit } from "../src/codec.js";
import { policies } from "../src/codes.js";
import type { Connection } from "../src/connection.js";
import { Subscription, type Event } from "../src/subscription.js";

/** A subscription in a `latest` room, to be given frames. */
function latest(): Subscription {
  const host = { ask() {}, acknowledge() {}, unsubscribe: async () => {}, forget() {} };
  const s = new Subscription("NGhMpCbk2wQ", 1n, 0, host, { receive: 10_000, payload: 1 << 20, assembly: 1 << 20 });
  s.subscribed({ policy: policies.indexOf("latest"), window: 0 }, {} as Connection);
  return s;
}

function push(s: Subscription, dtype: number, seq: number, flags = 0): void {
  s.stream({ flags, room: 1n, pub: 1, dtype, seq, payload: new Uint8Array(100) });
}

async function take(s: Subscription): Promise<string> {
  const e = await s.next();
  if (e?.type === "gap") return `${e.dtype}: ${e.from}-${e.to} ${e.reason}`;
  return e?.type === "message" ? `${e.dtype}: ${e.first}` : String(e?.type);
}

test("a caller who takes one message of each round gets all streams in turn, the newest of each, and gaps", async () => {
  const s = latest();
  const seen = [0, 0, 0];
  for (let round = 1; round <= 300; round++) {
    for (let d = 0; d < 3; d++) push(s, d, round);
    let e: Event | undefined;
    do {
      e = await s.next();
      assert.ok(e?.type === "message" || e?.type === "gap");
      assert.equal(e.type === "gap" ? e.from : e.first, seen[e.dtype]! + 1);
      seen[e.dtype] = e.type === "gap" ? e.to : e.last;
    } while (e.type === "gap");
    assert.equal(e.dtype, (round - 1) % 3);
    assert.equal(e.first, round);
  }
  assert.ok(s.pending <= 6, `${s.pending} events wait`);
});

test("the newest message stays behind init messages, and behind gaps", async () => {
  const s = latest();
  push(s, 0, 1);
  push(s, 1, 1);
  push(s, 0, 2, flagInit);
  push(s, 0, 3);
  push(s, 1, 2);
  s.gap({ pub: 1, dtype: 1, from: 3, to: 4, reason: 5 });
  push(s, 1, 5);
  const got = [];
  while (s.pending > 0) got.push(await take(s));
  assert.deepEqual(got, ["0: 1-1 newer", "1: 1-4 newer", "1: 5", "0: 2", "0: 3"]);
});
