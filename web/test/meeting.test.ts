// The meeting page as people use it, with devices that are made up.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join as pathOf } from "node:path";
import { after, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { dial, type Client, type RoomID } from "@timedge/sdk";
import { parseHash } from "@timedge/sdk/e2ee";
import { tcp } from "../sdk/src/tcp.js";
import { dtypes, encodeWord, type Presence } from "../pages/meeting/wire.js";
import { launch, launchAsking, launchBare, talker } from "./browser.js";
import { asksApart, camera, insist, looksWell, patience } from "./looks.js";
import { phone, servePages, visit, type PageServer, type Visitor } from "./pages.js";
import { path as pathTo } from "./paths.js";

let server: PageServer;
let browser: Browser;
let folder: string;
const faults: string[] = [];
before(async () => {
  folder = await mkdtemp(pathOf(tmpdir(), "timedge-meeting-"));
  server = await servePages();
  browser = await launch(...(await talker(folder)), ...(await camera(folder)));
});
after(async () => {
  await browser?.close();
  await server?.stop();
  if (folder) await rm(folder, { recursive: true, force: true });
});

/** Goes through the lobby. Small pictures spare the machine. */
async function join(url: string, name: string, v: Visitor = {}): Promise<Page> {
  const page = await visit(browser, url, v, faults);
  await enter(page, name);
  return page;
}

async function enter(page: Page, name: string): Promise<void> {
  await page.locator("#meeting-name").fill(name, patience);
  await page.locator("#meeting-quality").selectOption("180p");
  await page.waitForFunction(() => (document.querySelector("video")?.videoWidth ?? 0) > 0, undefined, patience);
  await page.locator("main form button[type=submit]").click();
  await page.locator(".tiles").waitFor(patience);
}

async function link(page: Page): Promise<string> {
  await page.getByRole("button", { name: /People|成员/ }).click();
  const value = await page.locator("#meeting-link").inputValue();
  await page.getByRole("button", { name: /People|成员/ }).click();
  return value;
}

const tile = (page: Page, name: string): ReturnType<Page["locator"]> => page.locator(".tile.picture", { hasText: name });

/** Somebody's picture is another one, again and again. */
async function moves(page: Page, name: string): Promise<void> {
  await tile(page, name).locator("canvas").waitFor(patience);
  let last = "";
  for (let i = 0; i < 5; i++) {
    const next = await page.waitForFunction(([name, last]) => {
      const li = [...document.querySelectorAll<HTMLElement>(".tile:not(.screen)")].find((x) => x.querySelector(".name")?.textContent?.includes(name!));
      const now = li?.querySelector("canvas")?.toDataURL("image/png") ?? "";
      return now !== last && now;
    }, [name, last] as const, { ...patience, polling: 50 });
    last = (await next.jsonValue()) as string;
  }
}

test("three meet: pictures move, and each hears of what the others do", { timeout: 300_000 }, async () => {
  const lobby = await visit(browser, `${server.url}/meeting`, phone, faults);
  await lobby.getByText("Nobody sees or hears you yet.").waitFor(patience);
  await lobby.waitForFunction(() => (document.querySelector("video")?.videoWidth ?? 0) > 0, undefined, patience);
  await lobby.waitForFunction(() => (document.querySelector("progress")?.value ?? 0) > 0.01, undefined, patience); // somebody speaks
  await looksWell(lobby, "meeting-lobby-phone");
  await lobby.getByRole("button", { name: "Camera on" }).click();
  await lobby.getByText("The camera is off.").waitFor(patience);
  await lobby.context().close();

  const ann = await join(`${server.url}/meeting`, "Ann");
  await ann.getByText("Nobody else is here yet.").waitFor(patience);
  const url = await link(ann);
  const bob = await join(url, "Bob", phone);
  const cai = await join(url, "Cai", { language: "zh-CN", dark: true });
  for (const [page, names] of [[ann, ["Bob", "Cai"]], [bob, ["Ann", "Cai"]], [cai, ["Ann", "Bob"]]] as const) for (const name of names) await moves(page, name);
  await looksWell(ann, "meeting-grid");
  await looksWell(bob, "meeting-phone");
  await looksWell(cai, "meeting-chinese-dark");

  await ann.locator(".tile.speaks", { hasText: "Bob" }).waitFor(patience);

  // Microphone, camera and hand
  await tile(ann, "Bob").getByText("microphone on").waitFor({ ...patience, state: "attached" });
  await bob.getByRole("button", { name: "Microphone on" }).click();
  await tile(ann, "Bob").getByText("microphone off").waitFor({ ...patience, state: "attached" });
  await bob.locator("h1").click({ force: true });
  await bob.keyboard.press("m");
  await tile(ann, "Bob").getByText("microphone on").waitFor({ ...patience, state: "attached" });
  await bob.keyboard.press("h");
  await tile(ann, "Bob").getByText("hand raised").waitFor({ ...patience, state: "attached" });
  await bob.keyboard.press("v");
  await tile(ann, "Bob").locator(".face").waitFor(patience);
  await bob.keyboard.press("v");
  await moves(ann, "Bob");

  // Words
  await bob.getByRole("button", { name: "Chat" }).click();
  await bob.getByLabel("Say something").fill("Good morning");
  await bob.keyboard.press("Enter");
  await ann.getByRole("button", { name: "Chat (1 new)" }).click();
  await ann.getByText("Good morning").waitFor(patience);
  await looksWell(ann, "meeting-chat");
  await looksWell(bob, "meeting-chat-phone");
  await bob.getByRole("button", { name: "Chat" }).click();
  await cai.getByRole("button", { name: "回应", exact: true }).click();
  await cai.getByRole("button", { name: "用 🎉 回应" }).click();
  await ann.getByText("Cai: 🎉").waitFor({ ...patience, state: "attached" });

  // Pinned
  await tile(ann, "Cai").hover();
  await tile(ann, "Cai").getByRole("button", { name: "Pin Cai" }).click();
  await ann.locator(".tiles[data-look=beside] .tile.large", { hasText: "Cai" }).waitFor(patience);
  await moves(ann, "Cai");
  await looksWell(ann, "meeting-pinned");
  const boxes = await Promise.all(["Ann (you)", "Bob", "Cai"].map((name) => tile(ann, name).boundingBox()));
  const [own, others, large] = boxes as Array<{ x: number; y: number; width: number; height: number }>;
  assert.ok(own!.width > 100 && large!.width > 2 * own!.width && others!.y >= own!.y + own!.height, "the others are beside the one that is pinned");
  await tile(ann, "Cai").getByRole("button", { name: "Unpin Cai" }).click();

  // The owner mutes; gone at once who leaves, and soon who crashes
  await ann.getByRole("button", { name: "People (3)" }).click();
  await looksWell(ann, "meeting-people");
  await ann.getByRole("button", { name: "Mute Cai" }).click();
  await cai.getByRole("button", { name: "主持人已将您静音。请举手发言。" }).waitFor(patience);
  await tile(bob, "Cai").getByText("microphone off").waitFor({ ...patience, state: "attached" });
  await cai.getByRole("button", { name: "离开" }).click();
  await tile(ann, "Cai").waitFor({ ...patience, state: "detached" });
  await cai.getByText("您已离开会议。").waitFor(patience);
  const began = Date.now();
  const session = await bob.context().newCDPSession(bob);
  void session.send("Page.crash").catch(() => {});
  await tile(ann, "Bob").waitFor({ ...patience, state: "detached" });
  console.log(`# a crashed page was gone after ${Date.now() - began} ms`);
  await Promise.all([ann, bob, cai].map((p) => p.context().close()));
  assert.deepEqual(faults, []);
});

/** Somebody who takes part without a page: it says that it is here, until it leaves or is gone. */
async function takePart(room: RoomID, name: string, how: Partial<Presence> = {}): Promise<{ leave(): Promise<void>; vanish(): Promise<void> }> {
  const client: Client = await dial({ servers: server.tcp, account: name.replaceAll(" ", "-"), dialer: tcp() });
  const publisher = await client.publish(room);
  const say = (more: Partial<Presence> = {}): Promise<unknown> => publisher.push(dtypes.presence, "key", encodeWord({
    type: "presence", name, large: "", small: "", screen: "", microphone: true, hand: false, line: 2, leaving: false, ...how, ...more,
  }));
  await say();
  const timer = setInterval(() => void say().catch(() => {}), 1000);
  return {
    leave: async () => {
      clearInterval(timer);
      await say({ leaving: true });
      await client.close();
    },
    vanish: async () => {
      clearInterval(timer);
      await client.close();
    },
  };
}

test("twelve are here: pages of people on a phone, all of them on a desk", { timeout: 240_000 }, async () => {
  const ann = await join(`${server.url}/meeting`, "Ann", { ...phone, height: 600 }); // no room for twelve
  const url = await link(ann);
  const { room } = parseHash(new URL(url).hash.slice(1))!;
  const names = Array.from({ length: 10 }, (_, i) => `Guest ${String.fromCharCode(65 + i)}`);
  const guests = await Promise.all(names.map((name, i) => takePart(room, name, i === 0 ? { line: 0, hand: true, microphone: false } : {})));
  const bob = await join(url, "Bob");
  await bob.getByRole("button", { name: "People (12)" }).waitFor(patience);
  await bob.waitForFunction(() => document.querySelectorAll(".tile:not([hidden])").length === 12, undefined, patience);
  await tile(bob, "Guest A").getByText("microphone off, hand raised, weak connection").waitFor({ ...patience, state: "attached" });
  await looksWell(bob, "meeting-twelve");
  for (const page of [ann, bob]) await page.getByRole("button", { name: "Microphone on" }).click(); // who speaks comes to the first page
  await tile(bob, "Ann").getByText("microphone off").waitFor({ ...patience, state: "attached" });
  await ann.waitForFunction(() => !document.querySelector(".tile.speaks"), undefined, patience);
  const shown = (): Promise<string[]> => ann.locator(".tile:not([hidden]) .name").allTextContents();
  await ann.getByRole("button", { name: "People (12)" }).waitFor(patience);
  const seen = new Set(await shown());
  assert.ok(seen.size < 12 && seen.has("Ann (you)"), [...seen].join());
  await looksWell(ann, "meeting-twelve-phone");
  const next = ann.getByRole("button", { name: "More people" });
  while (await next.isEnabled()) {
    await next.click();
    for (const name of await shown()) seen.add(name);
  }
  assert.equal(seen.size, 12, [...seen].join());
  await ann.getByRole("button", { name: "Previous people" }).click();
  for (const g of guests.slice(0, 9)) await g.leave();
  await ann.getByRole("button", { name: "People (3)" }).waitFor(patience);
  await next.waitFor({ ...patience, state: "hidden" }); // one page is enough
  await moves(ann, "Bob");
  await guests[9]!.vanish();
  await ann.getByRole("button", { name: "People (2)" }).waitFor(patience);
  await Promise.all([ann, bob].map((p) => p.context().close()));
  assert.deepEqual(faults, []);
});

test("who is cut off says so, is shown so, and comes back by itself", { timeout: 240_000 }, async () => {
  const path = await pathTo(new URL(server.url).host);
  const ann = await join(`${server.url}/meeting`, "Ann");
  const bob = await join((await link(ann)).replace(new URL(server.url).host, path.addr), "Bob");
  await moves(ann, "Bob");
  await moves(bob, "Ann");
  path.down = true;
  await bob.getByText("Reconnecting …").waitFor(patience);
  await looksWell(bob, "meeting-reconnecting");
  // First it is shown as silent, then not at all; a machine that has no time may miss the first.
  await ann.waitForFunction(() => {
    const bob = [...document.querySelectorAll(".tile")].find((x) => x.querySelector(".name")?.textContent === "Bob");
    return !bob || (bob.classList.contains("silent") && bob.textContent?.includes("reconnecting"));
  }, undefined, patience);
  path.down = false;
  await bob.getByText("Reconnecting …").waitFor({ ...patience, state: "hidden" });
  await tile(ann, "Bob").getByText("reconnecting").waitFor({ ...patience, state: "detached" });
  await moves(ann, "Bob");
  await moves(bob, "Ann");
  await bob.getByRole("button", { name: "Chat" }).click();
  await bob.getByLabel("Say something").fill("Here again");
  await bob.keyboard.press("Enter");
  await ann.getByRole("button", { name: "Chat (1 new)" }).waitFor(patience);
  await Promise.all([ann, bob].map((p) => p.context().close()));
  path.close();
  assert.deepEqual(faults, []);
});

test("the owner decides who takes part", { timeout: 240_000 }, async () => {
  const ann = await join(`${server.url}/meeting`, "Ann");
  const url = await link(ann);
  const bob = await join(url, "Bob");
  await moves(ann, "Bob");
  await ann.getByRole("button", { name: "People (2)" }).click();
  await ann.getByLabel("Whoever has the link may join").uncheck();
  const dan = await visit(browser, url, {}, faults);
  await dan.locator("#meeting-name").fill("Dan");
  await dan.waitForFunction(() => (document.querySelector("video")?.videoWidth ?? 0) > 0, undefined, patience);
  await dan.getByRole("button", { name: "Join" }).click();
  await dan.getByText("The host lets nobody else in at the moment.").waitFor(patience);
  await looksWell(dan, "meeting-closed");
  await moves(bob, "Ann"); // who was there stays
  await ann.reload();
  await bob.getByText("Nobody else is here yet.").waitFor(patience);
  await enter(ann, "Ann");
  await ann.getByRole("button", { name: "People (2)" }).click();
  assert.equal(await ann.getByLabel("Whoever has the link may join").isChecked(), false); // the owner's word outlives a reload
  await ann.getByLabel("Whoever has the link may join").check();
  await dan.getByRole("button", { name: "Join" }).click();
  await tile(ann, "Dan").waitFor(patience);
  await asksApart(ann.getByRole("button", { name: "Remove Bob" }));
  await insist(ann, "Remove Bob", "Really remove Bob?");
  await bob.getByText("The host has removed you from the meeting.").waitFor(patience);
  await tile(ann, "Bob").waitFor({ ...patience, state: "detached" });
  await looksWell(bob, "meeting-removed");
  await asksApart(ann.getByRole("button", { name: "End for all" }));
  await insist(ann, "End for all", "Really end it for all?");
  await dan.getByText("The meeting has ended.").waitFor(patience);
  const lost = await visit(browser, url, phone, []);
  await lost.waitForFunction(() => (document.querySelector("video")?.videoWidth ?? 0) > 0, undefined, patience);
  await lost.getByRole("button", { name: "Join" }).click();
  await lost.getByText("There is no such meeting, or it has ended.").waitFor(patience);
  await Promise.all([ann, bob, dan, lost].map((p) => p.context().close()));
  assert.deepEqual(faults, []);
});

test("a screen is shown beside the camera", { timeout: 120_000 }, async () => {
  const ann = await join(`${server.url}/meeting`, "Ann");
  const bob = await join(await link(ann), "Bob", phone);
  await ann.getByRole("button", { name: "Share the screen" }).click();
  const shown = bob.locator(".tile.screen", { hasText: "Screen of Ann" });
  await shown.waitFor(patience);
  await bob.waitForFunction(() => {
    const c = document.querySelector<HTMLCanvasElement>(".tile.screen canvas");
    return c && c.width > 320 && new Set(c.getContext("2d")!.getImageData(0, 0, c.width, c.height).data).size > 2;
  }, undefined, patience);
  await moves(bob, "Ann");
  await looksWell(bob, "meeting-screen-phone");
  await ann.getByRole("button", { name: "Stop sharing" }).click();
  await shown.waitFor({ ...patience, state: "detached" });
  await Promise.all([ann, bob].map((p) => p.context().close()));
  assert.deepEqual(faults, []);
});

test("who has a slow line, or too little time, gets small pictures, and is told why", { timeout: 400_000 }, async () => {
  const path = await pathTo(new URL(server.url).host);
  const ann = await join(`${server.url}/meeting`, "Ann");
  const url = await link(ann);
  const bob = await join(url.replace(new URL(server.url).host, path.addr), "Bob");
  await moves(bob, "Ann");
  // On a machine that has no time large ones may be tried late, too.
  const width = (w: number): Promise<unknown> => bob.waitForFunction((w) => [...document.querySelectorAll("canvas")].some((c) => c.width === w), w, { timeout: 200_000 });
  await width(320);
  const from = path.passed;
  await new Promise((resolve) => setTimeout(resolve, 5000));
  path.rate = Math.max(0.6 * ((path.passed - from) / 5), 7000); // bytes a second: what sound and the small picture need, and not much more
  await bob.getByText("Your connection is slow").waitFor(patience);
  await width(160);
  await moves(bob, "Ann");
  // A page that has something else to do nearly all the time
  await ann.evaluate(() => setInterval(() => {
    for (const end = performance.now() + 300; performance.now() < end; );
  }, 310));
  await ann.getByText("This device has too much to do").waitFor(patience);
  await moves(bob, "Ann");
  await Promise.all([ann, bob].map((p) => p.context().close()));
  path.close();
  assert.deepEqual(faults, []);
});

test("without devices one sees and hears the others, after a click where the browser wants one", { timeout: 120_000 }, async (t) => {
  const bare = await launchBare();
  t.after(() => bare.close());
  const ann = await join(`${server.url}/meeting`, "Ann");
  const context = await bare.newContext();
  const page = await context.newPage();
  const session = await context.newCDPSession(page);
  // What a driver evaluates counts as a click, unless it is asked for like this.
  const so = async (expression: string): Promise<void> => {
    for (const end = Date.now() + patience.timeout; ; await new Promise((resolve) => setTimeout(resolve, 100))) {
      const r = await session.send("Runtime.evaluate", { expression });
      if (r.result.value === true) return;
      if (Date.now() > end) assert.fail(`not within ${patience.timeout} ms: ${expression}`);
    }
  };
  await page.goto(await link(ann));
  await so(`document.querySelector("main .error")?.textContent.includes("You can join without") ?? false`);
  await so(`document.querySelector("main form").requestSubmit() === undefined`);
  await so(`document.querySelector(".start-sound")?.hidden === false`);
  await looksWell(page, "meeting-start-sound");
  await page.getByRole("button", { name: "Start sound" }).click(patience);
  await page.getByRole("button", { name: "Start sound" }).waitFor({ ...patience, state: "hidden" });
  await moves(page, "Ann");
  await tile(ann, "guest-").locator(".face").waitFor(patience); // who did not choose a name has the account's
  await tile(ann, "guest-").getByText("microphone off").waitFor({ ...patience, state: "attached" });
  await page.getByRole("button", { name: "Microphone off" }).click();
  await page.locator(".error", { hasText: "You can join without." }).waitFor(patience); // there is still none
  await page.getByRole("button", { name: "Microphone off" }).waitFor(patience);
  await ann.context().close();
  assert.deepEqual(faults, []);
});

test("whom the browser gives no camera is heard all the same, and the other way round", { timeout: 120_000 }, async (t) => {
  const asking = await launchAsking();
  t.after(() => asking.close());
  const ann = await join(`${server.url}/meeting`, "Ann");
  const url = await link(ann);
  for (const [permission, name, lacks, off] of [["microphone", "Bob", "There is no camera, or the browser does not give it.", "Camera off"], ["camera", "Cai", "There is no microphone, or the browser does not give it", "Microphone off"]] as const) {
    const page = await visit(asking, url, { permissions: [permission] }, faults);
    await page.locator(".error", { hasText: lacks }).waitFor(patience);
    await page.locator("#meeting-name").fill(name);
    await page.getByRole("button", { name: "Join" }).click();
    await tile(ann, name).getByText(permission === "microphone" ? "microphone on" : "microphone off").waitFor({ ...patience, state: "attached" });
    if (permission === "camera") await moves(ann, name);
    await page.getByRole("button", { name: off }).waitFor(patience);
    await page.getByRole("button", { name: off }).click();
    await page.locator(".error:not(:empty)").waitFor(patience); // it says why not
    await page.context().close();
  }
  await ann.context().close();
  assert.deepEqual(faults, []);
});
