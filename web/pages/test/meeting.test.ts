import assert from "node:assert/strict";
import { test } from "node:test";
import { formatLinkKey, newLinkKey } from "@timedge/sdk/e2ee";
import { keepRemoval, unfinished, type Keep } from "../meeting/removal.js";
import fc from "fast-check";
import { Behind, Carry, sizeFor } from "../meeting/carry.js";
import { fit, pageOf, perPage } from "../meeting/grid.js";
import { Roster } from "../meeting/roster.js";
import { Speaking } from "../meeting/speaking.js";
import { encodeWord, parseWord, type Presence, type Word } from "../meeting/wire.js";

const presence: Presence = { type: "presence", name: "Ann", large: "NGhMpCbk2wQ", small: "LpwkCHvJvgf", screen: "", microphone: true, hand: false, line: 2, leaving: false };

test("words come back as they went", () => {
  const words: Word[] = [presence, { type: "reaction", emoji: "👍" }, { type: "control", open: false, muted: ["bob"] }];
  for (const w of words) assert.deepEqual(parseWord(encodeWord(w)), w);
});

test("what is no word is passed over", () => {
  const bad = ["", "null", "[]", "1", "{}", '{"type":"presence"}', JSON.stringify({ ...presence, large: "x".repeat(12) }), JSON.stringify({ ...presence, name: 1 }), '{"type":"reaction","emoji":""}', '{"type":"control","muted":[1]}'];
  for (const text of bad) assert.equal(parseWord(new TextEncoder().encode(text)), undefined, text);
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (b) => void parseWord(b)));
});

test("tiles are as large as they can be, and fit", () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 300, max: 3000 }), fc.integer({ min: 300, max: 2000 }), (n, width, height) => {
    const g = fit(n, width, height, 8);
    assert.ok(g.columns * g.rows >= n && g.columns * (g.rows - 1) < n);
    assert.ok(g.columns * g.width + 8 * (g.columns - 1) <= width && g.rows * g.height + 8 * (g.rows - 1) <= height, JSON.stringify(g));
  }));
  assert.deepEqual([fit(1, 1600, 900, 8).columns, fit(2, 1600, 900, 8).columns, fit(4, 1600, 900, 8).columns, fit(12, 1600, 900, 8).columns, fit(3, 390, 700, 8).columns], [1, 2, 2, 4, 1]);
});

test("twelve are on a page of a desk, fewer on a phone's", () => {
  assert.equal(perPage(1200, 650, 8), 12);
  assert.ok(perPage(366, 500, 8) >= 4 && perPage(366, 500, 8) < 12);
});

test("pages have everybody once, and a speaker is on the first", () => {
  fc.assert(fc.property(fc.integer({ min: 1, max: 30 }), fc.integer({ min: 1, max: 12 }), fc.option(fc.nat(29), { nil: undefined }), fc.array(fc.nat(100), { minLength: 30, maxLength: 30 }), (n, size, speaks, heard) => {
    const all = Array.from({ length: n }, (_, i) => i);
    const who = speaks !== undefined && speaks < n ? speaks : undefined;
    const pages = Array.from({ length: Math.ceil(n / size) }, (_, p) => pageOf(all, size, p, (i) => heard[i]!, who));
    assert.deepEqual(pages.flat().sort((a, b) => a - b), all);
    if (who !== undefined) assert.ok(pages[0]!.includes(who));
    if (who === undefined || who < size) assert.deepEqual(pages.flat(), all); // nobody moves without need
  }));
  assert.deepEqual(pageOf(["a", "b", "c", "d"], 3, 0, (i) => ({ a: 5, b: 1, c: 3, d: 9 })[i]!, "d"), ["a", "d", "c"]);
});

/** Somebody talks for some ms, in pieces of 20. */
function talk(s: Speaking<string>, who: string, from: number, millis: number, level = 0.1): number {
  for (let at = from; at < from + millis; at += 20) s.heard(who, level, at);
  return from + millis;
}

test("who speaks is told from who makes a noise", () => {
  const s = new Speaking<string>();
  talk(s, "ann", 0, 60);
  assert.equal(s.speaks("ann", 60), false);
  assert.equal(s.current(60), undefined);
  let now = talk(s, "ann", 1000, 400);
  assert.equal(s.speaks("ann", now), true);
  assert.equal(s.current(now), "ann");
  assert.equal(s.speaks("ann", now + 800), true); // between two words
  assert.equal(s.speaks("ann", now + 1000), false);
  assert.equal(s.current(now + 5000), "ann"); // spoke last
  now = talk(s, "bob", now + 5000, 300, 0.001);
  assert.equal(s.speaks("bob", now), false);
  now = talk(s, "bob", now, 300);
  assert.equal(s.current(now), "bob");
  for (let at = now; at < now + 800; at += 20) {
    s.heard("bob", 0.1, at);
    s.heard("ann", 0.1, at);
  }
  assert.equal(s.current(now + 800), "bob"); // both: no flicker
  s.left("bob");
  assert.equal(s.current(now + 800), "ann");
});

