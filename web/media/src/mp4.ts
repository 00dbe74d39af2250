// Fragmented MP4, one sample to a fragment, so that nothing waits for what follows: ISO 14496-12, 14496-14 (AAC, MP3) and 14496-15 (H.264, H.265).

import { avcShape, lengthPrefixed, nalUnits, unescaped } from "./bitstream.js";
import { description, join } from "./bytes.js";
import type { OutsideConfig, OutsideSample } from "./outside.js";
import type { Track } from "./track.js";

type Bytes = ArrayLike<number>;

const zeros = (n: number): number[] => Array.from({ length: n }, () => 0);
const u16 = (n: number): number[] => [(n >> 8) & 255, n & 255];
const u32 = (n: number): number[] => [(n >>> 24) & 255, (n >> 16) & 255, (n >> 8) & 255, n & 255];
const u64 = (n: number): number[] => [...u32(Math.floor(n / 2 ** 32)), ...u32(n % 2 ** 32)];
const text = (s: string): number[] => Array.from(s, (c) => c.charCodeAt(0));

function box(type: string, ...parts: readonly Bytes[]): Uint8Array {
  return join(u32(8 + parts.reduce((n, p) => n + p.length, 0)), text(type), ...parts);
}

/** A box with version and flags. */
function full(type: string, version: number, flags: number, ...parts: readonly Bytes[]): Uint8Array {
  return box(type, u32((version << 24) | flags), ...parts);
}

/** All times are in µs. */
const timescale = 1_000_000;
const matrix = [...u32(0x10000), ...zeros(12), ...u32(0x10000), ...zeros(12), ...u32(0x40000000)];
/** How far decoding goes before showing, in pictures: encoders let pictures refer to so many later ones. */
const reorder = 4;
/** Sound whose time differs from where the sound before ended by less goes on there, µs: timestamps are rounded. */
const roundedMicros = 40_000;

/** How a codec is told of in MP4, and how its samples lie there. */
interface Entry {
  kind: "picture" | "sound";
  mime: string;
  /** How long a packet of sound lasts, µs; 0: of pictures. */
  each: number;
  /** The sample entry; undefined: with this sample a decoder cannot start, since what it starts with is not known. */
  begin(s: OutsideSample): Uint8Array | undefined;
  data(s: OutsideSample): Uint8Array;
}

/** Mp4Track writes one stream as fragmented MP4. */
export class Mp4Track implements Track {
  readonly mime: string;
  private begun: Uint8Array | undefined; // the sample entry that stands
  private fragment = 0;
  private decoded = NaN; // of the sample before, when it is decoded
  private each = 33_333;
  private key = { at: NaN, pictures: 0 };

  private constructor(private readonly entry: Entry) {
    this.mime = entry.mime;
  }

  static of(c: OutsideConfig): Mp4Track | undefined {
    const entry = c.kind === "picture" ? pictureEntry(c.config) : soundEntry(c.config);
    return entry && new Mp4Track(entry);
  }

  write(s: OutsideSample): Uint8Array {
    const begin = s.key || !this.begun ? this.entry.begin(s) : undefined;
    const changed = begin !== undefined && !same(begin, this.begun);
    if (changed) this.begun = begin;
    if (!this.begun) return new Uint8Array();
    const piece = this.piece(s);
    return changed ? join(header(this.entry.kind, this.begun), piece) : piece;
  }

  private piece(s: OutsideSample): Uint8Array {
    const at = this.entry.kind === "picture" ? this.decodes(s) : this.sounds(s);
    const shown = this.entry.kind === "picture" ? Math.round(s.pts) - at : 0;
    const duration = Math.round(this.decoded + this.each) - at;
    const data = this.entry.data(s);
    const moof = (offset: number): Uint8Array => box("moof", full("mfhd", 0, 0, u32(this.fragment)),
      box("traf", full("tfhd", 0, 0x020000, u32(1)), full("tfdt", 1, 0, u64(at)),
        full("trun", 1, 0xf01, u32(1), u32(offset), u32(duration), u32(data.length), u32(s.key ? 0x02000000 : 0x01010000), u32(shown))));
    this.fragment++;
    return join(moof(moof(0).length + 8), u32(8 + data.length), text("mdat"), data);
  }

