// A viewer behind a path that is too slow, with all that decides for it: Standing, Choice, Playout. Time and the path are made up.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Choice } from "../src/choice.js";
import { latencies, Playout, type Latency } from "../src/playout.js";
import { Standing } from "../src/standing.js";

const soundEvery = 20;
const pictureEvery = 1000 / 30;
const groupMillis = 2000;

interface Seen {
  silent: number; // ms of sound that came after its moment, or not at all
  pictures: number;
  stills: number;
  worst: number; // ms that sound was late at most
  rises: number;
}

/**
 * Lets a broadcast of three qualities (full, small, stills: of pictures so many bits per second) go for `seconds` to a viewer whose path carries
 * `capacity` bits per second, first in first out, and holds all that waits: nobody but the viewer sees that it is slow.
 */
function watch(latency: Latency, seconds: number, capacity: (now: number) => number, rates = [400_000, 100_000, 50_000], start = 0): Seen {
  const seen: Seen = { silent: 0, pictures: 0, stills: 0, worst: 0, rises: 0 };
  const [choice, standing, playout] = [new Choice(rates.length), new Standing(Math.max(200, latency.max * 0.3)), new Playout(latency)];
  const path: Array<{ left: number; pts: number; sound: boolean; quality: number; key: boolean }> = [];
  let sends = 0; // the quality that the server sends
  let lastTick = 0;
  const heard = new Set<number>();
  const picture = (now: number): void => {
    const key = now % groupMillis < pictureEvery;
    const bytes = (rates[sends]! * pictureEvery) / 8000;
    const stills = sends === rates.length - 1;
    if (stills && !key) return;
    const size = stills ? (rates[sends]! * groupMillis) / 8000 : key ? bytes * 6 : bytes * 0.917;
    path.push({ left: size + 28, pts: now, sound: false, quality: sends, key });
  };
  let [nextSound, nextPicture] = [0, 0];
  for (let now = 0; now < seconds * 1000; now += 5) {
    if (now >= nextSound) {
      path.push({ left: 240 + 28, pts: nextSound, sound: true, quality: sends, key: false });
      nextSound += soundEvery;
    }
    if (now >= nextPicture) {
      picture(nextPicture);
      nextPicture += pictureEvery;
    }
    for (let budget = (capacity(now) * 5) / 8000; path[0] && budget > 0; ) {
      const n = Math.min(budget, path[0].left);
      budget -= n;
      path[0].left -= n;
      if (path[0].left > 0) break;
      const m = path.shift()!;
      if (!m.sound) {
        playout.arrived(m.pts, now);
        if (m.quality === rates.length - 1) seen.stills++;
        else seen.pictures++;
        if (m.key && choice.at < sends) [sends, seen.rises] = [choice.at, seen.rises + 1];
        continue;
      }
      playout.arrived(m.pts, now);
      if (standing.arrived(m.pts, now)) {
        playout.retreat(now);
        if (choice.slow(now) && choice.at > sends) sends = choice.at;
      }
      seen.worst = Math.max(seen.worst, now - m.pts);
      if (m.pts >= (playout.position(now) ?? 0)) heard.add(m.pts);
    }
    if (now - lastTick >= 500) {
      lastTick = now;
      choice.tick(now);
      playout.floor = choice.pressed ? Math.min(playout.floor + 40, latency.max) : Math.max(0, playout.floor - 10);
    }
  }
  for (let pts = start; pts < seconds * 1000 - 5000; pts += soundEvery) if (!heard.has(pts)) seen.silent += soundEvery;
  return seen;
}

test("half of the rate, after a while: sound goes on, and so do pictures", () => {
  for (const [name, latency] of Object.entries(latencies)) {
    const s = watch(latency, 70, (now) => (now < 5000 ? 10e6 : 248_000));
    assert.ok(s.silent <= 65_000 * 0.02, `${name}: ${JSON.stringify(s)}`);
    assert.ok(s.pictures + s.stills > 60, `${name}: ${JSON.stringify(s)}`);
  }
});

test("a path that carries hardly more than sound", () => {
  const s = watch(latencies.balanced, 120, (now) => (now < 5000 ? 10e6 : 170_000), [800_000, 50_000]);
  assert.ok(s.silent <= 115_000 * 0.03, JSON.stringify(s));
});

test("a path that has recovered gets the best again", () => {
  const s = watch(latencies.balanced, 90, (now) => (now < 5000 || now > 30_000 ? 10e6 : 248_000));
  assert.ok(s.pictures > 1500, JSON.stringify(s));
});

test("a path that carries all of it is left alone, and so is one that pauses, and one that varies", () => {
  assert.deepEqual(watch(latencies.balanced, 60, () => 700_000).rises, 0);
  assert.equal(watch(latencies.balanced, 60, (now) => (now % 7000 < 900 ? 0 : 10e6)).stills, 0);
  fc.assert(fc.property(fc.array(fc.integer({ min: 0, max: 250 }), { minLength: 300, maxLength: 300 }), (late) => {
    const st = new Standing(400);
    let at = 0;
    late.forEach((l, i) => {
      at = Math.max(at, i * 20 + l);
      assert.equal(st.arrived(i * 20, at), false);
    });
  }));
});

test("a queue that grows is found while it is short", () => {
  fc.assert(fc.property(fc.double({ min: 0.2, max: 0.9, noNaN: true }), fc.integer({ min: 200, max: 1200 }), (carries, limit) => {
    const st = new Standing(limit);
    let found = NaN;
    for (let i = 0; i < 10_000 && Number.isNaN(found); i++) {
      const late = i < 200 ? 0 : (i - 200) * 20 * (1 / carries - 1);
      if (st.arrived(i * 20, i * 20 + late)) found = late;
    }
    assert.ok(found > limit && found <= limit + 300 + 40 / carries, `${found} ms late`);
  }));
});
