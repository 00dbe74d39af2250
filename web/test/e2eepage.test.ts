// The live and file pages with a link that carries a key, as people use them; and a server's way to them that records everything.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { launch } from "./browser.js";
import { servePages, visit, type PageServer } from "./pages.js";
import { tap } from "./tap.js";

let server: PageServer;
let browser: Browser;
let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "timedge-e2ee-"));
  server = await servePages();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

const patience = { timeout: 60_000 };

async function goLive(url: string, encrypt: boolean): Promise<{ page: Page; link: string }> {
  const page = await visit(browser, `${url}/live`);
  await page.getByLabel("Quality").selectOption("180p");
  await page.getByRole("button", { name: "Camera" }).click();
  await page.waitForFunction(() => document.querySelector("video")!.videoWidth > 0, undefined, patience);
  await page.getByLabel("Title").fill("Secret kitchen");
  if (encrypt) await page.getByLabel("Encrypt").check();
  await page.getByRole("button", { name: "Go live" }).click();
  await page.getByText("LIVE", { exact: true }).waitFor(patience);
  return { page, link: await page.getByLabel("Link for viewers").inputValue() };
}

test("an encrypted broadcast is for who has its key, and the server reads nothing of it", { timeout: 240_000 }, async () => {
  const secrets = ["Secret kitchen", "What smells so good", '"type":"picture"', "avc1", "renditions"];
  for (const encrypt of [true, false]) {
    const way = await tap(server.url);
    const sender = await goLive(way.url, encrypt);
    assert.match(sender.link, encrypt ? /\/live#[1-9A-HJ-NP-Za-km-z]{11}&key=[\w-]{43}$/ : /\/live#[1-9A-HJ-NP-Za-km-z]{11}$/);
    assert.equal(await sender.page.locator(".lock").isVisible(), encrypt);
    const viewer = await visit(browser, sender.link);
    await viewer.getByRole("heading", { name: "Secret kitchen" }).waitFor(patience);
    await viewer.getByText("LIVE", { exact: true }).waitFor(patience);
    assert.equal(await viewer.locator(".lock").isVisible(), encrypt);
    await viewer.getByLabel("Say something").fill("What smells so good?");
    await viewer.keyboard.press("Enter");
    await sender.page.getByText("What smells so good?").waitFor(patience);
    if (encrypt) {
      for (const link of [sender.link.replace(/&key=.*/, ""), sender.link.replace(/key=../, "key=zz"), sender.link.slice(0, -1)]) {
        const stranger = await visit(browser, link);
        await stranger.getByText("This broadcast is encrypted, and this link has not its key.").waitFor(patience);
        await stranger.context().close();
      }
    }
    const recorded = way.recorded();
    for (const s of secrets) assert.equal(recorded.includes(s), !encrypt, `${s} is ${encrypt ? "" : "not "}on the way`);
    if (encrypt) assert.ok(!recorded.includes(sender.link.split("key=")[1]!), "the key is on the way");
    await sender.page.getByRole("button", { name: "End", exact: true }).click();
    await viewer.getByText("The broadcast has ended.").waitFor(patience);
    await Promise.all([sender.page.context().close(), viewer.context().close()]);
    way.close();
  }
});

test("what is changed on its way is dropped, and told, and the pictures go on", { timeout: 240_000 }, async () => {
  const sender = await goLive(server.url, true);
  const way = await tap(server.url);
  const viewer = await visit(browser, sender.link.replace(server.url, way.url));
  await viewer.getByText("LIVE", { exact: true }).waitFor(patience);
  await viewer.locator("h1").click();
  await viewer.keyboard.press("s");
  way.changing = 500; // pictures
  await viewer.locator("dd", { hasText: /[1-9]\d* refused/ }).waitFor(patience);
  way.changing = 0;
  assert.ok(way.changed > 0);
  const picture = (before: string): string | false => {
    const now = document.querySelector("canvas")!.toDataURL("image/png");
    return now !== before && now;
  };
  for (let i = 0, was = ""; i < 5; i++) was = (await (await viewer.waitForFunction(picture, was, { ...patience, polling: 200 })).jsonValue()) as string;
  await viewer.getByText("LIVE", { exact: true }).waitFor(patience);
  await Promise.all([sender.page, viewer].map((p) => p.context().close()));
  way.close();
});

test("encrypted files are for who has their key, also after the sender was loaded anew", { timeout: 240_000 }, async () => {
  const body = randomBytes(3_000_000);
  const path = join(folder, "plans.bin");
  await writeFile(path, body);
  const sum = createHash("sha256").update(body).digest("hex");
  const way = await tap(server.url);
  const sender = await visit(browser, `${way.url}/file`);
  await sender.getByLabel("Encrypt").check();
  await sender.locator("#files").setInputFiles([path]);
  await sender.locator("#link").waitFor(patience);
  const link = await sender.locator("#link").inputValue();
  assert.match(link, /\/file#[1-9A-HJ-NP-Za-km-z]{11}&key=[\w-]{43}$/);
  assert.equal(await sender.locator("#share-code").count(), 0, "a code would hand the key to the server");
  await sender.reload();
  await sender.locator("#files").setInputFiles([path]);
  await sender.locator("#link").waitFor(patience);
  assert.equal(await sender.locator("#link").inputValue(), link);

  const receiver = await visit(browser, link);
  await receiver.getByRole("button", { name: "Accept" }).click(patience);
  await receiver.getByText(`SHA-256 ${sum} (whole)`).waitFor(patience);
  const stranger = await visit(browser, link.replace(/&key=.*/, ""));
  await stranger.getByText("its key is missing or damaged").waitFor(patience);
  const recorded = way.recorded();
  assert.ok(!recorded.includes("plans.bin"), "the name is on the way");
  for (let at = 0; at < body.length; at += 4099) assert.ok(!recorded.includes(body.subarray(at, at + 8)), `byte ${at} of the file is on the way`);
  await Promise.all([sender, receiver, stranger].map((p) => p.context().close()));
  way.close();
});
