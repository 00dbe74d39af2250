// What people in a meeting, and at a board, see and hear, in figures: `make drill-browser`. It fails only where something is lost or stands still for
// ever; docs/meeting.md and docs/state.md keep the figures.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Browser, Page } from "puppeteer-core";
import { dial, type Client } from "@timedge/sdk";
import { tcp } from "../sdk/src/tcp.js";
import { Proxy, serve } from "../sdk/test/server.js";
import { parseRooms, Shared } from "../pages/state/shared.js";
import { site, type Site } from "./browser.js";
import { Cluster } from "./cluster.js";
import { path as pathTo } from "./paths.js";
import { launchUnwatched, openUnwatched, processorTime } from "./unwatched.js";

/** How many meet, how many pictures a second each sends, and how long, s. */
const people = Number(process.env.PEOPLE ?? 6);
const fps = Number(process.env.MEETING_FPS ?? 15);
const seconds = Number(process.env.MEETING_SECONDS ?? 300);
const kills = Number(process.env.KILLS ?? 5);
const patience = { timeout: 120_000, polling: 200 };
const picture = { width: 320, height: 180, fps, bitrate: 250_000, shownWidth: 320 };
let pages: Site;
let browser: Browser;
before(async () => {
  pages = await site();
  browser = await launchUnwatched();
});
after(async () => {
  await browser?.close();
  await pages?.close();
});

const rest = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const open = (): Promise<Page> => openUnwatched(browser, pages.origin);
const meet = (page: Page, servers: string[], account: string, room?: string): Promise<string> =>
  page.evaluate((o) => globalThis.harness.meet(o), { ...picture, servers, account, ...(room ? { room } : {}) });
type Stats = Awaited<ReturnType<typeof globalThis.harness.meetingStats>>;
const stats = (page: Page): Promise<Stats> => page.evaluate(() => globalThis.harness.meetingStats());

/** Everybody sees so many others move. */
async function allMove(all: Page[], others: number): Promise<void> {
  for (const page of all) {
    await page.waitForFunction((n) => globalThis.harness.meetingStats().filter((s) => s.shown > 30).length >= n, patience, others);
  }
}

/** Waits until nobody does less any more because so many came at once. Returns how many still do: the machine allows no more. */
async function settle(all: Page[]): Promise<number> {
  const busy = await Promise.all(all.map((page) => page.waitForFunction(() => !globalThis.harness.meetingStrain()!.eased && globalThis.harness.meetingLevel() === "all", patience).then(() => false, () => true)));
  return busy.filter(Boolean).length;
}

function quantile(list: number[], p: number): number {
  const sorted = [...list].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))] ?? NaN;
}

const megabytes = async (page: Page): Promise<number> => {
  const session = await page.createCDPSession();
  await session.send("HeapProfiler.collectGarbage");
  const { usedSize } = await session.send("Runtime.getHeapUsage");
  await session.detach();
  return usedSize / 1e6;
};

