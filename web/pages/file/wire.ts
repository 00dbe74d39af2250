// What the two ends say to each other. In the room of the link, which is live and to which everybody who has the number may push: offers and wishes, as
// JSON. In a lossless room of each receiver's own, which the sender fills: the files.

import type { Message } from "@timedge/sdk";

/** What may be received, of the sender. Sent again by a sender that was loaded anew. */
export interface Offer {
  t: "offer";
  files: Array<{ name: string; size: number }>;
}

/** A receiver's wish: these files, from these offsets on, into this room; of one receiver the newest counts. No files: it pauses. */
export interface Want {
  t: "want";
  receiver: string;
  room: string;
  files: Array<{ file: number; offset: number }>;
}

/** To an account, or from a code: where to look. */
export interface Link {
  t: "link";
  room: string;
}

/** To a code: where does it lead? */
export interface Ask {
  t: "ask";
}

export type Said = Offer | Want | Link | Ask;

export function say(s: Said): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(s));
}

/** Reads what somebody said; undefined if it makes no sense. Names and sizes are others' words: they are shown, and never trusted. */
export function heard(m: Message): Said | undefined {
  try {
    const s = JSON.parse(new TextDecoder().decode(m.payload)) as Said;
    switch (s.t) {
      case "offer":
        return Array.isArray(s.files) && s.files.length > 0 && s.files.length <= 10_000 && s.files.every((f) => typeof f.name === "string" && Number.isSafeInteger(f.size) && f.size >= 0) ? s : undefined;
      case "want":
        return typeof s.receiver === "string" && typeof s.room === "string" && Array.isArray(s.files) && s.files.every((f) => Number.isSafeInteger(f.file) && Number.isSafeInteger(f.offset) && f.offset >= 0) ? s : undefined;
      case "link":
        return typeof s.room === "string" ? s : undefined;
      case "ask":
        return s;
    }
  } catch {
    // not JSON
  }
  return undefined;
}

/** A piece of a file, or with `sum` its end. */
export interface Piece {
  file: number;
  offset: number;
  sum: boolean;
  bytes: Uint8Array; // of a sum: the SHA-256
}

/** Bytes before those of the file: u8 sum, u32 file, u64 offset. */
export const head = 13;

/** Fills the head of a piece, behind which the bytes are already. */
export function label(b: Uint8Array, p: Pick<Piece, "file" | "offset" | "sum">): void {
  const v = new DataView(b.buffer, b.byteOffset, head);
  v.setUint8(0, p.sum ? 1 : 0);
  v.setUint32(1, p.file);
  v.setBigUint64(5, BigInt(p.offset));
}

export function readPiece(b: Uint8Array): Piece | undefined {
  if (b.length < head) return undefined;
  const v = new DataView(b.buffer, b.byteOffset, b.byteLength);
  return { sum: v.getUint8(0) === 1, file: v.getUint32(1), offset: Number(v.getBigUint64(5)), bytes: b.subarray(head) };
}

export function hex(b: Uint8Array): string {
  return [...b].map((x) => x.toString(16).padStart(2, "0")).join("");
}
