// What a media element is given is what came, whatever it came in: ffmpeg makes it, Outside takes it apart, tracks write it, and ffmpeg reads that again.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import fc from "fast-check";
import { avcShape, lengthPrefixed, nalUnits, unescaped } from "../src/bitstream.js";
import { Outside, type OutsideConfig, type OutsideSample } from "../src/outside.js";
import { trackOf, type Track } from "../src/track.js";

const run = (command: string, args: string, input?: Uint8Array): Buffer => execFileSync(command, args.split(" "), { input, maxBuffer: 1 << 26, stdio: ["pipe", "pipe", "inherit"] });
const source = "-hide_banner -loglevel error -f lavfi -i testsrc2=size=178x100:rate=30:duration=2 -f lavfi -i sine=duration=2";
const h264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 20";
const hevc = "-c:v libx265 -preset ultrafast -x265-params log-level=none:bframes=0 -pix_fmt yuv420p -g 20";
const fragmented = "-f mp4 -movflags frag_keyframe+empty_moov+default_base_moof pipe:1";
const streams: Record<string, { args: string; mimes: RegExp[] }> = {
  "MPEG-TS, H.264 and AAC": { args: `${source} ${h264} -tune zerolatency -c:a aac -f mpegts -pes_payload_size 0 pipe:1`, mimes: [/^audio\/mp4; codecs="mp4a\.40\.2"$/, /^video\/mp4; codecs="avc1\.[0-9a-f]{6}"$/] },
  "MPEG-TS, pictures refer to later ones": { args: `${source} -c:v libx264 -preset veryfast -bf 3 -pix_fmt yuv420p -g 20 -c:a aac -f mpegts pipe:1`, mimes: [/^audio\/mp4/, /^video\/mp4; codecs="avc1/] },
  "MPEG-TS, H.265 and AAC": { args: `${source} ${hevc} -c:a aac -f mpegts pipe:1`, mimes: [/^audio\/mp4/, /^video\/mp4; codecs="h(vc|ev)1\./] },
  "MP4, H.264 and AAC": { args: `${source} ${h264} -c:a aac ${fragmented}`, mimes: [/^audio\/mp4/, /^video\/mp4; codecs="avc1/] },
  "MP4, H.265 and MP3": { args: `${source} ${hevc} -tag:v hvc1 -c:a libmp3lame ${fragmented}`, mimes: [/^audio\/mp4; codecs="mp4a\.6B"$/, /^video\/mp4; codecs="h(vc|ev)1/] },
  "WebM, VP8 and Opus": { args: `${source} -c:v libvpx -deadline realtime -cpu-used 8 -g 20 -c:a libopus -f webm -live 1 pipe:1`, mimes: [/^audio\/webm; codecs="opus"$/, /^video\/webm; codecs="vp8"$/] },
  "WebM, VP9 and Vorbis": { args: `${source} -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 20 -c:a libvorbis -f webm -live 1 pipe:1`, mimes: [/^audio\/webm; codecs="vorbis"$/, /^video\/webm; codecs="vp09\./] },
};

/** Where what follows the header begins: the first packet behind the tables, the first fragment, the first cluster. */
function headerSize(b: Buffer): number {
  if (b[0] === 0x47) return 188 * 3;
  if (b[0] === 0x1a) return b.indexOf(Buffer.from([0x1f, 0x43, 0xb6, 0x75]));
  return b.indexOf("moof") - 4;
}

async function written(all: Buffer): Promise<{ mimes: string[]; picture: Uint8Array; sound: Uint8Array }> {
  const tracks = new Map<string, Track>();
  const out: Record<OutsideSample["kind"], Uint8Array[]> = { picture: [], sound: [] };
  let [kinds, ended]: [number, () => void] = [0, () => {}];
  const o = new Outside({
    tracks: (k) => (kinds = k.length),
    config: (c: OutsideConfig) => tracks.set(c.kind, trackOf(c)!),
    sample: (s) => {
      out[s.kind].push(tracks.get(s.kind)!.write(s));
      ended();
    },
    gap: () => {}, unsupported: (what) => assert.fail(what),
  });
  const message = (kind: "init" | "key", payload: Uint8Array): void => o.message({ type: "message", room: "", publisher: "", pub: 1, dtype: 0, kind, first: 1, last: 1, payload });
  message("init", all.subarray(0, headerSize(all)));
  message("key", all.subarray(headerSize(all)));
  o.end();
  // Mediabunny gives out what it has as it is asked: until all pictures are there, and sound of as long.
  await new Promise<void>((resolve) => {
    ended = () => out.picture.length >= 60 && out.sound.length >= 75 && resolve();
    ended();
  });
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(kinds, 2);
  return { mimes: [...tracks.values()].map((t) => t.mime).sort(), picture: Buffer.concat(out.picture), sound: Buffer.concat(out.sound) };
}

interface Packet {
  pts_time: string;
  dts_time: string;
  flags: string;
  data_hash: string;
  size: string;
}

const packets = (b: Uint8Array, kind: "v" | "a"): Packet[] => (JSON.parse(run("ffprobe", `-v error -of json -select_streams ${kind} -show_packets -show_data_hash md5 -i pipe:0`, b).toString()) as { packets: Packet[] }).packets;
const pictures = (b: Uint8Array): string[] => run("ffmpeg", "-v error -i pipe:0 -map 0:v -fps_mode passthrough -f framehash -hash md5 pipe:1", b).toString().split("\n").filter((l) => l && !l.startsWith("#")).map((l) => l.split(",").at(-1)!.trim());

for (const [name, { args, mimes }] of Object.entries(streams)) {
  test(`${name}: written anew it is the same`, { timeout: 60_000 }, async () => {
    const all = run("ffmpeg", args);
    const w = await written(all);
    for (const [i, m] of mimes.entries()) assert.match(w.mimes[i]!, m);
    assert.deepEqual(pictures(w.picture), pictures(all), "each picture is what it was");
    const [have, want] = [packets(w.picture, "v"), packets(all, "v")];
    assert.equal(have.length, want.length);
    const off = Number(have[0]!.pts_time) - Number(want[0]!.pts_time);
    let before = -Infinity;
    for (const [i, p] of have.entries()) {
      assert.ok(Math.abs(Number(p.pts_time) - Number(want[i]!.pts_time) - off) < 0.002, `picture ${i} at ${p.pts_time}, want ${want[i]!.pts_time}`);
      assert.equal(p.flags[0], want[i]!.flags[0], `picture ${i}`);
      assert.ok(Number(p.dts_time) > before && Number(p.dts_time) <= Number(p.pts_time) + 0.001, `picture ${i}: decoded at ${p.dts_time}, after ${before}, shown at ${p.pts_time}`);
      before = Number(p.dts_time);
    }
    const [sound, heard] = [packets(w.sound, "a"), packets(all, "a")];
    assert.equal(sound.length, heard.length);
    for (const [i, p] of sound.entries()) {
      assert.ok(Math.abs(Number(p.pts_time) - Number(heard[i]!.pts_time) - off) < 0.005, `sound ${i} at ${p.pts_time}, want ${heard[i]!.pts_time}`);
      if (name.startsWith("MPEG-TS")) assert.equal(Number(p.size), Number(heard[i]!.size) - 7); // without the head of ADTS
      else assert.equal(p.data_hash, heard[i]!.data_hash);
    }
  });
}

test("a sequence parameter set says how large pictures are", () => {
  for (const [size, more] of [["160x120", ""], ["178x100", ""], ["638x360", "-preset medium"], ["64x66", "-pix_fmt yuv444p"], ["320x240", "-flags +ildct+ilme"], ["1920x1080", "-preset ultrafast"]] as const) {
    const b = run("ffmpeg", `-v error -f lavfi -i testsrc2=size=${size}:duration=0.05 -pix_fmt yuv420p ${more} -c:v libx264 -f h264 pipe:1`.replace(/ +/g, " "));
    const shape = avcShape(nalUnits(b).find((u) => (u[0]! & 31) === 7)!)!;
    assert.equal(`${shape.width}x${shape.height}`, size);
    assert.deepEqual([shape.chroma, shape.lumaDepth, shape.chromaDepth], [more.includes("444") ? 3 : 1, 8, 8]);
  }
  fc.assert(fc.property(fc.uint8Array({ maxLength: 60 }), (b) => {
    const s = avcShape(b); // whatever it is
    return s === undefined || (s.width > 0 && s.height > 0);
  }));
});

test("units of Annex B, and those of MP4", () => {
  const unit = fc.uint8Array({ minLength: 1, maxLength: 30 }).map((b) => Uint8Array.from([...b.map((v) => v || 1), 0x80])); // no start code within
  fc.assert(fc.property(fc.array(unit), fc.array(fc.boolean()), (units, long) => {
    const stream = Uint8Array.from(units.flatMap((u, i) => [...(long[i] ? [0] : []), 0, 0, 1, ...u]));
    assert.deepEqual(nalUnits(stream).map((u) => [...u]), units.map((u) => [...u]));
    assert.equal(lengthPrefixed(units).length, units.reduce((n, u) => n + 4 + u.length, 0));
  }));
  assert.deepEqual([...unescaped(Uint8Array.of(0, 0, 3, 1, 0, 0, 3, 0, 0, 3))], [0, 0, 1, 0, 0, 0, 0]);
  assert.deepEqual(nalUnits(new Uint8Array(9)), []);
});

test("what cannot be played is named, and the rest is played", { timeout: 60_000 }, async () => {
  for (const [picture, sound, want] of [[`${h264} -bf 0`, "mp2", ["MP2"]], ["-c:v mpeg2video", "aac", ["MPEG-2"]], [`${h264} -bf 0`, "libmp3lame", []]] as const) {
    const all = run("ffmpeg", `${source} ${picture} -c:a ${sound} -f mpegts pipe:1`);
    const lacks: string[] = [];
    let kinds: readonly string[] = [];
    const seen = new Set<string>();
    await new Promise<void>((resolve) => {
      const look = (): void => void (seen.size === 2 - want.length && lacks.length === want.length && resolve());
      const o = new Outside({
        tracks: (k) => (kinds = k), config: () => {}, gap: () => {},
        unsupported: (what) => (lacks.push(what), look()),
        sample: (s) => (seen.add(s.kind), look()),
      });
      const message = (kind: "init" | "key", payload: Uint8Array): void => o.message({ type: "message", room: "", publisher: "", pub: 1, dtype: 0, kind, first: 1, last: 1, payload });
      message("init", all.subarray(0, headerSize(all)));
      message("key", all.subarray(headerSize(all)));
      o.end();
    });
    await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual([lacks, [...kinds].sort(), [...seen].sort()], [want, [...seen].sort(), [...kinds].sort()]);
  }
});
