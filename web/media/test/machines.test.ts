// The machines that decide: no clock, no browser. Time is what the test says.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Choice } from "../src/choice.js";
import { Gate, levelOf } from "../src/gate.js";
import { KeyFrames } from "../src/keyframes.js";
import { PictureQueue } from "../src/picturequeue.js";
import { RateControl } from "../src/rate.js";
import { SourceClock } from "../src/sourceclock.js";

test("key pictures come each 2 s, sooner when wanted, never two at once", () => {
  const k = new KeyFrames();
  assert.equal(k.take(0), true);
  assert.equal(k.take(1999), false);
  assert.equal(k.take(2000), true);
  k.want();
  assert.equal(k.take(2100), false);
  assert.equal(k.take(2400), true);
  assert.equal(k.take(2900), false);
});

test("key pictures: bounds for any wishes", () => {
  fc.assert(fc.property(fc.array(fc.boolean(), { minLength: 200, maxLength: 200 }), (wishes) => {
    const k = new KeyFrames();
    let last = -Infinity;
    wishes.forEach((w, i) => {
      const now = i * 33;
      if (w) k.want();
      if (!k.take(now)) {
        assert.ok(now - last < 2000);
        return;
      }
      assert.ok(now - last >= 400);
      last = now;
    });
  }));
});

/** A path of so many bits per second behind a way of so many ms, fed by an encoder that makes exactly what it is asked for. */
function run(rate: RateControl, capacity: (now: number) => number, way: number, millis: number): { skipped: number; worst: number } {
  const queue: Array<{ left: number }> = [];
  const acks: Array<{ at: number; bytes: number }> = [];
  let [pushed, acked, skipped, worst] = [0, 0, 0, 0];
  for (let now = 0; now < millis; now += 10) {
    let budget = (capacity(now) * 10) / 8000;
    while (queue[0] && budget > 0) {
      const n = Math.min(queue[0].left, budget);
      budget -= n;
      queue[0].left -= n;
      acks.push({ at: now + way, bytes: n });
      if (queue[0].left <= 0) queue.shift();
    }
    while (acks[0] && acks[0].at <= now) acked += acks.shift()!.bytes;
    if (now % 30 === 0) {
      rate.update(now, pushed, Math.floor(acked));
      worst = Math.max(worst, rate.queued);
      if (!rate.admits(0)) skipped++;
      else {
        const bytes = Math.round((rate.bitrate * 30) / 8000);
        pushed += bytes;
        queue.push({ left: bytes });
      }
    }
  }
  return { skipped, worst };
}

test("the rate stays where the path carries it", () => {
  for (const way of [5, 60, 300]) {
    const r = new RateControl({ min: 50_000, max: 1_000_000 });
    assert.equal(run(r, () => 5_000_000, way, 20_000).skipped, 0);
    assert.equal(r.bitrate, 1_000_000, `way of ${way} ms`);
  }
});

test("the rate falls to what a path carries, and rises again", () => {
  for (const way of [5, 60, 200]) {
    const r = new RateControl({ min: 50_000, max: 1_000_000 });
    run(r, () => 400_000, way, 30_000);
    assert.ok(r.bitrate > 150_000 && r.bitrate < 520_000, `${r.bitrate} on a path of 400,000 with a way of ${way} ms`);
    const again = new RateControl({ min: 50_000, max: 1_000_000 });
    run(again, (now) => (now < 10_000 ? 300_000 : 5_000_000), way, 60_000);
    assert.equal(again.bitrate, 1_000_000);
  }
});

test("the rate is within its bounds for any path, and a path that stands still is not fed", () => {
  fc.assert(fc.property(fc.array(fc.integer({ min: 0, max: 2_000_000 }), { minLength: 10, maxLength: 10 }), fc.integer({ min: 1, max: 400 }), (capacities, way) => {
    const r = new RateControl({ min: 50_000, max: 1_000_000 });
    run(r, (now) => capacities[Math.floor(now / 1000) % 10]!, way, 10_000);
    assert.ok(r.bitrate >= 50_000 && r.bitrate <= 1_000_000);
  }), { numRuns: 40 });
  const { skipped } = run(new RateControl({ min: 50_000, max: 1_000_000 }), () => 0, 10, 5000);
  assert.ok(skipped > 100);
});

