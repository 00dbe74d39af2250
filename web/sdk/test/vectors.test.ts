import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { keepField } from "../src/client.js";
import { codes, ProtocolError } from "../src/codes.js";
import * as codec from "../src/codec.js";
import { layoutRows, layouts, type Field } from "../src/layouts.js";
import { formatRoom, parseRoom } from "../src/room.js";

const root = new URL("../../../codec/", import.meta.url);
const vectors = JSON.parse(readFileSync(new URL("testdata/vectors.json", root), "utf8"));
const unhex = (s: string): Uint8Array => Uint8Array.from(s.match(/../g) ?? [], (h) => parseInt(h, 16));
const hex = (b: Uint8Array): string => [...b].map((c) => c.toString(16).padStart(2, "0")).join("");

/** The fields of a vector as values of this package. */
function values(fields: readonly Field[], from: any): codec.Fields {
  const out: codec.Fields = {};
  for (const { name, type: t } of fields) {
    const v = from[name];
    if (t.kind === "u64" || t.kind === "varint") out[name] = BigInt(v);
    else if (t.kind === "bytes") out[name] = unhex(v);
    else if (t.kind === "list") out[name] = v.map((e: any) => values(t.of, e));
    else out[name] = v;
  }
  return out;
}

function fails(code: number, f: () => unknown, name: string): void {
  assert.throws(f, (e) => e instanceof ProtocolError && e.code === code, name);
}

test("the layouts are those of PROTOCOL.md", () => {
  const page = readFileSync(new URL("PROTOCOL.md", root), "utf8");
  const there = [...page.matchAll(/^\| (0x[0-3][0-9a-f]) \| `(\w+)` \| \S+ \| `(.*?)(?: ext)?` \|$/gm)].map((m) => `${m[1]} ${m[2]} ${m[3]}`);
  assert.deepEqual([...layoutRows].sort(), there.sort());
});

test("the codes are those of PROTOCOL.md", () => {
  const page = readFileSync(new URL("PROTOCOL.md", root), "utf8");
  const there = Object.fromEntries([...page.matchAll(/^\| (\d{3}) \| `(\w+)` \|/gm)].map((m) => [m[2], Number(m[1])]));
  assert.deepEqual({ ...codes }, there);
});

test("rooms", () => {
  for (const { text, number } of vectors.room) {
    assert.equal(parseRoom(text), BigInt(number));
    assert.equal(formatRoom(BigInt(number)), text);
  }
  for (const { name, text } of vectors.room_invalid) assert.equal(parseRoom(text), undefined, name);
});

test("prefaces", () => {
  for (const v of vectors.preface.filter((v: any) => v.from === "server")) {
    assert.deepEqual(codec.parseServerPreface(unhex(v.hex)), { chosen: v.chosen, lowest: v.lowest, highest: v.highest }, v.name);
  }
  assert.equal(hex(codec.clientPreface()), vectors.preface[0].hex);
  for (const v of vectors.preface_incomplete) assert.equal(codec.parseServerPreface(unhex(v.hex)), undefined, v.name);
  for (const v of vectors.preface_invalid) fails(v.code, () => codec.parseServerPreface(unhex(v.hex)), v.name);
});

test("what a room keeps", () => {
  let checked = 0;
  for (const v of vectors.keep) {
    const [bytes, age] = [Number(v.history_bytes), Number(v.history_millis)];
    if (v.read || !Number.isSafeInteger(bytes)) continue; // a client only writes it
    const field = keepField({ history: { bytes, age }, idleUnlessOccupied: v.occupied });
    assert.equal(field && hex(field.get(4)!), bytes || age || v.occupied ? v.hex : undefined, v.name);
    checked++;
  }
  assert.ok(checked >= 5);
  assert.deepEqual(keepField({ history: { bytes: 2 ** 40 } })!.get(4), unhex("0080808080802000"));
  for (const history of [{ bytes: -1 }, { age: 0.5 }, { bytes: Infinity }]) assert.throws(() => keepField({ history }), codec.EncodeError);
});

test("frames", () => {
  let checked = 0;
  for (const v of [...vectors.frame, ...vectors.long_frame]) {
    const long = v.fill ? v.fill.repeat(v.times) : "";
    const b = unhex(v.hex + long);
    assert.equal(codec.frameLength(b), b.length, v.name);
    const fields = v.fill ? { ...v.fields, payload: long } : v.fields;
    checked++;
    if (v.type === "stream") {
      const want = { ...fields, room: BigInt(fields.room), payload: unhex(fields.payload) };
      assert.deepEqual(codec.parseStream(b), want, v.name);
      assert.equal(hex(codec.encodeStream(want)), v.hex + long, v.name);
      continue;
    }
    const m = codec.parseControl(b);
    const layout = layouts.get(b[2]!)!;
    const want = values(layout.fields, fields);
    assert.equal(m.name, v.type, v.name);
    assert.deepEqual(m.fields, want, v.name);
    const ext = v.ext ? new Map<number, Uint8Array>(v.ext.map((e: any) => [Number(e.tag), unhex(e.value)])) : undefined;
    if (!v.ext || v.ext.every((e: any) => Number(e.tag) <= Number.MAX_SAFE_INTEGER)) {
      assert.equal(hex(codec.encodeControl(m.name, want, m.ext ?? ext)), v.hex, v.name);
    }
  }
  assert.equal(checked, vectors.frame.length + vectors.long_frame.length);
});

test("what is not whole yet", () => {
  for (const v of vectors.incomplete) {
    const b = unhex(v.hex);
    const n = codec.frameLength(b);
    assert.ok(n === 0 || n > b.length, v.name);
  }
});

test("what is no frame", () => {
  for (const v of vectors.invalid) {
    const b = unhex(v.hex);
    fails(v.code, () => {
      const n = codec.frameLength(b, v.limit || undefined);
      if (n === 0 || n > b.length) return;
      const frame = b.subarray(0, n);
      if (codec.isStream(frame)) codec.parseStream(frame);
      else codec.parseControl(frame);
    }, v.name);
  }
});

test("what does not fit is an error of the caller", () => {
  const account = "x".repeat(129);
  assert.throws(() => codec.encodeControl("grant", { req: 1, room: 1n, account }), codec.EncodeError);
  const have = Array.from({ length: 4097 }, () => ({ pub: 1, dtype: 0, last: 1 }));
  assert.throws(() => codec.encodeControl("subscribe", { req: 1, room: 1n, flags: 0, have }), codec.EncodeError);
  assert.throws(() => codec.encodeStream({ flags: 0, room: 1n, pub: 1, dtype: 0, seq: 1, payload: new Uint8Array(codec.maxPiece + 1) }), codec.EncodeError);
});

test("any bytes are a frame, more to come, or a fault with a code", () => {
  let seed = 1;
  const random = (n: number): number => (seed = (seed * 48271) % 2147483647) % n;
  for (let round = 0; round < 20_000; round++) {
    const v = vectors.frame[random(vectors.frame.length)];
    let b = unhex(v.hex);
    for (let i = random(4); i >= 0; i--) {
      if (random(3) === 0) b = b.slice(0, random(b.length + 1));
      else if (b.length > 0) b[random(b.length)] = random(256);
    }
    try {
      const n = codec.frameLength(b);
      if (n === 0 || n > b.length) continue;
      const frame = b.subarray(0, n);
      if (codec.isStream(frame)) codec.parseStream(frame);
      else codec.parseControl(frame);
    } catch (e) {
      assert.ok(e instanceof ProtocolError, `${hex(b)}: ${String(e)}`);
    }
  }
});
