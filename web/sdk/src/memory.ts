/** What is smaller than this is left to the collector, bytes: a page gets a few hundred thousand of these a second, and giving each back costs more than it brings. */
const worthwhile = 4096;

/**
 * Gives the memory of a buffer back at once, where the platform can (`ArrayBuffer.prototype.transfer`); nobody may use the buffer any more. A browser
 * counts such memory beside its heap and collects it only when some 64 MB have come together, in each page and each worker: of a stream that runs at
 * some MB a second that is what the process holds for good.
 */
export function free(buffer: ArrayBufferLike): void {
  if (buffer.byteLength >= worthwhile) (buffer as ArrayBuffer & { transfer?(size: number): ArrayBuffer }).transfer?.(0);
}
