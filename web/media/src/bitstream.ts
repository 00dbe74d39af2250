// What has to be known of H.264 and H.265 to write their pictures into MP4: ITU-T H.264, annex B and 7.3.2.1.1; H.265, 7.3.1.

/** Returns the NAL units of a picture in Annex B, without start codes and the zeros behind them. */
export function nalUnits(b: Uint8Array): Uint8Array[] {
  const found: Uint8Array[] = [];
  let from = -1;
  const upTo = (end: number): void => {
    while (end > from && b[end - 1] === 0) end--;
    if (from >= 0 && end > from) found.push(b.subarray(from, end));
  };
  for (let i = 0; i + 3 <= b.length; i++) {
    if (b[i + 2]! > 1) i += 2;
    else if (b[i] === 0 && b[i + 1] === 0 && b[i + 2] === 1) {
      upTo(i);
      from = i + 3;
      i += 2;
    }
  }
  upTo(b.length);
  return found;
}

/** Returns units as MP4 has them, each with its length in four bytes before it. */
export function lengthPrefixed(units: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(units.reduce((n, u) => n + 4 + u.length, 0));
  let at = 0;
  for (const u of units) {
    new DataView(out.buffer).setUint32(at, u.length);
    out.set(u, at + 4);
    at += 4 + u.length;
  }
  return out;
}

/** Returns a unit without the bytes that keep start codes from occurring in it. */
export function unescaped(unit: Uint8Array): Uint8Array {
  const out: number[] = [];
  let zeros = 0;
  for (const v of unit) {
    if (zeros >= 2 && v === 3) {
      zeros = 0;
      continue;
    }
    zeros = v === 0 ? zeros + 1 : 0;
    out.push(v);
  }
  return Uint8Array.from(out);
}

class Bits {
  private at = 0;

  constructor(private readonly b: Uint8Array) {}

  bits(n: number): number {
    let v = 0;
    for (; n > 0; n--, this.at++) v = v * 2 + (((this.b[this.at >> 3] ?? 0) >> (7 - (this.at & 7))) & 1);
    return v;
  }

  /** An unsigned number of Exp-Golomb: H.264, 9.1. */
  ue(): number {
    let zeros = 0;
    while (zeros < 32 && this.bits(1) === 0) zeros++;
    return 2 ** zeros - 1 + this.bits(zeros);
  }

  se(): number {
    const v = this.ue();
    return v % 2 === 1 ? (v + 1) / 2 : -v / 2;
  }
}

/** What a sequence parameter set of H.264 says of its pictures. */
export interface AvcShape {
  width: number;
  height: number;
  chroma: number;
  lumaDepth: number; // bits
  chromaDepth: number;
}

const withChroma = new Set([100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135]);

/** Reads a sequence parameter set, which begins with its NAL header; undefined: it names no size. */
export function avcShape(sps: Uint8Array): AvcShape | undefined {
  const r = new Bits(unescaped(sps.subarray(1)));
  const profile = r.bits(8);
  r.bits(16);
  r.ue();
  let [chroma, lumaDepth, chromaDepth] = [1, 8, 8];
  if (withChroma.has(profile)) {
    chroma = r.ue();
    if (chroma === 3) r.bits(1);
    lumaDepth = 8 + r.ue();
    chromaDepth = 8 + r.ue();
    r.bits(1);
    if (r.bits(1)) for (let i = 0; i < (chroma === 3 ? 12 : 8); i++) if (r.bits(1)) skipScaling(r, i < 6 ? 16 : 64);
  }
  r.ue();
  const order = r.ue();
  if (order === 0) r.ue();
  if (order === 1) {
    r.bits(1);
    r.se();
    r.se();
    for (let n = Math.min(r.ue(), 255); n > 0; n--) r.se();
  }
  r.ue();
  r.bits(1);
  const columns = r.ue() + 1;
  const rows = r.ue() + 1;
  const frames = r.bits(1); // each picture is a whole one
  if (!frames) r.bits(1);
  r.bits(1);
  const [left, right, top, bottom] = r.bits(1) ? [r.ue(), r.ue(), r.ue(), r.ue()] : [0, 0, 0, 0];
  const [across, down] = [chroma === 1 || chroma === 2 ? 2 : 1, (chroma === 1 ? 2 : 1) * (2 - frames)];
  const [width, height] = [columns * 16 - (left + right) * across, rows * 16 * (2 - frames) - (top + bottom) * down];
  return width > 0 && height > 0 && width <= 16384 && height <= 16384 ? { width, height, chroma, lumaDepth, chromaDepth } : undefined;
}

function skipScaling(r: Bits, size: number): void {
  for (let [i, last, next] = [0, 8, 8]; i < size; i++) {
    if (next !== 0) next = (last + r.se() + 256) % 256;
    if (next !== 0) last = next;
  }
}
