// What viewers see, in figures: `make drill-browser`. It fails only where something is lost or stands still for ever; docs/live.md keeps the figures.

import assert from "node:assert/strict";
import { connect, createServer, type AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { Proxy, serve } from "../sdk/test/server.js";
import { launch, site, type Site } from "./browser.js";
import { Cluster } from "./cluster.js";

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
const watch = (page: Page, servers: string[], room: string, account = "bob"): Promise<void> =>
  page.evaluate(([servers, room, account]) => globalThis.harness.watch(servers, account, room, { min: 150, max: 1000 }), [servers, room, account] as const);

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
  await watch(viewer, [server.ws], room);
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
  const cluster = await Cluster.start(3, pages.origin);
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

/** A proxy that lets so many bytes a second through to the client. */
async function slow(to: string, bytesPerSecond: () => number): Promise<{ ws: string; close(): void }> {
  const [host, port] = to.replace("ws://", "").split(":");
  const server = createServer((a) => {
    const b = connect(Number(port), host);
    a.pipe(b);
    a.on("error", () => b.destroy());
    b.on("error", () => a.destroy());
    b.on("close", () => a.destroy());
    let budget = 0;
    let last = performance.now();
    const timer = setInterval(() => {
      const now = performance.now();
      budget = Math.min(budget + ((now - last) * bytesPerSecond()) / 1000, bytesPerSecond() / 5);
      last = now;
      for (;;) {
        const chunk = b.read(Math.min(Math.floor(budget), b.readableLength)) as Buffer | null;
        if (!chunk || chunk.length === 0) break;
        budget -= chunk.length;
        a.write(chunk);
      }
    }, 10);
    a.on("close", () => {
      clearInterval(timer);
      b.destroy();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { ws: `ws://127.0.0.1:${(server.address() as AddressInfo).port}`, close: () => void server.close() };
}

test("a viewer at half the rate", { timeout: 300_000 }, async () => {
  const server = await serve("--idle", "1h", "--ws-origin", pages.origin);
  let rate = 1e7;
  const proxy = await slow(server.ws, () => rate);
  const [sender, other, viewer] = [await open(), await open(), await open()];
  const room = await start(sender, [server.ws]);
  await watch(other, [server.ws], room, "carol");
  await watch(viewer, [proxy.ws], room);
  await Promise.all([shown(viewer, 60), shown(other, 60)]);
  const full = (await viewer.evaluate(() => globalThis.harness.watchStats()))!.bitrate / 8;
  for (const p of [other, viewer]) await p.evaluate(() => globalThis.harness.forget());
  const before = (await viewer.evaluate(() => globalThis.harness.watchStats()))!;
  rate = full / 2;
  await viewer.waitForFunction(() => (globalThis.harness.watchStats()!.gaps.slow ?? 0) > 3, undefined, patience);
  const n = await viewer.evaluate(() => globalThis.harness.shown.length);
  await shown(viewer, n + 30); // pictures go on
  const [s, o] = [(await viewer.evaluate(() => globalThis.harness.watchStats()))!, (await other.evaluate(() => globalThis.harness.watchStats()))!];
  console.log(`figures: half the rate (${Math.round((full * 8) / 2000)} kbit/s): gaps ${JSON.stringify(s.gaps)}, pictures shown ${s.shown - before.shown}, missed ${s.missedPictures - before.missedPictures}, sound missed ${Math.round(s.missedSound - before.missedSound)} ms, behind ${Math.round(s.age ?? NaN)} ms`);
  console.log(`figures: the other viewer: longest still ${still(await other.evaluate(() => globalThis.harness.shown)).toFixed(0)} ms, gaps ${JSON.stringify(o.gaps)}, missed sound ${Math.round(o.missedSound)} ms`);
  assert.deepEqual(o.gaps, {});
  for (const p of [sender, other, viewer]) await p.context().close();
  proxy.close();
  await server.stop();
});

/** How often connections break for the comparison, and how much time lies between. */
const breaks = 20;
const betweenMillis = 1500;

const rest = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

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
