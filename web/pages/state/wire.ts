// What travels in a shared state's two rooms: docs/state.md, byte for byte. Nothing here knows of browsers or networks.

/** The dtypes of a shared state: all but `op` go into its `latest` room. */
export const dtypes = {
  cursor: 96,
  /** JSON: {@link Who}. */
  who: 97,
  digest: 98,
  pose: 99,
  /** In the room of the board, which loses nothing to a newer message. */
  op: 100,
} as const;

const form = 1;
const maxWho = 4096; // bytes

/** Where somebody points, 0 to 1 of the board's width and height. `at` is the sender's wall clock, ms since 1970. */
export interface Cursor {
  at: number;
  x: number;
  y: number;
  drawing: boolean;
  away: boolean;
}

export interface Who {
  name: string;
}

/** A head or a hand: where it is (m), how it is turned (a unit quaternion x, y, z, w) and how it moves (m/s). */
export const limbFloats = 10;
/** Head, left and right hand, five fingers each, and for each hand trigger, grip and stick (x, y). */
export const poseFloats = 3 * limbFloats + 10 + 8;
/** Bytes of a pose's message. */
export const poseSize = 8 + 4 * poseFloats;

/** A digest says, per author, up to which number all its operations are there. */
export type Digest = ReadonlyMap<number, number>;

/** An operation on the board, the `seq`-th of its author (1, 2, 3 ...). `time` is a Lamport clock: later than all that the author had seen. */
export interface Op {
  author: number; // 48 bits
  seq: number;
  time: number;
  kind: "begin" | "points" | "undo" | "clear";
  /** begin: of the stroke. */
  colour: number;
  width: number;
  /** begin, points: x and y by turns, 0 to 65535 of the board. */
  points: readonly number[];
}

const kinds = ["begin", "points", "undo", "clear"] as const;
const opHeader = 15; // after its length
/** So many points one operation has at most. */
export const maxPoints = 512;
/** Messages of operations are not made longer than this, bytes. */
export const maxOps = 32 << 10;

const wallUnit = 100; // of `at` on the wire: 1/100 ms

function putU48(v: DataView, at: number, n: number): void {
  v.setUint16(at, Math.floor(n / 2 ** 32));
  v.setUint32(at + 2, n % 2 ** 32);
}

function getU48(v: DataView, at: number): number {
  return v.getUint16(at) * 2 ** 32 + v.getUint32(at + 2);
}

function view(b: Uint8Array): DataView {
  return new DataView(b.buffer, b.byteOffset, b.length);
}

const unit = (n: number): number => Math.max(0, Math.min(65535, Math.round(n * 65535)));

export function encodeCursor(c: Cursor): Uint8Array {
  const b = new Uint8Array(12);
  const v = view(b);
  v.setUint8(0, form);
  v.setUint8(1, (c.drawing ? 1 : 0) | (c.away ? 2 : 0));
  putU48(v, 2, Math.round(c.at * wallUnit));
  v.setUint16(8, unit(c.x));
  v.setUint16(10, unit(c.y));
  return b;
}

/** Reads a cursor; undefined if the message is none. So do all that parse here. */
export function parseCursor(b: Uint8Array): Cursor | undefined {
  if (b.length < 12 || b[0] !== form) return undefined;
  const v = view(b);
  return { at: getU48(v, 2) / wallUnit, x: v.getUint16(8) / 65535, y: v.getUint16(10) / 65535, drawing: (b[1]! & 1) !== 0, away: (b[1]! & 2) !== 0 };
}

export function encodeWho(w: Who): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(w));
}

export function parseWho(b: Uint8Array): Who | undefined {
  if (b.length > maxWho) return undefined;
  try {
    const w = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(b)) as Partial<Who> | null;
    return typeof w?.name === "string" && w.name.length <= 100 ? { name: w.name } : undefined;
  } catch {
    return undefined;
  }
}

/** Returns the message of a pose of {@link poseFloats} numbers. */
export function encodePose(at: number, pose: ArrayLike<number>): Uint8Array {
  const b = new Uint8Array(poseSize);
  const v = view(b);
  v.setUint8(0, form);
  putU48(v, 2, Math.round(at * wallUnit));
  for (let i = 0; i < poseFloats; i++) v.setFloat32(8 + 4 * i, pose[i] ?? 0);
  return b;
}

