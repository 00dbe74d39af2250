// What the tests send from outside: ffmpeg into timedge push, as docs/obs.md says.

import { spawn, type ChildProcess } from "node:child_process";
import { binary } from "./pages.js";

export interface Pushed {
  room: string;
  key: string; // "" unless it was drawn
  /** When each picture left ffmpeg, ms, by its timestamp in ms: of MPEG-TS only. */
  left: Map<number, number>;
  stop(): Promise<void>;
}

const source = "-hide_banner -loglevel error -re -f lavfi -i testsrc2=size=320x180:rate=30 -f lavfi -i sine=frequency=440";
const h264 = "-c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -g 30";
export const sent = {
  ts: `${source} ${h264} -c:a aac -f mpegts -pes_payload_size 0 -flush_packets 1 pipe:1`,
  mp4: `${source} ${h264} -c:a aac -f mp4 -movflags frag_keyframe+empty_moov+default_base_moof -frag_duration 200000 -flush_packets 1 pipe:1`,
  webm: `${source} -c:v libvpx -deadline realtime -cpu-used 8 -g 30 -b:v 400k -c:a libopus -f webm -cluster_time_limit 200 -live 1 -flush_packets 1 pipe:1`,
  // Sound that browsers play, and pictures that Chromium as Debian has it does not; and the other way round, which is what ffmpeg makes unless it is told.
  hevc: `${source} -c:v libx265 -preset ultrafast -x265-params log-level=none -pix_fmt yuv420p -g 30 -c:a aac -f mpegts -flush_packets 1 pipe:1`,
  mp2: `${source} ${h264} -c:a mp2 -f mpegts -flush_packets 1 pipe:1`,
  ac3: `${source} ${h264} -c:a ac3 -f mpegts -flush_packets 1 pipe:1`,
  flv: `${source} ${h264} -c:a aac -f flv -flush_packets 1 pipe:1`,
};

const running = new Set<Pushed>();

/** Ends what still pushes. */
export async function stopAll(): Promise<void> {
  await Promise.all([...running].map((p) => p.stop()));
}

/** Sends as ffmpeg's manual says, into a room of its own. */
export async function push(to: string, args: string, ...flags: string[]): Promise<Pushed> {
  const ffmpeg = spawn("ffmpeg", args.split(" "), { stdio: ["ignore", "pipe", "inherit"] });
  const p: ChildProcess = spawn(binary, ["push", "--server", to, "--account", "studio", ...flags, "-"], { stdio: ["pipe", "pipe", "pipe"] });
  const left = new Map<number, number>();
  let rest = Buffer.alloc(0);
  ffmpeg.stdout.on("data", (b: Buffer) => {
    p.stdin!.write(b);
    if (!args.includes("mpegts")) return;
    const at = performance.timeOrigin + performance.now();
    rest = Buffer.concat([rest, b]);
    for (; rest.length >= 188; rest = rest.subarray(188)) {
      const pts = pictureTime(rest.subarray(0, 188));
      if (pts !== undefined) left.set(Math.round(pts), at);
    }
  });
  p.stdin!.on("error", () => {}); // it ends first
  const gone = new Promise<void>((resolve) => p.on("exit", () => resolve()));
  let said = "";
  const [room, key] = await new Promise<[string, string]>((resolve, reject) => {
    p.on("error", reject);
    void gone.then(() => {
      ffmpeg.kill("SIGKILL");
      reject(new Error(`push ended: ${said}`));
    });
    p.stderr!.on("data", (b: Buffer) => (said += b));
    let out = "";
    p.stdout!.on("data", (b: Buffer) => {
      out += b;
      const m = /room (\S+)\n(?:key (\S+)\n)?/.exec(out);
      if (m && (m[2] || !flags.includes("--e2ee"))) resolve([m[1]!, m[2] ?? ""]);
    });
  });
  const pushed: Pushed = {
    room, key, left,
    stop: async () => {
      if (!running.delete(pushed)) return;
      ffmpeg.kill("SIGKILL");
      p.stdin!.end();
      p.kill("SIGINT");
      await gone;
    },
  };
  running.add(pushed);
  return pushed;
}

/** The presentation time that a transport packet begins a picture with, ms: ISO 13818-1, 2.4.3.6. */
function pictureTime(b: Buffer): number | undefined {
  if (b[0] !== 0x47 || (b[1]! & 0x40) === 0) return undefined;
  const at = 4 + (b[3]! & 0x20 ? 1 + b[4]! : 0);
  if (b.readUIntBE(at, 3) !== 1 || (b[at + 3]! & 0xf0) !== 0xe0 || (b[at + 7]! & 0x80) === 0) return undefined;
  return (((b[at + 9]! & 0x0e) / 2) * 2 ** 30 + (b.readUInt16BE(at + 10) >> 1) * 2 ** 15 + (b.readUInt16BE(at + 12) >> 1)) / 90;
}
