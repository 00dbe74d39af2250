// WebM as it is written live, with clusters of no told length: RFC 8794, RFC 9559.

import { description, join } from "./bytes.js";
import type { OutsideConfig, OutsideSample } from "./outside.js";
import type { Track } from "./track.js";

type Bytes = ArrayLike<number>;

const text = (s: string): number[] => Array.from(s, (c) => c.charCodeAt(0));
const unknown = [0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

function number(n: number): number[] {
  const out: number[] = [];
  do {
    out.unshift(n % 256);
    n = Math.floor(n / 256);
  } while (n > 0);
  return out;
}

function element(id: number, ...parts: readonly Bytes[]): Uint8Array {
  const n = parts.reduce((sum, p) => sum + p.length, 0);
  return join(number(id), [0x10 | (n >>> 24), (n >> 16) & 255, (n >> 8) & 255, n & 255], ...parts);
}

function float(n: number): Uint8Array {
  const b = new Uint8Array(8);
  new DataView(b.buffer).setFloat64(0, n);
  return b;
}

/** So long is a cluster at most, ms: times within it have 16 bits. */
const clusterMillis = 10_000;

/** WebMTrack writes one stream as WebM. */
export class WebMTrack implements Track {
  private begun = false;
  private cluster = NaN; // its time, ms

  private constructor(readonly mime: string, private readonly picture: boolean, private readonly entry: readonly Uint8Array[]) {}

  static of(c: OutsideConfig): WebMTrack | undefined {
    const d = description(c.config);
    const kept = (d?: Bytes): Uint8Array[] => (d ? [element(0x63a2, d)] : []);
    if (c.kind === "picture") {
      const codec = { vp8: "V_VP8", vp09: "V_VP9", av01: "V_AV1" }[c.config.codec.split(".")[0]!];
      if (!codec) return undefined;
      const size = element(0xe0, element(0xb0, number(c.config.codedWidth ?? 0)), element(0xba, number(c.config.codedHeight ?? 0)));
      return new WebMTrack(`video/webm; codecs="${c.config.codec}"`, true, [element(0x83, [1]), element(0x86, text(codec)), ...kept(d), size]);
    }
    const { codec, sampleRate, numberOfChannels } = c.config;
    const shape = element(0xe1, element(0xb5, float(sampleRate)), element(0x9f, [numberOfChannels]));
    const mime = `audio/webm; codecs="${codec}"`;
    if (codec === "vorbis" && d) return new WebMTrack(mime, false, [element(0x83, [2]), element(0x86, text("A_VORBIS")), ...kept(d), shape]);
    if (codec !== "opus") return undefined;
    // RFC 7845, 5.1: one stream of one or two channels, unless it says otherwise.
    const head = d ?? Uint8Array.from([...text("OpusHead"), 1, numberOfChannels, 0, 0, sampleRate & 255, (sampleRate >> 8) & 255, sampleRate >> 16, 0, 0, 0, 0]);
    const skipped = Math.round((((head[10] ?? 0) | ((head[11] ?? 0) << 8)) * 1e9) / 48_000); // at 48 kHz, ns
    return new WebMTrack(mime, false, [element(0x83, [2]), element(0x86, text("A_OPUS")), element(0x56aa, number(skipped)), element(0x56bb, number(80_000_000)), ...kept(head), shape]);
  }

  write(s: OutsideSample): Uint8Array {
    const at = Math.round(s.pts / 1000);
    const parts: Bytes[] = [];
    if (!this.begun) parts.push(this.header());
    this.begun = true;
    if (Number.isNaN(this.cluster) || (s.key && this.picture) || at < this.cluster || at - this.cluster > clusterMillis) {
      this.cluster = at;
      parts.push(number(0x1f43b675), unknown, element(0xe7, number(at)));
    }
    const relative = at - this.cluster;
    parts.push(element(0xa3, [0x81, relative >> 8, relative & 255, s.key ? 0x80 : 0], s.data));
    return join(...parts);
  }

  private header(): Uint8Array {
    return join(
      element(0x1a45dfa3, element(0x4286, [1]), element(0x42f7, [1]), element(0x42f2, [4]), element(0x42f3, [8]), element(0x4282, text("webm")), element(0x4287, [4]), element(0x4285, [2])),
      number(0x18538067), unknown,
      element(0x1549a966, element(0x2ad7b1, number(1_000_000)), element(0x4d80, text("timedge")), element(0x5741, text("timedge"))),
      element(0x1654ae6b, element(0xae, element(0xd7, [1]), element(0x73c5, [1]), ...this.entry)),
    );
  }
}
