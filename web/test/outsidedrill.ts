// What comes from outside in other containers, and how long what ffmpeg makes takes to a page, in figures: part of `make drill-browser`. docs/obs.md keeps them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { push, sent } from "./ffmpeg.js";
import { browser, byDecoders, byElement, elementOverGap, pages, saysWhatNot, server } from "./outsidecases.js";

byDecoders("mp4");
byDecoders("webm");
byElement("mp4");
byElement("webm");
elementOverGap();
saysWhatNot();

const patience = { timeout: 120_000 };
/** So many pictures are timed, at 30 a second, and so many viewers join late. */
const pictures = 600;
const joins = 30;

function quantile(list: readonly number[], p: number): string {
  const sorted = [...list].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))]!.toFixed(0);
}

test("from ffmpeg's picture, pushed, to the decoded one, and how soon who comes late sees one", { timeout: 300_000 }, async () => {
  const p = await push(server.tcp, sent.ts);
  const viewer = await pages.open(await browser.newContext());
  await viewer.evaluate(([ws, room]) => globalThis.harness.watch([ws!], "bob", room!, { min: 0, max: 400 }), [server.ws, p.room]);
  await viewer.waitForFunction(() => globalThis.harness.shown.length > 60, undefined, patience);
  await viewer.evaluate(() => globalThis.harness.forget());
  await viewer.waitForFunction((n) => globalThis.harness.decoded.length > n, pictures, patience);
  const decoded = await viewer.evaluate(() => globalThis.harness.decoded);
  // By the timestamp that each picture has in the transport stream; in the page they are 10 s above.
  const took = decoded.flatMap((d) => {
    const left = p.left.get(Math.round(d.pts - 10_000));
    return left === undefined ? [] : [d.at - left];
  });
  assert.ok(took.length > pictures * 0.9, `${took.length} of ${decoded.length} pictures are known by their time`);
  const skew = (await viewer.evaluate(() => globalThis.harness.watchStats()))!.skew;
  await viewer.context().close();
  const late = await pages.open(await browser.newContext());
  const waits: number[] = [];
  for (let i = 0; i < joins; i++) waits.push(await late.evaluate(([ws, room]) => globalThis.harness.join([ws!], "late", room!), [server.ws, p.room]));
  console.log(`figures: ffmpeg's H.264 and AAC in MPEG-TS, in Chromium: push to decoded picture p50 ${quantile(took, 0.5)} ms, p95 ${quantile(took, 0.95)} ms (n ${took.length}); a late viewer's picture p50 ${quantile(waits, 0.5)} ms, worst ${quantile(waits, 1)} ms (n ${waits.length}); sound and picture apart p50 ${skew?.p50.toFixed(0)} ms`);
  await late.context().close();
  await p.stop();
});