test("a path that is too slow gets small pictures, then fewer, and better ones when it is quiet", () => {
  const c = new Carry();
  assert.equal(c.behind(300, 0), false);
  for (let now = 100; now < 400; now += 100) assert.equal(c.behind(900, now), false); // it may be over soon
  assert.equal(c.behind(100, 400), false); // it is
  for (let now = 500; now < 900; now += 100) assert.equal(c.behind(600, now), false);
  assert.equal(c.behind(900, 900), true);
  assert.equal(c.level, "small");
  for (let now = 1000; now < 8000; now += 100) assert.equal(c.behind(1200, now), false); // what it has shall settle
  assert.equal(c.level, "small");
  for (let now = 8000; now < 8800; now += 100) c.behind(2500, now);
  assert.equal(c.level, "one");
  assert.equal(c.dropped(9500), false);
  assert.equal(c.dropped(14_000), true);
  assert.equal(c.level, "none");
  assert.equal(c.dropped(30_000), false);
  assert.equal(c.tick(35_000), false);
  assert.equal(c.tick(41_000), true);
  assert.equal(c.level, "one");
  assert.equal(c.dropped(46_000), true); // it was too much: the next try comes later
  assert.equal(c.tick(60_000), false);
  assert.equal(c.tick(67_000), true);
});

test("sound that stands in a queue takes pictures away, one step after the other", () => {
  const c = new Carry();
  for (let now = 0; now < 10_000; now += 20) assert.equal(c.behindSound(now % 400 === 0 ? 20 : 900, now), false); // some of it is in time
  const fell: number[] = [];
  for (let now = 10_000; now < 20_000; now += 20) if (c.behindSound(400, now)) fell.push(now);
  assert.equal(c.level, "small"); // whoever plays waits for it
  for (let now = 20_000; now < 30_000; now += 20) if (c.behindSound(1200, now)) fell.push(now);
  assert.equal(fell.length, 3, fell.join());
  assert.ok(fell[0]! < 10_500 && fell[2]! < 24_500, fell.join());
  assert.equal(c.level, "none");
});

test("a try that fails is over at once", () => {
  const c = new Carry();
  for (let now = 0; now < 500; now += 20) c.behind(900, now);
  assert.equal(c.level, "small");
  assert.equal(c.tick(11_000), true);
  for (let now = 11_000; now < 12_000; now += 20) c.behind(900, now);
  assert.equal(c.level, "small");
});

test("what queues in a path is told from the way itself", () => {
  const b = new Behind();
  for (let i = 0; i < 100; i++) b.arrived(i * 33, 5000 + i * 33 + 40 + (i % 3) * 5);
  assert.ok(b.arrived(3300, 5000 + 3300 + 40) < 15);
  for (let i = 101; i < 200; i++) b.arrived(i * 33, 5000 + i * 33 + 40 + (i - 100) * 20);
  assert.equal(b.arrived(6600, 5000 + 6600 + 40 + 2000), 2000);
  b.forget();
  assert.equal(b.arrived(7000, 9000), 0);
});

test("each takes what it shows and can carry", () => {
  const cases: Array<[width: number, looked: boolean, level: "all" | "small" | "one" | "none", size: string]> = [
    [640, false, "all", "large"], [190, false, "all", "small"], [0, true, "all", "none"], [640, true, "small", "small"],
    [640, true, "one", "small"], [640, false, "one", "none"], [640, true, "none", "none"],
  ];
  for (const [width, looked, level, size] of cases) assert.equal(sizeFor({ width, looked }, level, 160), size, `${width} ${looked} ${level}`);
});

test("who is here: by the server's word, and by their own", () => {
  const r = new Roster();
  r.joined(1, "ann", 0);
  assert.deepEqual(r.members(0), []); // says nothing: only listens
  r.said(1, presence, 100);
  r.said(2, presence, 100); // of whom the server has not spoken
  assert.deepEqual(r.members(200), [{ pub: 1, account: "ann", presence, silent: false }]);
  assert.equal(r.members(5200)[0]!.silent, true);
  r.heard(1, 5300);
  assert.equal(r.members(5400)[0]!.silent, false);
  assert.deepEqual(r.members(13_400), []); // crashed
  r.said(1, presence, 14_000);
  assert.equal(r.members(14_000).length, 1); // or only away
  r.resumed(30_000);
  assert.equal(r.members(30_100).length, 1);
  r.said(1, { ...presence, leaving: true }, 30_200);
  assert.deepEqual(r.members(30_200), []);
  r.joined(1, "ann", 30_300);
  r.said(1, presence, 30_300);
  r.left(1);
  assert.deepEqual(r.members(30_300), []);
});

test("a removal is unfinished until the others have the next secret, and is that of one link", () => {
  const kept = new Map<string, string>();
  const keep: Keep = { get: (room, what) => kept.get(`${room} ${what}`) ?? null, set: (room, what, text) => void kept.set(`${room} ${what}`, text) };
  const before = newLinkKey();
  const next = { secret: newLinkKey().secret, epoch: 1 };
  const r = { account: "cai", before, next, message: Uint8Array.of(0, 200, 255) };
  assert.equal(unfinished(keep, "NGhMpCbk2wQ", before), undefined);
  keepRemoval(keep, "NGhMpCbk2wQ", r);
  for (const link of [before, next]) assert.deepEqual(unfinished(keep, "NGhMpCbk2wQ", link), r);
  assert.equal(unfinished(keep, "NGhMpCbk2wQ", newLinkKey()), undefined);
  assert.equal(unfinished(keep, "35EGCyihobj", before), undefined);
  keepRemoval(keep, "NGhMpCbk2wQ", undefined);
  assert.equal(unfinished(keep, "NGhMpCbk2wQ", before), undefined);
  for (const text of ["x", "[]", "[1,2,3,4]", '["cai"]', JSON.stringify(["cai", formatLinkKey(before), "no key", "AA=="])]) {
    keep.set("NGhMpCbk2wQ", "removal", text);
    assert.equal(unfinished(keep, "NGhMpCbk2wQ", before), undefined, text);
  }
});
