// Frames: bytes to values and back. Stream frames, which carry the data, are read and written by hand; control frames by their layouts.

import { codes, ProtocolError } from "./codes.js";
import { layouts, type Field, type Layout } from "./layouts.js";

export const maxFrame = 65536;
export const maxHandshakeFrame = 4096;
export const streamHeader = 20;
export const maxPiece = maxFrame - streamHeader;
export const maxSeq = 2 ** 48 - 1;
export const prefaceSize = 8;
export const version = 1;
export const answerWithin = 15_000; // ms

export const flagKey = 0x01;
export const flagInit = 0x02;
export const flagMore = 0x04;
export const flagCont = 0x08;

/** A control frame's fields by name: u64 and varint are bigint, other numbers number, bytes Uint8Array, lists arrays. */
export type Fields = Record<string, unknown>;

/** A control frame. `ext` are its optional fields, by tag; only those with even tags arrive. */
export interface Control {
  name: string;
  fields: Fields;
  ext?: ReadonlyMap<number, Uint8Array>;
}

/** A stream frame. `payload` aliases the bytes that it was read from. */
export interface StreamFrame {
  flags: number;
  room: bigint;
  pub: number;
  dtype: number;
  seq: number;
  payload: Uint8Array;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const byName = new Map<string, Layout>([...layouts.values()].map((l) => [l.name, l]));

function malformed(text: string): ProtocolError {
  return new ProtocolError(codes.malformed, text);
}

// Reading

class Reader {
  private at = 0;
  private readonly view: DataView;
  constructor(private readonly b: Uint8Array) {
    this.view = new DataView(b.buffer, b.byteOffset, b.byteLength);
  }
  get left(): number {
    return this.b.length - this.at;
  }
  private take(n: number): number {
    if (n > this.left) throw malformed("the frame ends within a field");
    const at = this.at;
    this.at += n;
    return at;
  }
  u8(): number {
    return this.b[this.take(1)]!;
  }
  u16(): number {
    return this.view.getUint16(this.take(2));
  }
  u48(): number {
    const at = this.take(6);
    return this.view.getUint16(at) * 2 ** 32 + this.view.getUint32(at + 2);
  }
  u64(): bigint {
    return this.view.getBigUint64(this.take(8));
  }
  varint(): bigint {
    let v = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const c = this.u8();
      if ((shift === 63n && c > 1) || (c === 0 && shift > 0n)) throw new ProtocolError(codes.bad_varint, "a varint is overlong, or above 64 bits");
      v |= BigInt(c & 0x7f) << shift;
      if (c < 0x80) return v;
    }
  }
  varint32(): number {
    const v = this.varint();
    if (v > 0xffffffffn) throw new ProtocolError(codes.bad_varint, "a number is above 32 bits");
    return Number(v);
  }
  bytes(limit: number): Uint8Array {
    const n = this.varint();
    if (n > BigInt(limit)) throw malformed("a field is longer than its limit");
    const at = this.take(Number(n));
    return this.b.subarray(at, this.at);
  }
  string(limit: number): string {
    try {
      return decoder.decode(this.bytes(limit));
    } catch (e) {
      if (e instanceof ProtocolError) throw e;
      throw malformed("a string is not UTF-8");
    }
  }
  count(limit: number): number {
    const n = this.varint();
    if (n > BigInt(limit)) throw new ProtocolError(codes.list_too_long, "a list is longer than its limit");
    if (n > BigInt(this.left)) throw malformed("a list is longer than its frame");
    return Number(n);
  }
  field(f: Field, seen: Fields): unknown {
    const t = f.type;
    switch (t.kind) {
      case "bits": {
        const v = this.u8();
        if (v & ~t.mask) throw malformed(`unknown bits in ${f.name}`);
        return v;
      }
      case "string":
        return this.string(t.limit);
      case "bytes":
        return this.bytes(t.limit).slice();
      case "strings":
        return Array.from({ length: this.count(t.limit) }, () => this.string(t.each));
      case "list":
        return Array.from({ length: this.count(t.limit) }, () => this.row(t.of));
      default: {
        const v = this[t.kind]();
        if (t.nonZero && (v === 0 || v === 0n)) throw malformed(`${f.name} is 0`);
        if (t.atLeast && v < (seen[t.atLeast] as number)) throw malformed(`${f.name} is below ${t.atLeast}`);
        return v;
      }
    }
  }
  row(fields: readonly Field[]): Fields {
    const out: Fields = {};
    for (const f of fields) out[f.name] = this.field(f, out);
    return out;
  }
  ext(): ReadonlyMap<number, Uint8Array> | undefined {
    if (this.left === 0) return undefined;
    const out = new Map<number, Uint8Array>();
    let last = 0n;
    while (this.left > 0) {
      const tag = this.varint();
      if (tag <= last) throw malformed("optional fields are out of order");
      last = tag;
      const value = this.bytes(maxFrame).slice();
      if (tag & 1n) throw new ProtocolError(codes.unknown_critical, `optional field ${tag} is critical and unknown`);
      out.set(Number(tag), value);
    }
    return out;
  }
}

