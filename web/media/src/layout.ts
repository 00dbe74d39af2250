// What the messages of a broadcast look like: docs/media.md, byte for byte. Nothing here knows of browsers or networks.

/** The dtypes that a broadcast uses. */
export const dtypes = {
  /** What the broadcast is: one init message, a {@link BroadcastInfo}. */
  broadcast: 64,
  picture: 65,
  sound: 66,
  /** In the talk room: a {@link Line}. */
  chat: 80,
  /** In the talk room: a {@link Report}. */
  report: 81,
} as const;

/** Bytes before the coded data of a picture or of sound. */
export const headerSize = 8;

const formPlain = 1;
const maxPts = 2 ** 48 - 1;
/** The longest text of an init message, a line or a report, bytes. */
export const maxText = 64 << 10;
const maxChat = 2000; // characters

/** How pictures are coded. `clock` is the sender's wall clock at timestamp 0, ms since 1970: for figures only, since clocks differ. */
export interface PictureConfig {
  type: "picture";
  codec: string;
  width: number;
  height: number;
  clock: number;
  description?: Uint8Array;
}

/** How sound is coded. */
export interface SoundConfig {
  type: "sound";
  codec: string;
  sampleRate: number;
  channels: number;
  clock: number;
  description?: Uint8Array;
}

/** The same broadcast in another quality, which is a room of its own. */
export interface RenditionInfo {
  room: string;
  width: number;
  height: number;
  bitrate: number;
  /** Of the pictures only key pictures, a few seconds apart, beside all of the sound: for paths that carry no more. */
  stills?: boolean;
}

/** What a viewer needs to know of a broadcast besides its streams. */
export interface BroadcastInfo {
  type: "broadcast";
  title: string;
  /** All qualities, the best first; the room that it stands in is one of them. */
  renditions: RenditionInfo[];
  /** The room in which viewers talk and report; undefined: none. */
  talk?: string;
}

/** What somebody says. */
export interface Line {
  type: "chat";
  text: string;
}

/** What a viewer tells the sender. */
export interface Report {
  type: "report";
  /** It cannot go on before the next key picture. */
  needsKey: boolean;
  /** Pictures and ms of sound that it did not get or could not show, since it began. */
  missedPictures: number;
  missedSound: number;
}

/** A picture, or some ms of sound: when it was captured, in µs on the sender's clock, and its coded bytes, which alias the message. */
export interface Sample {
  pts: number;
  data: Uint8Array;
}

/** Returns the message of a sample. `write` puts `size` coded bytes behind the header, which saves a copy. */
export function encodeSample(pts: number, size: number, write: (to: Uint8Array<ArrayBuffer>) => void): Uint8Array<ArrayBuffer> {
  if (!(pts >= 0 && pts <= maxPts)) throw new RangeError(`timestamp ${pts} is not within 48 bits`);
  const b = new Uint8Array(headerSize + size);
  const v = new DataView(b.buffer);
  const t = Math.floor(pts);
  v.setUint8(0, formPlain);
  v.setUint16(2, Math.floor(t / 2 ** 32));
  v.setUint32(4, t % 2 ** 32);
  write(b.subarray(headerSize));
  return b;
}

/** Reads a sample; undefined if the message is none. */
export function parseSample(b: Uint8Array): Sample | undefined {
  if (b.length <= headerSize || b[0] !== formPlain) return undefined;
  return { pts: ptsOf(b), data: b.subarray(headerSize) };
}

function ptsOf(b: Uint8Array): number {
  const v = new DataView(b.buffer, b.byteOffset, b.length);
  return v.getUint16(2) * 2 ** 32 + v.getUint32(4);
}

/** Returns the message that says: from pts on, µs, there is no sound, until the next sample. */
export function encodeSilence(pts: number): Uint8Array<ArrayBuffer> {
  return encodeSample(pts, 0, () => {});
}

