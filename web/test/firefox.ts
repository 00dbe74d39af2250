// Watching and receiving in Firefox (Debian's firefox-esr), what a page in Chromium sends: part of `make drill-browser`.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import puppeteer, { type ElementHandle } from "puppeteer-core";
import { launch } from "./browser.js";
import { push, sent } from "./ffmpeg.js";
import { servePages, visit } from "./pages.js";

const executable = ["/usr/bin/firefox-esr", "/usr/bin/firefox"].find((p) => existsSync(p));

test("Firefox watches", { timeout: 200_000, skip: executable ? false : "there is no firefox-esr" }, async () => {
  const server = await servePages();
  const browser = await launch();
  const firefox = await puppeteer.launch({ browser: "firefox", executablePath: executable!, headless: true, extraPrefsFirefox: { "media.autoplay.default": 0 } });
  try {
    const sender = await visit(browser, `${server.url}/live`);
    await sender.getByLabel("Quality").selectOption("180p");
    await sender.getByLabel("Codec").selectOption("VP8");
    await sender.getByRole("button", { name: "Camera" }).click();
    await sender.getByRole("button", { name: "Go live" }).click();
    await sender.getByText("LIVE", { exact: true }).waitFor({ timeout: 60_000 });
    const link = await sender.getByLabel("Link for viewers").inputValue();
    const page = await firefox.newPage();
    const faults: string[] = [];
    page.on("pageerror", (e) => faults.push(String(e)));
    await page.goto(link);
    const look = `document.querySelector("canvas").toDataURL()`;
    await page.waitForFunction(`document.querySelector(".stage")?.dataset.state === "live"`, { timeout: 60_000 });
    const first = await page.evaluate(look);
    await page.waitForFunction(`${look} !== ${JSON.stringify(first)}`, { timeout: 60_000, polling: 200 });
    await page.keyboard.press("s");
    await new Promise((resolve) => setTimeout(resolve, 5000)); // for figures over some seconds
    console.log("figures: Firefox:", await page.evaluate(`[...document.querySelectorAll(".figures div")].map((d) => d.innerText.replace("\\n", " ")).join("; ")`));
    assert.deepEqual(faults, []);
  } finally {
    await firefox.close();
    await browser.close();
    await server.stop();
  }
});

test("Firefox plays what comes from outside", { timeout: 200_000, skip: executable ? false : "there is no firefox-esr" }, async () => {
  const server = await servePages();
  const firefox = await puppeteer.launch({ browser: "firefox", executablePath: executable!, headless: true, extraPrefsFirefox: { "media.autoplay.default": 0 } });
  const p = await push(`${server.url.replace("http", "ws")}/`, sent.ts);
  try {
    const page = await firefox.newPage();
    const faults: string[] = [];
    page.on("pageerror", (e) => faults.push(String(e)));
    await page.goto(`${server.url}/live#${p.room}`);
    const look = `document.querySelector("canvas").toDataURL()`;
    await page.waitForFunction(`document.querySelector(".stage")?.dataset.state === "live" && document.querySelector("canvas").width === 320`, { timeout: 60_000 });
    const first = await page.evaluate(look);
    await page.waitForFunction(`${look} !== ${JSON.stringify(first)}`, { timeout: 60_000, polling: 200 });
    await page.keyboard.press("s");
    await new Promise((resolve) => setTimeout(resolve, 5000)); // for figures over some seconds
    console.log("figures: Firefox, from outside:", await page.evaluate(`[...document.querySelectorAll(".figures div")].map((d) => d.innerText.replace("\\n", " ")).join("; ")`));
    assert.deepEqual(faults, []);
  } finally {
    await p.stop();
    await firefox.close();
    await server.stop();
  }
});

test("Firefox receives a file, and sends one", { timeout: 200_000, skip: executable ? false : "there is no firefox-esr" }, async () => {
  const dir = await mkdtemp(join(tmpdir(), "timedge-firefox-"));
  const body = randomBytes(5_000_000);
  const [file, sum] = [join(dir, "five.bin"), createHash("sha256").update(body).digest("hex")];
  await writeFile(file, body);
  const server = await servePages();
  const browser = await launch();
  const firefox = await puppeteer.launch({ browser: "firefox", executablePath: executable!, headless: true });
  const whole = (sum: string): boolean => document.body.innerText.includes(`SHA-256 ${sum} (whole)`);
  try {
    const faults: string[] = [];
    const theirs = await firefox.newPage();
    theirs.on("pageerror", (e) => faults.push(String(e)));
    const ours = await visit(browser, `${server.url}/file`, {}, faults);
    await ours.locator("#files").setInputFiles([file]);
    await ours.locator("#link").waitFor({ timeout: 60_000 });
    await theirs.goto(await ours.locator("#link").inputValue());
    await (await theirs.waitForSelector("::-p-text(Accept)", { timeout: 60_000 }))!.click();
    await theirs.waitForFunction(whole, { timeout: 60_000 }, sum);

    await theirs.goto(`${server.url}/file`);
    await (await theirs.waitForSelector("#files", { timeout: 60_000 }) as ElementHandle<HTMLInputElement>).uploadFile(file);
    const link = await (await theirs.waitForSelector("#link", { timeout: 60_000 }))!.evaluate((e) => (e as HTMLInputElement).value);
    const receiver = await visit(browser, link, {}, faults);
    await receiver.getByRole("button", { name: "Accept" }).click({ timeout: 60_000 });
    await receiver.waitForFunction(whole, sum, { timeout: 60_000 });
    assert.deepEqual(faults, []);
  } finally {
    await firefox.close();
    await browser.close();
    await server.stop();
    await rm(dir, { recursive: true, force: true });
  }
});
