import { Mp4Track } from "./mp4.js";
import type { OutsideConfig, OutsideSample } from "./outside.js";
import { WebMTrack } from "./webm.js";

/** One stream of coded pictures or sound, written as a container that MediaSource takes: a SourceBuffer of its own. */
export interface Track {
  /** For MediaSource.isTypeSupported and addSourceBuffer. */
  readonly mime: string;
  /** Returns a sample as bytes to append; before the first, and where what a decoder starts with has changed, they begin with that. */
  write(s: OutsideSample): Uint8Array;
}

/** Returns what writes a stream; undefined: it is of a codec that neither MP4 nor WebM is written with here. */
export function trackOf(c: OutsideConfig): Track | undefined {
  return Mp4Track.of(c) ?? WebMTrack.of(c);
}
