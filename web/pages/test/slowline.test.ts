// Somebody in a meeting whose path has become too slow, with all that decides there: Carry, Behind, Playout. Time and the path are made up.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Playout } from "@timedge/media";
import { Behind, Carry, smallOf, type Level, type Size } from "../meeting/carry.js";

const others = 5;
const large = { width: 320, height: 180, fps: 15, bitrate: 250_000 };
const qualities = { large, small: smallOf(large) };
const soundEvery = 20;
const soundBytes = 80;
/** Around each message, bytes; what a connection sends before it is another's turn; what dialling takes, and what sound needs to the ear, ms. */
const header = 28;
const turn = 1400;
const dialMillis = 100;
const need = 40;

interface Packet {
  left: number;
  pts: number;
  from: number;
  size: Size; // "none": it is sound
  key: boolean;
}

/** Somebody else, as it is taken. */
interface Other {
  way: Behind;
  soundWay: Behind;
  playout: Playout;
  current: Size;
  coming: Size;
  sent: Map<Size, { nextAt: number; keyAt: number }>; // by the server
  pictures: number; // that have come since the path became slow
}

interface Seen {
  silent: number; // ms of sound that came after its moment, of all
  spoken: number; // ms of sound
  levels: Record<Level, number>; // ms
  changes: number;
  pictures: number[]; // of each
}

/** What a path has to carry for all of the large pictures and the sound, bits per second. */
const all = others * (large.bitrate + (header * 8 * large.fps) + ((soundBytes + header) * 8 * 1000) / soundEvery / 2);

/**
 * Lets a meeting go for `seconds`; after five the path carries `capacity` bits per second and holds all that waits. Connections take turns, as those
 * that share a line do, or, `shared`, all stand in one queue. Everybody speaks half of the time.
 */
function meet(seconds: number, capacity: (now: number) => number, shared: boolean): Seen {
  const carry = new Carry();
  const seen: Seen = { silent: 0, spoken: 0, levels: { all: 0, small: 0, one: 0, none: 0 }, changes: 0, pictures: [] };
  const list: Other[] = Array.from({ length: others }, () => {
    const playout = new Playout({ min: 150, max: 1000 });
    playout.lead = need;
    return { way: new Behind(), soundWay: new Behind(), playout, current: "none", coming: "none", sent: new Map(), pictures: 0 };
  });
  const heard = new Set<string>();
  let sounds: Packet[] = [];
  let pictures: Packet[] = shared ? sounds : [];
  let dialled = 0; // when the connection for pictures is there
  let [rest, lead] = [turn, 0]; // of the turn, and whose it is

  const wanted = (i: number): Size => (carry.level === "none" || (carry.level === "one" && i > 0) ? "none" : carry.level === "all" ? "large" : "small");
  const choose = (now: number): void => {
    for (const [i, o] of list.entries()) {
      const want = wanted(i);
      if (o.coming !== "none" && o.coming !== want) {
        o.sent.delete(o.coming);
        o.coming = "none";
      }
      if (want === "none") [o.current, o.sent] = ["none", new Map()];
      else if (now >= dialled && o.coming === "none" && (o.current !== want || !o.sent.has(want))) {
        o.coming = want;
        o.sent.set(want, { nextAt: now, keyAt: now });
      }
    }
  };
  const relieve = (now: number): void => {
    seen.changes++;
    const keep = pictures.filter((p) => p.size === "none");
    if (shared) sounds = pictures = keep;
    else pictures = [];
    for (const o of list) [o.sent, o.coming] = [new Map(), "none"];
    dialled = now + dialMillis;
  };
  const arrived = (p: Packet, now: number): void => {
    const o = list[p.from]!;
    if (p.size === "none") {
      o.playout.arrivedSound(p.pts, soundEvery, now, need);
      if (p.pts >= (o.playout.position(now) ?? 0) + need) heard.add(`${p.from} ${p.pts}`);
      if (carry.behindSound(o.soundWay.arrived(p.pts, now), now)) relieve(now);
      return;
    }
    if (p.size === o.coming && p.key) {
      if (o.current !== p.size) o.sent.delete(o.current);
      [o.current, o.coming] = [p.size, "none"];
      o.way.forget();
    }
    if (p.size !== o.current) return;
    if (now > 5000) o.pictures++;
    o.playout.arrivedPicture(p.pts, now);
    if (carry.behind(o.way.arrived(p.pts, now), now)) relieve(now);
  };
  const speaks = (i: number, now: number): boolean => (now + i * 700) % 2400 < 1200;

  const step = 5;
  for (let now = 0; now < seconds * 1000; now += step) {
    for (const [i, o] of list.entries()) {
      if (now % soundEvery === 0 && speaks(i, now)) sounds.push({ left: soundBytes + header, pts: now, from: i, size: "none", key: false });
      for (const [size, s] of o.sent) {
        if (now < s.nextAt) continue;
        const q = qualities[size as "large" | "small"];
        const key = now >= s.keyAt;
        const average = q.bitrate / 8 / q.fps;
        pictures.push({ left: (key ? average * 5 : average * (1 - 4 / (2 * q.fps))) + header, pts: now, from: i, size, key });
        s.nextAt = now + 1000 / q.fps;
        if (key) s.keyAt = now + 2000;
      }
    }
    for (let budget = (capacity(now) * step) / 8000; budget > 0; ) {
      if (rest <= 0) [rest, lead] = [turn, 1 - lead];
      const queue = [sounds, pictures][lead]!.length > 0 ? [sounds, pictures][lead]! : [sounds, pictures][1 - lead]!;
      const first = queue[0];
      if (!first) break;
      const n = Math.min(budget, first.left, rest);
      [first.left, budget, rest] = [first.left - n, budget - n, rest - n];
      if (first.left > 0) continue;
      queue.shift();
      arrived(first, now);
    }
    if (now % 250 === 0) {
      if (carry.tick(now)) seen.changes++;
      if (now >= dialled) choose(now);
    }
    seen.levels[carry.level] += step;
  }
  for (let pts = 6000; pts < seconds * 1000 - 3000; pts += soundEvery) {
    for (let i = 0; i < others; i++) {
      if (!speaks(i, pts)) continue;
      seen.spoken += soundEvery;
      if (!heard.has(`${i} ${pts}`)) seen.silent += soundEvery;
    }
  }
  seen.pictures = list.map((o) => o.pictures);
  return seen;
}

for (const [name, shared] of [["connections take turns", false], ["all stand in one queue", true]] as const) {
  test(`half of what it needs: sound goes on, pictures become small and stay; ${name}`, () => {
    const s = meet(120, (now) => (now < 5000 ? 10e6 : all / 2), shared);
    const told = JSON.stringify(s);
    assert.ok(s.silent <= s.spoken * (shared ? 0.03 : 0.002), told);
    assert.ok(s.levels.small > 90_000 && s.levels.one + s.levels.none === 0, told);
    for (const n of s.pictures) assert.ok(n > 115 * qualities.small.fps * 0.9, told);
  });
  test(`hardly more than sound: pictures give way; ${name}`, () => {
    const s = meet(120, (now) => (now < 5000 ? 10e6 : all / 9), shared);
    assert.ok(s.silent <= s.spoken * 0.05, JSON.stringify(s));
  });
  test(`all that it needs: nothing is given up, through breaks too; ${name}`, () => {
    for (const capacity of [() => all * 1.4, (now: number): number => (now % 7000 > 6300 ? 0 : 10e6)]) {
      const s = meet(60, capacity, shared);
      assert.equal(s.changes, 0, JSON.stringify(s));
    }
  });
}
