// Removals from an encrypted meeting, which outlive the page of who removes.

import { formatLinkKey, parseLinkKey, type LinkKey } from "@timedge/sdk/e2ee";
import type { RoomID } from "@timedge/sdk";

/** Where what the owner has said is kept over a reload, by room. */
export interface Keep {
  get(room: RoomID, what: "control" | "removal"): string | null;
  set(room: RoomID, what: "control" | "removal", text: string): void;
}

/** That somebody is removed, from before the server is asked until the others have the next secret. */
export interface Removal {
  account: string;
  before: LinkKey;
  next: LinkKey;
  /** Hands the next secret to those who stay (docs/e2ee.md). */
  message: Uint8Array;
}

export function keepRemoval(keep: Keep, room: RoomID, r: Removal | undefined): void {
  keep.set(room, "removal", r ? JSON.stringify([r.account, formatLinkKey(r.before), formatLinkKey(r.next), btoa(String.fromCharCode(...r.message))]) : "");
}

/** The removal that a page which went away has left unfinished; undefined if there is none from the secret that the link carries, or to it. */
export function unfinished(keep: Keep, room: RoomID, link: LinkKey): Removal | undefined {
  try {
    const [account, before, next, message] = JSON.parse(keep.get(room, "removal") || "[]") as string[];
    const r = { account: account!, before: parseLinkKey(before!)!, next: parseLinkKey(next!)!, message: Uint8Array.from(atob(message!), (c) => c.charCodeAt(0)) };
    return [before, next].includes(formatLinkKey(link)) && r.before && r.next ? r : undefined;
  } catch {
    return undefined;
  }
}