test("an encoder that does not follow is not fed", () => {
  const r = new RateControl({ min: 1, max: 10 });
  assert.deepEqual([0, 1, 2, 3, 9].map((n) => r.admits(n)), [true, true, true, false, false]);
});

test("a source's timestamps rise, and fit to when things were captured", () => {
  fc.assert(fc.property(fc.integer({ min: -1e9, max: 1e9 }), fc.array(fc.integer({ min: 0, max: 40 }), { minLength: 300, maxLength: 300 }), fc.integer({ min: -100, max: 100 }), (zero, jitter, ppm) => {
    const c = new SourceClock();
    jitter[0] = 0; // so that the quickest way is none
    let last = -Infinity;
    jitter.forEach((j, i) => {
      const captured = 1000 + i * 33;
      const placed = c.place((captured * (1 + ppm / 1e6)) + zero, captured + j);
      assert.ok(placed > last);
      assert.ok(Math.abs(placed - captured) <= 41, `${placed} for ${captured}`);
      last = placed;
    });
  }));
});

test("a source that begins anew is placed anew", () => {
  const c = new SourceClock();
  assert.equal(c.place(0, 5000), 5000);
  assert.equal(c.place(33, 5033), 5033);
  assert.equal(c.place(100_000, 6000), 6000);
});

test("pictures after a gap wait for a key picture", () => {
  const q = new PictureQueue<string>();
  const data = new Uint8Array(1);
  q.arrived({ pts: 0, key: false, data });
  assert.equal(q.decode(0), undefined);
  q.arrived({ pts: 33, key: true, data });
  assert.equal(q.decode(0)!.pts, 33);
  q.gap();
  q.arrived({ pts: 66, key: false, data });
  assert.equal(q.decode(0), undefined);
  assert.equal(q.waits, true);
  q.arrived({ pts: 99, key: true, data });
  assert.equal(q.decode(0)!.pts, 99);
  assert.equal(q.missed, 2);
});

test("a decoder that is behind skips to the newest key picture", () => {
  const q = new PictureQueue<string>();
  const data = new Uint8Array(1);
  for (let i = 0; i < 90; i++) q.arrived({ pts: i * 33, key: i % 30 === 0, data });
  assert.equal(q.decode(0)!.pts, 0);
  assert.equal(q.decode(3000)!.pts, 60 * 33);
  assert.equal(q.missed, 59);
});

// Whatever arrives, breaks and is asked for: the decoder gets unbroken groups only, pictures are shown in order and at most once, each is
// accounted for, and what is held decoded is bounded.
test("picture queue: any order of events", () => {
  const events = fc.array(fc.oneof(
    { weight: 6, arbitrary: fc.record({ do: fc.constant("arrive" as const), key: fc.boolean() }) },
    { weight: 5, arbitrary: fc.record({ do: fc.constant("decode" as const) }) },
    { weight: 5, arbitrary: fc.record({ do: fc.constant("made" as const) }) },
    { weight: 4, arbitrary: fc.record({ do: fc.constant("show" as const), late: fc.integer({ min: 0, max: 900 }) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("gap" as const, "failed" as const) }) },
  ), { maxLength: 300 });
  fc.assert(fc.property(events, (list) => {
    const q = new PictureQueue<number>();
    const data = new Uint8Array(1);
    let [n, shown, over, last, expect] = [0, 0, 0, -1, -1];
    const broken = new Set<number>(); // pictures that a gap stands before
    let decoder: number[] = [];
    let held = 0;
    for (const e of list) {
      switch (e.do) {
        case "arrive":
          q.arrived({ pts: n * 33, key: e.key, data });
          n++;
          break;
        case "gap":
          broken.add(n);
          q.gap();
          break;
        case "decode": {
          const c = q.decode(n * 33 - 300);
          if (!c) break;
          const i = Math.round(c.pts / 33);
          assert.ok(c.key || (i === expect && !broken.has(i)), `picture ${i} after ${expect - 1}`);
          expect = i + 1;
          decoder.push(i);
          break;
        }
        case "made": {
          const i = decoder.shift();
          if (i === undefined) break;
          q.made(i * 33, i);
          held++;
          break;
        }
        case "failed":
          decoder = [];
          expect = -1;
          q.failed();
          break;
        case "show": {
          const s = q.show(n * 33 - e.late);
          if (!s) break;
          for (const i of [...s.over, s.frame]) {
            assert.ok(i > last);
            last = i;
          }
          shown++;
          over += s.over.length;
          held -= s.over.length + 1;
        }
      }
      assert.ok(held + decoder.length <= 8);
    }
    const rest = q.clear().length;
    assert.equal(rest, held);
    assert.ok(shown + over + rest <= n && q.missed + shown + rest <= n);
  }));
});

