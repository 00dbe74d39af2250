// The state page as people use it, together with clients of the SDK: all end with the same board.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { dial, type Client } from "@timedge/sdk";
import { tcp } from "../sdk/src/tcp.js";
import { svg } from "../pages/state/ink.js";
import { poseOf } from "../pages/state/scene.js";
import { parseRooms, Shared, type SharedEvents } from "../pages/state/shared.js";
import { launch } from "./browser.js";
import { asksApart, insist, looksWell, patience } from "./looks.js";
import { phone, servePages, visit, type PageServer } from "./pages.js";

let server: PageServer;
let browser: Browser;
const faults: string[] = [];
const clients: Client[] = [];
before(async () => {
  server = await servePages();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await Promise.all(clients.map((c) => c.close()));
  await server?.stop();
});

/** Joins without a page. */
async function join(link: string, name: string, on: Partial<SharedEvents> = {}): Promise<Shared> {
  const client = await dial({ servers: server.tcp, account: name, dialer: tcp() });
  clients.push(client);
  return Shared.join(client, parseRooms(new URL(link).hash.slice(1))!, name, on);
}

/** Waits until something is so, as long as anybody's patience lasts. */
async function until(what: string, so: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + patience.timeout; !(await so()); await new Promise((resolve) => setTimeout(resolve, 50))) {
    if (Date.now() > end) assert.fail(`not within ${patience.timeout} ms: ${what}`);
  }
}

/** The board as the page saves it. */
async function saved(page: Page): Promise<string> {
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: /Save|保存/ }).click()]);
  return readFile(await download.path(), "utf8");
}

async function make(): Promise<{ page: Page; link: string }> {
  const page = await visit(browser, `${server.url}/state`, {}, faults);
  await page.getByRole("button", { name: "New board" }).waitFor(patience);
  await looksWell(page, "state-start");
  await page.getByRole("button", { name: "New board" }).click();
  const link = page.getByLabel("Link for others");
  await link.waitFor(patience);
  return { page, link: await link.inputValue() };
}

test("pages and clients draw on one board, and who comes late has all of it", { timeout: 240_000 }, async () => {
  const { page, link } = await make();
  const cursors = new Set<number>();
  const first = await join(link, "carol", { cursor: (pub) => cursors.add(pub) });
  const second = await join(link, "dave");
  const reader = await visit(browser, link, { ...phone, language: "zh-CN", dark: true }, faults);
  await reader.getByText("carol").waitFor(patience);
  await page.getByText("dave").waitFor(patience);

  const board = page.getByRole("application", { name: /Board/ });
  const box = (await board.boundingBox())!;
  await page.mouse.move(box.x + 100, box.y + 100);
  await page.mouse.down();
  for (let i = 0; i < 20; i++) await page.mouse.move(box.x + 100 + 8 * i, box.y + 100 + 40 * Math.sin(i / 3));
  await page.mouse.up();
  first.begin(3, 8, [10_000, 50_000]);
  for (let i = 1; i <= 30; i++) first.more([10_000 + 1000 * i, 50_000 - 500 * i]);
  second.begin(2, 4, [30_000, 30_000]);
  const ink = reader.getByRole("application");
  await ink.focus();
  await reader.keyboard.press("Space");
  for (let i = 0; i < 5; i++) await reader.keyboard.press("Shift+ArrowRight");
  await reader.keyboard.press("Space");
  await until("both clients have four strokes, and the same", () => first.board.strokes().length === 4 && first.board.text() === second.board.text());
  await until("and so has the page", async () => (await saved(page)) === svg(first.board.strokes()));
  await until("and the phone", async () => (await saved(reader)) === svg(first.board.strokes()));
  await until("the clients have seen both pages' cursors", () => cursors.size === 2);
  await looksWell(page, "state-board");
  await looksWell(reader, "state-board-phone-dark");

  await page.context().close(); // whose strokes the server has for ten more seconds at most
  await second.close();
  await until("the server has forgotten who left", async () => !(await reader.getByText("dave").isVisible()));
  const late = await visit(browser, link, {}, faults);
  await late.getByText("Strokes on the board: 4").waitFor(patience);
  assert.equal(await saved(late), svg(first.board.strokes()));

  await reader.getByRole("button", { name: "撤销" }).click();
  await late.getByText("Strokes on the board: 3").waitFor(patience);
  await asksApart(late.getByRole("button", { name: "Clear" }));
  assert.equal(first.board.strokes().length, 3);
  await insist(late, "Clear", "Really clear it for all?");
  await until("the board is empty everywhere", () => first.board.strokes().length === 0);
  await reader.getByText("白板上的笔画：0").waitFor(patience);
  await first.close();
  await Promise.all([reader, late].map((p) => p.context().close()));
  assert.deepEqual(faults, []);
});

test("who comes back has what was drawn meanwhile", { timeout: 120_000 }, async () => {
  const { page, link } = await make();
  const stays = await join(link, "erin");
  stays.begin(1, 5, [1, 1]);
  await page.getByText("Strokes on the board: 1").waitFor(patience);
  const away = await join(link, "frank");
  await until("the newcomer has it", () => away.board.text() === stays.board.text());
  await away.close();
  stays.begin(1, 5, [2, 2]);
  const again = await join(link, "frank");
  again.begin(2, 5, [3, 3]);
  await until("all have three strokes", () => stays.board.strokes().length === 3 && again.board.text() === stays.board.text());
  await page.getByText("Strokes on the board: 3").waitFor(patience);
  await Promise.all([stays.close(), again.close()]);
  await page.context().close();
});

test("heads and hands are seen by the others at the rate of the screen", { timeout: 120_000 }, async () => {
  const { page, link } = await make();
  let poses = 0;
  const other = await join(link, "grace", { pose: () => poses++ });
  await page.getByRole("tab", { name: "Scene" }).click();
  const view = page.getByRole("application", { name: /Scene/ });
  await view.focus();
  await page.keyboard.press("w");
  await until("a hundred poses have come", () => poses > 100);
  const third = await join(link, "heidi");
  for (let i = 0; i < 10; i++) {
    other.pose(poseOf({ x: 0.5, z: 0, yaw: 1.2, pitch: -0.1, reach: [0.6, 0.5] }, i * 16));
    third.pose(poseOf({ x: -0.5, z: -0.5, yaw: -0.8, pitch: 0.1, reach: [-0.5, 0.2] }, i * 16));
    await new Promise((resolve) => setTimeout(resolve, 16));
  }
  await page.waitForFunction(() => {
    const c = document.querySelector<HTMLCanvasElement>(".scene canvas")!;
    return c.getContext("2d")!.getImageData(0, 0, c.width, c.height).data.some((v) => v !== 0);
  }, undefined, patience);
  await page.getByText("heidi").waitFor(patience);
  await looksWell(page, "state-scene");
  await Promise.all([other.close(), third.close()]);
  await page.context().close();
  const lost = await visit(browser, `${server.url}/state#NGhMpCbk2wQ.LpwkCHvJvgf`, phone, []);
  await lost.getByText("There is no such board, or it has ended.").waitFor(patience);
  await looksWell(lost, "state-unknown-phone");
  await lost.context().close();
  assert.deepEqual(faults, []);
});
