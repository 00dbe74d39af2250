import { everyone, parseRoom, type Client, type Event, type Publisher, type RoomID } from "@timedge/sdk";
import { Board, type Change } from "./board.js";
import { Repair } from "./repair.js";
import { dtypes, encodeCursor, encodeDigest, encodeOps, encodePose, encodeWho, maxPoints, parseCursor, parseDigest, parseOps, parsePose, parseWho, type Cursor, type Op } from "./wire.js";

/** How often what one has is told while it changes, and otherwise; and how soon after joining, ms. */
const tellMillis = 200;
const remindMillis = 2000;
const firstMillis = 300;
/** What late joiners get of the board from the server alone, bytes; the rest they get from those who are there. */
const history = 4 << 20;

/** The two rooms of a shared state: `now`, of policy `latest`, for what is over when something newer is there, and `board` for what stays. */
export interface Rooms {
  now: RoomID;
  board: RoomID;
}

export function formatRooms(r: Rooms): string {
  return `${r.now}.${r.board}`;
}

export function parseRooms(text: string): Rooms | undefined {
  const [now, board, ...more] = text.split(".");
  return now && board && more.length === 0 && parseRoom(now) !== undefined && parseRoom(board) !== undefined ? { now, board } : undefined;
}

/** Makes the two rooms. Whoever has their numbers may take part; they last while somebody is there. */
export async function makeRooms(client: Client): Promise<Rooms> {
  const now = await client.register({ policy: "latest", idleUnlessOccupied: true });
  const board = await client.register({ history: { bytes: history }, idleUnlessOccupied: true });
  await client.grant(now, everyone);
  await client.grant(board, everyone);
  return { now, board };
}

export interface SharedEvents {
  who(pub: number, name: string): void;
  left(pub: number): void;
  cursor(pub: number, c: Cursor): void;
  pose(pub: number, at: number, pose: number[]): void;
  board(change: Change): void;
  /** It goes on no more, and why. */
  ended(why: Error): void;
}

const wall = (): number => performance.timeOrigin + performance.now();

/**
 * Shared is one who takes part in a shared state: it tells where its cursor, head and hands are, draws, and holds the whole board, of which it sends again
 * what others lack. It needs no page. Start at {@link Shared.join}.
 */
export class Shared {
  readonly board = new Board();
  private readonly author = crypto.getRandomValues(new Uint32Array(2)).reduce((n, v) => (n * 2 ** 24 + (v >>> 8)), 0);
  private readonly repair = new Repair();
  private readonly busy = new Set<number>(); // dtypes whose last message waits
  private told = "";
  private toldAt = -Infinity;
  private readonly began = performance.now();
  private readonly timer: ReturnType<typeof setInterval>;
  private over = false;

  private constructor(private readonly on: Partial<SharedEvents>, private readonly now: Publisher, private readonly ops: Publisher, private readonly subscriptions: Array<{ close(): Promise<void> }>) {
    this.timer = setInterval(() => this.tick(), tellMillis / 2);
  }

  /** Joins, under a name that the others see. */
  static async join(client: Client, rooms: Rooms, name: string, on: Partial<SharedEvents> = {}): Promise<Shared> {
    const [now, ops, nowEvents, boardEvents] = await Promise.all([client.publish(rooms.now), client.publish(rooms.board), client.subscribe(rooms.now, { noEcho: true }), client.subscribe(rooms.board, { noEcho: true })]);
    const s = new Shared(on, now, ops, [nowEvents, boardEvents]);
    for (const events of [nowEvents, boardEvents]) {
      void (async () => {
        for await (const e of events) s.take(e, events === nowEvents);
      })().catch((e: Error) => s.end(e));
    }
    s.push(now, dtypes.who, encodeWho({ name }));
    return s;
  }

