import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import fc from "fast-check";
import { container, Outside, type OutsideSample } from "../src/outside.js";
import { programOf, Transport } from "../src/transport.js";

const run = (command: string, args: string, input?: Uint8Array): Buffer => execFileSync(command, args.split(" "), { input, maxBuffer: 1 << 26, stdio: ["pipe", "pipe", "inherit"] });
const source = "-hide_banner -loglevel error -f lavfi -i testsrc2=size=160x120:rate=30:duration=2 -f lavfi -i sine=duration=2";
const streams: Record<string, string> = {
  "no picture refers to later ones": `${source} -c:v libx264 -tune zerolatency -pix_fmt yuv420p -g 20 -c:a aac -f mpegts -pes_payload_size 0 pipe:1`,
  "pictures refer to later ones, and much sound lies together": `${source} -c:v libx264 -bf 3 -pix_fmt yuv420p -g 20 -c:a aac -f mpegts pipe:1`,
  "several slices": `${source} -c:v libx264 -tune zerolatency -x264-params slices=4 -pix_fmt yuv420p -g 20 -c:a aac -ac 2 -ar 48000 -f mpegts pipe:1`,
};

interface Got {
  kind: "picture" | "sound";
  at: number;
  key: boolean;
  size: number;
}

function collect(all: Uint8Array, cuts: Iterable<number>): { got: Got[]; codecs: string[] } {
  const got: Got[] = [];
  const codecs: string[] = [];
  const t = Transport.of(all.subarray(0, 188 * 4), {
    picture: (c) => codecs.push(c.codec),
    sound: (c) => codecs.push(`${c.codec} ${c.sampleRate} ${c.numberOfChannels}`),
    sample: (kind, at, key, data) => got.push({ kind, at, key, size: data.length }),
  })!;
  let at = 0;
  for (const n of cuts) t.feed(all.subarray(at, (at += n)));
  t.feed(all.subarray(at));
  t.end();
  return { got, codecs };
}

test("what transport.ts takes apart is what ffprobe says is there, however it is cut", async (t) => {
  for (const [name, args] of Object.entries(streams)) {
    await t.test(name, () => {
      const all = run("ffmpeg", args);
      assert.equal(container(all), "MPEG-TS");
      const packets = (JSON.parse(run("ffprobe", "-v error -of json -show_packets -i pipe:0", all).toString()) as { packets: Array<{ codec_type: string; pts_time: string; size: string; flags: string }> }).packets;
      const check = ({ got, codecs }: ReturnType<typeof collect>): void => {
        for (const [kind, type] of [["picture", "video"], ["sound", "audio"]] as const) {
          const want = packets.filter((p) => p.codec_type === type).map((p) => ({ at: Number(p.pts_time), size: Number(p.size), key: p.flags.startsWith("K") }));
          const have = got.filter((g) => g.kind === kind);
          assert.equal(have.length, want.length, kind);
          for (const [i, w] of want.entries()) {
            assert.ok(Math.abs(have[i]!.at - w.at) < 0.001, `${kind} ${i} at ${have[i]!.at}, want ${w.at}`);
            assert.equal(have[i]!.key, w.key, `${kind} ${i}`);
            assert.equal(have[i]!.size, kind === "sound" ? w.size - 7 : w.size, `${kind} ${i}`); // without the head of ADTS
          }
        }
        assert.equal(codecs.length, 2);
        assert.match(codecs.join(), /avc1\.[0-9a-f]{6}/);
        assert.match(codecs.join(), /mp4a\.40\.2 (44100 1|48000 2)/);
      };
      check(collect(all, []));
      fc.assert(fc.property(fc.array(fc.integer({ min: 1, max: 3000 }), { maxLength: 60 }), (cuts) => check(collect(all, cuts))), { numRuns: 20 });
    });
  }
});