/**
 * Returns how long the frame is that b begins with, in bytes with its length field; 0 if that cannot be told yet. It throws a
 * {@link ProtocolError} for a length above the limit as soon as it is there.
 */
export function frameLength(b: Uint8Array, limit = maxFrame): number {
  if (b.length < 2) return 0;
  const n = (b[0]! << 8) | b[1]!;
  if (n === 0) throw malformed("a frame of no length");
  if (n + 2 > limit) throw new ProtocolError(codes.frame_too_long, `a frame of ${n + 2} bytes`);
  return n + 2;
}

/** Reports whether a whole frame carries data. */
export function isStream(frame: Uint8Array): boolean {
  return (frame[2]! & 0x80) !== 0;
}

/** Reads a whole stream frame. */
export function parseStream(frame: Uint8Array): StreamFrame {
  if (frame.length < streamHeader || frame[2]! & 0x70) throw malformed("a stream frame is cut off, or has unknown flags");
  const view = new DataView(frame.buffer, frame.byteOffset, streamHeader);
  const out = {
    flags: frame[2]! & 0x0f,
    room: view.getBigUint64(3),
    pub: view.getUint16(11),
    dtype: frame[13]!,
    seq: view.getUint16(14) * 2 ** 32 + view.getUint32(16),
    payload: frame.subarray(streamHeader),
  };
  if (out.room === 0n || out.pub === 0 || out.seq === 0) throw malformed("a stream frame names no room, publisher or number");
  return out;
}

/** Reads a whole control frame, of which it keeps nothing. */
export function parseControl(frame: Uint8Array): Control {
  const layout = layouts.get(frame[2]!);
  if (!layout) throw new ProtocolError(codes.unknown_type, `type ${frame[2]}`);
  const r = new Reader(frame.subarray(3));
  const fields = r.row(layout.fields);
  const ext = r.ext();
  return ext ? { name: layout.name, fields, ext } : { name: layout.name, fields };
}

// Writing

/** A frame does not fit its layout: the caller passed something that the protocol has no room for. */
export class EncodeError extends Error {
  override name = "EncodeError";
}

