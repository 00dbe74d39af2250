// A page without a face: what the tests call in the browser.

import { dial, type Client } from "@timedge/sdk";
import { Broadcast, camera, Watch, type BroadcastStats, type PictureCodec, type WatchState, type WatchStats } from "@timedge/media";

const worklet = "/worklet.js";
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
  decoded: [] as Array<{ wall: number; at: number }>,
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
      onDecoded: (_, wall) => this.decoded.push({ wall, at: now() }),
      onShown: (_, wall) => this.shown.push({ wall, at: now() }),
    });
  },

  watchStats(): WatchStats | undefined {
    return watch?.stats();
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