  private take(e: Event, now: boolean): void {
    if (this.over) return;
    if (e.type === "left" && now) {
      this.repair.left(e.pub);
      this.on.left?.(e.pub);
    }
    if (e.type !== "message") return;
    switch (e.dtype) {
      case dtypes.who: {
        const w = parseWho(e.payload);
        return w && this.on.who?.(e.pub, w.name);
      }
      case dtypes.cursor: {
        const c = parseCursor(e.payload);
        return c && this.on.cursor?.(e.pub, c);
      }
      case dtypes.pose: {
        const p = parsePose(e.payload);
        return p && this.on.pose?.(e.pub, p.at, p.pose);
      }
      case dtypes.digest: {
        const d = parseDigest(e.payload);
        return d && this.repair.heard(e.pub, d.author, d.digest);
      }
      case dtypes.op:
        return this.apply(parseOps(e.payload));
    }
  }

  private apply(ops: readonly Op[]): void {
    let change: Change = "nothing";
    for (const op of ops) {
      const c = this.board.apply(op);
      if (c === "all" || change === "nothing") change = c;
    }
    if (change !== "nothing") this.on.board?.(change);
  }

  /** Pushes what only its newest counts of: while the one before waits, this one is left out, and the caller's next takes its place. */
  private push(to: Publisher, dtype: number, message: Uint8Array): boolean {
    if (this.over || this.busy.has(dtype)) return false;
    this.busy.add(dtype);
    void to.push(dtype, "delta", message).catch((e: Error) => this.failed(e)).finally(() => this.busy.delete(dtype));
    return true;
  }

  /** A message that is lost is told once, and the next one is as good; anything else is the end. */
  private failed(e: Error): void {
    if ((e as { code?: string }).code !== "gone") this.end(e);
  }

  /** Tells where the cursor is, 0 to 1 of the board. Returns false if the path does not take it: then tell again, if it is still there. */
  cursor(x: number, y: number, drawing: boolean, away = false): boolean {
    return this.push(this.now, dtypes.cursor, encodeCursor({ at: wall(), x, y, drawing, away }));
  }

  /** Tells where head and hands are: poseFloats numbers. */
  pose(pose: ArrayLike<number>): boolean {
    return this.push(this.now, dtypes.pose, encodePose(wall(), pose));
  }

  /** Begins a stroke at points, x and y by turns, 0 to 65535. */
  begin(colour: number, width: number, points: readonly number[]): void {
    this.draw({ kind: "begin", colour, width, points });
  }

  /** Goes on with the stroke. */
  more(points: readonly number[]): void {
    for (let i = 0; i < points.length; i += 2 * maxPoints) this.draw({ kind: "points", colour: 0, width: 0, points: points.slice(i, i + 2 * maxPoints) });
  }

  /** Takes back this one's last stroke. */
  undo(): void {
    this.draw({ kind: "undo", colour: 0, width: 0, points: [] });
  }

  /** Empties the board for everybody. */
  clear(): void {
    this.draw({ kind: "clear", colour: 0, width: 0, points: [] });
  }

  private draw(o: Pick<Op, "kind" | "colour" | "width" | "points">): void {
    if (this.over || this.board.full) return;
    const op: Op = { ...o, author: this.author, seq: this.board.count(this.author) + 1, time: this.board.time };
    this.apply([op]);
    this.send([op]);
  }

  private send(ops: readonly Op[]): void {
    for (const m of encodeOps(ops)) void this.ops.push(dtypes.op, "delta", m).catch((e: Error) => this.failed(e));
  }

  private tick(): void {
    const now = performance.now();
    if (now - this.began < firstMillis) return;
    const own = this.board.digest();
    for (const { has, should } of this.repair.due(now, this.author, own)) this.send(this.board.lacking(has, should));
    const text = [...own].join();
    if ((text === this.told ? now - this.toldAt < remindMillis : now - this.toldAt < tellMillis)) return;
    if (this.push(this.now, dtypes.digest, encodeDigest(this.author, own))) [this.told, this.toldAt] = [text, now];
  }

  private end(why: Error): void {
    if (this.over) return;
    this.stop();
    this.on.ended?.(why);
  }

  private stop(): void {
    this.over = true;
    clearInterval(this.timer);
  }

  async close(): Promise<void> {
    if (this.over) return;
    this.stop();
    await Promise.all([...this.subscriptions.map((s) => s.close()), this.now.close().catch(() => {}), this.ops.close().catch(() => {})]);
  }
}
