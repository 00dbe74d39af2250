// The way of sound from packets to the ear, with all that decides: PacketTimes, Playout, and the worklet as it is. Time, the path and the decoder are
// made up.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { CaptureTimes } from "../src/capturetimes.js";
import { PacketTimes } from "../src/packettimes.js";
import { Playout } from "../src/playout.js";
import { SoundRing } from "../src/soundring.js";
import type { FromPlayer, ToPlayer } from "../src/worklet.js";

const rate = 16_000;
const packetMillis = 20;
const packetSamples = (packetMillis * rate) / 1000;
const block = 128;
const blockMillis = (block * 1000) / rate;

interface AudioThread {
  port: { onmessage(m: { data: ToPlayer[] }): void; postMessage(m: FromPlayer[]): void };
  process(inputs: unknown, outputs: Float32Array[][]): boolean;
}

/** What an AudioWorkletGlobalScope has. */
const scope = globalThis as unknown as Record<string, unknown>;
let makePlayer: (new () => AudioThread) | undefined;
scope["sampleRate"] = rate;
scope["currentTime"] = 0;
scope["AudioWorkletProcessor"] = class {
  port = { onmessage: () => {}, postMessage: () => {} };
};
scope["registerProcessor"] = (name: string, make: new () => AudioThread) => {
  if (name === "timedge-player") makePlayer = make;
};
await import("../src/worklet.js");

/** A decoder as Chromium's are: it tells the first packet's timestamp, and counts from there. What it takes varies; the order stays. */
class Decoder {
  private counted = NaN;
  private readyAt = -Infinity;
  readonly made: Array<{ at: number; own: number; level: number }> = [];

  decode(pts: number, level: number, now: number, lag: number): void {
    if (Number.isNaN(this.counted)) this.counted = pts;
    this.readyAt = Math.max(this.readyAt, now + lag);
    this.made.push({ at: this.readyAt, own: this.counted, level });
    this.counted += packetMillis;
  }
}

/** Somebody who talks: when each word begins and ends, ms; how long packets take to come, and to be decoded. */
interface Speaker {
  words: Array<[from: number, to: number]>;
  way: (pts: number) => number;
  lag: (pts: number) => number;
}

interface Heard {
  /** Of each, ms. */
  missed: number[];
  /** Levels, one a block. */
  levels: number[];
}

/** Lets people talk for so long, each packet at a level of its own. */
function talk(speakers: Speaker[], millis: number, level: (speaker: number, pts: number) => number): Heard {
  const player = new makePlayer!();
  const told = new Map<number, FromPlayer>();
  player.port.postMessage = (m) => m.forEach((f) => told.set(f.id, f));
  const tell = (m: ToPlayer): void => player.port.onmessage({ data: [m] });
  const people = speakers.map((s, id) => {
    const messages: Array<{ at: number; pts: number; silent: boolean }> = [];
    let last = 0; // what comes, comes in order
    const send = (pts: number, silent: boolean): void => void messages.push({ at: (last = Math.max(last, pts + packetMillis + s.way(pts))), pts, silent });
    for (const [from, to] of s.words) {
      for (let pts = from; pts < to; pts += packetMillis) send(pts, false);
      send(to, true);
    }
    return { ...s, id, messages, decoder: new Decoder(), times: new PacketTimes(), playout: new Playout({ min: 150, max: 1000 }) };
  });
  const levels: number[] = [];
  const out = [new Float32Array(block)];
  for (const { id } of people) tell({ id, channels: 1 });
  for (let now = 0; now < millis; now += blockMillis) {
    scope["currentTime"] = now / 1000;
    for (const p of people) {
      const { id } = p;
      for (let m = p.messages[0]; m && m.at <= now; m = p.messages[0]) {
        p.messages.shift();
        if (!m.silent) {
          p.times.packet(m.pts);
          p.decoder.decode(m.pts, level(id, m.pts), now, p.lag(m.pts));
        } else if (p.times.pause(m.pts)) tell({ id, silentFrom: m.pts });
      }
      for (let d = p.decoder.made[0]; d && d.at <= now; d = p.decoder.made[0]) {
        p.decoder.made.shift();
        const { pts, silentFrom } = p.times.piece(packetMillis, d.own);
        p.playout.arrivedSound(pts, packetMillis, now, 40);
        tell({ id, pts, planes: [new Float32Array(packetSamples).fill(d.level)] });
        if (silentFrom !== undefined) tell({ id, silentFrom });
      }
      tell({ id, wanted: p.playout.position(now) ?? -1, at: now / 1000 });
    }
    out[0]!.fill(0);
    player.process([], [out]);
    levels.push(out[0]![block / 2]!);
  }
  for (let i = 0; i < 31; i++) player.process([], [out]); // a report
  return { missed: people.map((p) => told.get(p.id)!.missed), levels };
}

