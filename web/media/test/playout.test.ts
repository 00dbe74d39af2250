import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { latencies, Playout, type Latency } from "../src/playout.js";
import { SoundRing } from "../src/soundring.js";

/** Plays a stream of a sample each 20 ms that take `way(i)` ms; returns the playout and how many samples came after their moment. */
function play(latency: Latency, n: number, way: (i: number) => number, from = 0): { p: Playout; late: number; positions: number[] } {
  const p = new Playout(latency);
  const arrivals = Array.from({ length: n }, (_, i) => ({ pts: i * 20, at: 50_000 + i * 20 + way(i) })).sort((a, b) => a.at - b.at);
  let late = 0;
  const positions: number[] = [];
  let next = 0;
  for (let now = 50_000; now < 50_000 + n * 20; now += 5) {
    for (; arrivals[next] && arrivals[next]!.at <= now; next++) {
      const a = arrivals[next]!;
      p.arrived(a.pts, a.at);
      if (a.pts / 20 >= from && a.pts < (p.position(now) ?? -Infinity)) late++;
    }
    const at = p.position(now);
    if (at !== undefined) positions.push(at);
  }
  return { p, late, positions };
}

test("nothing before something has arrived", () => {
  assert.equal(new Playout().position(1), undefined);
});

test("a steady path costs what was chosen, no more", () => {
  for (const latency of Object.values(latencies)) {
    const { p, late } = play(latency, 500, () => 30);
    assert.ok(Math.abs(p.delay - latency.min) < 5, `${p.delay} for ${latency.min}`);
    assert.equal(late, 0);
  }
});

test("on a path that varies nearly all is in time once it is known", () => {
  let seed = 1;
  const random = (): number => (seed = (seed * 48271) % 2147483647) / 2147483647;
  const { p, late } = play(latencies.lowest, 2000, () => 30 + random() * 80, 500);
  assert.ok(late < 1500 * 0.06, `${late} late`);
  assert.ok(p.delay > 60 && p.delay < 110, `${p.delay}`);
});

test("after a bad time the delay comes back", () => {
  let seed = 1;
  const random = (): number => (seed = (seed * 48271) % 2147483647) / 2147483647;
  const { p } = play(latencies.lowest, 2500, (i) => 30 + (i < 500 ? random() * 200 : 0));
  assert.ok(p.delay < 20, `${p.delay}`);
});

test("who joins late catches up at once: a group that is old does not count as a slow path", () => {
  const p = new Playout(latencies.lowest);
  for (let i = 0; i < 60; i++) p.arrived(i * 33, 10_000 + i); // two seconds, in 60 ms
  for (let i = 60; i < 90; i++) p.arrived(i * 33, 10_060 + (i - 60) * 33);
  const at = p.position(10_060 + 30 * 33)!;
  assert.ok(90 * 33 - at < 60, `${90 * 33 - at} behind`);
});

test("a pause, after which all comes at once, is caught up with", () => {
  const p = new Playout(latencies.lowest);
  let now = 0;
  for (let i = 0; i < 300; i++) p.arrived(i * 20, (now = 1000 + i * 20));
  for (let i = 300; i < 400; i++) p.arrived(i * 20, (now = 1000 + 400 * 20)); // nothing for 2 s
  for (let i = 400; i < 800; i++) {
    p.arrived(i * 20, (now = 1000 + i * 20));
    p.position(now);
  }
  assert.ok(p.delay < 60, `${p.delay}`);
});

test("the lead is kept", () => {
  const p = new Playout(latencies.lowest);
  p.lead = 70;
  for (let i = 0; i < 500; i++) {
    p.arrived(i * 20, 1000 + i * 20);
    p.position(1000 + i * 20);
  }
  assert.ok(Math.abs(p.delay - 70) < 5);
});

test("playout: time goes on, whatever arrives when", () => {
  fc.assert(fc.property(fc.array(fc.tuple(fc.integer({ min: 0, max: 1e6 }), fc.integer({ min: 0, max: 500 })), { maxLength: 200 }), fc.constantFrom(...Object.values(latencies)), (events, latency) => {
    const p = new Playout(latency);
    let now = 0;
    for (const [pts, passed] of events) {
      now += passed;
      p.arrived(pts, now);
      const at = p.position(now);
      assert.ok(at !== undefined && Number.isFinite(at));
      assert.ok(Number.isFinite(p.delay));
    }
  }));
});

/** A tone by its timestamps: sample i of the stream is i/rate. */
function ramp(pts: number, n: number, rate: number): Float32Array {
  return Float32Array.from({ length: n }, (_, i) => (pts / 1000 + i / rate) / 1000);
}

test("sound is played at its moment", () => {
  const ring = new SoundRing(48_000, 1);
  for (let i = 0; i < 50; i++) ring.put(5000 + i * 20, [ramp(5000 + i * 20, 960, 48_000)]);
  const out = new Float32Array(128);
  for (let b = 0; b < 200; b++) ring.pull([out], 5100 + (b * 128) / 48);
  const last = 5100 + (199 * 128 + 127) / 48;
  assert.ok(Math.abs(out[127]! * 1e6 - last) < 1, `${out[127]! * 1e6} for ${last}`);
  assert.equal(ring.missed, 0);
});