/** Reads from when on there is no sound, µs; undefined if the message says nothing of the kind. */
export function parseSilence(b: Uint8Array): number | undefined {
  return b.length === headerSize && b[0] === formPlain ? ptsOf(b) : undefined;
}

export type Text = PictureConfig | SoundConfig | BroadcastInfo | Line | Report;

/** Returns the message of a configuration, a broadcast's description, a line or a report: JSON in UTF-8, bytes in base64. */
export function encodeText(t: Text): Uint8Array {
  const b = new TextEncoder().encode(JSON.stringify(t, (_, v: unknown) => (v instanceof Uint8Array ? base64(v) : v)));
  if (b.length > maxText) throw new RangeError(`${b.length} bytes of text`);
  return b;
}

/** Reads such a message; undefined if it is none, or says what cannot be. What it does not know it passes over. */
export function parseText(b: Uint8Array): Text | undefined {
  if (b.length > maxText) return undefined;
  let v: Record<string, unknown>;
  try {
    v = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(b)) as Record<string, unknown>;
  } catch {
    return undefined;
  }
  if (typeof v !== "object" || v === null) return undefined;
  switch (v.type) {
    case "picture":
      return isText(v.codec, 64) && isCount(v.width, 1, 16384) && isCount(v.height, 1, 16384) && isNumber(v.clock)
        ? withDescription({ type: "picture", codec: v.codec, width: v.width, height: v.height, clock: v.clock }, v.description) : undefined;
    case "sound":
      return isText(v.codec, 64) && isCount(v.sampleRate, 3000, 384_000) && isCount(v.channels, 1, 8) && isNumber(v.clock)
        ? withDescription({ type: "sound", codec: v.codec, sampleRate: v.sampleRate, channels: v.channels, clock: v.clock }, v.description) : undefined;
    case "broadcast": {
      if (!isText(v.title, 200) || !Array.isArray(v.renditions) || v.renditions.length > 8) return undefined;
      const renditions = (v.renditions as unknown[]).filter(isRendition).map(({ room, width, height, bitrate, stills }) => ({ room, width, height, bitrate, ...(stills === true ? { stills } : {}) }));
      return { type: "broadcast", title: v.title, renditions, ...(isText(v.talk, 11) ? { talk: v.talk } : {}) };
    }
    case "chat":
      return isText(v.text, maxChat) && v.text.length > 0 ? { type: "chat", text: v.text } : undefined;
    case "report":
      return typeof v.needsKey === "boolean" && isCount(v.missedPictures, 0, 2 ** 40) && isCount(v.missedSound, 0, 2 ** 40)
        ? { type: "report", needsKey: v.needsKey, missedPictures: v.missedPictures, missedSound: v.missedSound } : undefined;
  }
  return undefined;
}

function withDescription<T extends PictureConfig | SoundConfig>(c: T, description: unknown): T | undefined {
  if (description === undefined) return c;
  const bytes = typeof description === "string" ? fromBase64(description) : undefined;
  return bytes && { ...c, description: bytes };
}

function isRendition(v: unknown): v is RenditionInfo {
  const r = v as Partial<RenditionInfo> | null;
  return typeof r === "object" && r !== null && isText(r.room, 11) && isCount(r.width, 0, 16384) && isCount(r.height, 0, 16384) && isNumber(r.bitrate);
}

function isText(v: unknown, limit: number): v is string {
  return typeof v === "string" && v.length <= limit;
}

function isNumber(v: unknown): v is number {
  return typeof v === "number" && Number.isFinite(v);
}

function isCount(v: unknown, min: number, max: number): v is number {
  return isNumber(v) && Number.isInteger(v) && v >= min && v <= max;
}

function base64(b: Uint8Array): string {
  return btoa(Array.from(b, (c) => String.fromCharCode(c)).join(""));
}

function fromBase64(text: string): Uint8Array | undefined {
  try {
    return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  } catch {
    return undefined;
  }
}
