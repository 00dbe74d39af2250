// A page without a face: what the tests call in the browser.

import { dial, type Client, type Options, type Publisher } from "@timedge/sdk";
import { Broadcast, camera, dtypes, parseSample, parseSilence, parseText, pictureEncoder, Player, SoundStream, Watch, type BroadcastStats, type PictureCodec, type PlayerStats, type WatchState, type WatchStats } from "@timedge/media";

import { makeMeeting, Meeting } from "../pages/meeting/meeting.js";
import { makeRooms, parseRooms, formatRooms, Shared } from "../pages/state/shared.js";
import { Smooth } from "../pages/state/smooth.js";

const worklet = "/worklet.js";

/** The longest times without anything of a stream arriving, ms, by dtype and player: what the path took of a gap. */
let arrived = new WeakMap<Player, Map<number, { at: number; longest: number }>>();
const take = Player.prototype.message;
Player.prototype.message = function (this: Player, m): void {
  const now = performance.now();
  if (!arrived.has(this)) arrived.set(this, new Map());
  const a = arrived.get(this)!.get(m.dtype);
  arrived.get(this)!.set(m.dtype, { at: now, longest: Math.max(a?.longest ?? 0, a ? now - a.at : 0) });
  take.call(this, m);
};
let meeting: Meeting | undefined;
let shared: Shared | undefined;
let client: Client | undefined;
let broadcast: Broadcast | undefined;
let watch: Watch | undefined;

async function connect(servers: string[], account: string): Promise<Client> {
  return (client ??= await dial({ servers, account, backoffMin: 10, backoffMax: 200 }));
}

export interface StartOptions {
  servers: string[];
  account: string;
  codec?: PictureCodec;
  small?: boolean;
  bitrate?: number;
  width?: number;
  height?: number;
}