/** Lets one talk, and returns which packets were never heard, by their timestamps. */
function talkAlone(s: Speaker, millis: number): { missed: number; unheard: number[]; sorted: boolean } {
  const { missed, levels } = talk([s], millis, (_, pts) => (pts / packetMillis + 1) / 4096);
  const faded = (v: number, i: number): boolean => v === 0 || levels[i - 1] === 0; // no longer than a block
  const heard = levels.filter((v, i) => !faded(v, i) && Number.isInteger(v * 4096)).map((v) => (v * 4096 - 1) * packetMillis);
  const said = s.words.flatMap(([from, to]) => Array.from({ length: (to - from) / packetMillis }, (_, i) => from + i * packetMillis));
  return { missed: missed[0]!, unheard: said.filter((pts) => !heard.includes(pts)), sorted: heard.every((pts, i) => i === 0 || pts >= heard[i - 1]!) };
}

const words = (from: number, word: number, pause: number, to: number): Array<[number, number]> =>
  Array.from({ length: Math.floor((to - from) / (word + pause)) }, (_, i) => [from + i * (word + pause), from + i * (word + pause) + word]);

test("a piece is where its packet was, whatever the decoder counts, and pauses stay between packets", () => {
  const d = new Decoder();
  for (const pts of [100, 120, 900]) d.decode(pts, 1, 0, 0);
  assert.deepEqual(d.made.map((m) => m.own), [100, 120, 140], "as Chromium's do");
  const t = new PacketTimes();
  assert.equal(t.pause(50), true);
  for (const pts of [100, 120]) t.packet(pts);
  assert.equal(t.pause(140), false);
  t.packet(900);
  assert.equal(t.pause(920), false);
  assert.deepEqual([t.piece(20, 100), t.piece(20, 120)], [{ pts: 100, silentFrom: undefined }, { pts: 120, silentFrom: 140 }]);
  assert.deepEqual([t.piece(20, 140), t.piece(20, 160)], [{ pts: 900, silentFrom: 920 }, { pts: 920, silentFrom: undefined }], "the last of a decoder that makes two of one");
  assert.equal(t.pause(940), true);
  const primed = new PacketTimes();
  for (const pts of [0, 20, 40, 60]) primed.packet(pts);
  assert.equal(primed.piece(14, 46).pts, 40, "the first of a decoder that leaves out what only gets it going");
  assert.equal(primed.piece(20, 60).pts, 60);
});

test("a packet is where its sound was captured, though the encoder counts what it was given", () => {
  fc.assert(fc.property(fc.array(fc.record({ lost: fc.oneof(fc.constant(0), fc.integer({ min: 50, max: 900 })), pieces: fc.integer({ min: 10, max: 60 }) }), { minLength: 1, maxLength: 8 }), fc.array(fc.integer({ min: 0, max: 15 }), { minLength: 3, maxLength: 9 }), (runs, jitter) => {
    const t = new CaptureTimes();
    let [at, n] = [5_000_000, 0]; // µs; pieces of 10 ms, packets of 20
    for (const r of runs) {
      at += r.lost * 1000;
      for (let i = 0; i < r.pieces; i++, at += 10_000) {
        t.piece(at + jitter[n % jitter.length]! * 1000, 10_000, i > 3);
        if (++n % 2 !== 0) continue;
        const p = t.packet(5_000_000 + (n - 2) * 10_000, 20_000, false);
        const wanted = at - 10_000;
        if (i > 0) assert.ok(Math.abs(p.at - wanted) <= 56_000, `${(p.at - wanted) / 1000} ms off`);
        if (i > 5) assert.equal(p.open, true);
      }
    }
  }));
});

