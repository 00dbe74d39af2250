// The next secret of a room, handed to those who stay when somebody is removed. HPKE (RFC 9180): base mode, DHKEM(P-256, HKDF-SHA256), HKDF-SHA256,
// AES-128-GCM.

import { parseRoom, type RoomID } from "../room.js";
import type { Keys, LinkKey } from "./keys.js";
import { join, tagSize, type Bytes } from "./sframe.js";

const rekeyInfo = "timedge e2ee 1 rekey";
const nameSize = 8; // what says whom an entry is for: the beginning of the SHA-256 of the public key
const pointSize = 65; // of a public key, not compressed
const entrySize = nameSize + pointSize + 32 + tagSize;
const maxMembers = 4096;
const curve = { name: "ECDH", namedCurve: "P-256" } as const;
const none = new Uint8Array();

/** `malformed`: no message that hands out a secret; `removed`: it hands one out, but not to this member. */
export class RekeyError extends Error {
  constructor(readonly fault: "malformed" | "removed") {
    super(`the new secret: ${fault}`);
    this.name = "RekeyError";
  }
}

/** Member is somebody to whom the next secret can be handed, by its public key, which it says to the others in the room, sealed as all else. */
export class Member {
  private constructor(private readonly pair: CryptoKeyPair, readonly publicKey: Bytes) {}

  static async create(): Promise<Member> {
    return Member.of((await crypto.subtle.generateKey(curve, false, ["deriveBits"])) as CryptoKeyPair);
  }

  /** @internal */
  static async of(pair: CryptoKeyPair): Promise<Member> {
    return new Member(pair, new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey)));
  }

  /** Takes the secret out of a message of {@link nextKey}. It rejects with a RekeyError. The caller knows that it comes from who may remove others. */
  async open(room: RoomID, message: Uint8Array): Promise<LinkKey> {
    if (message.length < 8 || (message.length - 8) % entrySize !== 0 || message.length > 8 + maxMembers * entrySize) throw new RekeyError("malformed");
    const epoch = new DataView(message.buffer, message.byteOffset).getBigUint64(0);
    const mine = await nameOf(this.publicKey);
    for (let at = 8; at < message.length; at += entrySize) {
      const entry = message.slice(at, at + entrySize);
      if (!mine.every((b, i) => entry[i] === b)) continue;
      const enc = entry.slice(nameSize, nameSize + pointSize);
      const secret = await hpkeOpen(this.pair.privateKey, this.publicKey, enc, bound(room, epoch), none, entry.slice(nameSize + pointSize)).catch(() => {
        throw new RekeyError("malformed");
      });
      return { secret, epoch: Number(epoch) };
    }
    throw new RekeyError("removed");
  }
}

/**
 * Draws the secret of the next epoch and seals it to those who stay, by their public keys. The message goes to all in the room, sealed under the
 * present secret; only then `keys.rotate(next)` takes the next one up. Who has said a key that is none gets nothing: it must not keep the others from going on.
 */
export async function nextKey(keys: Keys, room: RoomID, stay: readonly Uint8Array[]): Promise<{ next: LinkKey; message: Bytes }> {
  if (stay.length > maxMembers) throw new RangeError(`${stay.length} members`);
  const next = { secret: crypto.getRandomValues(new Uint8Array(32)), epoch: keys.link.epoch + 1 };
  const entries = await Promise.all(stay.map(async (publicKey) => {
    const handed = await hpkeSeal(publicKey.slice() as Bytes, bound(room, BigInt(next.epoch)), next.secret).catch(() => undefined);
    return handed ? join(await nameOf(publicKey), handed.enc, handed.sealed) : none;
  }));
  return { next, message: join({ u64: BigInt(next.epoch) }, ...entries) };
}

async function nameOf(publicKey: Uint8Array): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", publicKey as Bytes)).slice(0, nameSize);
}

function bound(room: RoomID, epoch: bigint): Bytes {
  return join(rekeyInfo, { u64: parseRoom(room)! }, { u64: epoch });
}

// RFC 9180

const kem = join("KEM", { u16: 0x10 });
const hpke = join("HPKE", { u16: 0x10 }, { u16: 1 }, { u16: 1 });

async function hmac(key: Bytes, data: Bytes): Promise<Bytes> {
  const k = await crypto.subtle.importKey("raw", key.length > 0 ? key : new Uint8Array(32), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return new Uint8Array(await crypto.subtle.sign("HMAC", k, data));
}

function extract(suite: Bytes, salt: Bytes, label: string, secret: Bytes): Promise<Bytes> {
  return hmac(salt, join("HPKE-v1", suite, label, secret));
}

/** At most 32 bytes, which is one step of HKDF-Expand. */
async function expand(suite: Bytes, prk: Bytes, label: string, info: Bytes, size: number): Promise<Bytes> {
  return (await hmac(prk, join({ u16: size }, "HPKE-v1", suite, label, info, { u8: 1 }))).slice(0, size);
}

/** The key and the first nonce of what two key pairs agree on. */
async function schedule(mine: CryptoKey, theirs: Bytes, enc: Bytes, recipient: Bytes, info: Bytes): Promise<{ key: CryptoKey; iv: Bytes }> {
  const other = await crypto.subtle.importKey("raw", theirs, curve, false, []);
  const dh = new Uint8Array(await crypto.subtle.deriveBits({ name: "ECDH", public: other }, mine, 256));
  const shared = await expand(kem, await extract(kem, none, "eae_prk", dh), "shared_secret", join(enc, recipient), 32);
  const context = join({ u8: 0 }, await extract(hpke, none, "psk_id_hash", none), await extract(hpke, none, "info_hash", info));
  const secret = await extract(hpke, shared, "secret", none);
  const key = await crypto.subtle.importKey("raw", await expand(hpke, secret, "key", context, 16), "AES-GCM", false, ["encrypt", "decrypt"]);
  return { key, iv: await expand(hpke, secret, "base_nonce", context, 12) };
}

/** @internal */
export async function hpkeSeal(recipient: Bytes, info: Bytes, plain: Bytes): Promise<{ enc: Bytes; sealed: Bytes }> {
  const pair = (await crypto.subtle.generateKey(curve, false, ["deriveBits"])) as CryptoKeyPair;
  const enc = new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey));
  const { key, iv } = await schedule(pair.privateKey, recipient, enc, recipient, info);
  return { enc, sealed: new Uint8Array(await crypto.subtle.encrypt({ name: "AES-GCM", iv }, key, plain)) };
}

/** @internal */
export async function hpkeOpen(mine: CryptoKey, recipient: Bytes, enc: Bytes, info: Bytes, aad: Bytes, sealed: Bytes): Promise<Bytes> {
  const { key, iv } = await schedule(mine, enc, enc, recipient, info);
  return new Uint8Array(await crypto.subtle.decrypt({ name: "AES-GCM", iv, additionalData: aad }, key, sealed));
}