test("a meeting, one on a slow line", { timeout: (seconds + 300) * 1000 }, async () => {
  const server = await serve("--idle", "1h", "--ws-origin", pages.origin);
  const path = await pathTo(server.ws.replace("ws://", ""));
  const all = [await open()];
  const room = await meet(all[0]!, [server.ws], "p0");
  for (let i = 1; i < people; i++) {
    const page = await open();
    await meet(page, [i === 1 ? `ws://${path.addr}` : server.ws], `p${i}`, room);
    all.push(page);
  }
  await allMove(all, people - 1);
  const busy = await settle(all);
  if (busy > 0) console.log(`figures: this machine allows less: ${busy} of ${people} pages take and send less of the pictures`);
  const from = path.passed;
  await rest(5000);
  const need = (path.passed - from) / 5;
  const slow = all[1]!;
  const others = all.filter((p) => p !== slow);
  const heap = await Promise.all(all.map(megabytes));
  const before = await Promise.all(all.map(stats));
  for (const p of all) await p.evaluate(() => globalThis.harness.meetingForget());
  const used = await processorTime(browser);
  path.rate = need / 2;
  const [began, end] = [Date.now(), Date.now() + seconds * 1000];
  const sizes: Record<string, number> = {};
  let [looks, eased] = [0, 0];
  const missed = (s: Stats): number[] => s.map((x, i) => Math.round(x.missedSound - before[1]![i]!.missedSound));
  for (let told = began; Date.now() < end; ) {
    await rest(Math.min(1000, Math.max(0, end - Date.now())));
    const s = await stats(slow);
    for (const p of all) [looks, eased] = [looks + 1, eased + Number((await p.evaluate(() => globalThis.harness.meetingStrain()))!.eased)];
    for (const { size } of s) sizes[size] = (sizes[size] ?? 0) + 1 / s.length;
    if (Date.now() - told < 29_500 && Date.now() < end) continue;
    told = Date.now();
    console.log(`figures: slow line after ${Math.round((told - began) / 1000)} s (${Math.round((need * 8) / 2000)} kbit/s of ${Math.round((need * 8) / 1000)}): level ${await slow.evaluate(() => globalThis.harness.meetingLevel())}, sizes ${s.map((x) => x.size).join()}, missed sound ${missed(s).join()} ms, delay ${s.map((x) => Math.round(x.delay)).join()} ms`);
  }
  const [usedAfter, lasted] = [await processorTime(browser), (Date.now() - began) / 1000];
  const after = await Promise.all(all.map(stats));
  const heapAfter = await Promise.all(all.map(megabytes));
  const seen = others.flatMap((p) => after[all.indexOf(p)]!.map((s, i) => ({ s, b: before[all.indexOf(p)]![i]! })));
  for (const { s, b } of seen) assert.ok(s.shown > b.shown + seconds, `${s.account} stands still: ${s.shown - b.shown} pictures`);
  console.log(`figures: the others, ${people - 1} of ${people} for ${seconds} s: pictures a second ${quantile(seen.map(({ s, b }) => (s.shown - b.shown) / seconds), 0.5).toFixed(1)} median, ${Math.min(...seen.map(({ s, b }) => (s.shown - b.shown) / seconds)).toFixed(1)} least; longest still ${Math.max(...seen.map(({ s }) => s.longestStill)).toFixed(0)} ms, median of those ${quantile(seen.map(({ s }) => s.longestStill), 0.5).toFixed(0)} ms; longest silence ${Math.max(...seen.map(({ s }) => s.longestSilence)).toFixed(0)} ms, missed sound in all ${quantile(seen.map(({ s, b }) => s.missedSound - b.missedSound), 0.5).toFixed(0)} ms median, ${Math.max(...seen.map(({ s, b }) => s.missedSound - b.missedSound)).toFixed(0)} most; sound and picture apart p95 ${quantile(seen.map(({ s }) => s.skew?.p95 ?? NaN), 0.5).toFixed(0)} ms median, ${Math.max(...seen.map(({ s }) => s.skew?.p95 ?? 0)).toFixed(0)} most`);
  const lost = (of: typeof seen): string => `${quantile(of.map(({ s, b }) => s.missedSound - b.missedSound), 0.5).toFixed(0)} ms median, ${Math.max(...of.map(({ s, b }) => s.missedSound - b.missedSound)).toFixed(0)} most, the longest silence ${Math.max(...of.map(({ s }) => s.longestSilence)).toFixed(0)}`;
  console.log(`figures: the others, of each other's sound missed ${lost(seen.filter(({ s }) => s.account !== "p1"))}; of the one's on the slow line ${lost(seen.filter(({ s }) => s.account === "p1"))}`);
  const share = (size: string): string => `${Math.round((100 * (sizes[size] ?? 0)) / Object.values(sizes).reduce((a, b) => a + b))} %`;
  const [mine, was] = [after[1]!, before[1]!];
  console.log(`figures: the one on the slow line: small pictures ${share("small")} of the time, large ${share("large")}, none ${share("none")}; pictures a second ${quantile(mine.map((s, i) => (s.shown - was[i]!.shown) / seconds), 0.5).toFixed(1)} median; missed sound in all ${quantile(missed(mine), 0.5)} ms median, ${Math.max(...missed(mine))} most, longest silence ${Math.max(...mine.map((s) => s.longestSilence)).toFixed(0)} ms; sound and picture apart p95 ${quantile(mine.map((s) => s.skew?.p95 ?? NaN), 0.5).toFixed(0)} ms median`);
  const part = (s: number): string => `${((100 * s) / lasted).toFixed(0)} % of a processor`;
  console.log(`figures: ${people} pages use ${part(usedAfter.pages - used.pages)}, what the browser does for all of them ${part(usedAfter.rest - used.rest)}; for ${Math.round((100 * eased) / Math.max(1, looks))} % of the time a page did less, having too much to do`);
  console.log(`figures: heap of a page: ${heap.map((n) => n.toFixed(1)).join(", ")} MB, ${seconds} s later ${heapAfter.map((n) => n.toFixed(1)).join(", ")} MB`);
  assert.ok((sizes.large ?? 0) < seconds / 2, "the one on the slow line takes small pictures");
  for (const p of all) await p.browserContext().close();
  path.close();
  await server.stop();
});

