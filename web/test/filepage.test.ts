// The file page as people use it: a link, a code, an account; pages that are loaded anew in the middle.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { launch } from "./browser.js";
import { looksWell, patience } from "./looks.js";
import { path } from "./paths.js";
import { phone, servePages, visit, type PageServer } from "./pages.js";

let server: PageServer;
let browser: Browser;
let folder = "";
let host = "";
const faults: string[] = [];
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "timedge-files-"));
  server = await servePages();
  host = server.url.replace("http://", "");
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** Reports whether more than that part of all bytes is there. */
const beyond = (part: number): boolean => Number(document.querySelector("progress")?.value) > part;
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
  await looksWell(receiver, "file-receive-phone");
  await receiver.keyboard.press("Tab"); // by keyboard alone
  for (let i = 0; i < 20 && !(await receiver.getByRole("button", { name: "Accept" }).evaluate((b) => b === document.activeElement)); i++) await receiver.keyboard.press("Tab");
  await receiver.keyboard.press("Enter");
  for (const f of files) await whole(receiver, f.sum);
  const [download] = await Promise.all([receiver.waitForEvent("download"), receiver.getByRole("link", { name: "Save one.bin" }).click()]);
  assert.equal(createHash("sha256").update(await readFile(await download.path())).digest("hex"), files[0]!.sum);
  await sender.page.getByText(`SHA-256 ${files[0]!.sum}`).waitFor(patience);
  await looksWell(receiver, "file: done, on a phone");
  await looksWell(sender.page, "file: sent");
  await Promise.all([sender.page.context().close(), receiver.context().close()]);
});

test("a code and an account lead to the files", { timeout: 180_000 }, async () => {
  const file = await make("three.bin", 100_000);
  const sender = await offer(file.path);
  const digits = await (await sender.page.waitForFunction(() => /^\d{6}$/.exec(document.querySelector("#share-code")?.textContent ?? "")?.[0], undefined, patience)).jsonValue();
  const byCode = await visit(browser, `${server.url}/file`, {}, faults);
  await looksWell(byCode, "file: start");
  await byCode.getByLabel("Code of 6 digits").fill(digits!);
  await byCode.getByRole("button", { name: "Open" }).click();
  await byCode.getByRole("button", { name: "Accept" }).click(patience);
  await whole(byCode, file.sum);
  const byAccount = await visit(browser, `${server.url}/file`, { language: "zh-CN", dark: true }, faults);
  const guest = (): string | undefined => /guest-\w+/.exec(document.querySelector("main")?.innerText ?? "")?.[0];
  const name = (await (await byAccount.waitForFunction(guest, undefined, patience)).jsonValue())!;
  await looksWell(byAccount, "file: start, Chinese, dark");
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
  await receiver.waitForFunction(beyond, 0.02, patience);
  await sender.page.getByRole("button", { name: "Pause" }).click();
  await receiver.reload();
  await receiver.waitForFunction(beyond, 0.02, patience); // what was there is there
  await sender.page.reload();
  await sender.page.getByText("Choose the same files again").waitFor(patience);
  await sender.page.locator("#files").setInputFiles([file.path]);
  await whole(receiver, file.sum);
  await Promise.all([sender.page.context().close(), receiver.context().close()]);
});

test("a folder goes over with what is in it", { timeout: 180_000 }, async () => {
  const dir = await mkdtemp(join(folder, "dir-"));
  const inner = join(dir, "inner");
  await mkdir(inner);
  const files = [await make(join(basename(dir), "a.bin"), 70_000), await make(join(basename(dir), "inner", "b.bin"), 1)];
  const page = await visit(browser, `${server.url}/file`, {}, faults);
  await page.locator("#folder").setInputFiles(dir);
  await page.locator("#link").waitFor(patience);
  const receiver = await visit(browser, await page.locator("#link").inputValue(), {}, faults);
  await receiver.getByText(`${basename(dir)}/inner/b.bin`).waitFor(patience);
  await receiver.getByRole("button", { name: "Accept" }).click(patience);
  for (const f of files) await whole(receiver, f.sum);
  await Promise.all([page.context().close(), receiver.context().close()]);
});