const paths: Array<[name: string, s: Partial<Speaker>]> = [
  ["a steady path", {}],
  ["a path that varies", { way: (pts) => 20 + ((pts * 7919) % 60) }],
  ["a decoder that takes its time", { lag: () => 400 }],
  ["a decoder whose time varies", { lag: (pts) => (pts * 104729) % 60 }],
];

for (const [name, s] of paths) {
  test(`who makes pauses is heard whole behind each, on ${name}`, () => {
    for (const [word, pause] of [[500, 500], [200, 1800], [40, 100], [3000, 5000]] as const) {
      const h = talkAlone({ words: words(1000, word, pause, 30_000), way: () => 20, lag: () => 2, ...s }, 32_000);
      assert.deepEqual(h, { missed: 0, unheard: [], sorted: true }, `${word} and ${pause}`);
    }
  });
}

test("several speak at once, each with pauses and a path of one's own: all are heard, and nothing between", () => {
  const speakers: Speaker[] = [
    { words: words(1000, 500, 500, 20_000), way: () => 5, lag: () => 1 },
    { words: words(1140, 620, 240, 20_000), way: (pts) => 80 + ((pts * 7919) % 50), lag: () => 3 },
    { words: words(2000, 60, 900, 20_000), way: () => 300, lag: (pts) => (pts * 31) % 40 },
  ];
  const { missed, levels } = talk(speakers, 24_000, (id) => 2 ** -(id + 1));
  assert.deepEqual(missed, [0, 0, 0]);
  speakers.forEach((s, id) => {
    const said = s.words.reduce((sum, [from, to]) => sum + to - from, 0);
    const heard = levels.filter((v) => Math.floor(v * 2 ** (id + 1)) % 2 === 1).length * blockMillis;
    assert.ok(Math.abs(heard - said) <= s.words.length * 3 * blockMillis, `${heard} of ${said} ms`); // words are faded in
  });
  assert.ok(levels.slice(-100).every((v) => v === 0), "when all are silent nothing is heard");
  assert.ok(Math.max(...levels) <= 0.875);
});

test("when all that is said comes later than before, little of it is lost before playing has gone back", () => {
  for (const later of [100, 200, 300, 390, 600]) {
    const { missed, unheard, sorted } = talkAlone({ words: [[1000, 20_000]], way: (pts) => (pts < 10_000 ? 20 : 20 + later), lag: () => 2 }, 22_000);
    assert.ok(missed <= later + 150, `${later}: ${missed} ms missed`);
    assert.ok(unheard.length <= 6, `${later}: ${unheard.length} packets never heard`);
    assert.ok(sorted);
  }
});

/** Plays a ring from time 0 on, so far behind, and hands it each piece and each pause at its time. */
function playOut(r: SoundRing, events: Array<{ at: number; pts: number; n: number }>, behind: number, millis: number): Float32Array {
  const out = new Float32Array(block);
  const all: number[] = [];
  const left = [...events];
  const step = (block * 1000) / r.rate;
  for (let now = behind; now < millis; now += step) {
    for (let e = left[0]; e && e.at <= now; e = left[0]) {
      left.shift();
      if (e.n === 0) r.hush(e.pts);
      else r.put(e.pts, [Float32Array.from({ length: e.n }, (_, i) => ((e.pts * r.rate) / 1000 + i + 1) / 2 ** 20)]);
    }
    r.pull([out], now - behind);
    all.push(...out);
  }
  return Float32Array.from(all);
}

