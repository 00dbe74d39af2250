// What ffmpeg makes, and timedge push puts into a room, plays in a page: picture and sound, from the beginning and for who comes late.

import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { after, before, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { serve, type TestServer } from "../sdk/test/server.js";
import { launch, site, type Site } from "./browser.js";
import { servePages, visit, type PageServer } from "./pages.js";

const binary = process.env.TIMEDGE ?? new URL("../../../bin/timedge", import.meta.url).pathname;

let pages: Site;
let server: TestServer;
let own: PageServer;
let browser: Browser;
before(async () => {
  pages = await site();
  server = await serve("--idle", "1h", "--ws-origin", pages.origin);
  own = await servePages();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await own?.stop();
  await server?.stop();
  await pages?.close();
});

const patience = { timeout: 60_000 };

interface Pushed {
  room: string;
  key: string; // "" unless it was drawn
  /** When each picture left ffmpeg, ms, by its timestamp in ms: of MPEG-TS only. */
  left: Map<number, number>;
  stop(): Promise<void>;
}

const source = "-hide_banner -loglevel error -re -f lavfi -i testsrc2=size=320x180:rate=30 -f lavfi -i sine=frequency=440";
const h264 = "-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 30";
const sent = {
  ts: `${source} ${h264} -c:a aac -f mpegts -pes_payload_size 0 -flush_packets 1 pipe:1`,
  mp4: `${source} ${h264} -c:a aac -f mp4 -movflags frag_keyframe+empty_moov+default_base_moof -frag_duration 200000 -flush_packets 1 pipe:1`,
  webm: `${source} -c:v libvpx -deadline realtime -cpu-used 8 -g 30 -b:v 400k -c:a libopus -f webm -cluster_time_limit 200 -live 1 -flush_packets 1 pipe:1`,
  // Chromium as Debian has it does not decode it.
  hevc: `${source} -c:v libx265 -preset ultrafast -x265-params log-level=none -pix_fmt yuv420p -g 30 -c:a aac -f mpegts -flush_packets 1 pipe:1`,
  flv: `${source} ${h264} -c:a aac -f flv -flush_packets 1 pipe:1`,
};

/** Sends as ffmpeg's manual says, into a room of its own. */
async function push(to: string, args: string, ...flags: string[]): Promise<Pushed> {
  const ffmpeg = spawn("ffmpeg", args.split(" "), { stdio: ["ignore", "pipe", "inherit"] });
  const p: ChildProcess = spawn(binary, ["push", "--server", to, "--account", "studio", ...flags, "-"], { stdio: ["pipe", "pipe", "pipe"] });
  const left = new Map<number, number>();
  let rest = Buffer.alloc(0);
  ffmpeg.stdout.on("data", (b: Buffer) => {
    p.stdin!.write(b);
    if (!args.includes("mpegts")) return;
    const at = performance.timeOrigin + performance.now();
    rest = Buffer.concat([rest, b]);
    for (; rest.length >= 188; rest = rest.subarray(188)) {
      const pts = pictureTime(rest.subarray(0, 188));
      if (pts !== undefined) left.set(Math.round(pts), at);
    }
  });
  p.stdin!.on("error", () => {}); // it ends first
  let said = "";
  const [room, key] = await new Promise<[string, string]>((resolve, reject) => {
    p.on("error", reject);
    p.on("exit", () => reject(new Error(`push ended: ${said}`)));
    p.stderr!.on("data", (b: Buffer) => (said += b));
    let out = "";
    p.stdout!.on("data", (b: Buffer) => {
      out += b;
      const m = /room (\S+)\n(?:key (\S+)\n)?/.exec(out);
      if (m && (m[2] || !flags.includes("--e2ee"))) resolve([m[1]!, m[2] ?? ""]);
    });
  });
  return {
    room, key, left,
    stop: async () => {
      const gone = new Promise((resolve) => p.on("exit", resolve));
      ffmpeg.kill("SIGKILL");
      p.stdin!.end();
      p.kill("SIGINT");
      await gone;
    },
  };
}

/** The presentation time that a transport packet begins a picture with, ms: ISO 13818-1, 2.4.3.6. */
function pictureTime(b: Buffer): number | undefined {
  if (b[0] !== 0x47 || (b[1]! & 0x40) === 0) return undefined;
  const at = 4 + (b[3]! & 0x20 ? 1 + b[4]! : 0);
  if (b.readUIntBE(at, 3) !== 1 || (b[at + 3]! & 0xf0) !== 0xe0 || (b[at + 7]! & 0x80) === 0) return undefined;
  return (((b[at + 9]! & 0x0e) / 2) * 2 ** 30 + (b.readUInt16BE(at + 10) >> 1) * 2 ** 15 + (b.readUInt16BE(at + 12) >> 1)) / 90;
}

async function open(): Promise<Page> {
  return pages.open(await browser.newContext());
}

for (const [name, codec] of [["ts", "avc1"], ["mp4", "avc1"], ["webm", "vp8"]] as const) {
  test(`${name}: picture and sound, together, from the beginning and late`, { timeout: 180_000 }, async () => {
    const p = await push(server.tcp, sent[name]);
    const viewer = await open();
    await viewer.evaluate(([ws, room]) => globalThis.harness.watch([ws!], "bob", room!, { min: 0, max: 400 }), [server.ws, p.room]);
    await viewer.waitForFunction(() => globalThis.harness.shown.length > 90, undefined, patience);
    assert.equal(await viewer.evaluate(() => globalThis.harness.hasPicture()), true);
    await viewer.waitForFunction(() => globalThis.harness.watchStats()!.skew !== undefined, undefined, patience); // sound is heard
    const w = (await viewer.evaluate(() => globalThis.harness.watchStats()))!;
    assert.deepEqual([w.codec.slice(0, 4).replace(/\.$/, ""), w.width, w.height, w.gaps], [codec, 320, 180, {}]);
    if (name === "ts") {
      const decoded = await viewer.evaluate(() => globalThis.harness.decoded);
      // Timestamps in the page are 10 s above the stream's.
      const took = decoded.flatMap((d) => {
        const left = p.left.get(Math.round(d.pts - 10_000));
        return left === undefined ? [] : [d.at - left];
      }).sort((a, b) => a - b);
      assert.ok(took.length > 60, `${took.length} pictures are known by their time`);
      console.log(`# from push to decoded picture, ms: p50 ${took[took.length >> 1]!.toFixed(0)}, p95 ${took[Math.floor(took.length * 0.95)]!.toFixed(0)}`);
    }
    const late = await (await open()).evaluate(([ws, room]) => globalThis.harness.join([ws!], "carol", room!), [server.ws, p.room]);
    console.log(`# ${name}: a late viewer's first picture, ms: ${late.toFixed(0)}`, JSON.stringify(w));
    await p.stop();
    await viewer.waitForFunction(() => globalThis.harness.states.at(-1) === "ended", undefined, patience);
    await viewer.context().close();
  });
}

test("the watch page plays it, encrypted too, and says what it cannot play", { timeout: 240_000 }, async () => {
  const faults: string[] = [];
  const to = `${own.url.replace("http", "ws")}/`;
  const sealed = await push(to, sent.ts, "--e2ee", "new");
  const viewer = await visit(browser, `${own.url}/live#${sealed.room}&key=${sealed.key}`, {}, faults);
  await viewer.getByText("LIVE", { exact: true }).waitFor(patience);
  const first = await (await viewer.waitForFunction(() => {
    const c = document.querySelector("canvas")!;
    return c.width === 320 && c.toDataURL();
  }, undefined, { ...patience, polling: 200 })).jsonValue();
  await viewer.waitForFunction((before) => document.querySelector("canvas")!.toDataURL() !== before, first as string, { ...patience, polling: 200 });
  assert.equal(await viewer.getByRole("heading", { name: "Chat" }).isVisible(), false, "nobody talks there");
  await viewer.context().close();
  await sealed.stop();

  for (const [args, says] of [[sent.hevc, /This browser cannot play all of it: h(vc|ev)1/], [sent.flv, /a container that pages do not read \(FLV\)/]] as const) {
    const p = await push(to, args);
    const page = await visit(browser, `${own.url}/live#${p.room}`, {}, faults);
    await page.getByText(says).waitFor(patience);
    await page.context().close();
    await p.stop();
  }
  assert.deepEqual(faults, []);
});
