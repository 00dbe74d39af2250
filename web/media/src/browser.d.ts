// What TypeScript's DOM lacks, as far as it is used here.

interface MediaStreamTrackProcessor<T> {
  readonly readable: ReadableStream<T>;
}
declare var MediaStreamTrackProcessor:
  | { new (o: { track: MediaStreamTrack; maxBufferSize?: number }): MediaStreamTrackProcessor<unknown> }
  | undefined;

interface HTMLVideoElement {
  captureStream?(): MediaStream;
  mozCaptureStream?(): MediaStream;
}
