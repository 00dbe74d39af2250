// Watching in Firefox (Debian's firefox-esr), what a page in Chromium sends: part of `make drill-browser`.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";
import puppeteer from "puppeteer-core";
import { launch } from "./browser.js";
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
