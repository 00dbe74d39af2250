/**
 * Live picture and sound over timedge. Start at {@link Broadcast} to send and at {@link Watch} to watch; {@link camera}, {@link screen} and
 * {@link file} are where pictures come from. What travels is told in docs/media.md and lies in layout.ts.
 */
export { Broadcast, Rendition, type BroadcastOptions, type BroadcastStats, type Quality } from "./broadcast.js";
export { pictures, sounds, type Stop } from "./capture.js";
export { encodable, even, pictureCodecs, pictureEncoder, soundEncoder, type PictureCodec } from "./codecs.js";
export { Gate, levelOf } from "./gate.js";
export * from "./layout.js";
export { Outside, type Container, type OutsideConfig, type OutsideEvents, type OutsideSample } from "./outside.js";
export { Player, type PlayerOptions, type PlayerStats } from "./player.js";
export { latencies, Playout, type Latency } from "./playout.js";
export { SoundStream, type SoundStreamOptions } from "./soundstream.js";
export { SourceClock } from "./sourceclock.js";
export { camera, devices, file, microphone, screen, type CameraWishes, type Source } from "./sources.js";
export { Talk } from "./talk.js";
export { Watch, type WatchOptions, type WatchState, type WatchStats } from "./watch.js";
