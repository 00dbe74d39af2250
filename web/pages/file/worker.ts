// Writes received files to the browser's own disk and hashes, away from the page: what is in memory is a piece, whatever a file's size.

import { sha256 } from "@noble/hashes/sha2.js";
import { dispose } from "../../sdk/src/memory.js";
import { pieces } from "./pieces.js";

export type Job =
  | { do: "hash"; file: File }
  | { do: "open"; folder: string; file: number } // answers with how much is there
  | { do: "write"; file: number; offset: number; bytes: Uint8Array }
  | { do: "finish"; file: number } // answers with the SHA-256 of all of it
  | { do: "discard"; folder: string; file: number };

const piece = 1 << 20;
const open = new Map<number, { handle: FileSystemSyncAccessHandle; sum: ReturnType<typeof sha256.create>; at: number }>();

async function work(j: Job): Promise<unknown> {
  switch (j.do) {
    case "hash": {
      const sum = sha256.create();
      for await (const p of pieces(j.file, 0, piece)) sum.update(p);
      return sum.digest();
    }
    case "open": {
      const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle(j.folder, { create: true });
      const handle = await (await folder.getFileHandle(String(j.file), { create: true })).createSyncAccessHandle();
      const [sum, size, buffer] = [sha256.create(), handle.getSize(), new Uint8Array(piece)];
      for (let at = 0; at < size; ) {
        const n = handle.read(buffer, { at });
        sum.update(buffer.subarray(0, n));
        at += n;
      }
      open.set(j.file, { handle, sum, at: size });
      return size;
    }
    case "write": {
      const f = open.get(j.file);
      if (!f || f.at !== j.offset) return false; // something is missing before it
      f.handle.write(j.bytes, { at: f.at });
      f.sum.update(j.bytes);
      f.at += j.bytes.length;
      dispose(j.bytes.buffer);
      return true;
    }
    case "finish": {
      const f = open.get(j.file)!;
      open.delete(j.file);
      f.handle.flush();
      f.handle.close();
      return f.sum.digest();
    }
    case "discard":
      open.get(j.file)?.handle.close();
      open.delete(j.file);
      return (await (await navigator.storage.getDirectory()).getDirectoryHandle(j.folder)).removeEntry(String(j.file));
  }
}

let last: Promise<unknown> = Promise.resolve(); // jobs are done in their order
onmessage = (e: MessageEvent<{ id: number; job: Job }>) => {
  const { id, job } = e.data;
  last = last.then(() => work(job)).then((result) => postMessage({ id, result }), (error: unknown) => postMessage({ id, error: String(error) }));
};
