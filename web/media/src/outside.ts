import type { Message } from "@timedge/sdk";
import type { Input, InputAudioTrack, InputVideoTrack } from "mediabunny";
import { join } from "./bytes.js";
import { programOf, Transport, unread } from "./transport.js";

/** How a picture or sound from outside is coded: what a decoder is configured with. */
export type OutsideConfig = { kind: "picture"; config: VideoDecoderConfig } | { kind: "sound"; config: AudioDecoderConfig };

/** One coded picture or packet of sound, in the order in which it is decoded. */
export interface OutsideSample {
  kind: "picture" | "sound";
  /** µs on the stream's own clock, moved so that it is never below 0. */
  pts: number;
  key: boolean;
  data: Uint8Array;
}

export interface OutsideEvents {
  /** Which streams there are of those that are played; their configurations follow. */
  tracks(kinds: ReadonlyArray<OutsideSample["kind"]>): void;
  config(c: OutsideConfig): void;
  sample(s: OutsideSample): void;
  /** What follows does not go on where the pictures before ended: the next is a key picture. */
  gap(): void;
  /** Something that cannot be played, in words: a container or a codec. */
  unsupported(what: string): void;
}

/** The containers that `timedge push` marks, by their first bytes, and what is read of them here. */
export type Container = "MPEG-TS" | "MP4" | "WebM" | "Ogg" | "FLV";

/** Tells a container by its first bytes; undefined: none that is known. */
export function container(b: Uint8Array): Container | undefined {
  const text = (at: number): string => String.fromCharCode(...b.subarray(at, at + 4));
  if (b.length < 8) return undefined;
  if (b[0] === 0x1a && b[1] === 0x45 && b[2] === 0xdf && b[3] === 0xa3) return "WebM";
  if (text(0) === "OggS") return "Ogg";
  if (text(0).startsWith("FLV")) return "FLV";
  if (["ftyp", "styp", "moov", "moof", "sidx", "free", "skip"].includes(text(4))) return "MP4";
  for (const [at, stride] of [[0, 188], [0, 204], [4, 192]] as const) {
    if (b[at] === 0x47 && (b.length <= at + stride || b[at + stride] === 0x47)) return "MPEG-TS";
  }
  return undefined;
}

/** So far above the stream's own zero timestamps are put, µs: some are below that. */
const headroom = 10_000_000;

/**
 * Outside takes the messages of `timedge push`, which are pieces of a container, and returns what is in them, as it comes. It begins at a key message, with
 * the init messages before it, and after a gap does so again. H.264 and AAC in MPEG-TS, which is what most send, transport.ts takes apart; all else Mediabunny,
 * which is loaded when it is needed.
 */
export class Outside {
  /** What the stream is; undefined before its first message. */
  container: Container | undefined;
  private head: Uint8Array[] = []; // the newest run of init messages
  private inHead = false;
  private run: Run | undefined;
  private told = new Map<string, string>(); // the configuration that stands, by kind
  private base = -headroom;
  private failed = false;

  constructor(private readonly on: OutsideEvents) {}

  /** Takes a message; what it needs of the payload it copies. */
  message(m: Message): void {
    if (this.failed) return;
    if (m.kind === "init") {
      if (!this.inHead) this.head = [];
      this.inHead = true;
      this.head.push(m.payload.slice());
      return;
    }
    const changed = this.inHead && this.run !== undefined && !same(this.head, this.run.head);
    this.inHead = false;
    if (this.head.length === 0) return this.on.unsupported("?"); // nothing that push has recognised
    if (m.kind === "key" && (!this.run || changed)) this.begin();
    this.run?.feed(m.payload.slice());
  }

  /** Something is missing. */
  gap(): void {
    this.run?.stop();
    this.run = undefined;
  }

  /** Nothing more comes: what the demultiplexer holds back, since it waits for what follows, comes out. */
  end(): void {
    this.run?.end();
    this.run = undefined;
  }

  close(): void {
    this.gap();
    this.failed = true;
  }

  private begin(): void {
    const first = this.head[0];
    this.container = first && container(first);
    if (!this.container || this.container === "FLV") return this.unsupported(this.container ?? "?");
    this.run?.stop();
    // What has ended still gives out what it holds, until another one begins.
    const heard = (): boolean => this.run === run || (run.ending && !this.run);
    const events: RunEvents = {
      tracks: (kinds) => heard() && this.on.tracks(kinds),
      config: (c) => heard() && this.configure(c),
      sample: (kind, at, key, data) => heard() && this.sample(kind, at, key, data),
      failed: () => this.run === run && this.gap(), // at the next key message it begins anew
      unsupported: (what) => this.on.unsupported(what),
    };
    const run: Run = (this.run = (this.container === "MPEG-TS" && QuickRun.of(this.head, events)) || new BunnyRun(this.head, events));
    this.on.gap();
    if (this.container === "MPEG-TS") for (const what of unreadOf(this.head)) this.on.unsupported(what);
    for (const b of this.head) run.feed(b);
  }

  private unsupported(what: string): void {
    this.failed = true;
    this.on.unsupported(what);
  }

  private configure(c: OutsideConfig): void {
    const text = JSON.stringify(c.config, (_, v: unknown) => (ArrayBuffer.isView(v) ? [...new Uint8Array(v.buffer, v.byteOffset, v.byteLength)] : v instanceof ArrayBuffer ? [...new Uint8Array(v)] : v));
    if (this.told.get(c.kind) === text) return;
    this.told.set(c.kind, text);
    this.on.config(c);
  }