test("either end pauses, and goes on when it says so; connections that break at either end lose nothing", { timeout: 240_000 }, async () => {
  const size = 24_000_000;
  const file = await make("broken.bin", size);
  const [there, here] = [await path(host), await path(host)];
  here.rate = size / 60; // so slow that the middle is not missed, however busy the machine is
  const page = await visit(browser, `http://${there.addr}/file`, {}, faults);
  await page.locator("#files").setInputFiles([file.path]);
  await page.locator("#link").waitFor(patience);
  const link = await page.locator("#link").inputValue();
  const receiver = await visit(browser, link.replace(there.addr, here.addr), {}, faults);
  await receiver.getByRole("button", { name: "Accept" }).click(patience);
  await receiver.waitForFunction(beyond, 0.02, patience);
  for (const end of [receiver, page]) {
    await end.getByRole("button", { name: "Pause" }).click(patience);
    await end.getByRole("button", { name: "Resume" }).waitFor(patience);
    await looksWell(end, "file: paused");
    await end.getByRole("button", { name: "Resume" }).click(patience);
    await end.getByRole("button", { name: "Pause" }).waitFor(patience);
  }
  for (const [line, part] of [[there, 0.04], [here, 0.06], [there, 0.08], [here, 0.1]] as const) {
    await receiver.waitForFunction(beyond, part, patience);
    line.breakAll();
  }
  await receiver.waitForFunction(beyond, 0.12, patience);
  here.rate = Infinity;
  await whole(receiver, file.sum);
  await Promise.all([page.context().close(), receiver.context().close()]);
  for (const line of [there, here]) line.close();
});

/** Changes a byte of what lies on the page's disk of the room's first file. */
async function spoil(page: Page, room: string): Promise<void> {
  await page.evaluate(async (room) => {
    const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle(room);
    const handle = await folder.getFileHandle("0");
    const was = new Uint8Array(await (await handle.getFile()).slice(0, 1).arrayBuffer());
    const w = await handle.createWritable({ keepExistingData: true });
    await w.write({ type: "write", position: 0, data: Uint8Array.of(was[0]! ^ 1) });
    await w.close();
  }, room);
}

test("what is damaged on the disk is found, and taken anew", { timeout: 240_000 }, async () => {
  const file = await make("spoilt.bin", 20_000_000);
  const sender = await offer(file.path);
  const receiver = await visit(browser, sender.link, {}, faults);
  await sender.page.getByRole("button", { name: "Pause" }).waitFor(patience);
  await receiver.getByRole("button", { name: "Accept" }).click(patience);
  await receiver.waitForFunction(beyond, 0.01, patience);
  await sender.page.getByRole("button", { name: "Pause" }).click();
  await receiver.goto(`${server.url}/`); // which closes the file
  await spoil(receiver, sender.link.split("#")[1]!);
  await receiver.goto(sender.link);
  await sender.page.getByRole("button", { name: "Resume" }).click();
  await whole(receiver, file.sum);
  await Promise.all([sender.page.context().close(), receiver.context().close()]);
});

test("a file that changes while it is offered is said to be unreadable, and sent when it is chosen again", { timeout: 240_000 }, async () => {
  const file = await make("changed.bin", 1_000_000);
  const sender = await offer(file.path);
  const receiver = await visit(browser, sender.link, {}, faults);
  await receiver.getByRole("button", { name: "Accept" }).waitFor(patience);
  const again = await make("changed.bin", 1_000_000);
  await receiver.getByRole("button", { name: "Accept" }).click(patience);
  await sender.page.getByText("a file cannot be read here").waitFor(patience);
  await looksWell(sender.page, "file: unreadable");
  await receiver.getByText("The sender is away.").waitFor(patience);
  await looksWell(receiver, "file: waiting for the sender");
  await sender.page.reload();
  await sender.page.locator("#files").setInputFiles([again.path]);
  await whole(receiver, again.sum);
  await Promise.all([sender.page.context().close(), receiver.context().close()]);
});

test("a link that leads nowhere, and a code that nobody sends with", { timeout: 120_000 }, async () => {
  const page = await visit(browser, `${server.url}/file#NGhMpCbk2wQ`, phone, faults);
  await page.getByText("This link leads nowhere any more.").waitFor(patience);
  await looksWell(page, "file: a dead link");
  await page.goto(`${server.url}/file`);
  await page.getByLabel("Code of 6 digits").fill("000000");
  await page.getByRole("button", { name: "Open" }).click();
  await page.getByText("Nobody sends with this code.").waitFor(patience);
  await looksWell(page, "file: a wrong code");
  await page.goto(`${server.url}/file#NGhMpCbk2wQ&key=short`);
  await page.getByText("its key is missing or damaged").waitFor(patience);
  await looksWell(page, "file: a link that is not whole");
  await page.addInitScript(() => Reflect.deleteProperty(StorageManager.prototype, "getDirectory"));
  await page.goto(`${server.url}/file`);
  await page.getByText("cannot keep files on its disk").waitFor(patience);
  await looksWell(page, "file: an old browser");
  await page.context().close();
  assert.deepEqual(faults, []);
});
