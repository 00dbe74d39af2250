// What ffmpeg makes, and timedge push puts into a room, plays in a page: what outside.test.ts and outsidedrill.ts try.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { serve, type TestServer } from "../sdk/test/server.js";
import { launch, site, type Site } from "./browser.js";
import { push, sent, stopAll, type Pushed } from "./ffmpeg.js";
import { looksWell } from "./looks.js";
import { phone, servePages, visit, type PageServer } from "./pages.js";
import { tap } from "./tap.js";

export let pages: Site;
export let server: TestServer;
let own: PageServer;
export let browser: Browser;
before(async () => {
  pages = await site();
  server = await serve("--idle", "1h", "--ws-origin", pages.origin);
  own = await servePages();
  // Pages of this name come by plain http from elsewhere, as far as the browser knows: there are no WebCodecs there.
  browser = await launch("--host-resolver-rules=MAP live.test 127.0.0.1");
});
after(async () => {
  await stopAll();
  await browser?.close();
  await own?.stop();
  await server?.stop();
  await pages?.close();
});

const patience = { timeout: 60_000 };

/** The picture of the page's canvas moves. */
async function moves(page: Page): Promise<void> {
  const other = (before: string): string | false => {
    const c = document.querySelector("canvas");
    const now = c?.width === 320 ? c.toDataURL("image/png") : "";
    return now !== before && now;
  };
  const first = await (await page.waitForFunction(other, "", { ...patience, polling: 200 })).jsonValue();
  await page.waitForFunction(other, first as string, { ...patience, polling: 200 });
}

const pushed = (name: keyof typeof sent, ...flags: string[]): Promise<Pushed> => push(`${own.url.replace("http", "ws")}/`, sent[name], ...flags);
const watch = (p: Pushed, host = "127.0.0.1"): string => `${own.url.replace("127.0.0.1", host)}/live#${p.room}${p.key && `&key=${p.key}`}`;

const codecs = { ts: "avc1", mp4: "avc1", webm: "vp8" };

/** WebCodecs play it. */
export function byDecoders(name: keyof typeof codecs): void {
  test(`${name}: picture and sound, together, from the beginning and late`, { timeout: 180_000 }, async () => {
    const p = await push(server.tcp, sent[name]);
    const viewer = await pages.open(await browser.newContext());
    await viewer.evaluate(([ws, room]) => globalThis.harness.watch([ws!], "bob", room!, { min: 0, max: 400 }), [server.ws, p.room]);
    await viewer.waitForFunction(() => globalThis.harness.shown.length > 90, undefined, patience);
    assert.equal(await viewer.evaluate(() => globalThis.harness.hasPicture()), true);
    await viewer.waitForFunction(() => globalThis.harness.watchStats()!.skew !== undefined, undefined, patience); // sound is heard
    const w = (await viewer.evaluate(() => globalThis.harness.watchStats()))!;
    assert.deepEqual([w.codec.slice(0, 4).replace(/\.$/, ""), w.width, w.height, w.by, w.gaps], [codecs[name], 320, 180, "decoders", {}]);
    await (await pages.open(await browser.newContext())).evaluate(([ws, room]) => globalThis.harness.join([ws!], "carol", room!), [server.ws, p.room]);
    await p.stop();
    await viewer.waitForFunction(() => globalThis.harness.states.at(-1) === "ended", undefined, patience);
    await viewer.context().close();
  });
}

/** A media element plays it, where there are no WebCodecs. */
export function byElement(name: keyof typeof codecs): void {
  test(`${name}: where there are no WebCodecs a media element plays it, from the beginning and late`, { timeout: 180_000 }, async () => {
    const faults: string[] = [];
    const p = await pushed(name);
    const viewer = await visit(browser, watch(p, "live.test"), {}, faults);
    assert.equal(await viewer.evaluate(() => typeof VideoDecoder), "undefined");
    await viewer.getByText("LIVE", { exact: true }).waitFor(patience);
    await moves(viewer);
    await viewer.locator("h1").click();
    await viewer.keyboard.press("s");
    await viewer.locator("dd", { hasText: "a media element (MSE)" }).waitFor(patience);
    const late = await visit(browser, watch(p, "live.test"), { ...phone, language: "zh-CN", dark: true }, faults);
    await late.getByText("直播中", { exact: true }).waitFor(patience);
    await moves(late);
    if (name === "ts") {
      await looksWell(viewer, "outside: by a media element, statistics");
      await looksWell(late, "outside: by a media element, on a phone, dark, Chinese");
    }
    await p.stop();
    await viewer.getByText("The broadcast has ended.").waitFor(patience);
    assert.deepEqual(faults.filter((f) => !f.includes("Opener-Policy header has been ignored")), []); // which browsers say of every page by plain http
    await Promise.all([viewer, late].map((v) => v.context().close()));
  });
}

/** A media element goes on behind a gap. */
export function elementOverGap(): void {
  test("a media element goes on at a key picture when its page was away for longer than the server keeps what goes by", { timeout: 180_000 }, async () => {
    const p = await pushed("ts");
    const way = await tap(own.url);
    const viewer = await visit(browser, `${way.url.replace("127.0.0.1", "live.test")}/live#${p.room}`);
    await viewer.getByText("LIVE", { exact: true }).waitFor(patience);
    await moves(viewer);
    await viewer.locator("h1").click();
    await viewer.keyboard.press("s");
    way.refusing = true;
    way.breakAll();
    const sentBefore = p.left.size;
    while (p.left.size < sentBefore + 120) await new Promise((resolve) => setTimeout(resolve, 100)); // four groups
    way.refusing = false;
    await viewer.locator(".figures div", { hasText: "Gaps told by the server" }).filter({ hasText: /\d/ }).waitFor(patience);
    await moves(viewer);
    await viewer.locator("dd", { hasText: "a media element (MSE)" }).waitFor(patience);
    await viewer.context().close();
    await p.stop();
    way.close();
  });
}

/** The page plays what is sealed, and says what it cannot play. */
export function saysWhatNot(): void {
  test("the watch page plays what is encrypted, and says what it cannot play, or why not here", { timeout: 240_000 }, async () => {
    const faults: string[] = [];
    const sealed = await pushed("ts", "--e2ee", "new");
    const viewer = await visit(browser, watch(sealed), {}, faults);
    await viewer.getByText("LIVE", { exact: true }).waitFor(patience);
    await moves(viewer);
    assert.equal(await viewer.getByRole("heading", { name: "Chat" }).isVisible(), false, "nobody talks there");
    const plain = await visit(browser, watch(sealed, "live.test"), {}, faults);
    await plain.getByText("Browsers open what is encrypted only on pages by https").waitFor(patience);
    await Promise.all([viewer, plain].map((v) => v.context().close()));
    await sealed.stop();

    for (const [name, says] of [
      ["hevc", /This browser cannot play all of it: h(vc|ev)1/],
      ["mp2", /This browser cannot play all of it: MP2/],
      ["ac3", /This browser cannot play all of it: ac-3/i],
      ["flv", /a container that pages do not read \(FLV\)/],
    ] as const) {
      const p = await pushed(name);
      const page = await visit(browser, watch(p), {}, faults);
      await page.getByText(says).first().waitFor(patience);
      if (name === "mp2") await moves(page); // what it can play it does, and goes on saying what it cannot
      await page.getByText(says).first().waitFor(patience);
      if (name === "hevc") await looksWell(page, "outside: not playable");
      await page.context().close();
      await p.stop();
    }
    assert.deepEqual(faults.filter((f) => !f.includes("Opener-Policy header has been ignored")), []);
  });
}
