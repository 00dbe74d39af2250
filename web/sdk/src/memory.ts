// A browser counts the memory of buffers beside its heap and collects it only when some 64 MB have come together, in each page and each worker: of a
// stream that runs at some MB a second that is what a process holds for good. So what is large is given back as soon as it is done with.

/** What is smaller than this is left to the collector, bytes: giving it back costs more than it brings. */
const worthwhile = 16 << 10;

/** Gives back the memory of a buffer that was allocated here and has not been anywhere else; nobody may use it any more. */
export function free(buffer: ArrayBufferLike): void {
  if (buffer.byteLength >= worthwhile) (buffer as ArrayBuffer & { transfer?(size: number): ArrayBuffer }).transfer?.(0);
}

/**
 * Gives back the memory of a buffer that the browser has made: of a message that came, or from another thread. The browser keeps such memory with an
 * object of its own, also when the buffer is detached (which makes it worse: the collector then does not know of it); only what is transferred goes
 * from there. So it goes with a message to a port that is closed. Elsewhere than in a browser it is left to the collector.
 */
export function dispose(buffer: ArrayBufferLike): void {
  if (buffer.byteLength < worthwhile || typeof self === "undefined") return;
  const { port1, port2 } = new MessageChannel();
  port2.close();
  port1.postMessage(0, [buffer as ArrayBuffer]);
  port1.close();
}
