import type { InStream } from "./instream.js";

/** A publisher that left a lossless room, and where its streams ended. */
export interface Departed {
  account: string;
  streams: readonly InStream[];
}

/** How many publishers that left are remembered. */
const maxDeparted = 64;

/**
 * Departures remembers who left a lossless room last, by their numbers. The server may not have heard yet that all of them was consumed, or that they have
 * left: until others have left, too, a client tells it where their streams ended, and knows what is told once more.
 */
export class Departures {
  private readonly left = new Map<number, Departed>(); // who left longest ago first

  add(pub: number, d: Departed): void {
    this.left.delete(pub);
    this.left.set(pub, d);
    if (this.left.size > maxDeparted) this.left.delete(this.left.keys().next().value!);
  }

  get(pub: number): Departed | undefined {
    return this.left.get(pub);
  }

  /** Takes one back: it is there again. */
  delete(pub: number): void {
    this.left.delete(pub);
  }

  /** All streams of theirs. */
  *streams(): IterableIterator<InStream> {
    for (const d of this.left.values()) yield* d.streams;
  }
}
