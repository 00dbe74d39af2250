// SFrame (RFC 9605) with its suites of AES-GCM, by WebCrypto. docs/e2ee.md says how it is used.

import { dispose } from "../memory.js";

/** A cipher suite of RFC 9605, section 4.5. Both have nonces of 12 bytes and tags of 16. */
export interface Suite {
  id: number;
  hash: "SHA-256" | "SHA-512";
  keySize: number; // bytes
}

export const aes128: Suite = { id: 4, hash: "SHA-256", keySize: 16 }; // AES_128_GCM_SHA256_128
export const aes256: Suite = { id: 5, hash: "SHA-512", keySize: 32 }; // AES_256_GCM_SHA512_128: the one in use

const nonceSize = 12;
export const tagSize = 16;
/** How many bytes a sealed message is longer than the plain one, at most. */
export const overhead = 1 + 8 + 8 + tagSize;

export type Bytes = Uint8Array<ArrayBuffer>;

const utf8 = new TextEncoder();

/** Puts bytes, texts and big-endian numbers one after the other. */
export function join(...parts: Array<Uint8Array | string | { u8: number } | { u16: number } | { u64: bigint }>): Bytes {
  const all = parts.map((p) => {
    if (typeof p === "string") return utf8.encode(p);
    if (p instanceof Uint8Array) return p;
    const b = new Uint8Array("u8" in p ? 1 : "u16" in p ? 2 : 8);
    const v = new DataView(b.buffer);
    if ("u8" in p) v.setUint8(0, p.u8);
    else if ("u16" in p) v.setUint16(0, p.u16);
    else v.setBigUint64(0, p.u64);
    return b;
  });
  const out = new Uint8Array(all.reduce((n, b) => n + b.length, 0));
  let at = 0;
  for (const b of all) {
    out.set(b, at);
    at += b.length;
  }
  return out;
}

// In either half of a header's first byte this bit says that the other three are the length of the number, less one, and not the number itself.
const extended = 8;

/** Returns the header of a key and a counter: RFC 9605, section 4.3. */
export function encodeHeader(kid: bigint, ctr: bigint): Bytes {
  const [k, kidBytes] = encodeNumber(kid);
  const [c, ctrBytes] = encodeNumber(ctr);
  return join({ u8: (k << 4) | c }, kidBytes, ctrBytes);
}

function encodeNumber(v: bigint): [nibble: number, following: Bytes] {
  if (v < BigInt(extended)) return [Number(v), new Uint8Array()];
  const b = join({ u64: v });
  const following = b.slice(b.findIndex((x) => x > 0));
  return [extended | (following.length - 1), following];
}

export interface Header {
  kid: bigint;
  ctr: bigint;
  size: number;
}

/** Reads the header of a sealed message; undefined for what is none, one that is cut off, and one that is longer than it need be. */
export function parseHeader(b: Uint8Array): Header | undefined {
  const first = b[0];
  if (first === undefined) return undefined;
  const kid = parseNumber(b, first >> 4, 1);
  const ctr = kid && parseNumber(b, first & 0xf, kid.next);
  return ctr && { kid: kid.v, ctr: ctr.v, size: ctr.next };
}

function parseNumber(b: Uint8Array, nibble: number, at: number): { v: bigint; next: number } | undefined {
  if (nibble < extended) return { v: BigInt(nibble), next: at };
  const n = (nibble & 7) + 1;
  if (b.length < at + n || b[at] === 0) return undefined;
  let v = 0n;
  for (let i = at; i < at + n; i++) v = (v << 8n) | BigInt(b[i]!);
  return v < BigInt(extended) ? undefined : { v, next: at + n };
}

/** What one sender seals one stream with. */
export interface FrameKey {
  key: CryptoKey;
  salt: Bytes;
}

/** HKDF (RFC 5869): extract and expand. */
export async function hkdf(hash: Suite["hash"], key: CryptoKey, salt: string, info: Bytes, size: number): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.deriveBits({ name: "HKDF", hash, salt: utf8.encode(salt), info }, key, size * 8));
}

/** Makes a key of a base key: RFC 9605, section 4.4.2. */
export async function derive(suite: Suite, kid: bigint, baseKey: Bytes): Promise<FrameKey> {
  const base = await crypto.subtle.importKey("raw", baseKey, "HKDF", false, ["deriveBits"]);
  const [key, salt] = await Promise.all([
    hkdf(suite.hash, base, "", join("SFrame 1.0 Secret key ", { u64: kid }, { u16: suite.id }), suite.keySize),
    hkdf(suite.hash, base, "", join("SFrame 1.0 Secret salt ", { u64: kid }, { u16: suite.id }), nonceSize),
  ]);
  return { key: await crypto.subtle.importKey("raw", key, "AES-GCM", false, ["encrypt", "decrypt"]), salt };
}

/** The nonce of a counter: RFC 9605, section 4.4.3. */
function nonce(k: FrameKey, ctr: bigint): Bytes {
  const n = k.salt.slice();
  const v = new DataView(n.buffer);
  v.setBigUint64(nonceSize - 8, v.getBigUint64(nonceSize - 8) ^ ctr);
  return n;
}

/** Returns header, ciphertext and tag. `metadata` is what the receiver has to know already. */
export async function seal(k: FrameKey, kid: bigint, ctr: bigint, metadata: Bytes, plain: Uint8Array): Promise<Bytes> {
  const header = encodeHeader(kid, ctr);
  const sealed = await crypto.subtle.encrypt({ name: "AES-GCM", iv: nonce(k, ctr), additionalData: join(header, metadata) }, k.key, plain as Bytes);
  const all = join(header, new Uint8Array(sealed));
  dispose(sealed); // which WebCrypto has made
  return all;
}

/** Returns what was sealed. It rejects if that was not sealed so. */
export async function open(k: FrameKey, h: Header, metadata: Bytes, sealed: Uint8Array): Promise<Bytes> {
  const additionalData = join(sealed.subarray(0, h.size), metadata);
  return new Uint8Array(await crypto.subtle.decrypt({ name: "AES-GCM", iv: nonce(k, h.ctr), additionalData }, k.key, sealed.subarray(h.size) as Bytes));
}
