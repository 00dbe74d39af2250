/**
 * Reads a file from an offset on, in pieces of that size, each behind `head` bytes that are the caller's to fill. All pieces are one and the same
 * memory: a piece is the caller's until it asks for the next, so that reading a file of any size leaves nothing for the garbage collector. It rejects
 * where the file cannot be read any more, because it has changed since it was chosen.
 */
export async function* pieces(file: Blob, at: number, size: number, head = 0): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const { fill, close } = read(file.slice(at));
  let memory = new ArrayBuffer(head + size);
  try {
    for (let left = file.size - at; left > 0; left -= size) {
      memory = await fill(memory, head, Math.min(size, left));
      yield new Uint8Array(memory, 0, head + Math.min(size, left));
    }
  } finally {
    close();
  }
}

/** Returns how to read the next n bytes into memory from an offset on, where the memory moves to what is returned, and how to stop. */
function read(blob: Blob): { fill(memory: ArrayBuffer, offset: number, n: number): Promise<ArrayBuffer>; close(): void } {
  let reader: ReadableStreamBYOBReader | undefined;
  try {
    reader = (blob.stream() as ReadableStream).getReader({ mode: "byob" });
  } catch {
    // not every browser reads into memory that is given
  }
  let at = 0;
  const fill = async (memory: ArrayBuffer, offset: number, n: number): Promise<ArrayBuffer> => {
    if (!reader) {
      new Uint8Array(memory).set(new Uint8Array(await blob.slice(at, at + n).arrayBuffer()), offset);
      at += n;
      return memory;
    }
    for (let got = 0; got < n; ) {
      const { value, done } = await reader.read(new Uint8Array(memory, offset + got, n - got));
      if (done || !value) throw new Error("the file has become shorter");
      got += value.length;
      memory = value.buffer as ArrayBuffer;
    }
    return memory;
  };
  return { fill, close: () => void reader?.cancel().catch(() => {}) };
}
