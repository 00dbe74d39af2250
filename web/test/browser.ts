// What the browser tests share: Debian's Chromium with devices that are made up, and a page of the tests' own beside a real server.

import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { build } from "esbuild";
import { chromium, type Browser, type BrowserContext, type Page } from "playwright-core";

const executable = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find((p) => existsSync(p));

/** Starts a browser whose camera and microphone make pictures and beeps of their own. */
export async function launch(...args: string[]): Promise<Browser> {
  return chromium.launch(options([...devices, ...args]));
}

/** Starts a browser as it is on a machine without camera and microphone, which wants a click before sound is heard. */
export async function launchBare(): Promise<Browser> {
  return chromium.launch(options([]));
}

/** Starts a browser with such devices that gives a page only what its context is permitted. */
export async function launchAsking(): Promise<Browser> {
  return chromium.launch(options(devices.filter((d) => !d.startsWith("--use-fake-ui"))));
}

/** What a browser is started with for its microphone to hear somebody speak instead of short beeps; the sound lies in that folder. */
export async function talker(folder: string): Promise<string[]> {
  const rate = 48000;
  const sound = Buffer.alloc(44 + 2 * 2 * rate); // 2 s, again and again: 1.2 s of syllables, then a pause
  sound.write("RIFF", 0);
  sound.writeUInt32LE(sound.length - 8, 4);
  sound.write("WAVEfmt ", 8);
  for (const [at, value, bytes] of [[16, 16, 4], [20, 1, 2], [22, 1, 2], [24, rate, 4], [28, 2 * rate, 4], [32, 2, 2], [34, 16, 2]] as const) sound.writeUIntLE(value, at, bytes);
  sound.write("data", 36);
  sound.writeUInt32LE(sound.length - 44, 40);
  for (let i = 0; i < 1.2 * rate; i++) {
    const t = i / rate;
    const phase = 2 * Math.PI * (140 * t + 3 * Math.sin(2 * Math.PI * 2 * t)); // a voice goes up and down
    const syllable = 0.55 - 0.45 * Math.cos(2 * Math.PI * 5 * t);
    const voice = Math.sin(phase) + 0.6 * Math.sin(2 * phase) + 0.4 * Math.sin(4 * phase) + 0.3 * Math.sin(9 * phase);
    sound.writeInt16LE(Math.round(8000 * syllable * voice), 44 + 2 * i);
  }
  const file = join(folder, "talker.wav");
  await writeFile(file, sound);
  return [`--use-file-for-fake-audio-capture=${file}`];
}

export const devices = ["--use-fake-device-for-media-stream=fps=30", "--use-fake-ui-for-media-stream", "--autoplay-policy=no-user-gesture-required", "--auto-select-desktop-capture-source=Entire screen"];

/** How a browser is started. */
export function options(args: readonly string[]): { executablePath: string; args: string[] } {
  if (!executable) throw new Error("there is no Chromium: apt-get install --no-install-recommends chromium");
  return { executablePath: executable, args: ["--no-sandbox", "--disable-background-timer-throttling", "--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows", ...args] };
}

/** Starts a browser whose profile, and so its pages' own disk, lies in a folder. */
export function launchAt(profile: string): Promise<BrowserContext> {
  return chromium.launchPersistentContext(profile, options(devices));
}

/** A place that pages come from: harness.ts and what it needs. Servers are told of its origin by --ws-origin. */
export interface Site {
  origin: string;
  /** Opens a page with the harness. */
  open(context: BrowserContext): Promise<Page>;
  close(): Promise<void>;
}

/** Serves the harness on an address of its own. */
export async function site(): Promise<Site> {
  const root = new URL("../../", import.meta.url).pathname; // the bundle of the test lies in web/test/.test
  const r = await build({
    entryPoints: { harness: `${root}test/harness.ts`, worker: `${root}test/worker.ts`, worklet: `${root}media/src/worklet.ts` },
    bundle: true, format: "esm", write: false, outdir: "/", absWorkingDir: root, logLevel: "warning",
  });
  const files = new Map(r.outputFiles.map((f) => [f.path, f.text]));
  const html = "<!doctype html><title>harness</title><canvas></canvas><script type=module src=/harness.js></script>";
  const server = createServer((request, response) => {
    const body = request.url === "/" ? html : files.get(request.url ?? "");
    response.writeHead(body === undefined ? 404 : 200, { "Content-Type": request.url === "/" ? "text/html" : "text/javascript" });
    response.end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    origin,
    async open(context) {
      const page = await context.newPage();
      page.on("pageerror", (e) => console.error("page:", e.message));
      page.on("console", (m) => m.type() === "error" && console.error("page says:", m.text()));
      await page.goto(`${origin}/`);
      await page.waitForFunction(() => "harness" in globalThis);
      return page;
    },
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
