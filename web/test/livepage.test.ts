// The live page as people use it: by its words, by keyboard, with what a screen reader needs, on a phone.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { launch } from "./browser.js";
import { looksWell, patience, picture } from "./looks.js";
import { binary, phone, servePages, visit, type PageServer } from "./pages.js";

let server: PageServer;
let browser: Browser;
before(async () => {
  server = await servePages();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

/**
 * The picture moves. What is waited for is a function, never text: text would be evaluated again at each look, which
 * the page's policy forbids after the first.
 */
async function moves(page: Page): Promise<void> {
  const other = (before: string): string | false => {
    const c = document.querySelector("canvas")!;
    const now = c.width > 0 ? c.toDataURL("image/png") : "";
    return now !== before && now;
  };
  const first = await (await page.waitForFunction(other, "", { ...patience, polling: 200 })).jsonValue();
  await page.waitForFunction(other, first as string, { ...patience, polling: 200 });
}

test("a broadcast, and who watches it", { timeout: 240_000 }, async () => {
  const faults: string[] = [];
  const sender = await visit(browser, `${server.url}/live`, {}, faults);
  await sender.getByRole("heading", { name: "Go live" }).waitFor(patience);
  await looksWell(sender, "live: setup");
  await sender.getByLabel("Quality").selectOption("180p");
  await sender.getByRole("button", { name: "Camera" }).press("Enter");
  await sender.waitForFunction(() => document.querySelector("video")!.videoWidth > 0, undefined, patience);
  await sender.getByLabel("Title").fill("Kitchen");
  await sender.getByRole("button", { name: "Go live" }).click();
  await sender.getByText("LIVE", { exact: true }).waitFor(patience);
  const link = await sender.getByLabel("Link for viewers").inputValue();
  assert.match(link, new RegExp(`^${server.url}/live#[1-9A-HJ-NP-Za-km-z]{11}$`));
  await sender.getByRole("img", { name: "QR code of the link" }).waitFor(patience);
  await looksWell(sender, "live: on air");

  const viewer = await visit(browser, link, phone, faults);
  await viewer.getByText("LIVE", { exact: true }).waitFor(patience);
  await viewer.getByRole("heading", { name: "Kitchen" }).waitFor(patience);
  await moves(viewer);
  await looksWell(viewer, "live: watching on a phone");
  const reader = await visit(browser, link, { language: "zh-CN", dark: true }, faults);
  await reader.getByText("直播中", { exact: true }).waitFor(patience);
  await sender.locator("dd", { hasText: /^2$/ }).waitFor(patience);

  await viewer.getByLabel("Say something").fill("What smells so good?");
  await viewer.keyboard.press("Enter");
  await sender.getByText("What smells so good?").waitFor(patience);
  await viewer.getByRole("button", { name: "Captions" }).click();
  await sender.getByLabel("Say something").fill("Bread!");
  await sender.keyboard.press("Enter");
  await reader.getByText("Bread!").waitFor(patience);
  await viewer.locator(".caption", { hasText: "Bread!" }).waitFor(patience);
  await reader.locator("h1").click();
  await reader.keyboard.press("s");
  await reader.getByRole("heading", { name: "统计" }).waitFor(patience);
  await reader.waitForFunction(() => /avc|vp/.test(document.querySelector(".figures")!.textContent ?? ""), undefined, patience);
  await looksWell(reader, "live: statistics, dark, Chinese");
  await reader.keyboard.press("m");
  assert.equal(await reader.getByRole("button", { name: "静音" }).getAttribute("aria-pressed"), "true");
  await picture(viewer, "live-watch-phone");
  await picture(reader, "live-watch-chinese");
  await picture(sender, "live-on-air");

  await sender.getByRole("button", { name: "End", exact: true }).click();
  await viewer.getByText("The broadcast has ended.").waitFor(patience);
  await looksWell(viewer, "live: ended");
  await viewer.getByText("The broadcast has ended.").waitFor(patience); // still
  const late = await visit(browser, link, phone, faults);
  await late.getByText("There is no such broadcast, or it has ended.").waitFor(patience);
  await looksWell(late, "live: unknown");
  assert.deepEqual(faults, []);
  for (const p of [sender, viewer, reader, late]) await p.context().close();
});

test("what goes wrong is said: no camera, no account, no connection", { timeout: 180_000 }, async () => {
  const faults: string[] = [];
  const dir = await mkdtemp(join(tmpdir(), "timedge-accounts-"));
  execFileSync(binary, ["token", "add", join(dir, "accounts"), "alice"]);
  const strict = await servePages("--auth", `file:${join(dir, "accounts")}`);
  try {
    const page = await visit(browser, `${server.url}/live`, phone, faults);
    await page.evaluate(() => (navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("", "NotAllowedError")))); // what a user who says no does
    await page.getByRole("button", { name: "Camera" }).click(patience);
    await page.getByText("The browser did not give access.").waitFor(patience);
    await looksWell(page, "live: no camera");
    await page.goto(`${strict.url}/live#NGhMpCbk2wQ`);
    await page.getByRole("dialog").getByLabel("Token").waitFor(patience);
    await looksWell(page, "live: signing in, on a phone");
    await page.getByLabel("Name").fill("alice");
    await page.getByRole("dialog").getByLabel("Token").fill("wrong");
    await page.getByRole("button", { name: "Use" }).click();
    await page.getByText("No connection:").waitFor(patience);
    await looksWell(page, "live: a wrong token");
    await page.goto(`${strict.url}/file`);
    await page.getByText("That did not work:").waitFor(patience);
    await looksWell(page, "live: a wrong token for files");
    await page.goto(`${strict.url}/`);
    await looksWell(page, "live: home, on a phone");
    await page.context().close();
  } finally {
    await strict.stop();
    await rm(dir, { recursive: true, force: true });
  }
  assert.deepEqual(faults, []);
});
