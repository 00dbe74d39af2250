import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Board } from "../state/board.js";
import { svg } from "../state/ink.js";
import { Repair } from "../state/repair.js";
import { mixPose, poseOf, turned } from "../state/scene.js";
import { formatRooms, parseRooms } from "../state/shared.js";
import { Smooth } from "../state/smooth.js";
import { encodeCursor, encodeDigest, encodeOps, encodePose, maxOps, parseCursor, parseDigest, parseOps, parsePose, parseWho, poseFloats, type Op } from "../state/wire.js";

const u48 = fc.integer({ min: 0, max: 2 ** 48 - 1 });
const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const coordinates = fc.array(fc.integer({ min: 0, max: 65535 }), { maxLength: 64 }).map((p) => p.slice(0, p.length & ~1));

test("what is encoded is parsed as it was", () => {
  fc.assert(fc.property(fc.nat(2 ** 40), fc.double({ min: 0, max: 1, noNaN: true }), fc.boolean(), fc.boolean(), (at, x, drawing, away) => {
    const c = parseCursor(encodeCursor({ at, x, y: 1 - x, drawing, away }))!;
    assert.ok(Math.abs(c.at - at) < 0.01 && Math.abs(c.x - x) < 1e-4 && Math.abs(c.y - 1 + x) < 1e-4);
    assert.deepEqual([c.drawing, c.away], [drawing, away]);
  }));
  fc.assert(fc.property(u48, fc.array(fc.tuple(u48, u32), { maxLength: 30 }), (author, entries) => {
    const digest = new Map(entries);
    assert.deepEqual(parseDigest(encodeDigest(author, digest)), { author, digest });
  }));
  const op: fc.Arbitrary<Op> = fc.record({ author: u48, seq: u32, time: u32, kind: fc.constantFrom("begin", "points", "undo", "clear"), colour: fc.nat(255), width: fc.nat(255), points: coordinates })
    .map((o) => (o.kind === "begin" ? { ...o } : { ...o, colour: 0, width: 0 })) as fc.Arbitrary<Op>;
  fc.assert(fc.property(fc.array(op, { maxLength: 300 }), (ops) => {
    const messages = encodeOps(ops);
    assert.deepEqual(messages.flatMap(parseOps), ops);
    assert.ok(messages.every((m) => m.length <= maxOps));
  }));
  const pose = poseOf({ x: 1, z: 2, yaw: 1, pitch: 0.2, reach: [0.5, 0] }, 5000);
  assert.equal(encodePose(1234.5, pose).length, 200);
  assert.deepEqual(parsePose(encodePose(1234.5, pose)), { at: 1234.5, pose: [...pose] });
});

test("any bytes are read or passed over", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), (b) => {
    for (const parse of [parseCursor, parseDigest, parseOps, parsePose, parseWho]) parse(b);
  }), { numRuns: 2000 });
});

test("two rooms are named by one text", () => {
  const rooms = { now: "NGhMpCbk2wQ", board: "LpwkCHvJvgf" };
  assert.deepEqual(parseRooms(formatRooms(rooms)), rooms);
  for (const bad of ["", "NGhMpCbk2wQ", "NGhMpCbk2wQ.", "NGhMpCbk2wQ.x", "NGhMpCbk2wQ.LpwkCHvJvgf.LpwkCHvJvgf"]) assert.equal(parseRooms(bad), undefined, bad);
});

/** Draws at random on some boards that see each other's operations only by chance; returns all operations. */
function drawing(steps: ReadonlyArray<readonly [who: number, what: number, seen: number]>, boards: Board[]): Op[] {
  const ops: Op[] = [];
  for (const [who, what, seen] of steps) {
    const b = boards[who]!;
    for (const op of ops.slice(0, seen)) b.apply(op);
    const kind = (["begin", "points", "points", "begin", "undo", "clear"] as const)[what]!;
    const op: Op = { author: who + 1, seq: b.count(who + 1) + 1, time: b.time, kind, colour: what, width: 3, points: kind === "begin" || kind === "points" ? [what, seen] : [] };
    b.apply(op);
    ops.push(op);
  }
  return ops;
}

const steps = fc.array(fc.tuple(fc.nat(2), fc.nat(5), fc.nat(60)), { maxLength: 60 });

test("a board is the same in whatever order, and however often, operations come", () => {
  fc.assert(fc.property(steps, fc.infiniteStream(fc.nat()), (steps, order) => {
    const ops = drawing(steps, [new Board(), new Board(), new Board()]);
    const straight = new Board();
    for (const op of ops) straight.apply(op);
    const mixed = new Board();
    const keys = [...ops, ...ops.slice(0, 10)].map((op) => [order.next().value as number, op] as const);
    for (const [, op] of keys.sort((a, b) => a[0] - b[0])) mixed.apply(op);
    assert.equal(mixed.text(), straight.text());
    assert.equal(svg(mixed.strokes()), svg(straight.strokes()));
    assert.deepEqual(new Map([...mixed.digest()].sort()), new Map([...straight.digest()].sort()));
  }));
});

test("what is lacking by a digest makes boards the same", () => {
  fc.assert(fc.property(steps, fc.nat(60), (steps, had) => {
    const ops = drawing(steps, [new Board(), new Board(), new Board()]);
    const [whole, part] = [new Board(), new Board()];
    for (const op of ops) whole.apply(op);
    for (const op of ops.slice(0, had)) part.apply(op);
    for (const op of encodeOps(whole.lacking(part.digest(), whole.digest())).flatMap(parseOps)) part.apply(op);
    assert.equal(part.text(), whole.text());
  }));
});

