import type { Gap, Message } from "../subscription.js";
import type { Kind } from "../publisher.js";
import { aes256, derive, hkdf, join, open, parseHeader, seal, tagSize, type Bytes, type FrameKey } from "./sframe.js";

/** What a link carries behind &key=: the secret of an epoch. A room begins with epoch 0; it rises by one when somebody is removed. */
export interface LinkKey {
  secret: Bytes; // 32 bytes
  epoch: number;
}

const secretSize = 32;
const maxEpoch = 2 ** 32 - 1;

/** Draws a new secret. */
export function newLinkKey(): LinkKey {
  return { secret: crypto.getRandomValues(new Uint8Array(secretSize)), epoch: 0 };
}

/** Writes a key as links carry it: 43 characters of base64url, and from epoch 1 on a dot and the epoch. */
export function formatLinkKey(k: LinkKey): string {
  const text = btoa(String.fromCharCode(...k.secret)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return k.epoch > 0 ? `${text}.${k.epoch}` : text;
}

/** Reads a key; undefined if text is none. */
export function parseLinkKey(text: string): LinkKey | undefined {
  const m = /^([A-Za-z0-9_-]{43})(?:\.([1-9][0-9]{0,9}))?$/.exec(text);
  if (!m) return undefined;
  const k = { secret: Uint8Array.from(atob(m[1]!.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0)), epoch: Number(m[2] ?? 0) };
  return k.epoch <= maxEpoch && formatLinkKey(k) === text ? k : undefined; // of a key there is one form only
}

/** How many bits of a key's number say which epoch's secret it comes from; the others tell the sessions of senders apart. */
const epochBits = 4n;
const epochMask = (1n << epochBits) - 1n;
/** It tells this use of a secret from any other. */
const baseSalt = "timedge e2ee 1";
const kinds: Record<Kind, number> = { delta: 0, key: 1, init: 2 };
const maxSeq = 2n ** 48n - 1n;
/** How many streams of senders' sessions an Opener follows; beyond it the one heard of longest ago goes. */
const maxSessions = 4096;

interface Epoch {
  link: LinkKey;
  secret: Promise<CryptoKey>;
}

/** What a key is for, and what it is bound to: the messages of one account and dtype in a room. */
interface Stream {
  room: bigint;
  account: string;
  dtype: number;
}

async function keyOf(e: Epoch, kid: bigint, s: Stream): Promise<FrameKey> {
  return derive(aes256, kid, await hkdf("SHA-512", await e.secret, baseSalt, join({ u64: kid }, { u64: s.room }, { u8: s.dtype }, s.account), aes256.keySize));
}

/** What a message is bound to beside its bytes. */
function metadata(s: Stream, kind: Kind): Bytes {
  return join({ u8: kinds[kind] }, { u64: s.room }, { u8: s.dtype }, s.account);
}

/** Keys are the secrets of a link: the present one, and the one before it, under which messages may still be on their way. */
export class Keys {
  private epochs: Epoch[] = [];

  constructor(link: LinkKey) {
    this.add(link);
  }

  private add(link: LinkKey): void {
    const secret = crypto.subtle.importKey("raw", link.secret, "HKDF", false, ["deriveBits"]);
    this.epochs = [...this.epochs.slice(-1), { link, secret }];
  }

  /** The present key, for a link. */
  get link(): LinkKey {
    return this.epochs.at(-1)!.link;
  }

  /**
   * Takes up the secret of the next epoch: what is sealed from now on is sealed under it. The secret before it opens what is on its way, until
   * {@link forget} or the next call. It throws a RangeError for another epoch than the next.
   */
  rotate(next: LinkKey): void {
    if (next.epoch !== this.link.epoch + 1) throw new RangeError(`epoch ${next.epoch} does not follow ${this.link.epoch}`);
    this.add(next);
  }

  /** Gives the secrets before the present one up. What is sealed under them does not open any more. */
  forget(): void {
    this.epochs = this.epochs.slice(-1);
  }

  /** @internal */
  newest(): Epoch {
    return this.epochs.at(-1)!;
  }

  /** @internal The epoch that a key's number names. */
  of(kid: bigint): Epoch | undefined {
    return this.epochs.find((e) => (kid & epochMask) === (BigInt(e.link.epoch) & epochMask));
  }
}

/**
 * Sealer seals the messages of one account in one room. It is one session of a sender: its number is random, and so its keys are its own and its
 * counters may begin at 0. A page that is loaded anew makes a new Sealer.
 */
export class Sealer {
  private epoch: Epoch | undefined;
  private streams = new Map<number, { stream: Stream; kid: bigint; key: Promise<FrameKey>; next: bigint }>();

  /** `session`, 60 bits and never 0, is for tests: by default it is random, as it has to be. */
  constructor(private readonly keys: Keys, private readonly room: bigint, private readonly account: string, private readonly session: bigint = randomSession()) {}

  /**
   * Seals a message. Messages of a dtype have to be pushed in the order of the calls: receivers take what comes before its turn for a replay. What was
   * sealed is pushed once; to send it again is the client's own business.
   */
  async seal(dtype: number, kind: Kind, plain: Uint8Array): Promise<Bytes> {
    const s = this.stream(dtype);
    const ctr = s.next++; // before anything is waited for: no counter is used twice
    return seal(await s.key, s.kid, ctr, metadata(s.stream, kind), plain);
  }

  private stream(dtype: number): { stream: Stream; kid: bigint; key: Promise<FrameKey>; next: bigint } {
    const now = this.keys.newest();
    if (now !== this.epoch) [this.epoch, this.streams] = [now, new Map()];
    let s = this.streams.get(dtype);
    if (!s) {
      const stream = { room: this.room, account: this.account, dtype };
      const kid = (this.session << epochBits) | (BigInt(now.link.epoch) & epochMask);
      this.streams.set(dtype, (s = { stream, kid, key: keyOf(now, kid, stream), next: 0n }));
    }
    return s;
  }
}

function randomSession(): bigint {
  for (;;) {
    const session = crypto.getRandomValues(new BigUint64Array(1))[0]! >> epochBits;
    if (session !== 0n) return session;
  }
}

/**
 * Why a message is not opened: it is not sealed; it is sealed under a secret that is not here; it was changed on its way, moved to another stream, or
 * sealed by somebody without the key; it came before, or behind one that was sealed after it.
 */
export type SealFault = "not_sealed" | "no_key" | "forged" | "replayed";

export class SealError extends Error {
  constructor(readonly fault: SealFault) {
    super(`the message is ${fault}`);
    this.name = "SealError";
  }
}

interface Opening {
  epoch: Epoch;
  key: FrameKey;
  next: bigint; // the least counter that is new
}

/** Opener opens the messages of one subscription, one after the other. */
export class Opener {
  private readonly opened = new Map<string, Opening>(); // by session and stream, the one heard of longest ago first
  private readonly told = new Set<number>(); // streams of which a gap came since their last message

  constructor(private readonly keys: Keys, private readonly room: bigint) {}

  /** Notes that the server has told of a gap. */
  gap(g: Gap): void {
    this.told.add((g.pub << 8) | g.dtype);
  }

  /** Notes that a publisher is gone. */
  left(pub: number): void {
    for (const key of this.told) if (key >> 8 === pub) this.told.delete(key);
  }

  /**
   * Returns what was sealed, and how many messages were sealed before it that did not come though no gap was told: the server keeps them back, or the
   * sender gave them up before any of them was sent. It rejects with a SealError; the message is then to be dropped.
   */
  async open(m: Message): Promise<{ plain: Bytes; withheld: number }> {
    const h = parseHeader(m.payload);
    if (!h || h.kid >> epochBits === 0n || h.ctr > maxSeq || m.payload.length < h.size + tagSize) throw new SealError("not_sealed");
    const epoch = this.keys.of(h.kid);
    if (!epoch) throw new SealError("no_key");
    const stream = { room: this.room, account: m.publisher, dtype: m.dtype };
    const name = `${h.kid} ${m.dtype} ${m.publisher}`;
    let o = this.opened.get(name);
    if (o?.epoch !== epoch) o = { epoch, key: await keyOf(epoch, h.kid, stream), next: 0n };
    else if (h.ctr < o.next) throw new SealError("replayed");
    const plain = await open(o.key, h, metadata(stream, m.kind), m.payload).catch(() => {
      throw new SealError("forged");
    });
    const key = (m.pub << 8) | m.dtype;
    const withheld = this.told.delete(key) ? 0 : Number(h.ctr - o.next);
    o.next = h.ctr + 1n;
    this.opened.delete(name);
    this.opened.set(name, o);
    if (this.opened.size > maxSessions) this.opened.delete(this.opened.keys().next().value!);
    return { plain, withheld };
  }
}

/** Reports whether a message looks sealed, for who has no key: plain texts and samples begin otherwise. */
export function looksSealed(payload: Uint8Array): boolean {
  const h = parseHeader(payload);
  return h !== undefined && payload[0]! >= 0x80 && h.kid >> epochBits !== 0n && payload.length >= h.size + tagSize;
}
