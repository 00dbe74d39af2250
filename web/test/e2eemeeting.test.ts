// An encrypted meeting as people use it, on the way to a server that is recorded; and who is removed from it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { launch } from "./browser.js";
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
async function meet(url: string, name: string, encrypt = false): Promise<Page> {
  const page = await visit(browser, url);
  await page.locator("#meeting-name").fill(name, patience);
  await page.locator("#meeting-quality").selectOption("180p");
  if (encrypt) await page.getByLabel("Encrypt").check();
  await page.waitForFunction(() => (document.querySelector("video")?.videoWidth ?? 0) > 0, undefined, patience);
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