  private sample(kind: "picture" | "sound", seconds: number, key: boolean, data: Uint8Array): void {
    const at = Math.round(seconds * 1e6);
    if (at < this.base) this.base = at - headroom;
    this.on.sample({ kind, pts: at - this.base, key, data });
  }
}

function same(a: readonly Uint8Array[], b: readonly Uint8Array[]): boolean {
  return a.length === b.length && a.every((x, i) => x.length === b[i]!.length && x.every((v, j) => v === b[i]![j]));
}

/** What a transport stream has that is not taken apart here, in words. */
function unreadOf(head: readonly Uint8Array[]): string[] {
  return [...(programOf(join(...head))?.values() ?? [])].flatMap((type) => unread[type] ?? []);
}

interface RunEvents {
  tracks(kinds: ReadonlyArray<"picture" | "sound">): void;
  config(c: OutsideConfig): void;
  sample(kind: "picture" | "sound", seconds: number, key: boolean, data: Uint8Array): void;
  failed(e: unknown): void;
  unsupported(what: string): void;
}

/** One stretch without a gap, from a key message on. */
interface Run {
  readonly head: readonly Uint8Array[];
  readonly ending: boolean;
  feed(b: Uint8Array): void;
  /** Nothing more comes: what is held back comes out. */
  end(): void;
  stop(): void;
}

class QuickRun implements Run {
  ending = false;
  private told = false;

  private constructor(readonly head: readonly Uint8Array[], private readonly transport: Transport, private readonly on: RunEvents) {}

  static of(head: readonly Uint8Array[], on: RunEvents): QuickRun | undefined {
    const transport = Transport.of(join(...head), {
      picture: (config) => on.config({ kind: "picture", config }),
      sound: (config) => on.config({ kind: "sound", config }),
      sample: (kind, seconds, key, data) => on.sample(kind, seconds, key, data),
    });
    return transport && new QuickRun(head, transport, on);
  }

  feed(b: Uint8Array): void {
    if (!this.told) this.on.tracks(this.transport.kinds);
    this.told = true;
    this.transport.feed(b);
  }

  end(): void {
    this.ending = true;
    this.transport.end();
  }

  stop(): void {}
}

/** Transport streams have one name for all layers of MPEG audio; browsers decode the third: ISO 11172-3, 2.4.1.3. */
function layerThree(frame: Uint8Array): boolean {
  return ((frame[1] ?? 0) & 0x06) === 0x02;
}

class BunnyRun implements Run {
  ending = false;
  private controller!: ReadableStreamDefaultController<Uint8Array>;
  private input: Input | undefined;
  private over = false;
  private readonly kinds = new Set<OutsideSample["kind"]>();

  constructor(readonly head: readonly Uint8Array[], private readonly on: RunEvents) {
    const stream = new ReadableStream<Uint8Array>({ start: (c) => void (this.controller = c) });
    void this.read(stream).catch((e: unknown) => {
      if (!this.over) this.on.failed(e);
    });
  }

  feed(b: Uint8Array): void {
    if (!this.over && !this.ending) this.controller.enqueue(b);
  }

  private async read(stream: ReadableStream<Uint8Array>): Promise<void> {
    const bunny = await import("./demux.js");
    const { MATROSKA, MP4, MPEG_TS, OGG, QTFF, WEBM } = bunny;
    if (this.over) return;
    // Held behind the newest that was asked for: enough for picture and sound that lie apart.
    const source = new bunny.ReadableStreamSource(stream, { maxCacheSize: 16 << 20 });
    const input = (this.input = new bunny.Input({ source, formats: [MPEG_TS, MP4, QTFF, WEBM, MATROSKA, OGG] }));
    const [picture, sound] = [await input.getPrimaryVideoTrack(), await input.getPrimaryAudioTrack()];
    if (!picture && !sound) return this.on.unsupported("?");
    if (this.over) return;
    if (picture) this.kinds.add("picture");
    if (sound) this.kinds.add("sound");
    this.on.tracks([...this.kinds]);
    await Promise.all([picture && this.track(bunny, "picture", picture), sound && this.track(bunny, "sound", sound)]);
  }

  private async track(bunny: typeof import("./demux.js"), kind: "picture" | "sound", track: InputVideoTrack | InputAudioTrack): Promise<void> {
    const config = await track.getDecoderConfig();
    if (this.over) return;
    if (!config) return this.cannot(kind, String(track.codec ?? kind));
    const sink = new bunny.EncodedPacketSink(track);
    const first = await sink.getFirstPacket();
    if (this.over) return;
    if (config.codec === "mp3" && first && !layerThree(first.data)) return this.cannot(kind, "MP2");
    this.on.config({ kind, config } as OutsideConfig);
    let marked = kind === "sound"; // that key pictures are: some transport streams do not say so
    for (let p = first; p && !this.over; p = await sink.getNextPacket(p)) {
      marked ||= p.type === "key";
      this.on.sample(kind, p.timestamp, p.type === "key" || (!marked && (await track.determinePacketType(p)) === "key"), p.data);
    }
  }

  private cannot(kind: OutsideSample["kind"], what: string): void {
    this.kinds.delete(kind);
    this.on.tracks([...this.kinds]);
    this.on.unsupported(what);
  }

  end(): void {
    if (this.over || this.ending) return;
    this.ending = true;
    this.controller.close();
  }

  stop(): void {
    if (this.over) return;
    this.over = true;
    if (!this.ending) this.controller.close();
    this.input?.dispose();
  }
}
