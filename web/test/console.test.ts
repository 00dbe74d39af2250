// The console over three real nodes under load: what it shows of them, a node that is killed, and who may do what. By its words, by
// keyboard, with what a screen reader needs, on a phone.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import type { Browser, Page } from "playwright-core";
import { dial, type Client } from "../sdk/src/index.js";
import { tcp } from "../sdk/src/tcp.js";
import { launch } from "./browser.js";
import { Cluster } from "./cluster.js";
import { looksWell, patience, picture } from "./looks.js";
import { binary, phone, visit } from "./pages.js";

const operatorToken = "an-operators-token-of-a-test";
const pictures = process.env.PICTURES;
const roomsEach = 4;

let nodes: Cluster;
let browser: Browser;
let dir = "";
before(async () => {
  dir = await mkdtemp(join(tmpdir(), "timedge-console-"));
  await writeFile(join(dir, "token"), operatorToken, { mode: 0o600 });
  nodes = await Cluster.start(3, "--admin-token-file", join(dir, "token"));
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await nodes?.stop();
  await rm(dir, { recursive: true });
});

/** What "timedge top" prints of a node, as a terminal shows it. */
async function terminal(name: string): Promise<void> {
  if (!pictures) return;
  const { stdout } = await promisify(execFile)(binary, ["top", "--once", "--admin", nodes.nodes[0]!.admin]);
  const page = await browser.newPage({ viewport: { width: 1100, height: 560 } });
  await page.setContent("<body style='margin:0;background:#14171c;color:#e6e9ee'><pre style='margin:20px;font:14px/1.4 \"DejaVu Sans Mono\",monospace'></pre>");
  await page.locator("pre").evaluate((e, text) => (e.textContent = text), `$ timedge top\n${stdout}`);
  await page.screenshot({ path: `${pictures}/${name}.png` });
  await page.close();
}

/** Rooms at every node, pushed into until the end, each with a viewer at every node. */
async function load(): Promise<{ rooms: string[]; end: () => Promise<void> }> {
  const clients: Client[] = [];
  const rooms: string[] = [];
  const ends: Array<() => void> = [];
  const all = nodes.nodes.map((n) => n.tcp);
  // A client takes one of its servers at random: it is dialed again until it is at the one that is wanted.
  const at = async (i: number, account: string): Promise<Client> => {
    for (;;) {
      let node = "";
      const c = await dial({ servers: all, account, dialer: tcp(), backoffMax: 500, onState: (s) => s.phase === "connected" && (node = s.node) });
      if (node === nodes.nodes[i % all.length]!.name) {
        clients.push(c);
        return c;
      }
      await c.close();
    }
  };
  const viewers = await Promise.all(all.map((_, i) => at(i, `viewer-${i + 1}`)));
  for (let i = 0; i < roomsEach * all.length; i++) {
    const c = await at(i, `studio-${i + 1}`);
    const room = await c.register();
    rooms.push(room);
    for (const v of viewers) {
      const sub = await v.subscribe(room);
      void (async () => {
        for await (const _ of sub); // somebody has to take them
      })().catch(() => {});
    }
    const pub = await c.publish(room);
    const payload = new Uint8Array(200 + 150 * i);
    const timer = setInterval(() => void pub.push(1, "key", payload).catch(() => {}), 40);
    ends.push(() => clearInterval(timer));
  }
  return {
    rooms,
    end: async () => {
      for (const end of ends) end();
      await Promise.all(clients.map((c) => c.close().catch(() => {})));
    },
  };
}

const row = (page: Page, table: string, text: string) => page.getByRole("region", { name: table, exact: true }).locator("tbody tr", { hasText: text });

