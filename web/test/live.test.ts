// Broadcast and Watch in a real browser, against a real server. Nothing here depends on how fast the machine is; figures are printed.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { serve, type TestServer } from "../sdk/test/server.js";
import { launch, site, talker, type Site } from "./browser.js";
import { path } from "./paths.js";

let pages: Site;
let server: TestServer;
let browser: Browser;
before(async () => {
  pages = await site();
  server = await serve("--idle", "1h", "--ws-origin", pages.origin);
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
  await pages?.close();
});

async function open(): Promise<Page> {
  return pages.open(await browser.newContext({ permissions: ["camera", "microphone"] }));
}

const patience = { timeout: 60_000 };

test("a camera reaches a viewer: picture, sound, states", { timeout: 120_000 }, async () => {
  const [sender, viewer] = [await open(), await open()];
  const room = await sender.evaluate((ws) => globalThis.harness.start({ servers: [ws], account: "alice" }), server.ws);
  await viewer.evaluate(([ws, room]) => globalThis.harness.watch([ws!], "bob", room!, { min: 150, max: 1000 }), [server.ws, room]);
  await viewer.waitForFunction(() => globalThis.harness.shown.length > 60, undefined, patience);
  assert.equal(await viewer.evaluate(() => globalThis.harness.hasPicture()), true);
  await viewer.waitForFunction(() => globalThis.harness.watchStats()!.skew !== undefined, undefined, patience);
  await sender.waitForFunction(() => globalThis.harness.broadcastStats()!.viewers === 1, undefined, patience);
  const [b, w] = [await sender.evaluate(() => globalThis.harness.broadcastStats()), await viewer.evaluate(() => globalThis.harness.watchStats())];
  assert.deepEqual(w!.gaps, {});
  console.log("# broadcast", JSON.stringify(b), "watch", JSON.stringify(w));
  await sender.evaluate(() => globalThis.harness.stop());
  await viewer.waitForFunction(() => globalThis.harness.states.at(-1) === "ended", undefined, patience);
  assert.deepEqual((await viewer.evaluate(() => globalThis.harness.states)).filter((s) => s !== "interrupted").filter((s, i, all) => s !== all[i - 1]), ["waiting", "live", "ended"]);
  await Promise.all([sender.context().close(), viewer.context().close()]);
});

test("another quality takes over without a break, and who comes late sees a picture", { timeout: 120_000 }, async () => {
  const [sender, viewer] = [await open(), await open()];
  const room = await sender.evaluate((ws) => globalThis.harness.start({ servers: [ws], account: "alice", small: true, codec: "VP8" }), server.ws);
  await sender.waitForFunction(() => globalThis.harness.broadcastStats()!.pictures > 40, undefined, patience);
  await viewer.evaluate(([ws, room]) => globalThis.harness.watch([ws!], "bob", room!, { min: 0, max: 400 }), [server.ws, room]);
  await viewer.waitForFunction(() => globalThis.harness.watchStats()!.width === 320 && globalThis.harness.watchStats()!.rendition === 0, undefined, patience);
  for (const [quality, width] of [[1, 160], [0, 320]] as const) {
    await viewer.evaluate((q) => globalThis.harness.quality(q), quality);
    await viewer.waitForFunction(([q, w]) => globalThis.harness.watchStats()!.rendition === q && globalThis.harness.watchStats()!.width === w, [quality, width], patience);
    const n = await viewer.evaluate(() => globalThis.harness.shown.length);
    await viewer.waitForFunction((n) => globalThis.harness.shown.length > n + 10, n, patience);
  }
  const pts = (await viewer.evaluate(() => globalThis.harness.shown)).map((s) => s.wall);
  assert.deepEqual(pts, [...pts].sort((a, b) => a - b), "pictures are shown in the order in which they were captured");
  await Promise.all([sender.context().close(), viewer.context().close()]);
});

// `make drill-browser` has the figures.
test("on a line that is too slow sound goes on with stills, and pictures come back", { timeout: 600_000 }, async () => {
  const long = { timeout: 240_000 }; // what fails is tried again ever more seldom
  const line = await path(server.ws.replace("ws://", ""));
  const [sender, viewer] = [await open(), await open()];
  const room = await sender.evaluate((ws) => globalThis.harness.start({ servers: [ws], account: "alice" }), server.ws);
  await viewer.evaluate(([ws, room]) => globalThis.harness.watch([ws!], "bob", room!, { min: 600, max: 3000 }), [`ws://${line.addr}`, room]); // smooth: a busy machine is no slow line
  await viewer.waitForFunction(() => globalThis.harness.shown.length > 60 && globalThis.harness.watchStats()!.skew !== undefined, undefined, patience);
  const full = (await viewer.evaluate(() => globalThis.harness.watchStats()))!.bitrate / 8;
  line.rate = full / 2;
  await viewer.waitForFunction(() => globalThis.harness.watchStats()!.rendition === 1, undefined, patience);
  await viewer.waitForFunction(() => globalThis.harness.soundGoesOn(3000), undefined, long);
  const n = await viewer.evaluate(() => globalThis.harness.shown.length);
  line.rate = Infinity;
  await viewer.waitForFunction((n) => globalThis.harness.watchStats()!.rendition === 0 && globalThis.harness.shown.length > n + 30, n, long);
  await Promise.all([sender.context().close(), viewer.context().close()]);
  line.close();
});

test("the SDK works in a worker", { timeout: 120_000 }, async () => {
  const page = await open();
  const heard = await page.evaluate((server) => new Promise((resolve, reject) => {
    const w = new Worker("/worker.js", { type: "module" });
    w.onmessage = (m: MessageEvent<string>) => resolve(m.data);
    w.onerror = (e) => reject(new Error(e.message));
    w.postMessage({ server, say: "hello" });
  }), server.ws);
  assert.equal(heard, "worker: hello");
  await page.context().close();
});

test("a microphone for speech is one channel of some 32 kbit/s, and little of that while it is silent", { timeout: 120_000 }, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "timedge-speech-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const speaking = await launch(...(await talker(folder))); // beeps leave pauses that are shorter than a packet
  t.after(() => speaking.close());
  const page = await pages.open(await speaking.newContext({ permissions: ["camera", "microphone"] }));
  const s = await page.evaluate(() => globalThis.harness.speech(3));
  console.log(`# speech: ${((s.bytes * 8) / s.millis).toFixed(1)} kbit/s, ${((s.packets.length * 1000) / s.millis).toFixed(1)} packets a second, who speaks makes pauses`);
  assert.equal(s.channels, 1);
  assert.ok((s.bytes * 8) / s.millis < 48, "with what surrounds each packet");
  assert.deepEqual(s.packets, [...s.packets].sort((a, b) => a - b));
  assert.ok(s.packets.length * 40 < s.millis, "less than a packet each 40 ms");
  assert.deepEqual(s.decoded, s.packets, "what is decoded is where its packet was, behind pauses too");
  await page.context().close();
});
