// What travels in a meeting's room beside sound and chat (docs/meeting.md). Nothing here knows of browsers or networks.

/** The dtypes of a meeting beside those of a broadcast: sound and chat are the same there. */
export const dtypes = {
  /** Key messages: each is all that there is to know of who sent it. */
  presence: 70,
  reaction: 71,
  /** Key messages of the owner: each is all that holds. */
  control: 72,
  /** Of the owner, in an encrypted meeting: the next secret, for those who stay (docs/e2ee.md). Bytes, not JSON. */
  secret: 73,
} as const;

/** How somebody is here. Rooms are "" where there is nothing. */
export interface Presence {
  type: "presence";
  name: string;
  /** The rooms of the camera's picture in two sizes, and of the screen. */
  large: string;
  small: string;
  screen: string;
  microphone: boolean;
  hand: boolean;
  /** How the line does: 2 good, 1 the small pictures only, 0 not even all of those. */
  line: number;
  /** It goes now. */
  leaving: boolean;
  /** In an encrypted meeting: the public key that the next secret can be handed to, in base64. */
  key?: string;
}

export interface Reaction {
  type: "reaction";
  emoji: string;
}

/** What the owner wants: whose sound nobody plays, and whether newcomers may take part. */
export interface Control {
  type: "control";
  open: boolean;
  muted: string[]; // accounts
}

export type Word = Presence | Reaction | Control;

const maxBytes = 64 << 10;
const maxName = 100;
const maxMuted = 1000;
const maxKey = 100;

export function encodeWord(w: Word): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(w));
}

/** Reads a message; undefined if it is none, or says what cannot be. What it does not know it passes over. */
export function parseWord(b: Uint8Array): Word | undefined {
  if (b.length > maxBytes) return undefined;
  let v: Record<string, unknown> | null;
  try {
    v = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(b)) as Record<string, unknown> | null;
  } catch {
    return undefined;
  }
  const text = (s: unknown, limit: number): s is string => typeof s === "string" && s.length <= limit;
  switch (v?.type) {
    case "presence":
      if (!text(v.name, maxName) || ![v.large, v.small, v.screen].every((r) => text(r, 11))) return undefined;
      return {
        type: "presence", name: v.name, large: v.large as string, small: v.small as string, screen: v.screen as string,
        microphone: v.microphone === true, hand: v.hand === true, line: v.line === 0 || v.line === 1 ? v.line : 2, leaving: v.leaving === true,
        ...(text(v.key, maxKey) ? { key: v.key } : {}),
      };
    case "reaction":
      return text(v.emoji, 16) && v.emoji !== "" ? { type: "reaction", emoji: v.emoji } : undefined;
    case "control":
      return Array.isArray(v.muted) && v.muted.length <= maxMuted && v.muted.every((a) => text(a, 128)) ? { type: "control", open: v.open === true, muted: v.muted as string[] } : undefined;
  }
  return undefined;
}
