// The live page as people use it: by its words, by keyboard, with what a screen reader needs, on a phone.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { dial } from "../sdk/src/index.js";
import { tcp } from "../sdk/src/tcp.js";
import { launch } from "./browser.js";
import { camera, looksWell, patience, picture } from "./looks.js";
import { binary, phone, servePages, visit, visitIn, type PageServer, type Visitor } from "./pages.js";
import { path } from "./paths.js";

let server: PageServer;
let browser: Browser;
let folder = "";
/** A name of this machine that browsers do not take for it: they trust what it sends by TLS only. */
const stranger = "timedge.test";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "timedge-live-"));
  server = await servePages();
  browser = await launch(`--host-resolver-rules=MAP ${stranger} 127.0.0.1`, ...(await camera(folder)));
});
after(async () => {
  await browser?.close();
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
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

/** What is below the picture stands beside one another. */
function inOneRow(page: Page): Promise<boolean> {
  return page.locator(".live .bar").first().evaluate((bar) => {
    const boxes = [...bar.children].map((c) => c.getBoundingClientRect());
    return Math.max(...boxes.map((b) => b.top)) < Math.min(...boxes.map((b) => b.bottom));
  });
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
  assert.ok(await inOneRow(reader), "the controls, in Chinese");
  await picture(viewer, "live-watch-phone");
  await picture(reader, "live-watch-chinese");
  await picture(sender, "live-on-air");

  await viewer.setViewportSize({ width: 1280, height: 800 });
  assert.ok(await inOneRow(viewer), "the controls, in English");
  await viewer.setViewportSize({ width: phone.width!, height: phone.height! });

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

test("who may not write watches: not begun, on air, interrupted; without the key, without a decoder", { timeout: 240_000 }, async () => {
  const faults: string[] = [];
  const accounts = join(folder, "guests");
  const token = execFileSync(binary, ["token", "add", accounts, "alice"], { encoding: "utf8" }).trim().split(/\s+/).at(-1)!;
  const strict = await servePages("--auth", `file:${accounts}`, "--guests", "subscribe");
  try {
    const owner = await dial({ servers: strict.tcp, account: "alice", token, dialer: tcp() });
    const empty = await visit(browser, `${strict.url}/live#${await owner.register()}`, phone, faults);
    await empty.getByText("The broadcast has not begun yet.").waitFor(patience);
    await looksWell(empty, "live: not begun");
    await Promise.all([owner.close(), empty.context().close()]);

    const host = strict.url.replace("http://", "");
    const line = await path(host);
    const sender = await visit(browser, `http://${line.addr}/live`, { dark: true }, faults);
    await sender.evaluate(([token]) => sessionStorage.setItem("timedge.account", JSON.stringify({ name: "alice", token })), [token]);
    await sender.reload();
    await sender.getByLabel("Quality").selectOption("180p");
    await sender.getByRole("button", { name: "Camera" }).click();
    await sender.waitForFunction(() => document.querySelector("video")!.videoWidth > 0, undefined, patience);
    await sender.getByRole("button", { name: "Go live" }).click();
    await sender.getByText("LIVE", { exact: true }).waitFor(patience);
    await looksWell(sender, "live: on air, dark");
    const link = (await sender.getByLabel("Link for viewers").inputValue()).replace(line.addr, host);
    const guest = await visit(browser, link, phone, faults);
    await guest.getByText("LIVE", { exact: true }).waitFor(patience);
    await moves(guest);
    await guest.getByText("Sign in to write.").waitFor(patience);
    await looksWell(guest, "live: a guest watches");
    await guest.locator("h1").click();
    await guest.keyboard.press("f");
    await guest.waitForFunction(() => document.fullscreenElement?.className === "stage", undefined, patience);
    await guest.keyboard.press("f");
    await guest.waitForFunction(() => document.fullscreenElement === null, undefined, patience);

    const without = await browser.newContext();
    await without.addInitScript(() => Reflect.deleteProperty(globalThis, "VideoDecoder"));
    const old = await visitIn(without, link, faults);
    await old.getByText("This browser cannot play all of it:").waitFor(patience);
    await looksWell(old, "live: an old browser");
    const locked = await visit(browser, `${link}&key=short`, phone, faults);
    await locked.getByText("this link has not its key").waitFor(patience);
    await looksWell(locked, "live: without the key");

    line.close(); // the sender is gone, without a goodbye
    await guest.getByText("Interrupted.").waitFor(patience);
    await guest.getByText("PAUSED", { exact: true }).waitFor(patience);
    await looksWell(guest, "live: interrupted");
    await sender.getByText("The server is away").waitFor(patience);
    await looksWell(sender, "live: on air, the server away");
    await Promise.all([sender.context().close(), guest.context().close(), without.close(), locked.context().close()]);
  } finally {
    await strict.stop();
  }
  assert.deepEqual(faults, []);
});

test("the way to a phone that docs/live.md tells: a certificate, and the camera's picture at a phone's width", { timeout: 180_000 }, async () => {
  const faults: string[] = [];
  const told = await readFile(new URL("../../../docs/live.md", import.meta.url), "utf8"); // the bundle of the test lies in web/test/.test
  const [openssl, serve] = [/^openssl .*$/m.exec(told)![0], /^bin\/timedge serve (.*)$/m.exec(told)![1]!];
  execFileSync("sh", ["-c", openssl.replaceAll("192.168.1.20", "127.0.0.1")], { cwd: folder, stdio: "ignore" });
  const args = serve.split(" ").map((a) => (a.endsWith(".pem") ? join(folder, a) : a.replace(/^0\.0\.0\.0:\d+$/, "127.0.0.1:0")));
  const secure = await servePages(...args);
  try {
    const open = async (url: string, v: Visitor, faults: string[]): Promise<Page> =>
      visitIn(await browser.newContext({ ignoreHTTPSErrors: true, permissions: ["camera", "microphone"], viewport: { width: v.width ?? 1280, height: v.height ?? 800 } }), url, faults);
    const plain = await open(`${secure.url.replace("127.0.0.1", stranger)}/live`, phone, []); // the browser complains of what it ignores there
    await plain.getByText("Browsers give a camera only to pages by https").waitFor(patience);
    await looksWell(plain, "live: not by TLS");
    const sender = await open(`${secure.tls.replace("127.0.0.1", stranger)}/live`, {}, faults);
    await sender.getByLabel("Quality").selectOption("180p");
    await sender.getByRole("button", { name: "Camera" }).click();
    await sender.waitForFunction(() => document.querySelector("video")!.videoWidth > 0, undefined, patience);
    await sender.getByRole("button", { name: "Go live" }).click();
    await sender.getByText("LIVE", { exact: true }).waitFor(patience);
    const viewer = await open(await sender.getByLabel("Link for viewers").inputValue(), phone, faults);
    assert.ok(viewer.url().startsWith(`https://${stranger}:`));
    await viewer.getByText("LIVE", { exact: true }).waitFor(patience);
    await moves(viewer);
    const late = await open(viewer.url().replace(secure.tls.replace("127.0.0.1", stranger), secure.url.replace("127.0.0.1", stranger)), phone, []);
    await late.getByText("Browsers decode live pictures only on pages by https").waitFor(patience);
    await looksWell(late, "live: watching not by TLS");
    await late.context().close();
    await Promise.all([plain, sender, viewer].map((p) => p.context().close()));
  } finally {
    await secure.stop();
  }
  assert.deepEqual(faults, []);
});

test("in Chinese nothing is said in English", { timeout: 120_000 }, async () => {
  const faults: string[] = [];
  for (const at of ["", "live", "file", "meeting", "state", "live#NGhMpCbk2wQ", "file#NGhMpCbk2wQ", "file#NGhMpCbk2wQ&key=short"]) {
    const page = await visit(browser, `${server.url}/${at}`, { ...phone, language: "zh-CN" }, faults);
    await page.locator("h1").first().waitFor(patience);
    await looksWell(page, `${at} in Chinese`);
    const english = await page.evaluate(() => {
      const said: string[] = [];
      for (const e of document.body.querySelectorAll(":not(noscript)")) {
        said.push(...["aria-label", "title", "placeholder", "alt"].map((a) => e.getAttribute(a) ?? ""));
        for (const n of e.childNodes) if (n.nodeType === Node.TEXT_NODE) said.push(n.textContent ?? "");
      }
      return said.filter((s) => /[A-Za-z]{2,} [a-z]{2,}/.test(s));
    });
    assert.deepEqual(english, [], `/${at}`);
    await page.context().close();
  }
  assert.deepEqual(faults, []);
});

test("what goes wrong is said: no camera, no account, no connection", { timeout: 180_000 }, async () => {
  const faults: string[] = [];
  const accounts = join(folder, "accounts");
  execFileSync(binary, ["token", "add", accounts, "alice"]);
  const strict = await servePages("--auth", `file:${accounts}`);
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
  }
  assert.deepEqual(faults, []);
});
