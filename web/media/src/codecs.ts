/** The codecs of pictures, best first where nothing else is known: what hardware and old machines do comes before what saves more. */
export const pictureCodecs = ["H.264", "VP8", "VP9", "AV1"] as const;
export type PictureCodec = (typeof pictureCodecs)[number];

function names(codec: PictureCodec, width: number, height: number): string[] {
  const large = width * height > 1280 * 720;
  switch (codec) {
    case "H.264":
      return large ? ["avc1.42E028", "avc1.4D0028"] : ["avc1.42E01F", "avc1.4D001F"];
    case "VP8":
      return ["vp8"];
    case "VP9":
      return [large ? "vp09.00.40.08" : "vp09.00.31.08"];
    case "AV1":
      return [large ? "av01.0.08M.08" : "av01.0.05M.08"];
  }
}

/** Returns how to encode pictures of that size with the first codec of `order` that this browser has; undefined if it has none. */
export async function pictureEncoder(
  size: { width: number; height: number; fps: number; bitrate: number },
  order: readonly PictureCodec[] = pictureCodecs,
): Promise<VideoEncoderConfig | undefined> {
  if (typeof VideoEncoder === "undefined") return undefined;
  const [width, height] = [even(size.width), even(size.height)];
  for (const c of order) {
    for (const codec of names(c, width, height)) {
      const config: VideoEncoderConfig = {
        codec, width, height, framerate: size.fps, bitrate: size.bitrate, bitrateMode: "variable", latencyMode: "realtime",
        ...(c === "H.264" ? { avc: { format: "annexb" } } : {}), // each key picture has the parameter sets
      };
      const { supported } = await VideoEncoder.isConfigSupported(config).catch(() => ({ supported: false }));
      if (supported) return config;
    }
  }
  return undefined;
}

/** Which codecs can be chosen here. */
export async function encodable(width: number, height: number): Promise<PictureCodec[]> {
  const found: PictureCodec[] = [];
  for (const c of pictureCodecs) if (await pictureEncoder({ width, height, fps: 30, bitrate: 1e6 }, [c])) found.push(c);
  return found;
}

/**
 * What Opus is told of speech. Not to leave silence out (DTX): browsers' encoders count only the packets that they make, so all behind it would be placed too
 * early; {@link Gate} does that. Nor to repeat packets in those behind (FEC): none is lost here. A packet is of 40 ms: each costs everybody who hears it about the same, however long it is,
 * and among six people twice as many are a tenth of what a page costs.
 */
const speech = { application: "voip", signal: "voice", frameDuration: 40_000 } as OpusEncoderConfig;

/** Returns how to encode sound, or, with `voice`, speech: in one channel; undefined if this browser has no Opus. */
export async function soundEncoder(sampleRate: number, channels: number, voice = false): Promise<AudioEncoderConfig | undefined> {
  if (typeof AudioEncoder === "undefined") return undefined;
  const config: AudioEncoderConfig = { codec: "opus", sampleRate, numberOfChannels: voice ? 1 : Math.min(channels, 2), bitrate: voice ? 32_000 : channels > 1 ? 96_000 : 48_000 };
  for (const c of voice ? [{ ...config, opus: speech }, config] : [config]) {
    const { supported } = await AudioEncoder.isConfigSupported(c).catch(() => ({ supported: false }));
    if (supported) return c;
  }
  return undefined;
}

/** Chroma has half the pixels each way. */
export function even(n: number): number {
  return Math.max(2, Math.round(n / 2) * 2);
}
