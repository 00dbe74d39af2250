// The live page: with a room behind # it watches, without one it broadcasts.

import { parseRoom } from "@timedge/sdk";
import type { Page } from "../shell/page.js";
import { broadcastPage } from "./send.js";
import { watchPage } from "./view.js";

/** Where worklet.ts of the media helpers is built to. */
export const worklet = "/worklet.js";

export const page: Page = (root, shell) => (parseRoom(shell.hash) === undefined ? broadcastPage(root, shell) : watchPage(root, shell, shell.hash));
