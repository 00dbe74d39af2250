// All that the pages say, they say in both languages. What is on the pages is looked at in livepage.test.ts.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

const pages = new URL("../../pages/", import.meta.url); // the bundle of the test lies in web/pages/.test
const sources = new Map(readdirSync(pages, { recursive: true, encoding: "utf8" }).filter((f) => /^\w+\/\w+\.ts$/.test(f) && !f.startsWith("test/"))
  .map((f) => [f, readFileSync(new URL(f, pages), "utf8")] as const));

const table = /^(?:export )?const t = words\(\{([^]*?)\n\}\)/gm;
const names = (text: string): string[] => [...text.matchAll(/\{(\w+)\}/g)].map((m) => m[1]!).sort();
const chinese = /\p{Script=Han}/u;

/** Fails if that is not one text in two languages. */
function both(pair: readonly string[], where: string): void {
  assert.equal(pair.length, 2, where);
  const [en, zh] = pair as [string, string];
  assert.ok(en !== "" && !chinese.test(en), `${where}: ${en}`);
  const name = zh === en && /^\w+$/.test(zh); // of a thing, which is the same in all languages
  assert.ok(name || chinese.test(zh) || !/[A-Za-z]{2}/.test(zh.replace(/\{\w+\}/g, "")), `${where}: ${zh}`);
  assert.deepEqual(names(zh), names(en), `${where}: values in ${zh}`);
}

test("every text of a page is there in English and in Chinese, with the same values, and is used", () => {
  const media = new URL("../../media/src/", import.meta.url); // whose states are keys
  const code = [...sources.values()].map((s) => s.replace(table, "")).concat(readdirSync(media).map((f) => readFileSync(new URL(f, media), "utf8"))).join("\n");
  let tables = 0;
  for (const [file, source] of sources) {
    for (const [, literal] of source.matchAll(table)) {
      tables++;
      for (const [key, pair] of Object.entries(new Function(`return {${literal}}`)() as Record<string, readonly string[]>)) {
        both(pair, `${file}: ${key}`);
        assert.match(code, new RegExp(`\\b${key}\\b`), `${file}: nobody says ${key}`);
      }
    }
  }
  assert.ok(tables >= 8, `${tables} tables were found`);
});

test("what the shell says of its pages is there in both languages", () => {
  const pairs = [...sources.get("shell/routes.ts")!.matchAll(/\b(?:title|about): (\[.*\]),$/gm)].map((m) => JSON.parse(m[1]!) as string[]);
  assert.ok(pairs.length >= 8);
  for (const p of pairs) both(p, "routes.ts");
});

test("no page has words that are not in its table", () => {
  for (const [file, source] of sources) {
    const code = source.replace(table, "").replace(/^\s*(\/\/|\/?\*).*$/gm, "").replace(/\/\/ .*$/gm, "");
    for (const [, text] of code.matchAll(/(?:h\("\w+", \{[^}]*\}, |label: |title: |placeholder: |textContent = |shell\.tell\()"([^"]*[A-Za-z]{2,} [^"]*)"/g)) assert.fail(`${file}: ${JSON.stringify(text)}`);
  }
});
