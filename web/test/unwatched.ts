// Browsers of the drills that measure what pages cost. Playwright is told of each message of each connection: of six pages in a meeting that is half of one
// processor, which the pages then lack.

import puppeteer, { type Browser, type Page } from "puppeteer-core";
import { devices, options } from "./browser.js";

/** Starts a browser that tells only what it is asked; its camera and microphone make pictures and beeps of their own. */
export function launchUnwatched(): Promise<Browser> {
  return puppeteer.launch({ ...options(devices), headless: true, networkEnabled: false, protocolTimeout: 600_000 });
}

/** Opens a page with the harness, as somebody new. */
export async function openUnwatched(browser: Browser, origin: string): Promise<Page> {
  const page = await (await browser.createBrowserContext()).newPage();
  page.on("pageerror", (e) => console.error("page:", String(e)));
  await page.goto(`${origin}/`);
  await page.waitForFunction(() => "harness" in globalThis);
  return page;
}

/** How much processor time a browser has used since it began, s: its pages, and all else that it has. */
export async function processorTime(browser: Browser): Promise<{ pages: number; rest: number }> {
  const session = await browser.target().createCDPSession();
  const { processInfo } = await session.send("SystemInfo.getProcessInfo");
  await session.detach();
  const time = { pages: 0, rest: 0 };
  for (const p of processInfo) time[p.type === "renderer" ? "pages" : "rest"] += p.cpuTime;
  return time;
}