test("the relay of a meeting is killed, and one's own node", { timeout: 60_000 + kills * 240_000 }, async () => {
  const cluster = await Cluster.start(3, "--ws-origin", pages.origin);
  const servers = cluster.nodes.map((n) => n.ws);
  for (const victim of ["relay", "own node"] as const) {
    const stills: number[] = [];
    const silences: number[] = [];
    for (let i = 0; i < kills; i++) {
      const all = [await open(), await open(), await open()];
      const room = await meet(all[0]!, servers, "p0");
      const relay = (await all[0]!.evaluate(() => globalThis.harness.madeOn))!; // a room's relay is the node that registered it
      for (const [n, p] of all.slice(1).entries()) await meet(p, servers, `p${n + 1}`, room);
      await allMove(all, 2);
      const watcher = all[1]!;
      const name = victim === "relay" ? relay : (await watcher.evaluate(() => globalThis.harness.meetingNode()))!;
      await rest(3000);
      for (const p of all) await p.evaluate(() => globalThis.harness.meetingForget());
      const before = await stats(watcher);
      const killed = Date.now();
      await cluster.kill(name);
      await rest(8000);
      const after = await stats(watcher);
      stills.push(Math.max(...after.map((s) => s.longestStill)));
      silences.push(Math.max(...after.map((s) => s.longestSilence)));
      console.log(`figures: ${victim} ${name}: ${after.map((s) => `${s.account}: still ${s.longestStill.toFixed(0)}, silence ${s.longestSilence.toFixed(0)} of ${(s.missedSound - (before.find((b) => b.account === s.account)?.missedSound ?? 0)).toFixed(0)}, delay ${s.delay.toFixed(0)}, nothing came for ${s.waited.picture.toFixed(0)} and ${s.waited.sound.toFixed(0)} ms`).join("; ")}`);
      for (const [n, p] of all.entries()) console.log(`figures: p${n} after the kill, ms: ${(await p.evaluate(() => globalThis.harness.meetingStates)).map((s) => `${s.which} ${s.phase} ${(s.at - killed).toFixed(0)}`).join(", ") || "kept its connections"}`);
      for (const s of after) assert.ok(s.shown > (before.find((b) => b.account === s.account)?.shown ?? 0) + 20, `${victim}: ${s.account} stands still`);
      await Promise.all(all.map((p) => p.browserContext().close()));
      await cluster.run(cluster.nodes.find((n) => n.name === name)!);
    }
    console.log(`figures: ${victim} killed (${kills}): longest without a new picture ${quantile(stills, 0.5).toFixed(0)} ms median, ${Math.max(...stills).toFixed(0)} worst; longest silence ${quantile(silences, 0.5).toFixed(0)} ms median, ${Math.max(...silences).toFixed(0)} worst`);
  }
  await cluster.stop();
});

test("a board of twenty: from one hand to another's screen, and the last state after breaks", { timeout: 300_000 }, async () => {
  const server = await serve("--idle", "1h", "--ws-origin", pages.origin);
  const proxy = await Proxy.open(server.ws.replace("ws://", ""));
  const through = `ws://${proxy.addr}`;
  const all = [await open(), await open()];
  const rooms = await all[0]!.evaluate((ws) => globalThis.harness.share([ws], "page0"), server.ws);
  await all[1]!.evaluate(([ws, rooms]) => globalThis.harness.share([ws!], "page1", rooms), [through, rooms]);
  const clients: Client[] = [];
  const others: Shared[] = [];
  for (let i = 0; i < 18; i++) {
    const c = await dial({ servers: server.tcp, account: `client${i}`, dialer: tcp() });
    clients.push(c);
    others.push(await Shared.join(c, parseRooms(rooms)!, `client${i}`));
  }
  const moving = setInterval(() => {
    const now = performance.timeOrigin + performance.now();
    for (const s of others) s.cursor((now % 8192) / 8192, 0.5, false);
  }, 1000 / 60);
  await rest(5000);
  for (const p of all) await p.evaluate(() => (globalThis.harness.lags = []));
  await rest(20_000);
  const lags = (await Promise.all(all.map((p) => p.evaluate(() => globalThis.harness.lags)))).flat();
  console.log(`figures: twenty cursors at 60 Hz, hand to screen: n ${lags.length}, p50 ${quantile(lags, 0.5).toFixed(1)} ms, p99 ${quantile(lags, 0.99).toFixed(1)} ms, worst ${Math.max(...lags).toFixed(1)} ms`);
  for (let i = 0; i < 10; i++) {
    await all[i % 2]!.evaluate(() => globalThis.harness.draw(50));
    others[i]!.begin(2, 3, [i, i]);
    proxy.breakAll(); // the second page's connection
    await rest(500);
  }
  clearInterval(moving);
  const began = Date.now();
  for (;;) {
    const texts = [...(await Promise.all(all.map((p) => p.evaluate(() => globalThis.harness.boardText())))), ...others.map((s) => s.board.text())];
    if (new Set(texts).size === 1 && others[0]!.board.strokes().length === 20) break;
    assert.ok(Date.now() - began < 60_000, "the boards differ");
    await rest(50);
  }
  console.log(`figures: after ten broken connections all twenty have the same board, ${Date.now() - began} ms after the last stroke`);
  await Promise.all(clients.map((c) => c.close()));
  for (const p of all) await p.browserContext().close();
  await proxy.close();
  await server.stop();
});
