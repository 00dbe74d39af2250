// The file page as people use it: a link, a code, an account; pages that are loaded anew in the middle.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { createRequire } from "node:module";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { launch } from "./browser.js";
import { phone, servePages, visit, type PageServer } from "./pages.js";

let server: PageServer;
let browser: Browser;
let axe = "";
let folder = "";
const faults: string[] = [];
before(async () => {
  axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
  folder = await mkdtemp(join(tmpdir(), "timedge-files-"));
  server = await servePages();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

const patience = { timeout: 60_000 };
const pictures = process.env.PICTURES;

async function looksWell(page: Page, name: string): Promise<void> {
  await page.locator("h1").first().waitFor(patience); // the page is there
  await page.evaluate(axe);
  const violations = await page.evaluate(async () => {
    const r = await (globalThis as unknown as { axe: { run(): Promise<{ violations: Array<{ id: string; nodes: Array<{ html: string; failureSummary?: string }> }> }> } }).axe.run();
    return r.violations.map((v) => `${v.id}: ${v.nodes.map((n) => `${n.html} ${n.failureSummary ?? ""}`).join(" | ")}`);
  });
  assert.deepEqual(violations, [], `axe, ${name}`);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, `${name}: ${wide} pixels wider than the window`);
  if (!pictures) return;
  await mkdir(pictures, { recursive: true });
  await page.screenshot({ path: `${pictures}/${name}.png` });
}

/** Makes a file, and returns where it is and its SHA-256. */
async function make(name: string, size: number): Promise<{ path: string; sum: string }> {
  const body = randomBytes(size);
  const path = join(folder, name);
  await writeFile(path, body);
  return { path, sum: createHash("sha256").update(body).digest("hex") };
}

async function offer(...paths: string[]): Promise<{ page: Page; link: string }> {
  const page = await visit(browser, `${server.url}/file`, {}, faults);
  await page.locator("#files").setInputFiles(paths);
  await page.locator("#link").waitFor(patience);
  return { page, link: await page.locator("#link").inputValue() };
}

async function whole(page: Page, sum: string): Promise<void> {
  await page.getByText(`SHA-256 ${sum} (whole)`).waitFor(patience);
}

test("files go over by a link, and are saved as they were", { timeout: 180_000 }, async () => {
  const files = [await make("one.bin", 3_000_000), await make("two.bin", 0)];
  const sender = await offer(...files.map((f) => f.path));
  const receiver = await visit(browser, sender.link, phone, faults);
  await receiver.getByRole("button", { name: "Accept" }).waitFor(patience);
  await looksWell(sender.page, "file-send");
  await looksWell(receiver, "file-offer-phone");
  await receiver.keyboard.press("Tab"); // by keyboard alone
  for (let i = 0; i < 20 && !(await receiver.getByRole("button", { name: "Accept" }).evaluate((b) => b === document.activeElement)); i++) await receiver.keyboard.press("Tab");
  await receiver.keyboard.press("Enter");
  for (const f of files) await whole(receiver, f.sum);
  const [download] = await Promise.all([receiver.waitForEvent("download"), receiver.getByRole("link", { name: "Save one.bin" }).click()]);
  assert.equal(createHash("sha256").update(await readFile(await download.path())).digest("hex"), files[0]!.sum);
  await sender.page.getByText(`SHA-256 ${files[0]!.sum}`).waitFor(patience);
  await looksWell(receiver, "file-done-phone");
  await Promise.all([sender.page.context().close(), receiver.context().close()]);
});

test("a code and an account lead to the files", { timeout: 180_000 }, async () => {
  const file = await make("three.bin", 100_000);
  const sender = await offer(file.path);
  const digits = await (await sender.page.waitForFunction(() => /^\d{6}$/.exec(document.querySelector("#share-code")?.textContent ?? "")?.[0], undefined, patience)).jsonValue();
  const byCode = await visit(browser, `${server.url}/file`, {}, faults);
  await looksWell(byCode, "file-start");
  await byCode.getByLabel("Code of 6 digits").fill(digits!);
  await byCode.getByRole("button", { name: "Open" }).click();
  await byCode.getByRole("button", { name: "Accept" }).click(patience);
  await whole(byCode, file.sum);
  const byAccount = await visit(browser, `${server.url}/file`, { language: "zh-CN", dark: true }, faults);
  const guest = (): string | undefined => /guest-\w+/.exec(document.querySelector("main")?.innerText ?? "")?.[0];
  const name = (await (await byAccount.waitForFunction(guest, undefined, patience)).jsonValue())!;
  await looksWell(byAccount, "file-start-chinese-dark");
  await sender.page.getByLabel("Send to an account").fill(name);
  await sender.page.getByRole("button", { name: "Send", exact: true }).click();
  await byAccount.getByRole("button", { name: "接收" }).click(patience);
  await byAccount.getByText(file.sum).waitFor(patience);
  await Promise.all([sender, byCode, byAccount].map((p) => ("page" in p && !("goto" in p) ? (p as { page: Page }).page : (p as Page)).context().close()));
});

test("pages that are loaded anew in the middle go on", { timeout: 240_000 }, async () => {
  const file = await make("large.bin", 40_000_000);
  const sender = await offer(file.path);
  const receiver = await visit(browser, sender.link, {}, faults);
  await receiver.getByRole("button", { name: "Accept" }).click(patience);
  const some = (): boolean => Number(document.querySelector("progress")?.value) > 0.02;
  await receiver.waitForFunction(some, undefined, patience);
  await sender.page.getByRole("button", { name: "Pause" }).click();
  await receiver.reload();
  await receiver.waitForFunction(some, undefined, patience); // what was there is there
  await sender.page.reload();
  await sender.page.getByText("Choose the same files again").waitFor(patience);
  await sender.page.locator("#files").setInputFiles([file.path]);
  await whole(receiver, file.sum);
  await Promise.all([sender.page.context().close(), receiver.context().close()]);
  assert.deepEqual(faults, []);
});