test("sound follows a position that drifts, without a jump", () => {
  const ring = new SoundRing(48_000, 1);
  for (let i = 0; i < 350; i++) ring.put(i * 20, [ramp(i * 20, 960, 48_000)]);
  const out = new Float32Array(128);
  for (let b = 0; b < 1500; b++) {
    const before = out[127]!;
    const wanted = 1000 + ((b * 128) / 48) * 1.005;
    ring.pull([out], wanted);
    if (b > 2) assert.ok(out[0]! > before && (out[0]! - before) * 1e6 < 0.03);
    if (b > 500) assert.ok(Math.abs(ring.position! - wanted) < 15, `${ring.position! - wanted} ms off`);
  }
  assert.equal(ring.missed, 0);
});

test("a hole is silent, is counted, and what comes behind it is in its place", () => {
  const ring = new SoundRing(48_000, 2);
  for (let i = 0; i < 50; i++) if (i < 10 || i >= 20) ring.put(i * 20, [new Float32Array(960).fill(0.5)]);
  const out = [new Float32Array(128), new Float32Array(128)];
  let loud = 0;
  for (let b = 0; b < 300; b++) {
    const wanted = (b * 128) / 48;
    ring.pull(out, wanted);
    if (out.every((o) => o[64]! > 0.4)) loud++;
    if (wanted > 205 && wanted < 390) assert.equal(out[0]![64], 0);
  }
  assert.ok(Math.abs(ring.missed - 200) < 5, `${ring.missed}`);
  assert.ok(loud > 200);
});

/** Plays from a moment on, and returns the ring's samples of the first channel at each block's middle, by their wanted moments. */
function listen(ring: SoundRing, from: number, to: number): Map<number, number> {
  const out = [new Float32Array(128)];
  const heard = new Map<number, number>();
  for (let wanted = from; wanted < to; wanted += 128 / 48) {
    ring.pull(out, wanted);
    heard.set(wanted + 64 / 48, out[0]![64]!);
  }
  return heard;
}

test("a pause that is meant is not missing, whatever comes first: its beginning, what is before it, or what is behind", () => {
  const piece = (i: number): [number, Float32Array[]] => [i * 20, [new Float32Array(960).fill(0.5)]];
  const orders: Array<[name: string, fill: (ring: SoundRing) => void]> = [
    ["in order", (r) => {
      for (let i = 0; i < 10; i++) r.put(...piece(i));
      r.hush(200);
      for (let i = 20; i < 30; i++) r.put(...piece(i));
    }],
    ["told before the last pieces are decoded", (r) => {
      for (let i = 0; i < 8; i++) r.put(...piece(i));
      r.hush(200);
      for (let i = 8; i < 10; i++) r.put(...piece(i));
      for (let i = 20; i < 30; i++) r.put(...piece(i));
    }],
    ["twice, with a piece between", (r) => {
      for (let i = 0; i < 9; i++) r.put(...piece(i));
      r.hush(180);
      r.put(...piece(9));
      r.hush(200);
      for (let i = 20; i < 30; i++) r.put(...piece(i));
    }],
  ];
  for (const [name, fill] of orders) {
    const ring = new SoundRing(48_000, 1);
    fill(ring);
    const heard = listen(ring, 0, 590);
    assert.equal(ring.missed, 0, name);
    assert.equal(ring.longest, 0, name);
    for (const [at, v] of heard) if (Math.abs(at - 200) > 5 && Math.abs(at - 400) > 5 && at > 5) assert.equal(v, at < 200 || at > 400 ? 0.5 : 0, `${name}: ${at}`);
  }
});

test("what does not come is missing, before a pause and behind it, but not in it however long it is", () => {
  const ring = new SoundRing(48_000, 1);
  for (let i = 0; i < 5; i++) ring.put(i * 20, [new Float32Array(960).fill(0.5)]);
  ring.hush(200); // what is between is lost
  listen(ring, 0, 30_000);
  assert.ok(Math.abs(ring.missed - 100) < 5, `${ring.missed}`);
  assert.ok(Math.abs(ring.longest - 100) < 5, `${ring.longest}`);
  ring.put(30_100, [new Float32Array(960).fill(0.5)]);
  listen(ring, 30_000, 30_220);
  assert.ok(Math.abs(ring.missed - 200) < 8, `${ring.missed}`);
});

test("in a pause sound goes to where it should be at once", () => {
  const ring = new SoundRing(48_000, 1);
  for (let i = 0; i < 10; i++) ring.put(i * 20, [ramp(i * 20, 960, 48_000)]);
  ring.hush(200);
  for (let i = 20; i < 30; i++) ring.put(i * 20, [ramp(i * 20, 960, 48_000)]);
  listen(ring, 0, 300);
  const out = [new Float32Array(128)];
  ring.pull(out, 350); // 50 ms are left out: less than would be jumped over
  assert.ok(Math.abs(ring.position! - 350 - 128 / 48) < 1, `${ring.position}`);
});

test("sound ring: any sound, any wishes: no noise, bounded", () => {
  const step = fc.oneof(
    fc.record({ put: fc.integer({ min: 0, max: 60_000 }), n: fc.integer({ min: 0, max: 3000 }) }),
    fc.record({ hush: fc.integer({ min: 0, max: 60_000 }) }),
    fc.record({ wanted: fc.option(fc.integer({ min: 0, max: 60_000 }), { nil: undefined }) }),
  );
  fc.assert(fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
    const ring = new SoundRing(8000, 2);
    const out = [new Float32Array(128), new Float32Array(128)];
    for (const s of steps) {
      if ("put" in s) ring.put(s.put, [new Float32Array(s.n).fill(1)]);
      else if ("hush" in s) ring.hush(s.hush);
      else ring.pull(out, s.wanted);
      for (const o of out) for (const v of o) assert.ok(v >= 0 && v <= 1);
    }
  }), { numRuns: 60 });
});
