import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { pieces } from "../file/pieces.js";

test("a file in pieces is the file, from any offset on, in one memory", async () => {
  await fc.assert(fc.asyncProperty(fc.uint8Array({ maxLength: 3000 }), fc.integer({ min: 0, max: 3000 }), fc.integer({ min: 1, max: 700 }), fc.integer({ min: 0, max: 20 }), async (bytes, from, size, head) => {
    const at = Math.min(from, bytes.length);
    const got: number[] = [];
    let n = 0;
    for await (const p of pieces(new Blob([bytes as Uint8Array<ArrayBuffer>]), at, size, head)) {
      assert.ok(p.length > head && p.length <= head + size && p.buffer.byteLength === head + size);
      got.push(...p.subarray(head));
      n++;
    }
    assert.equal(n, Math.ceil((bytes.length - at) / size));
    assert.deepEqual(Uint8Array.from(got), bytes.subarray(at));
  }));
});

test("a browser that cannot read into given memory reads all the same", async () => {
  const bytes = Uint8Array.from({ length: 1000 }, (_, i) => i * 7);
  const blob = new Blob([bytes]);
  blob.slice = (...range) => Object.assign(Blob.prototype.slice.apply(blob, range), { stream: () => new ReadableStream() }); // which is of no bytes
  const got: number[] = [];
  for await (const p of pieces(blob, 100, 300, 5)) got.push(...p.subarray(5));
  assert.deepEqual(Uint8Array.from(got), bytes.subarray(100));
});
