import type { Digest, Op } from "./wire.js";

/** A line on the board. */
export interface Stroke {
  author: number;
  time: number;
  colour: number;
  width: number;
  points: number[]; // x and y by turns, 0 to 65535
  undone: boolean;
}

/** What a board holds at most; what is beyond is not taken. */
export const maxHeld = 200_000; // operations
const maxAuthors = 4096;
const maxEarly = 4096; // operations of an author that came before their turn

interface Author {
  ops: Op[]; // ops[i].seq is i + 1
  early: Map<number, Op>;
  strokes: Stroke[];
}

/** What an operation changed: nothing, points at the end of the uppermost strokes, or anything. */
export type Change = "nothing" | "more" | "all";

/**
 * Board is what everybody has drawn. It is the same wherever the same operations have arrived, in whatever order and however often: an author's
 * count in the order of their numbers, and who covers whom is decided by the operations' own times.
 */
export class Board {
  private readonly authors = new Map<number, Author>();
  /** How many operations are here. */
  held = 0;
  private newest = 0; // of all times
  private cleared: { time: number; author: number } = { time: 0, author: 0 };
  private top: Stroke | undefined; // the uppermost

  /** The board takes no more. */
  get full(): boolean {
    return this.held >= maxHeld;
  }

  /** A time later than all that is here. */
  get time(): number {
    return this.newest + 1;
  }

  /** Up to which number all operations of an author are here. */
  count(author: number): number {
    return this.authors.get(author)?.ops.length ?? 0;
  }

  apply(op: Op): Change {
    if (this.full || op.seq === 0) return "nothing";
    let a = this.authors.get(op.author);
    if (!a) {
      if (this.authors.size >= maxAuthors) return "nothing";
      this.authors.set(op.author, (a = { ops: [], early: new Map(), strokes: [] }));
    }
    if (op.seq <= a.ops.length) return "nothing";
    if (op.seq !== a.ops.length + 1) {
      if (a.early.size < maxEarly) a.early.set(op.seq, op);
      return "nothing";
    }
    let change: Change = "nothing";
    for (let next: Op | undefined = op; next; next = a.early.get(a.ops.length + 1)) {
      a.early.delete(next.seq);
      const c = this.take(a, next);
      if (c === "all" || change === "nothing") change = c;
    }
    return change;
  }

  private take(a: Author, op: Op): Change {
    a.ops.push(op);
    this.held++;
    this.newest = Math.max(this.newest, op.time);
    switch (op.kind) {
      case "begin": {
        const s: Stroke = { author: op.author, time: op.time, colour: op.colour, width: op.width, points: [...op.points], undone: false };
        a.strokes.push(s);
        if (!this.visible(s)) return "nothing";
        const above = !this.top || order(this.top, s) < 0;
        if (above) this.top = s;
        return above ? "more" : "all";
      }
      case "points": {
        const s = a.strokes.at(-1);
        if (!s) return "nothing";
        s.points.push(...op.points);
        return !this.visible(s) ? "nothing" : s === this.top ? "more" : "all";
      }
      case "undo": {
        const s = a.strokes.findLast((s) => !s.undone);
        if (!s) return "nothing";
        s.undone = true;
        return "all";
      }
      case "clear":
        if (order(op, this.cleared) > 0) this.cleared = { time: op.time, author: op.author };
        return "all";
    }
  }

  private visible(s: Stroke): boolean {
    return !s.undone && order(s, this.cleared) > 0;
  }

  /** Returns what is to be seen, the lowest first. */
  strokes(): Stroke[] {
    return [...this.authors.values()].flatMap((a) => a.strokes.filter((s) => this.visible(s))).sort(order);
  }

  digest(): Digest {
    return new Map([...this.authors].filter(([, a]) => a.ops.length > 0).map(([author, a]) => [author, a.ops.length]));
  }

  /** Returns what one who has `theirs` lacks of `ours`, a digest of this board, in an order in which it can be taken. */
  lacking(theirs: Digest, ours: Digest): Op[] {
    return [...ours].flatMap(([author, seq]) => this.authors.get(author)?.ops.slice(theirs.get(author) ?? 0, seq) ?? []);
  }

  /** Returns a text that two boards have in common if and only if they look the same. */
  text(): string {
    return JSON.stringify(this.strokes().map((s) => [s.author, s.time, s.colour, s.width, s.points]));
  }
}

function order(a: { time: number; author: number }, b: { time: number; author: number }): number {
  return a.time - b.time || a.author - b.author;
}
