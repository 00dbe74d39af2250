// When a page's pictures are shown, in made-up time, on a screen that is refreshed 60 times a second.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { Refresh, type RefreshClock, type Shows } from "../src/refresh.js";

const frame = 1000 / 60;

/** A page whose time goes on when it is told to. */
class Page implements RefreshClock {
  time = 0;
  refreshes: number[] = []; // those that were used
  private waiting: Array<{ at: number; id: number; run: () => void; frame: boolean }> = [];
  private last = 0;

  now(): number {
    return this.time;
  }

  private put(at: number, run: () => void, frame: boolean): number {
    this.waiting.push({ at, id: ++this.last, run, frame });
    return this.last;
  }

  private take(id: unknown): void {
    this.waiting = this.waiting.filter((w) => w.id !== id);
  }

  frame(f: () => void): number {
    return this.put((Math.floor(this.time / frame + 1e-6) + 1) * frame, f, true);
  }

  noFrame(id: number): void {
    this.take(id);
  }

  after(f: () => void, ms: number): ReturnType<typeof setTimeout> {
    return this.put(this.time + ms, f, false) as unknown as ReturnType<typeof setTimeout>;
  }

  notAfter(id: ReturnType<typeof setTimeout>): void {
    this.take(id);
  }

  at(at: number, f: () => void): void {
    this.put(at, f, false);
  }

  get idle(): boolean {
    return this.waiting.length === 0;
  }

  run(): void {
    for (let next = this.first(); next; next = this.first()) {
      this.take(next.id);
      this.time = Math.max(this.time, next.at);
      if (next.frame) this.refreshes.push(this.time);
      next.run();
    }
  }

  private first(): { at: number; id: number; run: () => void; frame: boolean } | undefined {
    return this.waiting.reduce<(typeof this.waiting)[number] | undefined>((a, b) => (a && a.at <= b.at ? a : b), undefined);
  }
}

/** Somebody whose pictures are there some time before their moments. */
class Sender implements Shows {
  shown: Array<{ due: number; at: number }> = [];
  private made: number[] = [];

  constructor(private readonly page: Page, private readonly refresh: Refresh, readonly every: number, moments: number[], before: number) {
    refresh.add(this);
    for (const due of moments) {
      page.at(due - before, () => {
        this.made.push(due);
        this.ask();
      });
    }
  }

  private ask(): void {
    if (this.made[0] !== undefined) this.refresh.ask(this.made[0]);
  }

  show(ahead: number): void {
    while (this.made[0] !== undefined && this.made[0] <= this.page.time + ahead) this.shown.push({ due: this.made.shift()!, at: this.page.time });
    this.ask();
  }
}

const moments = (every: number, from: number, n: number): number[] => Array.from({ length: n }, (_, i) => from + i * every);

for (const [name, every, people, most] of [["one who sends 15 a second", 1000 / 15, 1, 15], ["five who send 15 a second", 1000 / 15, 5, 30], ["five who send 30 a second", 1000 / 30, 5, 60], ["one who sends 7.5 a second", 1000 / 7.5, 1, 7.5]] as const) {
  test(`each picture is shown near its moment, and no more refreshes are used than need be: ${name}`, () => {
    const page = new Page();
    const refresh = new Refresh(page);
    const seconds = 10;
    const senders = Array.from({ length: people }, (_, i) => new Sender(page, refresh, every, moments(every, 200 + (i * every) / people, (seconds * 1000) / every), 100));
    page.run();
    for (const s of senders) {
      assert.equal(s.shown.length, Math.floor((seconds * 1000) / every));
      for (const { due, at } of s.shown) assert.ok(Math.abs(at - due) <= 1.5 * frame + 1, `${due} is shown at ${at}`);
    }
    assert.ok(page.refreshes.length <= most * seconds * 1.02 + 2, `${page.refreshes.length} refreshes in ${seconds} s`);
  });
}

test("without pictures no refresh is used, and who has gone asks for none", () => {
  const page = new Page();
  const refresh = new Refresh(page);
  const one = new Sender(page, refresh, 33, [], 0);
  page.run();
  assert.deepEqual(page.refreshes, []);
  refresh.ask(1000);
  refresh.remove(one);
  assert.ok(page.idle);
});

test("refresh: whatever is asked for when is shown, soon after it is there and due, and none too often", () => {
  const sender = fc.record({ every: fc.integer({ min: 5, max: 300 }), moments: fc.array(fc.integer({ min: 0, max: 3000 }), { maxLength: 40 }), before: fc.integer({ min: -100, max: 300 }) });
  fc.assert(fc.property(fc.array(sender, { minLength: 1, maxLength: 6 }), (list) => {
    const page = new Page();
    const refresh = new Refresh(page);
    const senders = list.map((s) => ({ before: s.before, count: s.moments.length, s: new Sender(page, refresh, s.every, [...s.moments].sort((a, b) => a - b), s.before) }));
    page.run();
    for (const { s, before, count } of senders) {
      assert.equal(s.shown.length, count, "each is shown");
      for (const { due, at } of s.shown) assert.ok(at >= due - 2 * frame && at <= Math.max(due, due - before) + 4 * frame, `${due}, there ${before} before, is shown at ${at}`);
    }
    for (let i = 1; i < page.refreshes.length; i++) assert.ok(page.refreshes[i]! - page.refreshes[i - 1]! > frame - 1e-6);
  }), { numRuns: 200 });
});