test("a picture is out with its last packet, and damage costs no more than it hits", () => {
  const all = run("ffmpeg", streams["no picture refers to later ones"]!);
  const whole = collect(all, []).got.filter((g) => g.kind === "picture");
  const t: Got[] = [];
  const x = Transport.of(all.subarray(0, 188 * 4), { picture: () => {}, sound: () => {}, sample: (kind, at, key, data) => t.push({ kind, at, key, size: data.length }) })!;
  x.feed(all); // not ended: nothing waits for what follows
  assert.ok(t.filter((g) => g.kind === "picture").length >= whole.length - 1);
  fc.assert(fc.property(fc.array(fc.tuple(fc.nat(all.length - 1), fc.nat(255)), { maxLength: 20 }), (hits) => {
    const bad = Uint8Array.from(all);
    for (const [at, v] of hits) if (at >= 188 * 4) bad[at] = v;
    const got = collect(bad, []).got.filter((g) => g.kind === "picture");
    assert.ok(got.length >= whole.length - 2 * hits.length, `${got.length} of ${whole.length} pictures, ${hits.length} bytes changed`);
  }), { numRuns: 30 });
});

test("tables", () => {
  assert.equal(programOf(new Uint8Array(376)), undefined);
  assert.equal(programOf(new Uint8Array()), undefined);
  const all = run("ffmpeg", streams["several slices"]!);
  assert.deepEqual([...programOf(all)!.values()].sort((a, b) => a - b), [0x0f, 0x1b]);
  fc.assert(fc.property(fc.uint8Array({ maxLength: 800 }), (b) => {
    for (let at = 0; at < b.length; at += 188) b[at] = 0x47;
    programOf(b); // whatever it is
    return true;
  }));
});

test("containers by their first bytes", () => {
  const bytes = (s: string): Uint8Array => new TextEncoder().encode(s.padEnd(16, "\0"));
  assert.equal(container(Uint8Array.of(0x1a, 0x45, 0xdf, 0xa3, 0, 0, 0, 0)), "WebM");
  assert.equal(container(bytes("OggS")), "Ogg");
  assert.equal(container(bytes("FLV\x01")), "FLV");
  assert.equal(container(bytes("\0\0\0\x18ftypiso5")), "MP4");
  assert.equal(container(bytes("hello, world")), undefined);
  assert.equal(container(new Uint8Array(3)), undefined);
});

/** Messages as push makes them of a transport stream: tables, then a group for each key picture. */
test("it begins at a key message, with the tables before it, and again after a gap", () => {
  const all = run("ffmpeg", streams["no picture refers to later ones"]!);
  const samples: OutsideSample[] = [];
  const told: string[] = [];
  const o = new Outside({ tracks: (k) => told.push(k.join()), config: (c) => told.push(c.kind), sample: (s) => samples.push(s), gap: () => told.push("gap"), unsupported: (w) => told.push(w) });
  const message = (kind: "init" | "key" | "delta", payload: Uint8Array) => o.message({ type: "message", room: "", publisher: "", pub: 1, dtype: 0, kind, first: 1, last: 1, payload });
  message("init", all.subarray(0, 188 * 3));
  message("delta", all.subarray(188 * 3, 188 * 20)); // of a group whose beginning is missing
  assert.equal(samples.length, 0);
  message("key", all.subarray(188 * 3));
  const n = samples.filter((s) => s.kind === "picture").length;
  assert.ok(n > 50 && samples.every((s) => s.pts >= 10_000_000));
  o.gap();
  message("delta", all.subarray(188 * 3));
  assert.equal(samples.filter((s) => s.kind === "picture").length, n);
  message("key", all.subarray(188 * 3));
  o.end();
  assert.ok(samples.filter((s) => s.kind === "picture").length >= 2 * n);
  assert.deepEqual(told.filter((x) => x !== "sound"), ["gap", "picture,sound", "picture", "gap", "picture,sound"], "the same configuration is told once");

  const raw: string[] = [];
  new Outside({ tracks: () => {}, config: () => {}, sample: () => {}, gap: () => {}, unsupported: (w) => raw.push(w) }).message({ type: "message", room: "", publisher: "", pub: 1, dtype: 0, kind: "delta", first: 1, last: 1, payload: new TextEncoder().encode("a letter, and no video") });
  assert.deepEqual(raw, ["?"]);
});
