// A machine in a meeting that cannot follow, in made-up time: Strain, and what is taken and sent then.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { levelFor, levels } from "../meeting/carry.js";
import { eases, Strain, type Ease } from "../meeting/strain.js";

const every = 250;

/** Lets timers come as late as `late` says, by when and by how much is done; returns what was done at each. */
function work(seconds: number, late: (now: number, ease: Ease) => number, strain = new Strain(), from = 0): Ease[] {
  const seen: Ease[] = [];
  for (let now = from; now < from + seconds * 1000; now += every) {
    const before = strain.ease;
    assert.equal(strain.timer(late(now, before), now), strain.ease !== before);
    seen.push(strain.ease);
  }
  return seen;
}

test("a machine that follows does all, and so does one that stands still for once", () => {
  assert.ok(work(600, () => 3).every((e) => e === "none"));
  assert.ok(work(600, (now) => (now % 60_000 === 0 ? 5000 : 3)).every((e) => e === "none"), "a long pause each minute");
  assert.ok(work(600, (now) => (now % 2000 === 0 ? 120 : 3)).every((e) => e === "none"), "a short one each two seconds");
});

test("a machine that is late all the time does less within seconds, one thing at a time, until it follows", () => {
  const needs: Record<Ease, number> = { none: 150, half: 90, small: 5 };
  const seen = work(120, (_, e) => needs[e]);
  assert.ok(seen.indexOf("half") * every <= 4000, `half after ${seen.indexOf("half") * every} ms`);
  assert.ok(seen.indexOf("small") * every <= 12_000, `small after ${seen.indexOf("small") * every} ms`);
  assert.ok(seen.lastIndexOf("none") * every <= 4000, "all of it is not tried again");
});

test("what fails again and again is tried seldom, and a machine that has time again does all", () => {
  const strain = new Strain();
  const seen = work(1200, (_, e) => (e === "none" ? 150 : 5), strain);
  const tries = seen.filter((e, i) => e === "none" && seen[i - 1] === "half").length;
  assert.ok(tries > 1 && tries < 12, `${tries} tries in 20 minutes`);
  work(300, () => 5, strain, 1_200_000);
  assert.equal(strain.ease, "none");
});

test("strain: whatever timers do, one step at a time, and none within seconds of the last one down", () => {
  fc.assert(fc.property(fc.array(fc.integer({ min: -10, max: 2000 }), { minLength: 1, maxLength: 400 }), (lates) => {
    const strain = new Strain();
    let [before, fellAt] = [0, -Infinity];
    lates.forEach((late, i) => {
      strain.timer(late, i * every);
      const now = eases.indexOf(strain.ease);
      assert.ok(Math.abs(now - before) <= 1);
      if (now > before) {
        assert.ok(i * every - fellAt >= 4000);
        fellAt = i * every;
      }
      assert.ok(strain.late >= 0 && strain.late <= 400);
      before = now;
    });
  }));
});

test("what is taken is the less of what the path carries and the machine can do", () => {
  for (const path of levels) {
    assert.equal(levelFor(path, "none"), path);
    for (const e of ["half", "small"] as const) assert.equal(levelFor(path, e), path === "all" ? "small" : path);
  }
});