test("three nodes under load, one of them killed, and what operators do", { timeout: 240_000 }, async () => {
  const faults: string[] = [];
  const flow = await load();
  const page = await visit(browser, `http://${nodes.nodes[0]!.admin}/console/`, { height: 1000 }, faults);
  for (const n of nodes.nodes) await row(page, "Nodes", n.name).getByText(n.name === "n1" ? "ready" : "linked", { exact: true }).waitFor(patience);
  // Rooms of every node flow, as this one node's console tells.
  for (const i of [0, 1, 2]) await row(page, "Busiest rooms", flow.rooms[i]!).getByText(/^[1-9][0-9.]*\/s$/).waitFor(patience);
  await page.waitForFunction((n) => document.querySelectorAll("svg .room").length >= n, flow.rooms.length, patience);
  await page.waitForFunction(() => document.querySelectorAll("svg .flow").length >= 6, undefined, patience);
  await looksWell(page, "console-cluster");

  // Each look at the nodes leaves what has not changed as it is: what is about to be pressed, and who is on it.
  const about = page.getByRole("link", { name: "n2", exact: true }).first();
  await about.focus();
  const was = await about.elementHandle();
  for (let i = 0; i < 2; i++) await page.waitForResponse((r) => r.url().endsWith("/api/v1/cluster"), patience);
  assert.ok(await was!.evaluate((e) => e.isConnected && e === document.activeElement), "a link that was on the page is another one now");

  // Without the token: looked at, not touched. The keyboard will do.
  await page.getByRole("link", { name: "n3", exact: true }).first().press("Enter");
  await page.getByRole("heading", { name: "Node n3" }).waitFor(patience);
  await page.getByText("Memory", { exact: true }).waitFor(patience);
  await looksWell(page, "console-node");
  await page.getByRole("button", { name: "Set", exact: true }).press("Enter");
  await page.getByText(/^Refused: the token/).waitFor(patience);
  const dialog = page.getByRole("dialog", { name: "Operator" });
  await dialog.waitFor(patience);
  await looksWell(page, "console-sign-in");
  await dialog.getByLabel("Token").fill("not-the-token-of-this-test");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Set", exact: true }).press("Enter");
  await page.getByText(/^Refused: the token/).waitFor(patience);
  await dialog.getByLabel("Token").fill(operatorToken);
  await page.keyboard.press("Enter");
  await dialog.waitFor({ state: "hidden", ...patience });
  // With it: of another node, too.
  await page.getByLabel("Log level").selectOption("warn");
  await page.getByRole("button", { name: "Set", exact: true }).click();
  await page.getByText("Done: Log level warn").waitFor(patience);

  await page.getByRole("link", { name: "Rooms", exact: true }).click();
  await row(page, "Rooms", flow.rooms[1]!).waitFor(patience);
  await page.getByRole("button", { name: "Owner" }).click();
  await page.locator('th[aria-sort="descending"]', { hasText: "Owner" }).waitFor(patience);
  await looksWell(page, "console-rooms");
  await page.getByRole("link", { name: flow.rooms[1]! }).click();
  await page.getByRole("heading", { name: flow.rooms[1]! }).waitFor(patience);
  await row(page, "Subscribers", "viewer-3").waitFor(patience);
  await page.getByLabel("Account", { exact: true }).fill("a/guest");
  await page.getByRole("button", { name: "Let push" }).click();
  await page.getByText("Done: Let push a/guest").waitFor(patience);
  await looksWell(page, "console-room");
  const asked = await page.getByRole("button", { name: "Close the room" }).evaluate((b) => {
    for (const press of [b, "dialog .danger", "dialog .danger"]) { // a double click whose second half falls onto the answer, and one more
      const on = typeof press === "string" ? document.querySelector(press)! : b;
      on.dispatchEvent(new PointerEvent("pointerdown", { bubbles: true }));
      (on as HTMLElement).click();
    }
    return { open: document.querySelectorAll("dialog[open]").length, focus: document.activeElement!.textContent };
  });
  assert.deepEqual(asked, { open: 1, focus: "Cancel" });
  await looksWell(page, "console-asked");
  await page.getByRole("dialog").getByRole("button", { name: "Close the room" }).click();
  await page.getByText(`There is no room ${flow.rooms[1]!}.`).waitFor(patience);

  await page.getByLabel("Room, account, session or address").fill("viewer-2");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Found: viewer-2" }).waitFor(patience);
  await row(page, "Sessions", "viewer-2").waitFor(patience);
  await looksWell(page, "console-search");
  await row(page, "Sessions", "viewer-2").getByRole("link").first().click();
  await page.getByRole("heading", { name: /^Session [0-9]+$/ }).waitFor(patience);
  await page.locator("dd", { hasText: "viewer-2" }).waitFor(patience);
  await looksWell(page, "console-session");

  // On a phone, in the dark, in Chinese.
  const small = await visit(browser, `http://${nodes.nodes[0]!.admin}/console/`, { ...phone, dark: true, language: "zh-CN" }, faults);
  await small.getByRole("heading", { name: "集群" }).waitFor(patience);
  await small.waitForFunction((n) => document.querySelectorAll("svg .room").length >= n, flow.rooms.length - 1, patience);
  await looksWell(small, "console-phone-dark");

  // The death of a node: its rooms are taken over, as all may see.
  await page.getByRole("link", { name: "Cluster", exact: true }).click();
  if (pictures) await new Promise((resolve) => setTimeout(resolve, 40_000)); // so that the plots have something to show
  await page.waitForFunction((n) => document.querySelectorAll("svg .flow:not(.still)").length >= 6 && document.querySelectorAll("svg .room:not(.idle)").length >= n, flow.rooms.length - 1, patience);
  await picture(page, "console");
  await terminal("top");
  await nodes.kill("n3");
  await page.waitForFunction(() => document.querySelectorAll("svg .move").length > 0, undefined, patience);
  await picture(page, "console-takeover");
  await terminal("top-takeover");
  await row(page, "What has happened", "n3 is no member any more").waitFor(patience);
  await row(page, "What has happened", "n3 no more").first().waitFor(patience);
  await row(page, "Nodes", "n3").getByText("gone", { exact: true }).waitFor(patience);
  await looksWell(page, "console-gone");
  // Its rooms go on elsewhere.
  await row(page, "Busiest rooms", flow.rooms[2]!).getByText(/^[1-9][0-9.]*\/s$/).waitFor(patience);
  await flow.end();
  assert.deepEqual(faults.filter((f) => !/status of (401|404|502|504)/.test(f)), []); // which the browser itself tells of; of a node that dies another has no answer
  for (const p of [page, small]) await p.context().close();
});