class Writer {
  private readonly out: number[] = [0, 0];
  u8(v: number): void {
    this.out.push(v & 0xff);
  }
  u16(v: number): void {
    this.out.push((v >> 8) & 0xff, v & 0xff);
  }
  u48(v: number): void {
    for (let i = 5; i >= 0; i--) this.out.push(Math.floor(v / 2 ** (8 * i)) % 256);
  }
  u64(v: bigint): void {
    for (let i = 56n; i >= 0n; i -= 8n) this.out.push(Number((v >> i) & 0xffn));
  }
  varint(v: bigint): void {
    for (; v >= 0x80n; v >>= 7n) this.out.push(Number(v & 0x7fn) | 0x80);
    this.out.push(Number(v));
  }
  bytes(b: Uint8Array, limit: number, name: string): void {
    if (b.length > limit) throw new EncodeError(`${name} has ${b.length} bytes, ${limit} at most`);
    this.varint(BigInt(b.length));
    for (const c of b) this.out.push(c);
  }
  field(f: Field, v: unknown): void {
    const t = f.type;
    switch (t.kind) {
      case "bits":
      case "u8":
        return this.u8(v as number);
      case "u16":
        return this.u16(v as number);
      case "u48":
        return this.u48(v as number);
      case "u64":
        return this.u64(v as bigint);
      case "varint":
      case "varint32":
        return this.varint(BigInt(v as number | bigint));
      case "string":
        return this.bytes(encoder.encode(v as string), t.limit, f.name);
      case "bytes":
        return this.bytes(v as Uint8Array, t.limit, f.name);
      case "strings":
      case "list": {
        const list = v as readonly unknown[];
        if (list.length > t.limit) throw new EncodeError(`${f.name} has ${list.length} entries, ${t.limit} at most`);
        this.varint(BigInt(list.length));
        for (const e of list) {
          if (t.kind === "strings") this.bytes(encoder.encode(e as string), t.each, f.name);
          else this.row(t.of, e as Fields);
        }
      }
    }
  }
  row(fields: readonly Field[], values: Fields): void {
    for (const f of fields) this.field(f, values[f.name]);
  }
  frame(limit: number): Uint8Array {
    const n = this.out.length;
    if (n > limit) throw new EncodeError(`a frame has ${n} bytes, ${limit} at most`);
    const b = Uint8Array.from(this.out);
    b[0] = (n - 2) >> 8;
    b[1] = (n - 2) & 0xff;
    return b;
  }
}

/** Writes a control frame. It throws an {@link EncodeError} if it does not fit. `ext` are optional fields, in rising order of tags. */
export function encodeControl(name: string, fields: Fields, ext?: ReadonlyMap<number, Uint8Array>, limit = maxFrame): Uint8Array {
  const layout = byName.get(name);
  if (!layout) throw new EncodeError(`there is no frame ${name}`);
  const w = new Writer();
  w.u8(layout.type);
  w.row(layout.fields, fields);
  for (const [tag, value] of ext ?? []) {
    w.varint(BigInt(tag));
    w.bytes(value, maxFrame, `optional field ${tag}`);
  }
  return w.frame(limit);
}

/** Writes a stream frame: its header, and a copy of the payload, at most {@link maxPiece} bytes. */
export function encodeStream(s: StreamFrame): Uint8Array {
  if (s.payload.length > maxPiece) throw new EncodeError(`a payload of ${s.payload.length} bytes in one frame`);
  const b = new Uint8Array(streamHeader + s.payload.length);
  const view = new DataView(b.buffer);
  view.setUint16(0, b.length - 2);
  b[2] = 0x80 | s.flags;
  view.setBigUint64(3, s.room);
  view.setUint16(11, s.pub);
  b[13] = s.dtype;
  view.setUint16(14, Math.floor(s.seq / 2 ** 32));
  view.setUint32(16, s.seq % 2 ** 32);
  b.set(s.payload, streamHeader);
  return b;
}

// Prefaces

const magic = [0x54, 0x44, 0x47, 0x45]; // TDGE

/** The client's preface. */
export function clientPreface(): Uint8Array {
  return Uint8Array.from([...magic, version, version, 0, 0]);
}

/** Reads the server's preface; undefined if more bytes are needed. It throws as soon as what is there can be none. */
export function parseServerPreface(b: Uint8Array): { chosen: number; lowest: number; highest: number } | undefined {
  for (let i = 0; i < Math.min(b.length, magic.length); i++) {
    if (b[i] !== magic[i]) throw new ProtocolError(codes.bad_magic, "the other side is no timedge server");
  }
  if (b.length < prefaceSize) return undefined;
  return { chosen: b[4]!, lowest: b[5]!, highest: b[6]! };
}
