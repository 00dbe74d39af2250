import { parseRoom, type RoomID } from "../room.js";
import { formatLinkKey, parseLinkKey, type LinkKey } from "./keys.js";

/** What stands behind # in a link: a room, and the key of what goes through it if that is sealed. */
export interface RoomLink {
  room: RoomID;
  key?: LinkKey;
}

/** Writes what stands behind #: ROOM or ROOM&key=KEY. */
export function formatHash(l: RoomLink): string {
  return l.key ? `${l.room}&key=${formatLinkKey(l.key)}` : l.room;
}

/** Reads what stands behind #; undefined if there is no room, or what should be a key is none: nobody is to take a sealed room for a plain one. */
export function parseHash(hash: string): RoomLink | undefined {
  const [room = "", ...rest] = hash.split("&");
  if (parseRoom(room) === undefined) return undefined;
  const text = rest.find((r) => r.startsWith("key="));
  if (text === undefined) return { room };
  const key = parseLinkKey(text.slice(4));
  return key && { room, key };
}
