// MPEG transport streams with H.264 and AAC, taken apart without waiting for what follows a picture: ISO 13818-1. Mediabunny, which reads all else, gives
// a picture out when it has seen the three behind it, 100 ms later at 30 a second.

const packetSize = 188;
const clockRate = 90_000;
const wrap = 2 ** 33;

export interface TransportEvents {
  picture(config: VideoDecoderConfig): void;
  sound(config: AudioDecoderConfig): void;
  /** A coded picture in Annex B, or a packet of raw AAC; when, in s. */
  sample(kind: "picture" | "sound", at: number, key: boolean, data: Uint8Array): void;
}

/** Pictures and sound of other kinds, which nothing here takes apart. */
export const unread: Record<number, string> = { 0x01: "MPEG-1", 0x02: "MPEG-2", 0x10: "MPEG-4", 0x11: "AAC-LATM", 0x33: "H.266" };

const streamTypes: Record<number, "picture" | "sound"> = { 0x1b: "picture", 0x0f: "sound" };

/** What a packet holds. */
interface Packet {
  pid: number;
  starts: boolean; // a section, or a picture or sound
  random: boolean; // a decoder can start here
  stuffed: boolean; // there is nothing in it but the payload and filling: what it ends needs no more packets
  payload: Uint8Array;
}

function parsePacket(b: Uint8Array): Packet | undefined {
  if (b[0] !== 0x47 || b[1]! & 0x80) return undefined; // not one, or damaged
  const pid = ((b[1]! & 0x1f) << 8) | b[2]!;
  let [at, flags] = [4, -1];
  if (b[3]! & 0x20) {
    flags = b[4]! > 0 ? b[5]! : 0;
    at += 1 + b[4]!;
  }
  const payload = b[3]! & 0x10 && at < packetSize ? b.subarray(at, packetSize) : new Uint8Array();
  return { pid, starts: (b[1]! & 0x40) !== 0, random: flags > 0 && (flags & 0x40) !== 0, stuffed: flags >= 0, payload };
}

/** The streams of the first program that a run of packets with tables names, by packet identifier; undefined: there is no whole table. */
export function programOf(packets: Uint8Array): Map<number, number> | undefined {
  let map = -1;
  for (let at = 0; at + packetSize <= packets.length; at += packetSize) {
    const p = parsePacket(packets.subarray(at, at + packetSize));
    if (!p?.starts || (p.pid !== 0 && p.pid !== map)) continue;
    const s = p.payload.subarray(1 + (p.payload[0] ?? 0)); // behind the pointer
    const end = 3 + (((s[1] ?? 0) & 0x0f) << 8) + (s[2] ?? 0) - 4; // before the checksum
    if (end < 8 || end > s.length) continue;
    if (p.pid === 0 && s[0] === 0) {
      for (let i = 8; i + 4 <= end && map < 0; i += 4) if (s[i]! | s[i + 1]!) map = ((s[i + 2]! & 0x1f) << 8) | s[i + 3]!;
    } else if (s[0] === 2) {
      const streams = new Map<number, number>();
      for (let i = 12 + ((s[10]! & 0x0f) << 8) + s[11]!; i + 5 <= end; i += 5 + ((s[i + 3]! & 0x0f) << 8) + s[i + 4]!) {
        streams.set(((s[i + 1]! & 0x1f) << 8) | s[i + 2]!, s[i]!);
      }
      return streams;
    }
  }
  return undefined;
}

/** What is being put together of one stream. */
interface Elementary {
  kind: "picture" | "sound";
  parts: Uint8Array[];
  size: number;
  want: number; // bytes in all; 0: until the next begins
  random: boolean;
  open: boolean;
  last: number; // the last timestamp, with what has run over
  rest: Uint8Array; // of sound, what belongs to a packet that goes on
  next: number; // of sound, when that is, s
}

/** Transport takes a stream as it comes; start it with the tables. */
export class Transport {
  private readonly streams = new Map<number, Elementary>();
  private rest: Uint8Array = new Uint8Array();
  private trusted = true; // filling has only ever been at the end of a picture
  private told = { picture: "", sound: "" };

  private constructor(program: ReadonlyMap<number, number>, private readonly on: TransportEvents) {
    const taken = new Set<string>(); // of each kind the first
    for (const [pid, type] of program) {
      const kind = streamTypes[type]!;
      if (taken.has(kind)) continue;
      taken.add(kind);
      this.streams.set(pid, { kind, parts: [], size: 0, want: 0, random: false, open: false, last: NaN, rest: new Uint8Array(), next: 0 });
    }
  }

  /** Returns what reads a stream with these tables; undefined if there is something else in it than H.264 and AAC. */
  static of(tables: Uint8Array, on: TransportEvents): Transport | undefined {
    const program = programOf(tables);
    if (!program || program.size === 0 || [...program.values()].some((type) => !streamTypes[type])) return undefined;
    return new Transport(program, on);
  }

  /** Which streams are taken. */
  get kinds(): Array<"picture" | "sound"> {
    return [...this.streams.values()].map((s) => s.kind);
  }

