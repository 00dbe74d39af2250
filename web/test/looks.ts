// What the tests of pages ask of how a page looks, whatever its state.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, readFile, readdir } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Locator, Page } from "playwright-core";

/** For waits that end by themselves unless something is wrong. */
export const patience = { timeout: 60_000 };
/** Where pictures of the pages go, if anywhere: `make pictures`. */
const pictures = process.env.PICTURES;
let axe = "";
let wanted = "";

/** What a browser is started with for its camera to show something, where pictures are taken; the clip lies in that folder. */
export async function camera(folder: string): Promise<string[]> {
  if (!pictures) return [];
  const clip = join(folder, "camera.y4m"); // half the pictures of a camera, and nothing to decode: so more machines are fast enough for a picture
  await promisify(execFile)("ffmpeg", `-loglevel error -y -f lavfi -i mandelbrot=size=640x360:rate=15:start_scale=0.9 -t 8 -pix_fmt yuv420p ${clip}`.split(" "));
  return [`--use-file-for-fake-video-capture=${clip}`];
}

/**
 * Presses a button that asks before it acts in the ways of a hand that means one press: twice, again and again, with the second press begun at once and held, with
 * a key held down. What it asks has to be unanswered then.
 */
export async function asksApart(button: Locator): Promise<void> {
  const words = await button.innerText();
  const said = await button.evaluate(async (b) => {
    const down = (): boolean => b.dispatchEvent(new PointerEvent("pointerdown", { bubbles: true }));
    const key = (repeat: boolean): boolean => b.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", repeat, bubbles: true, cancelable: true }));
    const said: string[] = [];
    for (let i = 0; i < 4; i++) {
      down();
      (b as HTMLElement).click();
      said.push(b.textContent!);
    }
    down();
    while (b.getAttribute("aria-disabled") === "true") await new Promise((resolve) => setTimeout(resolve, 10));
    (b as HTMLElement).click(); // it is let go only now
    said.push(b.textContent!);
    if (key(false)) (b as HTMLElement).click();
    for (let i = 0; i < 4; i++) if (key(true)) (b as HTMLElement).click();
    said.push(b.textContent!);
    return said;
  });
  assert.ok(said.every((s) => s !== words) && new Set(said).size === 1, `${words}: ${said.join(" / ")}`);
}

/** Presses a button that asks before it acts, and answers. */
export async function insist(page: Page, name: string, question: string): Promise<void> {
  const [button, answer] = [page.getByRole("button", { name, exact: true }).first(), page.getByRole("button", { name: question })];
  for (let done = false; !done; ) { // a question is over by itself after some seconds
    if (await button.isVisible()) await button.click();
    done = await answer.click({ timeout: 3000 }).then(() => true, () => false);
  }
}

/** What axe finds wrong: of all its rules, or of these. */
async function violations(page: Page, rules?: string[]): Promise<string[]> {
  return page.evaluate(async (rules) => {
    type Axe = { run(o: object): Promise<{ violations: Array<{ id: string; nodes: Array<{ html: string; failureSummary?: string }> }> }> };
    const r = await (globalThis as unknown as { axe: Axe }).axe.run(rules ? { runOnly: rules } : {});
    return r.violations.map((v) => `${v.id}: ${v.nodes.map((n) => `${n.html} ${n.failureSummary ?? ""}`).join(" | ")}`);
  }, rules);
}

/** Nothing that axe finds wrong in either colour scheme, and nothing wider than the window. If a document shows a picture of that name, it is taken. */
export async function looksWell(page: Page, name: string): Promise<void> {
  axe ||= await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
  await page.locator("h1").first().waitFor(patience); // the page is there
  await page.evaluate(axe); // not by a script element, which the page's policy forbids
  assert.deepEqual(await violations(page), [], `axe, ${name}`);
  const dark = await page.evaluate(() => matchMedia("(prefers-color-scheme: dark)").matches);
  const schemes = ["light", "dark"] as const;
  await page.emulateMedia({ colorScheme: schemes[Number(!dark)]! });
  assert.deepEqual(await violations(page, ["color-contrast"]), [], `axe, ${name}, in the other colours`);
  await page.emulateMedia({ colorScheme: schemes[Number(dark)]! });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, `${name}: ${wide} pixels wider than the window`);
  await picture(page, name);
}

/** What pages say where lines are poor. */
const poor = ["Your connection is slow", "This device has too much to do", "Slow line", "weak connection", "Reconnecting", "网络较慢", "此设备负荷过高", "网络较弱", "正在重新连接"];

/** Waits until nothing on the page says that a line is poor, for a while: what a busy machine makes of it, and what looking at the page has cost, is over. */
async function undisturbed(page: Page): Promise<void> {
  await page.waitForFunction((poor) => {
    const w = globalThis as { goodSince?: number };
    if (poor.some((p) => document.body.textContent!.includes(p))) w.goodSince = undefined as never;
    return performance.now() - (w.goodSince ??= performance.now()) > 1500;
  }, poor, { timeout: 150_000, polling: 100 });
}

/** Takes a picture of the page, if a document shows one of that name, and one of it in the dark, if a document shows that. */
export async function picture(page: Page, name: string): Promise<void> {
  if (!pictures) return;
  const root = new URL("../../../", import.meta.url); // the bundle of the test lies in web/test/.test
  const documents = (await readdir(new URL("docs", root))).filter((f) => f.endsWith(".md")).map((f) => `docs/${f}`);
  wanted ||= (await Promise.all(["README.md", ...documents].map((f) => readFile(new URL(f, root), "utf8")))).join("\n");
  if (!wanted.includes(`images/${name}.png`)) return;
  await mkdir(pictures, { recursive: true });
  await undisturbed(page);
  await page.evaluate(() => {
    scrollTo(0, 0);
    (document.activeElement as HTMLElement | null)?.blur();
  });
  await page.screenshot({ path: `${pictures}/${name}.png` });
  if (!wanted.includes(`images/${name}-dark.png`)) return;
  await page.emulateMedia({ colorScheme: "dark" });
  await page.screenshot({ path: `${pictures}/${name}-dark.png` });
  await page.emulateMedia({ colorScheme: "light" });
}