test("sound ring: what is there in time is played whole, each sample once and in order; what is counted as missed is what was not played", () => {
  const [r8, piece] = [8000, 160];
  const word = fc.record({ pieces: fc.integer({ min: 1, max: 20 }), pause: fc.integer({ min: 1, max: 40 }) });
  const delays = fc.array(fc.oneof({ weight: 8, arbitrary: fc.integer({ min: 0, max: 140 }) }, { weight: 1, arbitrary: fc.integer({ min: 150, max: 700 }) }), { minLength: 1, maxLength: 50 });
  fc.assert(fc.property(fc.array(word, { minLength: 1, maxLength: 8 }), delays, (list, delay) => {
    const behind = 160;
    const events: Array<{ at: number; pts: number; n: number }> = [];
    let [pts, k, last] = [0, 0, 0];
    const add = (n: number): void => {
      const at = pts + delay[k++ % delay.length]!;
      last = Math.max(last, at);
      events.push({ at: events.length === 0 ? 0 : last, pts, n });
    };
    for (const w of list) {
      for (let i = 0; i < w.pieces; i++, pts += 20) add(piece);
      add(0);
      pts += w.pause * 20;
    }
    const ring = new SoundRing(r8, 1);
    const all = playOut(ring, events, behind, pts + 1000);
    let [should, not, previous] = [0, 0, -1];
    for (let i = 0; i < all.length; i++) {
      if (all[i] === 0) continue;
      const index = all[i]! * 2 ** 20 - 1;
      if (i > 96 && all.subarray(i - 96, i).every((v) => v !== 0)) {
        assert.ok(Math.abs(index - i) < 0.01, `at ${i} there is ${index}`);
        assert.ok(index > previous);
        previous = index;
      }
    }
    let edges = 0;
    for (const e of events) {
      const first = (e.pts * r8) / 1000;
      for (let i = first; i < first + e.n; i++) {
        should++;
        if (all[i] === 0) not++;
      }
      edges++;
    }
    const missed = (ring.missed * r8) / 1000;
    assert.ok(Math.abs(missed - not) <= 2 * edges, `${missed} are counted as missed, ${not} of ${should} were not played`);
    if (delay.every((d) => d <= 140)) assert.equal(missed, 0);
  }), { numRuns: 300 });
});

test("sound that begins behind a pause after its moment is missing, as far as it is late", () => {
  const ring = new SoundRing(8000, 1);
  const events = [{ at: 0, pts: 0, n: 1600 }, { at: 200, pts: 200, n: 0 }, { at: 760, pts: 500, n: 1600 }, { at: 800, pts: 700, n: 0 }];
  playOut(ring, events, 160, 1000);
  assert.ok(Math.abs(ring.missed - 100) <= 17, `${ring.missed}`);
  assert.ok(Math.abs(ring.longest - 100) <= 17, `${ring.longest}`);
});

test("a pause that is told late is none of what is missing", () => {
  const ring = new SoundRing(8000, 1);
  playOut(ring, [{ at: 0, pts: 0, n: 1600 }, { at: 800, pts: 200, n: 0 }], 160, 3000);
  assert.equal(ring.missed, 0);
  assert.equal(ring.longest, 0);
});

test("a pause that is told again and again is one pause", () => {
  const ring = new SoundRing(8000, 1);
  playOut(ring, [{ at: 0, pts: 0, n: 1600 }, ...Array.from({ length: 100 }, (_, i) => ({ at: 200 + i * 20, pts: 200 + i * 20, n: 0 })), { at: 2200, pts: 2200, n: 160 }], 160, 2350);
  assert.equal(ring.missed, 0);
});

test("what was heard is not heard again when playing goes back", () => {
  const ring = new SoundRing(8000, 1);
  ring.put(0, [Float32Array.from({ length: 8000 }, (_, i) => (i + 1) / 2 ** 20)]);
  const out = new Float32Array(block);
  const heard: number[] = [];
  for (let wanted = 0; wanted < 480; wanted += 16) {
    ring.pull([out], wanted);
    heard.push(out[127]!);
  }
  const last = heard.at(-1)!;
  for (let wanted = 280; wanted < 900; wanted += 16) {
    ring.pull([out], wanted);
    assert.ok(out.every((v) => v === 0 || wanted > 460), `${wanted}`);
  }
  assert.ok(out[127]! > last);
  assert.equal(ring.missed, 0);
});

test("a sender whose time begins anew is heard at once", () => {
  const ring = new SoundRing(8000, 1);
  const events = Array.from({ length: 10 }, (_, i) => ({ at: i * 20, pts: i * 20, n: 160 }));
  ring.put(3_600_000, [new Float32Array(160).fill(1)]);
  ring.pull([new Float32Array(block)], 3_600_000);
  const all = playOut(ring, events, 160, 500);
  assert.ok(all.subarray(200, 1400).every((v) => v > 0));
});