  /**
   * Returns when a picture is decoded. It lies before it is shown, rises, and jumps at key pictures only: MediaSource takes any other jump for a gap. What
   * comes from outside tells the times of showing alone.
   */
  private decodes(s: OutsideSample): number {
    if (s.key) {
      const took = s.pts - this.key.at;
      if (this.key.pictures > 0 && took > 0 && took < 60_000_000) this.each = took / this.key.pictures;
      this.key = { at: s.pts, pictures: 0 };
    }
    this.key.pictures++;
    const before = Number.isNaN(this.decoded) ? -1 : this.decoded;
    const wish = s.key ? s.pts - reorder * this.each : Math.min(before + this.each, s.pts);
    this.decoded = Math.max(before + 1, wish, 0);
    return Math.round(this.decoded);
  }

  private sounds(s: OutsideSample): number {
    this.each = this.entry.each;
    const next = this.decoded + this.each;
    this.decoded = Math.abs(s.pts - next) < roundedMicros ? next : s.pts;
    return Math.round(this.decoded);
  }
}

function same(a: Uint8Array, b: Uint8Array | undefined): boolean {
  return a.length === b?.length && a.every((v, i) => v === b[i]);
}

function header(kind: "picture" | "sound", entry: Uint8Array): Uint8Array {
  const picture = kind === "picture";
  const size = picture ? [entry.subarray(32, 34), zeros(2), entry.subarray(34, 36), zeros(2)] : [zeros(8)]; // as the entry has it
  const media = box("mdia", full("mdhd", 0, 0, zeros(8), u32(timescale), u32(0), u16(0x55c4), u16(0)),
    full("hdlr", 0, 0, u32(0), text(picture ? "vide" : "soun"), zeros(13)),
    box("minf", picture ? full("vmhd", 0, 1, zeros(8)) : full("smhd", 0, 0, zeros(4)),
      box("dinf", full("dref", 0, 0, u32(1), full("url ", 0, 1))),
      box("stbl", full("stsd", 0, 0, u32(1), entry), full("stts", 0, 0, u32(0)), full("stsc", 0, 0, u32(0)), full("stsz", 0, 0, zeros(8)), full("stco", 0, 0, u32(0)))));
  return join(box("ftyp", text("iso6"), u32(0), text("iso6"), text("mp41")),
    box("moov", full("mvhd", 0, 0, zeros(8), u32(timescale), u32(0), u32(0x10000), u16(0x100), zeros(10), matrix, zeros(24), u32(2)),
      box("trak", full("tkhd", 0, 3, zeros(8), u32(1), zeros(4), u32(0), zeros(8), zeros(4), u16(picture ? 0 : 0x100), zeros(2), matrix, ...size), media),
      box("mvex", full("trex", 0, 0, u32(1), u32(1), zeros(12)))));
}

// Pictures

function pictureEntry(c: VideoDecoderConfig): Entry | undefined {
  const avc = /^avc[13]\./.test(c.codec);
  if (!avc && !/^h(vc|ev)1\./.test(c.codec)) return undefined;
  const mime = `video/mp4; codecs="${c.codec}"`;
  const given = description(c);
  const [width, height] = [c.codedWidth ?? 0, c.codedHeight ?? 0];
  const [type, held] = avc ? (["avc1", "avcC"] as const) : (["hvc1", "hvcC"] as const);
  if (given) {
    const entry = visual(type, width, height, box(held, given));
    return { kind: "picture", mime, each: 0, begin: () => entry, data: (s) => s.data };
  }
  // Annex B: what the decoder starts with lies in the key pictures.
  const sets = avc ? new Set([7, 8, 9, 13]) : new Set([32, 33, 34, 35]); // and marks between pictures
  const typeOf = (u: Uint8Array): number => (avc ? u[0]! & 0x1f : (u[0]! >> 1) & 0x3f);
  const of = (units: Uint8Array[], t: number): Uint8Array[] => units.filter((u) => typeOf(u) === t);
  return {
    kind: "picture", mime, each: 0,
    begin: (s) => {
      const units = nalUnits(s.data);
      if (avc) {
        const [sps, pps] = [of(units, 7), of(units, 8)];
        const shape = sps[0] && avcShape(sps[0]);
        return shape && pps[0] && visual(type, shape.width, shape.height, box(held, avcRecord(sps, pps)));
      }
      const [vps, sps, pps] = [of(units, 32), of(units, 33), of(units, 34)];
      return sps[0] && pps[0] && width > 0 ? visual(type, width, height, box(held, hevcRecord(vps, sps, pps))) : undefined;
    },
    data: (s) => lengthPrefixed(nalUnits(s.data).filter((u) => !sets.has(typeOf(u)))),
  };
}

