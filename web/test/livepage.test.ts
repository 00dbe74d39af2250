// The live page as people use it: by its words, by keyboard, with what a screen reader needs, on a phone.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { mkdir, readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { launch } from "./browser.js";
import { phone, servePages, visit, type PageServer } from "./pages.js";

let server: PageServer;
let browser: Browser;
let axe = "";
before(async () => {
  axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
  server = await servePages();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

const patience = { timeout: 60_000 };
/** Where pictures of the pages go, if anywhere. */
const pictures = process.env.PICTURES;

async function picture(page: Page, name: string): Promise<void> {
  if (!pictures) return;
  await mkdir(pictures, { recursive: true });
  await page.evaluate(() => {
    scrollTo(0, 0);
    (document.activeElement as HTMLElement | null)?.blur();
  });
  await page.screenshot({ path: `${pictures}/${name}.png` });
}

/** Nothing that axe finds wrong, and nothing wider than the page. */
async function sound(page: Page, state: string): Promise<void> {
  await page.locator("h1").first().waitFor(patience); // the page is there
  await page.evaluate(axe); // not by a script element, which the page's policy forbids
  const violations = await page.evaluate(async () => {
    const r = await (globalThis as unknown as { axe: { run(): Promise<{ violations: Array<{ id: string; nodes: Array<{ html: string; failureSummary?: string }> }> }> } }).axe.run();
    return r.violations.map((v) => `${v.id}: ${v.nodes.map((n) => `${n.html} ${n.failureSummary ?? ""}`).join(" | ")}`);
  });
  assert.deepEqual(violations, [], `axe, ${state}`);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, `${state}: ${wide} pixels wider than the window`);
}

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
  await sound(sender, "setup");
  await sender.getByLabel("Quality").selectOption("180p");
  await sender.getByRole("button", { name: "Camera" }).press("Enter");
  await sender.waitForFunction(() => document.querySelector("video")!.videoWidth > 0, undefined, patience);
  await sender.getByLabel("Title").fill("Kitchen");
  await picture(sender, "live-setup");
  await sender.getByRole("button", { name: "Go live" }).click();
  await sender.getByText("LIVE", { exact: true }).waitFor(patience);
  const link = await sender.getByLabel("Link for viewers").inputValue();
  assert.match(link, new RegExp(`^${server.url}/live#[1-9A-HJ-NP-Za-km-z]{11}$`));
  await sender.getByRole("img", { name: "QR code of the link" }).waitFor(patience);
  await sound(sender, "on air");

  const viewer = await visit(browser, link, phone, faults);
  await viewer.getByText("LIVE", { exact: true }).waitFor(patience);
  await viewer.getByRole("heading", { name: "Kitchen" }).waitFor(patience);
  await moves(viewer);
  await sound(viewer, "watching on a phone");
  const reader = await visit(browser, link, { language: "zh-CN", dark: true }, faults);
  await reader.getByText("直播中", { exact: true }).waitFor(patience);
  await sender.locator("dd", { hasText: /^2$/ }).waitFor(patience);

  await viewer.getByLabel("Say something").fill("What smells so good?");
  await viewer.keyboard.press("Enter");
  await sender.getByText("What smells so good?").waitFor(patience);
  await sender.getByLabel("Say something").fill("Bread!");
  await sender.keyboard.press("Enter");
  await reader.getByText("Bread!").waitFor(patience);
  await reader.locator("h1").click();
  await reader.keyboard.press("s");
  await reader.getByRole("heading", { name: "统计" }).waitFor(patience);
  await reader.waitForFunction(() => /avc|vp/.test(document.querySelector(".figures")!.textContent ?? ""), undefined, patience);
  await sound(reader, "statistics, dark, Chinese");
  await reader.keyboard.press("m");
  assert.equal(await reader.getByRole("button", { name: "静音" }).getAttribute("aria-pressed"), "true");
  await picture(viewer, "live-watch-phone");
  await picture(reader, "live-watch-dark");
  await picture(sender, "live-on-air");

  await sender.getByRole("button", { name: "End", exact: true }).click();
  await viewer.getByText("The broadcast has ended.").waitFor(patience);
  await sound(viewer, "ended");
  await viewer.getByText("The broadcast has ended.").waitFor(patience); // still
  await picture(viewer, "live-ended-phone");
  const late = await visit(browser, link, phone, faults);
  await late.getByText("There is no such broadcast, or it has ended.").waitFor(patience);
  await sound(late, "unknown");
  assert.deepEqual(faults, []);
  for (const p of [sender, viewer, reader, late]) await p.context().close();
});