test("the lightest quality at once when the path is slow, one better at a time after a calm that doubles while that fails", () => {
  const c = new Choice(3);
  c.tick(0);
  assert.equal(c.slow(2000), true);
  assert.deepEqual([c.at, c.pressed], [2, true]);
  assert.equal(c.slow(2500), false); // the same trouble
  assert.equal(c.slow(4000), false); // there is nothing less
  assert.equal(c.tick(8_999), false);
  assert.equal(c.tick(9_000), true);
  assert.equal(c.at, 1);
  assert.equal(c.slow(12_000), true); // too much
  assert.deepEqual([c.at, c.tick(21_999), c.tick(22_000), c.at], [2, false, true, 1]);
  assert.deepEqual([c.tick(31_999), c.tick(32_000), c.at, c.pressed], [false, true, 0, false]);
  assert.equal(c.slow(60_000), true); // long after: the calm is short again
  assert.deepEqual([c.tick(64_999), c.tick(65_000)], [false, true]);
});

test("a viewer's wish is the best there is, and is taken at once", () => {
  const c = new Choice(3);
  c.best = 1;
  assert.deepEqual([c.at, c.pressed], [1, false]);
  c.slow(2000);
  assert.equal(c.at, 2);
  for (let now = 3000; now < 500_000; now += 500) c.tick(now);
  assert.equal(c.at, 1);
  c.best = 9;
  assert.deepEqual([c.at, c.pressed], [2, false]);
});

test("the level of sound", () => {
  assert.equal(levelOf([]), 0);
  assert.ok(Math.abs(levelOf([Float32Array.of(0.5, -0.5), Float32Array.of(0.5, 0.5)]) - 0.5) < 1e-9);
});

/** Feeds a gate pieces of 10 ms; returns how many ms of them it was open. */
function feed(g: Gate, millis: number, level: (at: number) => number): number {
  let open = 0;
  for (let at = 0; at < millis; at += 10) {
    g.heard(level(at), 10);
    if (g.open) open += 10;
  }
  return open;
}

test("a gate is open while there is anything to hear, and a little longer", () => {
  const noise = (at: number): number => 0.004 * (1 + 0.3 * Math.sin(at));
  const cases: Array<[name: string, level: (at: number) => number, least: number, most: number]> = [
    ["nothing at all", () => 0, 0, 300],
    ["a fan", noise, 0, 300],
    ["words over a fan, 200 ms in 1000", (at) => noise(at) + (at % 1000 < 200 ? 0.03 : 0), 4600, 5400],
    ["soft words in a quiet room", (at) => (at % 1000 < 200 ? 0.003 : 0.0003), 4600, 5400],
    ["a tone that is held", () => 0.05, 10_000, 10_000],
    ["words without a pause", (at) => (at % 100 < 50 ? 0.1 : 0.002), 10_000, 10_000],
  ];
  for (const [name, level, least, most] of cases) {
    const open = feed(new Gate(), 10_000, level);
    assert.ok(open >= least && open <= most, `${name}: ${open} of 10000 ms`);
  }
  const g = new Gate();
  feed(g, 5000, noise);
  assert.equal(g.open, false);
  g.heard(0.05, 10);
  assert.equal(g.open, true, "with the first sound");
});
