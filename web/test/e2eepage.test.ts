// The live and file pages with a link that carries a key, as people use them; and a server's way to them that records everything.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { connect, createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { launch } from "./browser.js";
import { servePages, visit, type PageServer } from "./pages.js";

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

/** A way to the server that records all that goes over WebSockets, in both directions. What a page sends is masked: that is taken off. */
async function tap(to: string): Promise<{ url: string; recorded(): Buffer; close(): void }> {
  const port = Number(new URL(to).port);
  const pieces: Buffer[] = [];
  const listener = createServer((near) => {
    const far = connect(port, "127.0.0.1");
    let sent = Buffer.alloc(0); // of a WebSocket, what is not yet taken apart
    let upgraded = false;
    near.on("data", (b) => {
      far.write(b);
      sent = Buffer.concat([sent, b]);
      if (!upgraded) {
        const end = sent.indexOf("\r\n\r\n");
        if (end < 0 || !/upgrade: websocket/i.test(sent.toString("latin1"))) return;
        upgraded = true;
        sent = sent.subarray(end + 4);
      }
      for (let f = unmask(sent); f; f = unmask(sent)) {
        pieces.push(f.payload);
        sent = sent.subarray(f.size);
      }
    });
    far.on("data", (b) => {
      near.write(b);
      if (upgraded) pieces.push(b); // the pages themselves know words of a broadcast, too
    });
    for (const [a, z] of [[near, far], [far, near]] as const) {
      a.on("close", () => z.destroy());
      a.on("error", () => z.destroy());
    }
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${(listener.address() as AddressInfo).port}`, recorded: () => Buffer.concat(pieces), close: () => void listener.close() };
}

/** Takes a client's frame off the front: RFC 6455, section 5.2. */
function unmask(b: Buffer): { payload: Buffer; size: number } | undefined {
  if (b.length < 6) return undefined;
  let [n, at] = [b[1]! & 0x7f, 2];
  if (n === 126) [n, at] = [b.readUInt16BE(2), 4];
  else if (n === 127) {
    if (b.length < 14) return undefined;
    [n, at] = [Number(b.readBigUInt64BE(2)), 10];
  }
  if (b.length < at + 4 + n) return undefined;
  const mask = b.subarray(at, at + 4);
  const payload = Buffer.from(b.subarray(at + 4, at + 4 + n).map((x, i) => x ^ mask[i % 4]!));
  return { payload, size: at + 4 + n };
}

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

/** Goes through the lobby of a meeting, without camera and microphone: words are enough. */
async function meet(url: string, name: string, encrypt = false): Promise<Page> {
  const page = await visit(browser, url);
  await page.locator("#meeting-name").fill(name, patience);
  await page.locator("#meeting-quality").selectOption("180p");
  if (encrypt) await page.getByLabel("Encrypt").check();
  await page.locator("main form button[type=submit]").click();
  return page;
}

test("an encrypted meeting is for who has its key", { timeout: 240_000 }, async () => {
  const way = await tap(server.url);
  const ann = await meet(`${way.url}/meeting`, "Ann of the secret kitchen", true);
  await ann.waitForFunction(() => location.hash.includes("&key="), undefined, patience);
  const url = ann.url();
  const bob = await meet(url, "Bob of the secret kitchen");
  for (const [page, other] of [[ann, "Bob of the secret kitchen"], [bob, "Ann of the secret kitchen"]] as const) {
    const tile = page.locator(".tile.picture", { hasText: other });
    await tile.waitFor(patience);
    await tile.locator("canvas").waitFor(patience);
    await page.waitForFunction((other) => {
      const li = [...document.querySelectorAll<HTMLElement>(".tile")].find((x) => x.querySelector(".name")?.textContent?.includes(other));
      return (li?.querySelector("canvas")?.toDataURL("image/png") ?? "").length > 3000; // longer than one colour is
    }, other, { ...patience, polling: 200 });
  }
  await bob.getByRole("button", { name: /People/ }).click();
  assert.equal(await bob.locator("#meeting-link").inputValue(), url);
  await bob.getByText("Encrypted end to end.").waitFor(patience);
  for (const s of ["secret kitchen", '"presence"', '"picture"', "opus"]) assert.ok(!way.recorded().includes(s), `${s} is on the way`);
  for (const link of [url.replace(/&key=.*/, ""), url.replace(/key=../, "key=zz")]) {
    const stranger = await meet(link, "Mallory");
    await stranger.getByText("This meeting is encrypted, and this link has not its key.").waitFor(patience);
    await stranger.context().close();
  }
  // Who is removed reads no further: those who stay go on under another secret, which the new link carries.
  const cai = await meet(url, "Cai");
  await ann.locator(".tile.picture", { hasText: "Cai" }).waitFor(patience);
  await cai.locator(".tile.picture", { hasText: "Ann" }).waitFor(patience);
  await ann.getByRole("button", { name: /People/ }).click();
  await ann.getByRole("button", { name: "Remove Bob of the secret kitchen" }).click();
  await bob.getByText("The host has removed you from the meeting.").waitFor(patience);
  for (const page of [ann, cai]) await page.waitForFunction(() => location.hash.endsWith(".1"), undefined, patience);
  assert.equal(cai.url(), ann.url());
  assert.equal(await ann.locator("#meeting-link").inputValue(), ann.url());
  await cai.getByRole("button", { name: /Chat/ }).click();
  await cai.getByLabel("Say something").fill("Now among ourselves");
  await cai.keyboard.press("Enter");
  await ann.getByRole("button", { name: /Chat/ }).click();
  await ann.getByText("Now among ourselves").waitFor(patience);
  const dan = await meet(ann.url(), "Dan");
  await dan.locator(".tile.picture", { hasText: "Cai" }).waitFor(patience);
  const old = await meet(url, "Eve");
  await old.getByText("This meeting is encrypted, and this link has not its key.").waitFor(patience);
  await Promise.all([cai, dan, old].map((p) => p.context().close()));

  for (const s of ["secret kitchen", "Now among ourselves"]) assert.ok(!way.recorded().includes(s), `${s} is on the way`); // strangers have said words in plain
  await Promise.all([ann, bob].map((p) => p.context().close()));
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
