// What npm pack makes installs in an empty project, has types, and runs in Node as it is, over plain TCP.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { serve } from "./server.js";

const web = new URL("../../", import.meta.url).pathname; // the bundle of the test lies in web/sdk/.test

test("the package installs in an empty project", { timeout: 120_000 }, async () => {
  const server = await serve();
  const dir = mkdtempSync(join(tmpdir(), "timedge-pack-"));
  const run = (cwd: string, file: string, ...args: string[]): string => execFileSync(file, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  try {
    const packed = JSON.parse(run(join(web, "sdk"), "npm", "pack", "--json", "--silent", "--pack-destination", dir)) as Array<{ filename: string }>;
    writeFileSync(join(dir, "package.json"), JSON.stringify({ type: "module", private: true }));
    run(dir, "npm", "install", "--prefer-offline", "--no-audit", "--no-fund", "--silent", join(dir, packed[0]!.filename));
    writeFileSync(join(dir, "use.ts"), `import { dial, formatRoom, type Event } from "@timedge/sdk";
import { tcp } from "@timedge/sdk/tcp";
export async function go(): Promise<Event | undefined> {
  const c = await dial({ servers: "127.0.0.1:1", account: "a", dialer: tcp() });
  return (await c.subscribe(formatRoom(1n))).next();
}
`);
    run(dir, process.execPath, join(web, "node_modules/typescript/bin/tsc"), "--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--moduleResolution", "nodenext", "--target", "es2022", "--lib", "es2023,dom", "--types", "node", "--typeRoots", join(web, "node_modules/@types"), "use.ts");
    writeFileSync(join(dir, "run.mjs"), `import { dial } from "@timedge/sdk";
import { tcp } from "@timedge/sdk/tcp";
const client = await dial({ servers: process.argv[2], account: "node", dialer: tcp() });
const room = await client.register();
const subscription = await client.subscribe(room);
await (await client.publish(room)).push(1, "key", new TextEncoder().encode("hello"));
for await (const e of subscription) {
  if (e.type !== "message") continue;
  console.log(e.publisher, new TextDecoder().decode(e.payload));
  break;
}
await client.close();
`);
    assert.equal(run(dir, process.execPath, "run.mjs", server.tcp).trim(), "node hello");
  } finally {
    await server.stop();
    rmSync(dir, { recursive: true, force: true });
  }
});
