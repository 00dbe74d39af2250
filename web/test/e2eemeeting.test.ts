// An encrypted meeting as people use it, on the way to a server that is recorded; and who is removed from it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { flagCont, frameLength, isStream, parseStream, prefaceSize } from "../sdk/src/codec.js";
import { parseHeader } from "../sdk/src/e2ee/sframe.js";
import { launch } from "./browser.js";
import { insist } from "./looks.js";
import { servePages, visit, type PageServer } from "./pages.js";
import { tap } from "./tap.js";

let server: PageServer;
let browser: Browser;
before(async () => {
  server = await servePages();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

const patience = { timeout: 60_000 };

/** Goes through the lobby of a meeting. */
async function meet(url: string, name: string, encrypt = false, first = (): void => {}): Promise<Page> {
  const page = await visit(browser, url, {}, [], first);
  await page.locator("#meeting-name").fill(name, patience);
  await page.locator("#meeting-quality").selectOption("180p");
  if (encrypt) await page.getByLabel("Encrypt").check();
  await page.waitForFunction(() => (document.querySelector("video")?.videoWidth ?? 0) > 0, undefined, patience);
  await page.locator("main form button[type=submit]").click();
  return page;
}

/** Keeps of each coded picture and packet of sound that a page makes or takes apart some bytes from its middle, in hexadecimal. */
function keepCoded(): void {
  const kept: string[] = ((globalThis as { coded?: string[] }).coded = []);
  for (const chunk of [EncodedVideoChunk, EncodedAudioChunk]) {
    const copyTo = chunk.prototype.copyTo;
    chunk.prototype.copyTo = function (this: EncodedVideoChunk, to: AllowSharedBufferSource): void {
      copyTo.call(this, to);
      const b = ArrayBuffer.isView(to) ? new Uint8Array(to.buffer, to.byteOffset, to.byteLength) : new Uint8Array(to);
      const middle = this.byteLength >> 1;
      if (this.byteLength >= 64) kept.push([...b.subarray(middle, middle + 16)].map((v) => v.toString(16).padStart(2, "0")).join(""));
    };
  }
}

test("who records all that goes through a server finds none of what is coded in an encrypted meeting, and all of it in another", { timeout: 240_000 }, async () => {
  for (const encrypt of [false, true]) {
    const way = await tap(server.url);
    const ann = await meet(`${way.url}/meeting`, "Ann", encrypt, keepCoded);
    await ann.waitForFunction(() => location.hash.length > 5, undefined, patience);
    const bob = await meet(ann.url(), "Bob", false, keepCoded);
    for (const page of [ann, bob]) await page.waitForFunction(() => document.querySelector(".tile.picture canvas") !== null && (globalThis as { coded?: string[] }).coded!.length > 60, undefined, patience);
    const coded = (await Promise.all([ann, bob].map((p) => p.evaluate(() => (globalThis as { coded?: string[] }).coded!)))).flat();
    await Promise.all([ann, bob].map((p) => p.context().close()));
    const recorded = way.recorded();
    const found = coded.filter((c) => recorded.includes(Buffer.from(c, "hex"))).length;
    if (encrypt) assert.equal(found, 0, `${found} of ${coded.length} are on the way`);
    else assert.ok(found > coded.length / 2, `${found} of ${coded.length} are on the way`); // what is coded while nobody takes it goes nowhere
    way.close();
  }
});

test("what is changed on its way to somebody is dropped, and told, and the meeting goes on", { timeout: 240_000 }, async () => {
  const ann = await meet(`${server.url}/meeting`, "Ann", true);
  await ann.waitForFunction(() => location.hash.includes("&key="), undefined, patience);
  const way = await tap(server.url);
  const bob = await meet(ann.url().replace(server.url, way.url), "Bob");
  await bob.locator(".tile.picture", { hasText: "Ann" }).locator("canvas").waitFor(patience);
  await bob.getByRole("button", { name: /People/ }).click();
  way.changing = 300; // pictures
  await bob.getByText(/not as they were sealed, and dropped: \d+/).first().waitFor(patience);
  way.changing = 0;
  assert.ok(way.changed > 0);
  await bob.getByRole("button", { name: /Chat/ }).click();
  await bob.getByLabel("Say something").fill("Still here");
  await bob.keyboard.press("Enter");
  await ann.getByRole("button", { name: /Chat/ }).click();
  await ann.getByText("Still here").waitFor(patience);
  const picture = (before: string): string | false => {
    const now = document.querySelector<HTMLCanvasElement>(".tile.picture canvas")?.toDataURL("image/png") ?? before;
    return now !== before && now;
  };
  for (let i = 0, was = ""; i < 3; i++) was = (await (await bob.waitForFunction(picture, was, { ...patience, polling: 200 })).jsonValue()) as string;
  await Promise.all([ann, bob].map((p) => p.context().close()));
  way.close();
});

test("no nonce is used twice: over broken connections, a page that is loaded anew, and a removal", { timeout: 240_000 }, async () => {
  const way = await tap(server.url);
  const ann = await meet(`${way.url}/meeting`, "Ann", true);
  await ann.waitForFunction(() => location.hash.includes("&key="), undefined, patience);
  const url = ann.url();
  const sees = async (page: Page, who: string): Promise<void> => {
    await page.waitForFunction((who) => [...document.querySelectorAll(".tile.picture")].some((x) => x.querySelector(".name")?.textContent?.includes(who) && x.querySelector("canvas")), who, patience);
  };
  let bob = await meet(url, "Bob");
  await sees(ann, "Bob");
  for (const page of [ann, bob]) await page.getByRole("button", { name: /Chat/ }).click();
  for (let i = 0; i < 3; i++) {
    way.breakAll();
    for (const [from, to] of [[ann, bob], [bob, ann]] as const) {
      const line = `${i} from ${from === ann ? "Ann" : "Bob"}`;
      await from.getByLabel("Say something").fill(line);
      await from.keyboard.press("Enter");
      await to.getByText(line).waitFor(patience);
    }
  }
  await bob.context().close();
  bob = await meet(url, "Bob");
  await sees(bob, "Ann");
  const cai = await meet(url, "Cai");
  await sees(cai, "Ann");
  await ann.getByRole("button", { name: /People/ }).click();
  await insist(ann, "Remove Cai", "Really remove Cai?");
  await bob.waitForFunction(() => location.hash.endsWith(".1"), undefined, patience);
  await sees(bob, "Ann");
  await Promise.all([ann, bob, cai].map((p) => p.context().close()));
  way.close();

  const sealed = new Map<string, string>(); // by key and counter
  const sessions = new Set<bigint>();
  let again = 0;
  for (const b of way.sent()) {
    for (let rest = b.subarray(prefaceSize), n = frameLength(rest); n > 0 && n <= rest.length; n = frameLength(rest)) {
      const frame = rest.subarray(0, n);
      rest = rest.subarray(n);
      if (!isStream(frame)) continue;
      const s = parseStream(frame);
      const h = s.flags & flagCont ? undefined : parseHeader(s.payload);
      if (!h) continue;
      sessions.add(h.kid);
      const nonce = `${h.kid} ${h.ctr} ${s.room} ${s.dtype}`;
      const bytes = Buffer.from(s.payload).toString("base64");
      if (sealed.get(nonce) === bytes) again++;
      assert.ok((sealed.get(nonce) ?? bytes) === bytes, `counter ${h.ctr} of key ${h.kid} seals two things`);
      sealed.set(nonce, bytes);
    }
  }
  console.log(`# ${sealed.size} messages of ${sessions.size} keys, ${again} of them sent again, as they were`);
  assert.ok(sealed.size > 100 && sessions.size >= 8);
});

test("a removal is finished by the page that comes back, whenever the one that began it went away", { timeout: 240_000 }, async () => {
  for (const answered of [false, true]) {
    const way = await tap(server.url);
    const ann = await meet(`${way.url}/meeting`, "Ann", true);
    await ann.waitForFunction(() => location.hash.includes("&key="), undefined, patience);
    const url = ann.url();
    const [bob, cai] = [await meet(url.replace(way.url, server.url), "Bob"), await meet(url.replace(way.url, server.url), "Cai")];
    for (const who of ["Bob", "Cai"]) await ann.locator(".tile.picture", { hasText: who }).waitFor(patience);
    await ann.getByRole("button", { name: /People/ }).click();
    if (answered) way.deaf = true; // what she asks arrives, and she hears nothing of it
    else {
      way.refusing = true;
      way.breakAll();
    }
    await insist(ann, "Remove Cai", "Really remove Cai?");
    await ann.waitForFunction(() => Object.keys(sessionStorage).some((k) => k.endsWith(".removal") && sessionStorage.getItem(k) !== ""), undefined, patience);
    if (answered) await cai.getByText("The host has removed you from the meeting.").waitFor(patience);
    await ann.goto("about:blank"); // her line is no good, so nobody hears a goodbye
    way.breakAll();
    way.refusing = way.deaf = false;
    await ann.goto(url);
    await ann.locator("#meeting-name").fill("Ann", patience);
    await ann.locator("main form button[type=submit]").click();
    await cai.getByText("The host has removed you from the meeting.").waitFor(patience);
    for (const page of [ann, bob]) await page.waitForFunction(() => location.hash.endsWith(".1"), undefined, patience);
    assert.equal(new URL(bob.url()).hash, new URL(ann.url()).hash);
    await bob.getByRole("button", { name: /Chat/ }).click();
    await bob.getByLabel("Say something").fill("Still here");
    await bob.keyboard.press("Enter");
    await ann.getByRole("button", { name: /Chat/ }).click();
    await ann.getByText("Still here").waitFor(patience);
    await ann.waitForFunction(() => Object.keys(sessionStorage).every((k) => !k.endsWith(".removal") || sessionStorage.getItem(k) === ""), undefined, patience);
    await Promise.all([ann, bob, cai].map((p) => p.context().close()));
    way.close();
  }
});

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
  await insist(ann, "Remove Bob of the secret kitchen", "Really remove Bob of the secret kitchen?");
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
