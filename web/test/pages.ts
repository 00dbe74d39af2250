// What the tests of pages share: a server with its pages, and visitors of different kinds.

import { spawn } from "node:child_process";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { diesWithUs } from "../sdk/test/server.js";

export const binary = process.env.TIMEDGE ?? new URL("../../../bin/timedge", import.meta.url).pathname;

export interface PageServer {
  /** Where the pages are, without a slash at the end. */
  url: string;
  /** Where they are by TLS; "" if nowhere. */
  tls: string;
  /** Where clients without a page connect: host and port. */
  tcp: string;
  kill(): void;
  stop(): Promise<void>;
}

/** Starts a server with pages on ports of its own. */
export function servePages(...args: string[]): Promise<PageServer> {
  const p = spawn(binary, ["serve", "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0", "--admin", "", "--idle", "1h", ...args], { stdio: ["ignore", "pipe", "pipe"] });
  const gone = new Promise<void>((resolve) => p.on("exit", () => resolve()));
  diesWithUs(p);
  return new Promise((resolve, reject) => {
    let said = "";
    p.on("error", reject);
    void gone.then(() => reject(new Error(`the server ended: ${said}`))); // later it changes nothing
    const hear = (b: Buffer): void => {
      said += b;
      if (!said.includes("Ctrl-C ends the server")) return; // its last word
      const m = /pages for browsers .* are on (http:\S+?)\/?\s/.exec(said);
      const at = /timedge serves on ([^\s,]+)/.exec(said);
      if (!m || !at) return;
      resolve({
        url: m[1]!,
        tls: /are on (https:\S+?)\/?\s/.exec(said)?.[1] ?? "",
        tcp: at[1]!,
        kill: () => void p.kill("SIGKILL"),
        stop: async () => {
          p.kill("SIGTERM");
          await gone;
        },
      });
    };
    p.stdout.on("data", hear);
    p.stderr.on("data", hear);
  });
}

export interface Visitor {
  width?: number;
  height?: number;
  language?: string;
  dark?: boolean;
  /** What the browser lets it use. Default: camera and microphone. */
  permissions?: string[];
}

export const phone: Visitor = { width: 390, height: 844 };

/** Opens a page as somebody new. What goes wrong on it fails through `faults`; `first` runs in it before its own scripts. */
export async function visit(browser: Browser, url: string, v: Visitor = {}, faults: string[] = [], first = (): void => {}): Promise<Page> {
  const context = await browser.newContext({
    permissions: v.permissions ?? ["camera", "microphone"], viewport: { width: v.width ?? 1280, height: v.height ?? 800 }, locale: v.language ?? "en-US", colorScheme: v.dark ? "dark" : "light",
  });
  await context.addInitScript(first);
  return visitIn(context, url, faults);
}

/** Opens a page in a context that there is. */
export async function visitIn(context: BrowserContext, url: string, faults: string[] = []): Promise<Page> {
  const page = await context.newPage();
  page.on("pageerror", (e) => faults.push(`${url}: ${e.message}`));
  page.on("console", (m) => m.type() === "error" && !m.text().startsWith("WebSocket connection to") && faults.push(`${url}: ${m.text()}`)); // connections may break
  await page.goto(url);
  return page;
}