const harness = {
  states: [] as WatchState[],
  /** Wall times, ms: of each picture when it was decoded, and shown, and of its capture. */
  decoded: [] as Array<{ wall: number; at: number; pts: number }>,
  shown: [] as Array<{ wall: number; at: number }>,
  ended: "",
  startedAt: 0,

  async start(o: StartOptions): Promise<string> {
    const c = await connect(o.servers, o.account);
    const [width, height] = [o.width ?? 320, o.height ?? 180];
    const source = await camera({ width, height, fps: 30 });
    broadcast = await Broadcast.start({
      client: c, title: "test", worklet, picture: source.stream.getVideoTracks()[0], sound: source.stream.getAudioTracks()[0],
      quality: { width, height, fps: 30, bitrate: o.bitrate ?? 400_000 }, small: o.small ?? false, codec: o.codec, onEnd: (e) => (this.ended = String(e)),
    });
    return broadcast.room;
  },

  broadcastStats(): (Omit<BroadcastStats, "reports"> & { viewers: number; reports: unknown[] }) | undefined {
    return broadcast && { ...broadcast.stats(), viewers: broadcast.viewers, reports: [...broadcast.stats().reports] };
  },

  async stop(): Promise<void> {
    await broadcast?.stop();
  },

  async watch(servers: string[], account: string, room: string, latency: { min: number; max: number }): Promise<void> {
    const c = await connect(servers, account);
    const now = (): number => performance.timeOrigin + performance.now();
    this.startedAt = now();
    watch = Watch.start({
      client: c, room, canvas: document.querySelector("canvas")!, worklet, latency,
      onState: (s) => this.states.push(s),
      onDecoded: (pts, wall) => this.decoded.push({ wall, at: now(), pts }),
      onShown: (_, wall) => this.shown.push({ wall, at: now() }),
    });
  },

  quality(q: number | undefined): void {
    watch!.quality = q;
  },

  watchStats(): WatchStats | undefined {
    return watch?.stats();
  },

  steady: { at: 0, missed: 0 },

  /** Reports whether for so many ms hardly any sound has been missing: a tenth. */
  soundGoesOn(ms: number): boolean {
    const [now, missed] = [performance.now(), watch!.stats().missedSound];
    if (missed - this.steady.missed > ms / 10) this.steady = { at: now, missed };
    return now - this.steady.at >= ms;
  },

  /** Joins as somebody new, and returns how long it took until a picture was shown: connecting included, ms. */
  async join(servers: string[], account: string, room: string): Promise<number> {
    const canvas = document.createElement("canvas");
    const began = performance.now();
    const c = await dial({ servers, account });
    const took = await new Promise<number>((resolve) => {
      const w = Watch.start({ client: c, room, canvas, worklet, latency: { min: 150, max: 1000 }, onShown: () => {
        resolve(performance.now() - began);
        void w.close();
      } });
    });
    await c.close();
    return took;
  },

  /** Encodes and decodes the camera's pictures in this page alone; returns how long each took, ms. */
  async alone(n: number, codec: PictureCodec): Promise<number[]> {
    const source = await camera({ width: 320, height: 180, fps: 30 });
    const took: number[] = [];
    const began = new Map<number, number>();
    const decoder = new VideoDecoder({ output: (f) => {
      took.push(performance.now() - began.get(f.timestamp)!);
      f.close();
    }, error: console.error });
    const config = (await pictureEncoder({ width: 320, height: 180, fps: 30, bitrate: 400_000 }, [codec]))!;
    const encoder = new VideoEncoder({ output: (chunk, meta) => {
      if (meta?.decoderConfig) decoder.configure({ ...meta.decoderConfig, optimizeForLatency: true });
      decoder.decode(chunk);
    }, error: console.error });
    encoder.configure(config);
    const reader = (new MediaStreamTrackProcessor!({ track: source.stream.getVideoTracks()[0]! }).readable as ReadableStream<VideoFrame>).getReader();
    for (let i = 0; i < n; i++) {
      const { value } = await reader.read();
      if (!value) break;
      began.set(value.timestamp, performance.now());
      encoder.encode(value, { keyFrame: i % 60 === 0 });
      value.close();
    }
    await encoder.flush();
    await decoder.flush();
    source.stop();
    return took;
  },

  // The other way: MediaRecorder's pieces, pushed once and played by MediaSource.

  pieces: { sent: 0, got: [] as number[], delays: [] as number[] },

  /** Registers a room from which the pieces go; it outlives the sender's connections. */
  async register(servers: string[], account: string): Promise<string> {
    const c = await connect(servers, account);
    const room = await c.register();
    await c.grant(room, "*");
    return room;
  },

  /** Records, and pushes each piece of 300 ms on the connection that there is; what has no connection is lost, as is what a broken one had. */
  async sendPieces(server: string, room: string): Promise<void> {
    const source = await camera({ width: 320, height: 180, fps: 30 });
    const recorder = new MediaRecorder(source.stream, { mimeType: "video/webm;codecs=vp8,opus", videoBitsPerSecond: 400_000 });
    let publisher: Publisher | undefined;
    const again = async (): Promise<void> => {
      for (;;) {
        try {
          const c: Client = await dial({ servers: server, account: `sender${Math.random()}`, onState: (s) => {
            if (s.phase !== "disconnected") return;
            publisher = undefined;
            void c.close();
            void again();
          } });
          publisher = await c.publish(room);
          return;
        } catch {
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
      }
    };
    await again();
    let started = 0;
    recorder.onstart = () => (started = performance.timeOrigin + performance.now());
    recorder.ondataavailable = async (e) => {
      const n = this.pieces.sent++;
      const data = new Uint8Array(await e.data.arrayBuffer());
      const m = new Uint8Array(12 + data.length);
      const v = new DataView(m.buffer);
      v.setUint32(0, n);
      v.setFloat64(4, started);
      m.set(data, 12);
      await publisher?.push(1, "delta", m).catch(() => {});
    };
    recorder.start(300);
  },

  async watchPieces(server: string, room: string): Promise<void> {
    const c = await dial({ servers: server, account: "viewer" });
    const s = await c.subscribe(room);
    const video = document.createElement("video");
    document.body.append(video);
    video.muted = true;
    const source = new MediaSource();
    video.src = URL.createObjectURL(source);
    await new Promise((resolve) => (source.onsourceopen = resolve));
    const buffer = source.addSourceBuffer("video/webm;codecs=vp8,opus");
    const queue: Uint8Array<ArrayBuffer>[] = [];
    const feed = (): void => {
      if (!buffer.updating && queue.length > 0 && source.readyState === "open" && !video.error) buffer.appendBuffer(queue.shift()!);
    };
    buffer.onupdateend = () => {
      feed();
      const end = video.buffered.length > 0 ? video.buffered.end(video.buffered.length - 1) : 0;
      if (end - video.currentTime > 1) video.currentTime = end - 0.2; // stays near the newest
    };
    let started = 0;
    const step = (_: number, m: VideoFrameCallbackMetadata): void => {
      this.pieces.delays.push(performance.timeOrigin + performance.now() - (started + m.mediaTime * 1000));
      video.requestVideoFrameCallback(step);
    };
    video.requestVideoFrameCallback(step);
    void video.play();
    void (async () => {
      for await (const e of s) {
        if (e.type !== "message") continue;
        const v = new DataView(e.payload.buffer, e.payload.byteOffset);
        this.pieces.got.push(v.getUint32(0));
        started = v.getFloat64(4);
        queue.push(e.payload.slice(12) as Uint8Array<ArrayBuffer>);
        feed();
      }
    })();
  },

  /**
   * Gives the microphone's sound as speech to a player, until it has made so many pauses, and waits until all is decoded. Timestamps in µs: of the
   * packets, of what was decoded of them, and of the pauses.
   */
  async speech(pauses: number): Promise<{ channels: number; bytes: number; millis: number; packets: number[]; decoded: number[]; silences: number[] }> {
    const source = await camera({ width: 320, height: 180, fps: 15, voice: true });
    const found = { channels: 0, bytes: 0, millis: 0, packets: [] as number[], decoded: [] as number[], silences: [] as number[] };
    const began = performance.now();
    let over = false;
    await new Promise<void>((resolve) => {
      const settle = (): void => {
        if (over && found.decoded.length >= found.packets.length) resolve();
      };
      const player = new Player({ canvas: document.querySelector("canvas")!, worklet, onSound: (_, pts) => {
        found.decoded.push(Math.round(pts * 1000));
        settle();
      } });
      const stream = new SoundStream({ worklet, epoch: began, voice: true, push: (kind, payload) => {
        if (over) return;
        found.bytes += payload.length;
        const t = kind === "init" ? parseText(payload) : undefined;
        if (t?.type === "sound") found.channels = t.channels;
        const [sample, silence] = [parseSample(payload), parseSilence(payload)];
        if (sample) found.packets.push(sample.pts);
        if (silence !== undefined) found.silences.push(silence);
        player.message({ type: "message", room: "", publisher: "", pub: 1, dtype: dtypes.sound, kind, first: 0, last: 0, payload });
        if (found.silences.length < pauses) return;
        over = true;
        stream.close();
        settle();
      } });
      stream.take(source.stream.getAudioTracks()[0]);
    });
    source.stop();
    found.millis = performance.now() - began;
    return found;
  },

  // A meeting without a face: everybody's picture is shown, on a canvas of the size that is told.

  meetingEnded: "",
  /** What has become of its three connections, and when, by the wall clock. */
  meetingStates: [] as Array<{ at: number; which: string; phase: string }>,
  madeOn: undefined as string | undefined,

  /** Takes part in a meeting, or makes one; returns its room. */
  async meet(o: { servers: string[]; account: string; room?: string; width: number; height: number; fps: number; bitrate: number; shownWidth: number }): Promise<string> {
    const source = await camera({ width: o.width, height: o.height, fps: o.fps, voice: true });
    let dialled = 0;
    const connectAs = (more: Partial<Options>): Promise<Client> => {
      const which = ["hall", "out", "in"][dialled++] ?? "more";
      return dial({ servers: o.servers, account: o.account, ...more, onState: (s) => {
        this.meetingStates.push({ at: performance.timeOrigin + performance.now(), which, phase: s.phase === "connected" ? `on ${s.node}` : s.phase });
        more.onState?.(s);
      } });
    };
    let room = o.room;
    if (room === undefined) {
      const c = await dial({ servers: o.servers, account: o.account });
      room = await makeMeeting(c);
      this.madeOn = c.node;
      await c.close();
    }
    const m = await Meeting.join({
      dial: connectAs, room, account: o.account, name: o.account, worklet, quality: o, keep: { get: () => null, set: () => {} },
      on: { changed: () => {}, line: () => {}, reaction: () => {}, away: () => {}, ended: (why) => (this.meetingEnded = String(why)) },
    });
    meeting = m;
    m.takeSound(source.stream.getAudioTracks()[0]);
    await m.takePicture(source.stream.getVideoTracks()[0]);
    const look = (): void => {
      for (const x of m.gallery.others()) {
        m.gallery.show(x.pub, { width: o.shownWidth, looked: false }, { width: 0, looked: false });
        if (!x.canvas.isConnected) document.body.append(x.canvas);
      }
    };
    setInterval(look, 250);
    return room;
  },

  /** How this one sees and hears the others. */
  meetingStats(): Array<PlayerStats & { account: string; size: string; waited: { picture: number; sound: number } }> {
    return (meeting?.gallery.others() ?? []).map((x) => {
      const a = arrived.get(meeting!.gallery.playerOf(x.pub)!);
      return {
        account: x.account, size: meeting!.gallery.sizeOf(x.pub), ...meeting!.gallery.playerOf(x.pub)!.stats(),
        waited: { picture: a?.get(dtypes.picture)?.longest ?? 0, sound: a?.get(dtypes.sound)?.longest ?? 0 },
      };
    });
  },

  meetingNode(): string | undefined {
    return meeting?.node;
  },

  meetingLevel(): string | undefined {
    return meeting?.gallery.level;
  },

  /** How late things happen on this page, ms, and whether it does less for that. */
  meetingStrain(): { late: number; eased: boolean } | undefined {
    return meeting && { late: meeting.late, eased: meeting.eased };
  },

  meetingForget(): void {
    for (const x of meeting?.gallery.others() ?? []) meeting!.gallery.playerOf(x.pub)?.forget();
    arrived = new WeakMap();
    this.meetingStates = [];
  },

  // A shared state without a face. A cursor's x tells when it was sent: its wall clock within 8192 ms.

  lags: [] as number[],

  /** Takes part, or makes the rooms; returns these. It points at 60 Hz, and notes on each animation frame how old what is seen of each cursor is. */
  async share(servers: string[], account: string, rooms?: string): Promise<string> {
    const c = await connect(servers, account);
    const r = rooms === undefined ? await makeRooms(c) : parseRooms(rooms)!;
    const cursors = new Map<number, Smooth>();
    const wall = (): number => performance.timeOrigin + performance.now();
    const s = await Shared.join(c, r, account, {
      left: (pub) => void cursors.delete(pub),
      cursor: (pub, at) => {
        if (!cursors.has(pub)) cursors.set(pub, new Smooth());
        cursors.get(pub)!.put(at.at, [at.x], wall());
      },
    });
    shared = s;
    const step = (): void => {
      const now = wall();
      s.cursor((now % 8192) / 8192, 0.5, false);
      for (const cursor of cursors.values()) {
        const seen = cursor.get(now);
        const lag = seen && ((now % 8192) - seen[0]! * 8192 + 8192) % 8192;
        if (lag !== undefined && lag < 4096) this.lags.push(lag);
      }
      requestAnimationFrame(step);
    };
    step();
    return formatRooms(r);
  },

  /** Draws a stroke of so many points. */
  draw(points: number): void {
    shared!.begin(1, 4, [0, 0]);
    for (let i = 1; i < points; i++) shared!.more([i, i]);
  },

  boardText(): string {
    return shared!.board.text();
  },

  /** What the viewer has seen is forgotten; what comes is counted anew. */
  forget(): void {
    [this.decoded, this.shown] = [[], []];
  },

  node(): string | undefined {
    return client?.node;
  },

  /** Reports whether the canvas shows anything but one colour. */
  hasPicture(): boolean {
    const c = document.querySelector("canvas")!;
    const px = c.getContext("2d")!.getImageData(0, 0, c.width, c.height).data;
    for (let i = 4; i < px.length; i += 4) if (px[i] !== px[0] || px[i + 1] !== px[1] || px[i + 2] !== px[2]) return true;
    return false;
  },
};

export type Harness = typeof harness;

declare global {
  var harness: Harness;
}
globalThis.harness = harness;
