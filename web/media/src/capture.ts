import type { FromRecorder } from "./worklet.js";

/** Ends a capture. */
export type Stop = () => void;

/**
 * Hands on each picture of a track, which is then the caller's to close, its timestamp being the source's. Without MediaStreamTrackProcessor,
 * which only Chromium's pages have, the track plays in an element and is copied from there.
 */
export function pictures(track: MediaStreamTrack, each: (frame: VideoFrame) => void): Stop {
  if (MediaStreamTrackProcessor) return read(new MediaStreamTrackProcessor({ track, maxBufferSize: 2 }).readable as ReadableStream<VideoFrame>, each);
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true;
  video.srcObject = new MediaStream([track]);
  let over = false;
  const step = (now: number, m: VideoFrameCallbackMetadata): void => {
    if (over) return;
    each(new VideoFrame(video, { timestamp: Math.round((m.captureTime ?? now) * 1000) }));
    video.requestVideoFrameCallback(step);
  };
  video.requestVideoFrameCallback(step);
  void video.play();
  return () => {
    over = true;
    video.srcObject = null;
  };
}

/** Hands on the sound of a track in pieces of some 10 ms, as {@link pictures} does. `worklet` is where worklet.ts was built to. */
export function sounds(track: MediaStreamTrack, worklet: string, each: (sound: AudioData) => void): Stop {
  if (MediaStreamTrackProcessor) return read(new MediaStreamTrackProcessor({ track, maxBufferSize: 50 }).readable as ReadableStream<AudioData>, each);
  const context = new AudioContext();
  void context.audioWorklet.addModule(worklet).then(() => {
    const node = new AudioWorkletNode(context, "timedge-recorder", { numberOfOutputs: 0 });
    node.port.onmessage = (m: MessageEvent<FromRecorder>) => {
      const { at, planes } = m.data;
      const [frames, channels] = [planes[0]!.length, planes.length];
      const data = new Float32Array(frames * channels);
      planes.forEach((p, c) => data.set(p, c * frames));
      each(new AudioData({ format: "f32-planar", sampleRate: context.sampleRate, numberOfFrames: frames, numberOfChannels: channels, timestamp: Math.round(at * 1e6), data }));
    };
    context.createMediaStreamSource(new MediaStream([track])).connect(node);
  });
  return () => void context.close();
}

function read<T extends { close(): void }>(from: ReadableStream<T>, each: (v: T) => void): Stop {
  const reader = from.getReader();
  let over = false;
  void (async () => {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      if (over) value.close();
      else each(value);
    }
  })().catch(() => {}); // the track has ended
  return () => {
    over = true;
    void reader.cancel().catch(() => {});
  };
}