  feed(b: Uint8Array): void {
    let data = b;
    if (this.rest.length > 0) {
      data = new Uint8Array(this.rest.length + b.length);
      data.set(this.rest);
      data.set(b, this.rest.length);
    }
    let at = 0;
    while (at + packetSize <= data.length) {
      const p = parsePacket(data.subarray(at, at + packetSize));
      if (p) this.packet(p);
      at += p || data[at] === 0x47 ? packetSize : 1; // out of step: look for the next
    }
    this.rest = data.slice(at);
  }

  /** Nothing more comes. */
  end(): void {
    for (const s of this.streams.values()) this.done(s);
  }

  private packet(p: Packet): void {
    const s = this.streams.get(p.pid);
    if (!s || p.payload.length === 0) return;
    if (p.starts) {
      this.done(s);
      [s.parts, s.size, s.random, s.open] = [[], 0, p.random, true];
      s.want = p.payload.length >= 6 && ((p.payload[4]! << 8) | p.payload[5]!) > 0 ? 6 + ((p.payload[4]! << 8) | p.payload[5]!) : 0;
    } else if (!s.open) {
      if (s.kind === "picture" && s.size > 0) this.trusted = false; // it was not the end
      return;
    }
    s.parts.push(p.payload);
    s.size += p.payload.length;
    if (s.want > 0 ? s.size >= s.want : p.stuffed && !p.starts && this.trusted) this.done(s);
  }

  /** A picture, or some sound, is whole. */
  private done(s: Elementary): void {
    if (!s.open) return;
    s.open = false;
    const b = new Uint8Array(s.size);
    let at = 0;
    for (const part of s.parts) {
      b.set(part, at);
      at += part.length;
    }
    if (b.length < 14 || b[0] !== 0 || b[1] !== 0 || b[2] !== 1 || (b[7]! & 0x80) === 0) return;
    const pts = ((b[9]! & 0x0e) / 2) * 2 ** 30 + (((b[10]! << 8) | b[11]!) >> 1) * 2 ** 15 + (((b[12]! << 8) | b[13]!) >> 1);
    let t = Number.isNaN(s.last) ? pts : pts + Math.round((s.last - pts) / wrap) * wrap; // it runs over after 26 hours
    s.last = t;
    t /= clockRate;
    const data = b.subarray(9 + b[8]!, s.want > 0 ? s.want : b.length);
    if (s.kind === "picture") this.picture(data, t, s.random);
    else this.sound(s, data, t);
  }

  private picture(data: Uint8Array, at: number, random: boolean): void {
    let key = false;
    for (let i = 0; i + 4 < data.length; i++) {
      if (data[i] !== 0 || data[i + 1] !== 0 || data[i + 2] !== 1) continue;
      const type = data[i + 3]! & 0x1f;
      if (type === 7) {
        key ||= random; // as the stream says itself, and with what a decoder needs
        const codec = `avc1.${[...data.subarray(i + 4, i + 7)].map((x) => x.toString(16).padStart(2, "0")).join("")}`;
        if (this.told.picture !== codec) this.on.picture({ codec: (this.told.picture = codec), optimizeForLatency: true });
      }
      if (type === 5) key = true;
      if (type === 5 || type === 1) break; // what follows is the picture itself
      i += 3;
    }
    this.on.sample("picture", at, key, data);
  }

  /** Takes packets of ADTS apart: ISO 14496-3, 1.A.3. */
  private sound(s: Elementary, data: Uint8Array, at: number): void {
    let b = data;
    if (s.rest.length > 0) {
      b = new Uint8Array(s.rest.length + data.length);
      b.set(s.rest);
      b.set(data, s.rest.length);
    }
    let i = 0;
    while (i + 7 <= b.length) {
      if (b[i] !== 0xff || (b[i + 1]! & 0xf6) !== 0xf0) {
        i++; // out of step
        continue;
      }
      const size = ((b[i + 3]! & 3) << 11) | (b[i + 4]! << 3) | (b[i + 5]! >> 5);
      const head = b[i + 1]! & 1 ? 7 : 9;
      const sampleRate = rates[(b[i + 2]! >> 2) & 15];
      if (size <= head || sampleRate === undefined) {
        i++;
        continue;
      }
      if (i + size > b.length) break;
      const object = (b[i + 2]! >> 6) + 1;
      const channels = ((b[i + 2]! & 1) << 2) | (b[i + 3]! >> 6);
      const told = `${object} ${sampleRate} ${channels}`;
      if (this.told.sound !== told && channels > 0) {
        this.told.sound = told;
        const index = rates.indexOf(sampleRate);
        const description = new Uint8Array([(object << 3) | (index >> 1), ((index & 1) << 7) | (channels << 3)]);
        this.on.sound({ codec: `mp4a.40.${object}`, sampleRate, numberOfChannels: channels === 7 ? 8 : channels, description });
      }
      if (i < s.rest.length) {
        this.on.sample("sound", s.next, true, b.slice(i + head, i + size)); // it began before what the timestamp is of
      } else {
        this.on.sample("sound", at, true, b.slice(i + head, i + size));
        at += 1024 / sampleRate;
        s.next = at;
      }
      i += size;
    }
    s.rest = b.slice(i);
  }
}

const rates = [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8000, 7350];
