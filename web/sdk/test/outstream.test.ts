import assert from "node:assert/strict";
import { test } from "node:test";
import { parseControl, parseStream, isStream } from "../src/codec.js";
import { OutStream } from "../src/outstream.js";

const frame = (b: Uint8Array): string => {
  if (!isStream(b)) return `gap ${parseControl(b).fields.from}-${parseControl(b).fields.to}`;
  const f = parseStream(b);
  return `${f.pub}:${f.seq} ${new TextDecoder().decode(f.payload)}`;
};

/** What a stream sends when the server has answered. */
function resumed(s: OutStream, known: number | undefined, pub: number, fresh = false): string[] {
  const out: string[] = [];
  s.resume(known, pub, fresh, false, (b) => out.push(frame(b)));
  s.take((b) => out.push(frame(b)));
  return out;
}

test("a stream goes on where the server is", () => {
  const s = new OutStream(1n, 0, 1);
  for (const c of "abc") s.push(0, new TextEncoder().encode(c));
  s.take(() => {});
  s.acknowledge(1, 0);
  assert.deepEqual(resumed(s, 3, 1), ["1:3 c"], "it has b, and has not said so");
  assert.deepEqual(resumed(s, 2, 1), ["1:2 b", "1:3 c"]);
  assert.deepEqual(resumed(s, 1, 1), ["1:1 a", "1:2 b", "1:3 c"], "a node that had fallen behind");
  s.acknowledge(1, 0);
  assert.deepEqual(resumed(s, undefined, 9, true), ["9:1 b", "9:2 c"], "a new publisher");
  s.push(0, new TextEncoder().encode("d"));
  assert.deepEqual(resumed(s, 3, 1, true), ["1:3 c", "1:4 d"], "the number that it had before");
  assert.equal(s.acknowledge(4, 0), 3 * 21);
});

test("a server that knows nothing of a stream gets its header first", () => {
  const s = new OutStream(1n, 0, 1);
  s.push(2, new TextEncoder().encode("head"));
  for (const c of "abc") s.push(0, new TextEncoder().encode(c));
  s.take(() => {});
  s.acknowledge(3, 0);
  s.acknowledge(3, 0);
  s.push(0, new TextEncoder().encode("d"));
  s.take(() => {});
  s.acknowledge(4, 10_000); // what was acknowledged long ago is not kept
  assert.deepEqual(resumed(s, undefined, 1), ["1:1 head", "gap 2-3", "1:4 c", "1:5 d"]);
  assert.deepEqual(resumed(s, undefined, 7, true), ["7:1 head", "7:2 c", "7:3 d"]);
});
