// The pages that the READMEs tell to write work as they stand there.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { build } from "esbuild";
import { serve } from "../sdk/test/server.js";
import { launch } from "./browser.js";

const root = new URL("../../../", import.meta.url).pathname;
const patience = { timeout: 60_000 };

test("the page of the README: two people talk", { timeout: 120_000 }, async () => {
  const html = /```html\n([^]*?)```/.exec(await readFile(`${root}README.md`, "utf8"))?.[1];
  assert.ok(html, "README.md has a page");
  const sdk = (await build({ entryPoints: [`${root}web/sdk/src/index.ts`], bundle: true, format: "esm", write: false, logLevel: "warning" })).outputFiles[0]!.text;
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
  const browser = await launch();
  try {
    const faults: string[] = [];
    const open = async (url: string): Promise<import("playwright-core").Page> => {
      const p = await (await browser.newContext()).newPage();
      p.on("pageerror", (e) => faults.push(e.message));
      await p.goto(url);
      return p;
    };
    const alice = await open(origin);
    await alice.waitForFunction(() => location.hash.length > 1, undefined, patience);
    const bob = await open(alice.url());
    for (const [from, to, text] of [[alice, bob, "hello"], [bob, alice, "hi"]] as const) {
      const heard = to.getByText(`: ${text}`).waitFor(patience);
      while (await Promise.race([heard.then(() => false), new Promise((resolve) => setTimeout(() => resolve(true), 1000))])) { // until the form is there, and somebody listens
        await from.getByLabel("Say something").fill(text);
        await from.keyboard.press("Enter");
      }
    }
    assert.deepEqual(faults, []);
  } finally {
    await browser.close();
    await server.stop();
    files.closeAllConnections();
    files.close();
  }
});
