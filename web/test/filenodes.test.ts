// A file from a page at one node to a page at another. The receiver's node, which carries the file, is killed in the middle, and the receiver's page
// is loaded anew. `make drill-browser` has it with 1 GB.

import assert from "node:assert/strict";
import { createHash, randomFillSync } from "node:crypto";
import { createReadStream, readFileSync, readdirSync } from "node:fs";
import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { launchAt } from "./browser.js";
import { Cluster } from "./cluster.js";
import { visitIn } from "./pages.js";
import { path } from "./paths.js";

const size = Number(process.env.FILE_BYTES ?? 64_000_000);
const patience = { timeout: 240_000 };
/** How much the process of a page may hold beside what it shares with others, bytes. */
const mostMemory = 150e6;

/** Reports whether more than that part of all bytes is there. */
const beyond = (part: number): boolean => Number(document.querySelector("progress")?.value) > part;

async function hash(file: string): Promise<string> {
  const sum = createHash("sha256");
  for await (const b of createReadStream(file)) sum.update(b as Buffer);
  return sum.digest("hex");
}

async function make(file: string): Promise<string> {
  const [f, piece, sum] = [await open(file, "w"), Buffer.alloc(1 << 20), createHash("sha256")];
  for (let left = size; left > 0; left -= piece.length) {
    const b = randomFillSync(piece).subarray(0, Math.min(left, piece.length));
    sum.update(b);
    await f.write(b);
  }
  await f.close();
  return sum.digest("hex");
}

/** The memory of the largest process that shows pages, of the browser whose profile lies there, bytes; Linux's RssAnon. */
function memory(profile: string): number {
  const processes = new Map<number, { parent: number; command: string; bytes: number }>();
  for (const pid of readdirSync("/proc").filter((p) => /^\d+$/.test(p))) {
    try {
      const [status, command] = [readFileSync(`/proc/${pid}/status`, "utf8"), readFileSync(`/proc/${pid}/cmdline`, "utf8")];
      processes.set(Number(pid), { parent: Number(/PPid:\s+(\d+)/.exec(status)?.[1]), command, bytes: 1024 * Number(/RssAnon:\s+(\d+)/.exec(status)?.[1] ?? 0) });
    } catch {
      // it has ended
    }
  }
  const of = (pid: number): boolean => {
    for (let p = processes.get(pid); p; p = processes.get(p.parent)) if (p.command.includes(`--user-data-dir=${profile}`)) return true;
    return false;
  };
  return Math.max(0, ...[...processes].filter(([pid, p]) => p.command.includes("--type=renderer") && of(pid)).map(([, p]) => p.bytes));
}

test(`${size / 1e6} MB over two nodes, one killed, a page loaded anew`, { timeout: 900_000 }, async () => {
  const dir = await mkdtemp(join(tmpdir(), "timedge-nodes-"));
  const sum = await make(join(dir, "large.bin"));
  const cluster = await Cluster.start(2);
  const [n1, n2] = cluster.nodes as [(typeof cluster.nodes)[0], (typeof cluster.nodes)[0]];
  const [there, here] = [await path(n1.web, n2.web), await path(n2.web, n1.web)];
  here.rate = size / 10; // so slow that the middle is not missed
  const profiles = [join(dir, "sender"), join(dir, "receiver")] as const; // a page without one has its disk in memory
  const [senders, receivers] = [await launchAt(profiles[0]), await launchAt(profiles[1])];
  const most = [0, 0];
  const timer = setInterval(() => profiles.forEach((p, i) => (most[i] = Math.max(most[i]!, memory(p)))), 500);
  try {
    const faults: string[] = [];
    const sender = await visitIn(senders, `http://${there.addr}/file`, faults);
    await sender.locator("#files").setInputFiles([join(dir, "large.bin")]);
    await sender.locator("#link").waitFor(patience);
    const receiver = await visitIn(receivers, (await sender.locator("#link").inputValue()).replace(there.addr, here.addr), faults);
    await receiver.getByRole("button", { name: "Accept" }).click(patience);
    await receiver.waitForFunction(beyond, 0.2, patience);
    await cluster.kill(n2.name);
    await receiver.waitForFunction(beyond, 0.4, patience);
    await receiver.reload();
    await receiver.waitForFunction(beyond, 0.5, patience); // what was there is there
    here.rate = Infinity;
    await receiver.getByText(`SHA-256 ${sum} (whole)`).waitFor(patience);
    await sender.getByText(`SHA-256 ${sum}`).waitFor(patience);
    const [download] = await Promise.all([receiver.waitForEvent("download"), receiver.getByRole("link", { name: "Save large.bin" }).click()]);
    assert.equal(await hash(await download.path()), sum);
    assert.ok(most.every((m) => m > 0), "the memory was looked at");
    console.log(`figures: ${size / 1e6} MB over two nodes, one killed, the receiver's page loaded anew: sender's page ${Math.round(most[0]! / 1e6)} MB, receiver's page ${Math.round(most[1]! / 1e6)} MB of memory at most`);
    // When the collector comes is its own affair: of a small file this says nothing.
    assert.ok(size < 5e8 || most.every((m) => m < mostMemory), `${most.map((m) => Math.round(m / 1e6)).join(" and ")} MB`);
    assert.deepEqual(faults, []);
  } finally {
    clearInterval(timer);
    await Promise.all([senders.close(), receivers.close()]);
    there.close();
    here.close();
    await cluster.stop();
    await rm(dir, { recursive: true, force: true });
  }
});
