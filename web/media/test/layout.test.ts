import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { encodeSample, encodeSilence, encodeText, headerSize, parseSample, parseSilence, parseText, type Text } from "../src/layout.js";

test("a sample is what docs/media.md draws", () => {
  const b = encodeSample(0x010203040506, 2, (to) => to.set([0xaa, 0xbb]));
  assert.equal(Buffer.from(b).toString("hex"), "0100010203040506aabb");
});

test("samples come back as they went", () => {
  fc.assert(fc.property(fc.integer({ min: 0, max: 2 ** 48 - 1 }), fc.uint8Array({ minLength: 1, maxLength: 100 }), (pts, data) => {
    const s = parseSample(encodeSample(pts, data.length, (to) => to.set(data)))!;
    assert.equal(s.pts, pts);
    assert.deepEqual([...s.data], [...data]);
  }));
});

test("the word that silence begins is no sample, and no sample is that word", () => {
  fc.assert(fc.property(fc.integer({ min: 0, max: 2 ** 48 - 1 }), fc.uint8Array({ maxLength: 20 }), (pts, b) => {
    assert.equal(parseSilence(encodeSilence(pts)), pts);
    assert.equal(parseSample(encodeSilence(pts)), undefined);
    assert.ok(parseSample(b) === undefined || parseSilence(b) === undefined);
  }));
});

test("a timestamp beyond 48 bits is refused", () => {
  for (const pts of [-1, 2 ** 48, NaN]) assert.throws(() => encodeSample(pts, 1, () => {}), RangeError);
});

const texts: Text[] = [
  { type: "picture", codec: "avc1.42E01F", width: 320, height: 180, clock: 1.7e12 },
  { type: "picture", codec: "avc1.42E01F", width: 320, height: 180, clock: 0, description: Uint8Array.of(1, 66, 224, 31, 255) },
  { type: "sound", codec: "opus", sampleRate: 48000, channels: 2, clock: 1.7e12 },
  { type: "broadcast", title: "客厅", renditions: [{ room: "NGhMpCbk2wQ", width: 640, height: 360, bitrate: 800000 }, { room: "35EGCyihobj", width: 640, height: 360, bitrate: 100000, stills: true }], talk: "35EGCyihobj" },
  { type: "chat", text: "你好" },
  { type: "report", needsKey: true, missedPictures: 3, missedSound: 20 },
];

test("texts come back as they went", () => {
  for (const t of texts) assert.deepEqual(parseText(encodeText(t)), t);
});

test("what is unknown is passed over, what cannot be is no message", () => {
  const read = (v: unknown): unknown => parseText(new TextEncoder().encode(JSON.stringify(v)));
  assert.deepEqual(read({ type: "chat", text: "a", later: 1 }), { type: "chat", text: "a" });
  for (const v of [
    null, 1, "chat", [], { type: "other" }, { type: "chat", text: "" }, { type: "chat", text: "x".repeat(2001) }, { type: "chat", text: 1 },
    { type: "picture", codec: "vp8", width: 0, height: 1, clock: 0 }, { type: "picture", codec: "vp8", width: 1e9, height: 1, clock: 0 },
    { type: "picture", codec: "vp8", width: 2, height: 2, clock: 0, description: "not base64!" }, { type: "sound", codec: "opus", sampleRate: 1, channels: 1, clock: 0 },
    { type: "sound", codec: "opus", sampleRate: 48000, channels: 99, clock: 0 }, { type: "broadcast", title: 1, renditions: [] }, { type: "report", needsKey: 1 },
  ]) assert.equal(read(v), undefined, JSON.stringify(v));
});

test("no bytes make a reader fail", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), (b) => {
    parseText(b);
    const s = parseSample(b);
    if (s) assert.equal(s.data.length, b.length - headerSize);
  }));
  fc.assert(fc.property(fc.json(), (j) => void parseText(new TextEncoder().encode(j))));
  fc.assert(fc.property(fc.constantFrom(...texts), fc.string(), fc.jsonValue(), (t, key, v) => {
    parseText(new TextEncoder().encode(JSON.stringify({ ...t, [key]: v })));
    for (const k of Object.keys(t)) parseText(new TextEncoder().encode(JSON.stringify({ ...t, [k]: v })));
  }));
});
