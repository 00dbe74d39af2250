// What viewers see, in figures: `make drill-browser`. It fails only where something is lost or stands still for ever; docs/live.md keeps the figures.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { WatchStats } from "@timedge/media";
import type { Browser, Page } from "playwright-core";
import { latencies, type Latency } from "../media/src/playout.js";
import { Proxy, serve } from "../sdk/test/server.js";
import { launch, site, type Site } from "./browser.js";
import { Cluster } from "./cluster.js";
import { path } from "./paths.js";

const kills = Number(process.env.KILLS ?? 5);
const patience = { timeout: 120_000 };
let pages: Site;
let browser: Browser;
before(async () => {
  pages = await site();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await pages?.close();
});

async function open(): Promise<Page> {
  return pages.open(await browser.newContext({ permissions: ["camera", "microphone"] }));
}

function quantile(list: number[], p: number): number {
  const sorted = [...list].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))] ?? NaN;
}

function figures(what: string, list: number[]): void {
  console.log(`figures: ${what}: n ${list.length}, p50 ${quantile(list, 0.5).toFixed(1)} ms, p95 ${quantile(list, 0.95).toFixed(1)} ms, worst ${Math.max(...list).toFixed(1)} ms`);
}

const shown = (page: Page, n: number): Promise<unknown> => page.waitForFunction((n) => globalThis.harness.shown.length > n, n, patience);
const start = (page: Page, servers: string[]): Promise<string> => page.evaluate((servers) => globalThis.harness.start({ servers, account: "alice" }), servers);
const watch = (page: Page, servers: string[], room: string, account = "bob", latency: Latency = latencies.balanced): Promise<void> =>
  page.evaluate(([servers, room, account, latency]) => globalThis.harness.watch(servers, account, room, latency), [servers, room, account, latency] as const);

const rest = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** The longest time between two pictures, ms. */
function still(seen: Array<{ at: number }>): number {
  let most = 0;
  for (let i = 1; i < seen.length; i++) most = Math.max(most, seen[i]!.at - seen[i - 1]!.at);
  return most;
}

test("from capture to decoded picture, and how soon a late viewer sees one", { timeout: 300_000 }, async () => {
  const server = await serve("--idle", "1h", "--ws-origin", pages.origin);
  const [sender, viewer] = [await open(), await open()];
  figures("encode and decode alone, H.264, 320x180", await sender.evaluate(() => globalThis.harness.alone(300, "H.264")));
  const room = await start(sender, [server.ws]);
  await watch(viewer, [server.ws], room, "bob", latencies.lowest); // who plays further behind lets pictures wait for a decoder, which holds few
  await shown(viewer, 60);
  await viewer.evaluate(() => globalThis.harness.forget());
  await shown(viewer, 300);
  const decoded = await viewer.evaluate(() => globalThis.harness.decoded);
  figures("capture to decoded picture over the server", decoded.map((d) => d.at - d.wall));
  const s = await viewer.evaluate(() => globalThis.harness.watchStats());
  assert.deepEqual(s!.gaps, {});
  console.log(`figures: sound and picture apart: p50 ${s!.skew?.p50.toFixed(1)} ms, p95 ${s!.skew?.p95.toFixed(1)} ms`);
  await viewer.context().close();
  const late = await open();
  const took: number[] = [];
  for (let i = 0; i < 20; i++) took.push(await late.evaluate(([ws, room]) => globalThis.harness.join([ws!], "late", room!), [server.ws, room]));
  figures("a late viewer's first picture, connecting included", took);
  await Promise.all([sender.context().close(), late.context().close()]);
  await server.stop();
});

test("the relay is killed, and the viewer's node", { timeout: 60_000 + kills * 120_000 }, async () => {
  const cluster = await Cluster.start(3, "--ws-origin", pages.origin);
  const all = cluster.nodes.map((n) => n.ws);
  const longest: Record<"relay" | "viewer's node", number[]> = { relay: [], "viewer's node": [] };
  for (let i = 0; i < kills; i++) {
    for (const victim of ["relay", "viewer's node"] as const) {
      const [sender, viewer] = [await open(), await open()];
      const room = await start(sender, all);
      const relay = (await sender.evaluate(() => globalThis.harness.node()))!; // a room's relay is the node that registered it
      await watch(viewer, all.filter((_, n) => cluster.nodes[n]!.name !== relay), room);
      await shown(viewer, 60);
      const name = victim === "relay" ? relay : (await viewer.evaluate(() => globalThis.harness.node()))!;
      await viewer.evaluate(() => globalThis.harness.forget());
      await shown(viewer, 20);
      await cluster.kill(name);
      await shown(viewer, 150);
      const seen = await viewer.evaluate(() => globalThis.harness.shown);
      longest[victim].push(still(seen));
      const s = await viewer.evaluate(() => globalThis.harness.watchStats());
      assert.deepEqual(s!.gaps, {}, `${victim} ${name} killed: the viewer was told of gaps`);
      await Promise.all([sender.context().close(), viewer.context().close()]);
      await cluster.run(cluster.nodes.find((n) => n.name === name)!);
    }
  }
  for (const [victim, list] of Object.entries(longest)) figures(`${victim} killed: the longest time without a new picture`, list);
  await cluster.stop();
});

/** How long the viewer's line is slow, ms. */
const slowMillis = 65_000;