export function parsePose(b: Uint8Array): { at: number; pose: number[] } | undefined {
  if (b.length < poseSize || b[0] !== form) return undefined;
  const v = view(b);
  const pose = Array.from({ length: poseFloats }, (_, i) => v.getFloat32(8 + 4 * i));
  return pose.every(Number.isFinite) ? { at: getU48(v, 2) / wallUnit, pose } : undefined;
}

const maxDigest = 4096; // authors
const digestHeader = 7;

/** Returns the message that tells what somebody has, who draws as `author`. */
export function encodeDigest(author: number, d: Digest): Uint8Array {
  const b = new Uint8Array(digestHeader + 10 * Math.min(d.size, maxDigest));
  const v = view(b);
  v.setUint8(0, form);
  putU48(v, 1, author);
  let at = digestHeader;
  for (const [author, seq] of d) {
    if (at + 10 > b.length) break;
    putU48(v, at, author);
    v.setUint32(at + 6, seq);
    at += 10;
  }
  return b;
}

export function parseDigest(b: Uint8Array): { author: number; digest: Digest } | undefined {
  if (b.length < digestHeader || b[0] !== form || (b.length - digestHeader) % 10 !== 0 || b.length > digestHeader + 10 * maxDigest) return undefined;
  const v = view(b);
  const digest = new Map<number, number>();
  for (let at = digestHeader; at < b.length; at += 10) digest.set(getU48(v, at), v.getUint32(at + 6));
  return { author: getU48(v, 1), digest };
}

function sizeOf(op: Op): number {
  return 2 + opHeader + (op.kind === "begin" ? 2 : 0) + 4 * Math.floor(op.points.length / 2);
}

/** Returns operations as messages, none longer than {@link maxOps}. */
export function encodeOps(ops: readonly Op[]): Uint8Array[] {
  const messages: Uint8Array[] = [];
  for (let i = 0; i < ops.length; ) {
    let size = 0;
    let n = i;
    while (n < ops.length && (n === i || size + sizeOf(ops[n]!) <= maxOps)) size += sizeOf(ops[n++]!);
    const b = new Uint8Array(size);
    const v = view(b);
    let at = 0;
    for (; i < n; i++) {
      const op = ops[i]!;
      v.setUint16(at, sizeOf(op) - 2);
      putU48(v, at + 2, op.author);
      v.setUint32(at + 8, op.seq);
      v.setUint32(at + 12, op.time);
      v.setUint8(at + 16, kinds.indexOf(op.kind) + 1);
      let p = at + 2 + opHeader;
      if (op.kind === "begin") {
        v.setUint8(p, op.colour);
        v.setUint8(p + 1, op.width);
        p += 2;
      }
      for (let k = 0; k + 1 < op.points.length; k += 2, p += 4) {
        v.setUint16(p, op.points[k]!);
        v.setUint16(p + 2, op.points[k + 1]!);
      }
      at += sizeOf(op);
    }
    messages.push(b);
  }
  return messages;
}

/** Reads the operations of a message, up to the first that is not in order. Kinds that it does not know it passes over. */
export function parseOps(b: Uint8Array): Op[] {
  const v = view(b);
  const ops: Op[] = [];
  for (let at = 0; at + 2 + opHeader <= b.length; ) {
    const end = at + 2 + v.getUint16(at);
    if (end > b.length || end < at + 2 + opHeader) break;
    const kind = kinds[v.getUint8(at + 16) - 1];
    let p = at + 2 + opHeader;
    const op = { author: getU48(v, at + 2), seq: v.getUint32(at + 8), time: v.getUint32(at + 12), colour: 0, width: 0, points: [] as number[] };
    at = end;
    if (!kind) continue;
    if (kind === "begin") {
      if (p + 2 > end) break;
      [op.colour, op.width] = [v.getUint8(p), v.getUint8(p + 1)];
      p += 2;
    }
    if ((end - p) % 4 !== 0 || (end - p) / 4 > maxPoints) break;
    for (; p < end; p += 4) op.points.push(v.getUint16(p), v.getUint16(p + 2));
    ops.push({ ...op, kind });
  }
  return ops;
}