test("what changes is told as little as it is", () => {
  const b = new Board();
  const op = (author: number, seq: number, time: number, kind: Op["kind"]): Op => ({ author, seq, time, kind, colour: 0, width: 1, points: kind === "begin" || kind === "points" ? [1, 2] : [] });
  assert.equal(b.apply(op(1, 1, 1, "begin")), "more");
  assert.equal(b.apply(op(1, 2, 1, "points")), "more");
  assert.equal(b.apply(op(1, 2, 1, "points")), "nothing");
  assert.equal(b.apply(op(2, 1, 2, "begin")), "more");
  assert.equal(b.apply(op(1, 3, 2, "points")), "all"); // below another
  assert.equal(b.apply(op(1, 5, 3, "points")), "nothing"); // not yet its turn
  assert.equal(b.apply(op(1, 4, 3, "undo")), "all");
  assert.equal(b.apply(op(2, 2, 9, "clear")), "all");
  assert.equal(b.strokes().length, 0);
  assert.equal(b.apply(op(3, 1, 4, "begin")), "nothing"); // was drawn before the board was cleared
});

test("one helps who lacks something, and the next one if that one does not", () => {
  const all = new Map([[7, 10]]);
  const [first, second] = [new Repair(), new Repair()];
  for (const r of [first, second]) {
    r.heard(1, 11, all);
    r.heard(2, 12, all);
    r.due(0, 0, all);
    r.heard(3, 10, new Map([[7, 4]])); // the newcomer's own number counts for nothing
  }
  const ask = (r: Repair, self: number, now: number): unknown => r.due(now, self, all);
  assert.deepEqual(ask(first, 5, 1100), [{ has: new Map([[7, 4]]), should: all }]);
  assert.deepEqual(ask(second, 20, 1100), []);
  assert.deepEqual(ask(first, 5, 1200), []); // it is on its way
  assert.deepEqual(ask(second, 20, 1500), []);
  assert.equal((ask(second, 20, 2001) as unknown[]).length, 1); // nobody has helped
  first.heard(3, 10, all);
  assert.deepEqual(ask(first, 5, 9000), []);
});

test("what was drawn only now is not sent again", () => {
  const r = new Repair();
  r.heard(1, 11, new Map());
  assert.deepEqual(r.due(0, 1, new Map()), []);
  assert.deepEqual(r.due(100, 1, new Map([[1, 5]])), []);
  assert.deepEqual(r.due(900, 1, new Map([[1, 9]])), []);
  assert.deepEqual(r.due(1150, 1, new Map([[1, 9]])), [{ has: new Map(), should: new Map([[1, 5]]) }]);
});

/** Random numbers that are the same each time. */
function random(seed: number): () => number {
  return () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return seed / 2 ** 32;
  };
}

/** A hand that moves evenly at 60 Hz over a path that delays each sample by up to `jitter` ms, in order; what is seen at 60 Hz. */
function movement(jitter: number, seconds: number): Array<{ now: number; at: number }> {
  const next = random(jitter + 1);
  const s = new Smooth();
  const arrivals: Array<{ at: number; arrives: number }> = [];
  let last = 0;
  for (let at = 0; at < seconds * 1000; at += 1000 / 60) arrivals.push({ at, arrives: (last = Math.max(last, at + 30 + next() * jitter)) });
  const seen: Array<{ now: number; at: number }> = [];
  for (let now = 0; now < seconds * 1000; now += 1000 / 60) {
    while (arrivals[0] && arrivals[0].arrives <= now) {
      const a = arrivals.shift()!;
      s.put(a.at, [a.at], a.arrives);
    }
    const v = s.get(now);
    if (v) seen.push({ now, at: v[0]! });
  }
  return seen;
}

for (const jitter of [0, 30, 100]) {
  test(`movement stays even with ${jitter} ms of jitter`, () => {
    const seen = movement(jitter, 20).filter((s) => s.now > 5000);
    const steps = seen.slice(1).map((s, i) => s.at - seen[i]!.at);
    const off = steps.filter((d) => Math.abs(d - 1000 / 60) > 0.15 * (1000 / 60));
    assert.ok(off.length <= steps.length * 0.02, `${off.length} of ${steps.length} steps are uneven`);
    assert.ok(Math.max(...seen.map((s) => s.now - s.at)) <= 30 + 20 + jitter * 1.3, `as far behind as ${Math.max(...seen.map((s) => s.now - s.at))} ms`);
  });
}

test("a hand that rests is where it was left, and goes on from there", () => {
  const s = new Smooth({ min: 20, max: 250 });
  for (let at = 0; at <= 1000; at += 20) s.put(at, [at], at + 10);
  assert.deepEqual(s.get(5000), [1000]);
  s.put(5000, [2000], 5010);
  assert.deepEqual(s.get(5010), [1000 + 1000 * ((5010 - 30 - 4950) / 50)]); // it did not creep there for four seconds
  assert.deepEqual(s.get(5100), [2000]);
  s.put(4000, [0], 5200); // what is older than what is known
  assert.deepEqual(s.get(5300), [2000]);
});

test("poses mix by the shorter way and stay turns", () => {
  const stand = { x: 0, z: 0, pitch: 0, reach: [0, 0] as const };
  const [a, b] = [poseOf({ ...stand, yaw: 3.1 }, 0), poseOf({ ...stand, yaw: -3.1 }, 0)]; // 0.083 apart, by the back
  assert.equal(a.length, poseFloats);
  const m = mixPose([...a], [...b], 0.5);
  assert.ok(Math.abs(Math.hypot(...m.slice(3, 7)) - 1) < 1e-6);
  const [x, y, z] = turned(m, 3, [0, 0, -1]);
  assert.ok(Math.abs(x) < 1e-3 && Math.abs(y) < 1e-3 && Math.abs(z - 1) < 1e-3, `${x} ${y} ${z}`);
});
