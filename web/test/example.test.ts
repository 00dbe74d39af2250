// The pages that the READMEs tell to write work as they stand there.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { build } from "esbuild";
import type { Browser, Page } from "playwright-core";
import { serve } from "../sdk/test/server.js";
import { launch } from "./browser.js";
import { patience } from "./looks.js";

const root = new URL("../../../", import.meta.url).pathname;
let browser: Browser;
let sdk = "";
before(async () => {
  sdk = (await build({ entryPoints: [`${root}web/sdk/src/index.ts`], bundle: true, format: "esm", write: false, logLevel: "warning" })).outputFiles[0]!.text;
  browser = await launch();
});
after(() => browser?.close());

/** Opens the page that a README has, twice, with a server, and hands both over once the second has the first one's link. */
async function two(readme: string, use: (alice: Page, bob: Page) => Promise<void>): Promise<void> {
  const html = /```html\n([^]*?)```/.exec(await readFile(`${root}${readme}`, "utf8"))?.[1];
  assert.ok(html, `${readme} has a page`);
  let page = "";
  const files = createServer((request, response) => {
    const script = request.url === "/sdk.js";
    response.writeHead(200, { "Content-Type": script ? "text/javascript" : "text/html" });
    response.end(script ? sdk : page);
  });
  await new Promise<void>((resolve) => files.listen(0, "127.0.0.1", resolve));
  const origin = `http://127.0.0.1:${(files.address() as AddressInfo).port}`;
  const server = await serve("--ws-origin", origin);
  page = html.replace("ws://127.0.0.1:7403/", server.ws);
  assert.notEqual(page, html, "the page names the server");
  const faults: string[] = [];
  const open = async (url: string): Promise<Page> => {
    const p = await (await browser.newContext()).newPage();
    p.on("pageerror", (e) => faults.push(e.message));
    await p.goto(url);
    return p;
  };
  try {
    const alice = await open(origin);
    await alice.waitForFunction(() => location.hash.length > 1, undefined, patience);
    const bob = await open(alice.url());
    await use(alice, bob);
    assert.deepEqual(faults, []);
    await Promise.all([alice, bob].map((p) => p.context().close()));
  } finally {
    await server.stop();
    files.closeAllConnections();
    files.close();
  }
}

/** Does something again and again until what is waited for has come: the other page may not listen yet. */
async function until(what: Promise<unknown>, again: (n: number) => Promise<unknown>): Promise<void> {
  let there = false;
  const come = what.then(() => (there = true));
  for (let n = 0; !there; n++) {
    await again(n);
    await Promise.race([come, new Promise((resolve) => setTimeout(resolve, 200))]);
  }
}

test("the page of README.md: two people talk", { timeout: 120_000 }, () => two("README.md", async (alice, bob) => {
  for (const [from, to, text] of [[alice, bob, "hello"], [bob, alice, "hi"]] as const) {
    await until(to.getByText(`: ${text}`).first().waitFor(patience), async () => {
      await from.getByLabel("Say something").fill(text);
      await from.keyboard.press("Enter");
    });
  }
}));

test("the page of web/sdk/README.md: one sees the other's cursor", { timeout: 120_000 }, () => two("web/sdk/README.md", async (alice, bob) => {
  const moved = bob.waitForFunction(() => /^\d+px 50px$/.test(document.querySelector("i")?.style.translate ?? ""), undefined, patience);
  await until(moved, (n) => alice.mouse.move(100 + (n % 50), 50));
}));