function visual(type: string, width: number, height: number, config: Uint8Array): Uint8Array {
  return box(type, zeros(6), u16(1), zeros(16), u16(width), u16(height), u32(0x480000), u32(0x480000), u32(0), u16(1), zeros(32), u16(0x18), u16(0xffff), config);
}

const sized = (units: readonly Uint8Array[]): Uint8Array => join(...units.flatMap((u) => [u16(u.length), u]));

/** ISO 14496-15, 5.3.3.1. */
function avcRecord(sps: readonly Uint8Array[], pps: readonly Uint8Array[]): Uint8Array {
  const [first, shape] = [sps[0]!, avcShape(sps[0]!)!];
  const high = [100, 110, 122, 144].includes(first[1]!) ? [0xfc | shape.chroma, 0xf8 | (shape.lumaDepth - 8), 0xf8 | (shape.chromaDepth - 8), 0] : [];
  return join([1], first.subarray(1, 4), [0xff, 0xe0 | sps.length], sized(sps), [pps.length], sized(pps), high);
}

/** ISO 14496-15, 8.3.3.1: 4:2:0, with as many bits as its profile is for. */
function hevcRecord(...sets: ReadonlyArray<readonly Uint8Array[]>): Uint8Array {
  const general = unescaped(sets[1]![0]!.subarray(0, 32)).subarray(3, 15); // profile, tier and level
  const depth = (general[0]! & 0x1f) === 2 ? 2 : 0;
  const lists = sets.flatMap((units, i) => (units.length > 0 ? [[0x80 | (32 + i)], u16(units.length), sized(units)] : []));
  return join([1], general, u16(0xf000), [0xfc, 0xfd, 0xf8 | depth, 0xf8 | depth], u16(0), [0x0f], [lists.length / 3], ...lists);
}

// Sound

function soundEntry(c: AudioDecoderConfig): Entry | undefined {
  const mp3 = ["mp3", "mp4a.6B", "mp4a.6b", "mp4a.69"].includes(c.codec);
  if (!mp3 && !c.codec.startsWith("mp4a.40.")) return undefined;
  const mime = `audio/mp4; codecs="${mp3 ? "mp4a.6B" : c.codec}"`;
  const entry = (config: Bytes): Uint8Array => box("mp4a", zeros(6), u16(1), zeros(8), u16(c.numberOfChannels), u16(16), u32(0), u16(c.sampleRate & 0xffff), u16(0), full("esds", 0, 0, descriptor(mp3 ? 0x6b : 0x40, config)));
  const each = ((mp3 ? (c.sampleRate < 32_000 ? 576 : 1152) : 1024) * 1e6) / c.sampleRate;
  const given = description(c);
  if (given || mp3) return { kind: "sound", mime, each, begin: () => entry(given ?? []), data: (s) => s.data };
  // ADTS: each packet has a head that says it.
  return {
    kind: "sound", mime, each,
    begin: ({ data: b }) => (b.length < 7 ? undefined : entry(u16((((b[2]! >> 6) + 1) << 11) | (((b[2]! >> 2) & 15) << 7) | ((((b[2]! & 1) << 2) | (b[3]! >> 6)) << 3)))),
    data: ({ data: b }) => b.subarray(b[1]! & 1 ? 7 : 9),
  };
}

/** ISO 14496-1, 7.2.6.5. */
function descriptor(object: number, config: Bytes): Uint8Array {
  const tagged = (tag: number, ...parts: readonly Bytes[]): Uint8Array => join([tag, parts.reduce((n, p) => n + p.length, 0)], ...parts);
  return tagged(3, u16(1), [0], tagged(4, [object, 0x15], zeros(11), ...(config.length > 0 ? [tagged(5, config)] : [])), tagged(6, [2]));
}
