import type { Job } from "./worker.js";

/** Disk is the worker that writes and hashes. */
export class Disk {
  private readonly worker = new Worker("/file-worker.js", { type: "module" });
  private readonly waiting = new Map<number, { resolve(v: unknown): void; reject(e: Error): void }>();
  private id = 0;

  constructor() {
    this.worker.onmessage = (e: MessageEvent<{ id: number; result?: unknown; error?: string }>) => {
      const w = this.waiting.get(e.data.id);
      this.waiting.delete(e.data.id);
      if (e.data.error !== undefined) w?.reject(new Error(e.data.error));
      else w?.resolve(e.data.result);
    };
    this.worker.onerror = (e) => {
      for (const w of this.waiting.values()) w.reject(new Error(e.message));
      this.waiting.clear();
    };
  }

  do<T>(job: Job, transfer: Transferable[] = []): Promise<T> {
    const id = this.id++;
    this.worker.postMessage({ id, job }, transfer);
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve: resolve as (v: unknown) => void, reject }));
  }

  close(): void {
    this.worker.terminate();
  }
}
