// What the tests of pages ask of how a page looks, whatever its state.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { mkdir, readFile, readdir } from "node:fs/promises";
import type { Page } from "playwright-core";

/** For waits that end by themselves unless something is wrong. */
export const patience = { timeout: 60_000 };
/** Where pictures of the pages go, if anywhere: `make pictures`. */
const pictures = process.env.PICTURES;
let axe = "";
let wanted = "";

/** Nothing that axe finds wrong, and nothing wider than the window. If a document shows a picture of that name, it is taken. */
export async function looksWell(page: Page, name: string): Promise<void> {
  axe ||= await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
  await page.locator("h1").first().waitFor(patience); // the page is there
  await page.evaluate(axe); // not by a script element, which the page's policy forbids
  const violations = await page.evaluate(async () => {
    const r = await (globalThis as unknown as { axe: { run(): Promise<{ violations: Array<{ id: string; nodes: Array<{ html: string; failureSummary?: string }> }> }> } }).axe.run();
    return r.violations.map((v) => `${v.id}: ${v.nodes.map((n) => `${n.html} ${n.failureSummary ?? ""}`).join(" | ")}`);
  });
  assert.deepEqual(violations, [], `axe, ${name}`);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, `${name}: ${wide} pixels wider than the window`);
  await picture(page, name);
}

/** Takes a picture of the page, if a document shows one of that name. */
export async function picture(page: Page, name: string): Promise<void> {
  if (!pictures) return;
  const root = new URL("../../../", import.meta.url); // the bundle of the test lies in web/test/.test
  const documents = (await readdir(new URL("docs", root))).filter((f) => f.endsWith(".md")).map((f) => `docs/${f}`);
  wanted ||= (await Promise.all(["README.md", ...documents].map((f) => readFile(new URL(f, root), "utf8")))).join("\n");
  if (!wanted.includes(`images/${name}.png`)) return;
  await mkdir(pictures, { recursive: true });
  await page.evaluate(() => {
    scrollTo(0, 0);
    (document.activeElement as HTMLElement | null)?.blur();
  });
  await page.screenshot({ path: `${pictures}/${name}.png` });
}