test("a viewer at half the rate: sound goes on, pictures too, and the others notice nothing", { timeout: 500_000 }, async () => {
  const server = await serve("--idle", "1h", "--ws-origin", pages.origin);
  const line = await path(server.ws.replace("ws://", ""));
  const [sender, other, viewer] = [await open(), await open(), await open()];
  const room = await start(sender, [server.ws]);
  await watch(other, [server.ws], room, "carol");
  await watch(viewer, [`ws://${line.addr}`], room);
  await Promise.all([shown(viewer, 60), shown(other, 60)]);
  const stats = async (p: Page): Promise<WatchStats> => (await p.evaluate(() => globalThis.harness.watchStats()))!;
  const full = (await stats(viewer)).bitrate / 8;
  for (const p of [other, viewer]) await p.evaluate(() => globalThis.harness.forget());
  const before = [await stats(viewer), await stats(other)] as const;
  line.rate = full / 2;
  await rest(slowMillis);
  const [s, o] = [await stats(viewer), await stats(other)];
  const silent = s.missedSound - before[0].missedSound;
  console.log(`figures: half the rate (${Math.round((full * 8) / 2000)} kbit/s) for ${slowMillis / 1000} s: sound missed ${Math.round(silent)} ms, pictures shown ${s.shown - before[0].shown}, the longest still ${still(await viewer.evaluate(() => globalThis.harness.shown)).toFixed(0)} ms, gaps ${JSON.stringify(s.gaps)}, behind ${Math.round(s.age ?? NaN)} ms`);
  console.log(`figures: the other viewer: longest still ${still(await other.evaluate(() => globalThis.harness.shown)).toFixed(0)} ms, gaps ${JSON.stringify(o.gaps)}, missed sound ${Math.round(o.missedSound - before[1].missedSound)} ms`);
  assert.ok(silent < slowMillis / 10, `${Math.round(silent)} of ${slowMillis} ms were silent`);
  assert.ok(s.shown - before[0].shown > 20, `${s.shown - before[0].shown} pictures`);
  assert.deepEqual(o.gaps, {});
  line.rate = Infinity;
  await viewer.waitForFunction(() => globalThis.harness.watchStats()!.rendition === 0, undefined, { timeout: 250_000 });
  await shown(viewer, (await viewer.evaluate(() => globalThis.harness.shown.length)) + 60);
  for (const p of [sender, other, viewer]) await p.context().close();
  line.close();
  await server.stop();
});

/** How often connections break for the comparison, and how much time lies between. */
const breaks = 20;
const betweenMillis = 1500;


test("against pieces of MediaRecorder: delay, and what breaking connections cost", { timeout: 300_000 }, async () => {
  const server = await serve("--idle", "1h", "--ws-origin", pages.origin);
  const proxy = await Proxy.open(server.ws.replace("ws://", ""));
  const through = `ws://${proxy.addr}`;
  const [sender, viewer] = [await open(), await open()];
  const room = await viewer.evaluate((ws) => globalThis.harness.register([ws], "owner"), server.ws);
  await viewer.evaluate(([ws, room]) => globalThis.harness.watchPieces(ws!, room!), [server.ws, room]);
  await sender.evaluate(([ws, room]) => globalThis.harness.sendPieces(ws!, room!), [through, room]);
  await viewer.waitForFunction(() => globalThis.harness.pieces.delays.length > 300, undefined, patience);
  figures("pieces: capture to shown picture", (await viewer.evaluate(() => globalThis.harness.pieces.delays)).slice(60));
  const before = await sender.evaluate(() => globalThis.harness.pieces.sent);
  for (let i = 0; i < breaks; i++) {
    await rest(betweenMillis + Math.random() * 300);
    proxy.breakAll();
  }
  await rest(betweenMillis);
  const sent = await sender.evaluate(() => globalThis.harness.pieces.sent);
  const got = new Set(await viewer.evaluate(() => globalThis.harness.pieces.got));
  let lost = 0;
  for (let n = before; n < sent - 4; n++) if (!got.has(n)) lost++;
  console.log(`figures: pieces: ${breaks} broken connections of the sender: ${lost} of ${sent - before} pieces of 300 ms lost`);
  for (const p of [sender, viewer]) await p.context().close();

  const [sender2, viewer2] = [await open(), await open()];
  const room2 = await start(sender2, [through]);
  await watch(viewer2, [server.ws], room2);
  await shown(viewer2, 60);
  await viewer2.evaluate(() => globalThis.harness.forget());
  await shown(viewer2, 300);
  figures("Broadcast and Watch: capture to shown picture", (await viewer2.evaluate(() => globalThis.harness.shown)).map((d) => d.at - d.wall));
  const [b, w] = [(await sender2.evaluate(() => globalThis.harness.broadcastStats()))!, (await viewer2.evaluate(() => globalThis.harness.watchStats()))!];
  for (let i = 0; i < breaks; i++) {
    await rest(betweenMillis + Math.random() * 300);
    proxy.breakAll();
  }
  await rest(betweenMillis);
  const [b2, w2] = [(await sender2.evaluate(() => globalThis.harness.broadcastStats()))!, (await viewer2.evaluate(() => globalThis.harness.watchStats()))!];
  console.log(`figures: Broadcast and Watch: ${breaks} broken connections of the sender: gaps ${JSON.stringify(w2.gaps)} of ${b2.pictures - b.pictures} pictures; ${w2.missedPictures - w.missedPictures} came too late to be shown`);
  assert.deepEqual(w2.gaps, {});
  for (const p of [sender2, viewer2]) await p.context().close();
  await proxy.close();
  await server.stop();
});
