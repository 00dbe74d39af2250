// The live page: with a room behind # it watches, without one it broadcasts.

import { parseHash } from "@timedge/sdk/e2ee";
import type { Page } from "../shell/page.js";
import { broadcastPage } from "./send.js";
import { watchPage } from "./view.js";

/** Where worklet.ts of the media helpers is built to. */
export const worklet = "/worklet.js";

export const page: Page = (root, shell) => {
  const link = parseHash(shell.hash);
  if (link || shell.hash.includes("&key=")) return watchPage(root, shell, link);
  return broadcastPage(root, shell);
};
