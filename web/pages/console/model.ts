// What the console knows of the cluster: the last answer, rates since the one before, some minutes of them, and what has happened.

import type { ClusterNode, FlowingRoom } from "./api.js";

/** How many samples are kept, one a second. */
const kept = 300;
/** How long what has just happened is drawn, in ms. */
export const fresh = 15_000;
const maxHappened = 200;

export interface Rates { in: number; out: number; bytesIn: number; bytesOut: number; dropped: number }

export interface NodeNow extends ClusterNode {
  rates: Rates;
  /** When it was missed first; 0 while it is there. */
  gone: number;
  /** When its figures came last. */
  heard: number;
}

export interface RoomNow extends FlowingRoom {
  relay: string;
  edges: string[];
  framesRate: number;
  bytesRate: number;
  /** The relay before, and when that changed; 0: it never did. */
  from: string;
  moved: number;
}

/** Something that happened: told by a node, or seen in the figures. `at` is Date.now's. */
export interface Happened { at: number; node: string; text: string; warning: boolean; room?: string }

export interface Series { in: number[]; out: number[]; dropped: number[] }

const none: Rates = { in: 0, out: 0, bytesIn: 0, bytesOut: 0, dropped: 0 };

export class Model {
  nodes: NodeNow[] = [];
  rooms: RoomNow[] = [];
  happened: Happened[] = [];
  /** When each sample was taken, in s. */
  readonly times: number[] = [];
  readonly series = new Map<string, Series>();
  /** The first answer has come. */
  begun = false;
  private readonly seen = new Map<string, { seq: number; uptime: number }>(); // the newest event of each node
  private readonly relayed = new Map<string, { room: RoomNow; at: number }>(); // each room as a relay told of it last, for as long as that is fresh

  /** Takes an answer of /api/v1/cluster that came at a time, Date.now's. */
  take(all: ClusterNode[], now: number, tookOver: (room: string, from: string, to: string) => string, went: (node: string) => string): void {
    const before = new Map(this.nodes.map((n) => [n.name, n]));
    const relays = new Map(this.rooms.map((r) => [r.id, r]));
    const nodes: NodeNow[] = all.map((n) => ({ ...n, rates: rates(before.get(n.name), n), gone: 0, heard: n.figures ? now : (before.get(n.name)?.heard ?? 0) }));
    for (const n of this.nodes) {
      if (all.some((a) => a.name === n.name)) continue;
      const gone = n.gone || now;
      if (!n.gone) this.happened.push({ at: now, node: n.name, text: went(n.name), warning: true });
      const { figures: _, ...rest } = n;
      if (now - gone < 4 * fresh) nodes.push({ ...rest, state: "gone", rates: none, gone });
    }
    this.nodes = nodes.sort((a, b) => (a.name < b.name ? -1 : 1));

    const rooms = new Map<string, RoomNow>();
    for (const n of all) {
      for (const r of n.figures?.busiest ?? []) {
        if (r.role !== "relay") continue;
        const shown = relays.get(r.id);
        const seconds = uptime(before.get(n.name), n);
        const rate = (a: number, b: number): number => (shown?.relay === n.name && seconds > 0 ? Math.max(0, b - a) / seconds : 0);
        // Between two relays a room may be nobody's for an answer or two.
        const was = this.relayed.get(r.id)?.room;
        const changed = was !== undefined && was.relay !== n.name;
        if (changed) this.happened.push({ at: now, node: n.name, text: tookOver(r.id, was.relay, n.name), warning: false, room: r.id });
        rooms.set(r.id, {
          ...r, relay: n.name, edges: [], framesRate: rate(shown?.frames ?? 0, r.frames), bytesRate: rate(shown?.bytes ?? 0, r.bytes),
          from: changed ? was.relay : (was?.from ?? ""), moved: changed ? now : (was?.moved ?? 0),
        });
      }
    }
    for (const n of all) for (const r of n.figures?.busiest ?? []) if (r.role !== "relay") rooms.get(r.id)?.edges.push(n.name);
    for (const [id, r] of rooms) this.relayed.set(id, { room: r, at: now });
    for (const [id, { at }] of this.relayed) if (now - at >= fresh) this.relayed.delete(id);
    // A room whose relay says nothing is between two: it is kept until another has it, or for so long.
    for (const r of this.rooms) {
      const heard = nodes.find((n) => n.name === r.relay)?.heard ?? 0;
      if (!rooms.has(r.id) && heard < now && now - heard < fresh) rooms.set(r.id, { ...r, framesRate: 0, bytesRate: 0 });
    }
    this.rooms = [...rooms.values()].sort((a, b) => b.bytesRate - a.bytesRate || b.bytes - a.bytes);

    this.hear(all, now);
    this.sample(now);
    this.begun = true;
  }

  /** Adds what the nodes tell has happened since they told the last time. */
  private hear(all: ClusterNode[], now: number): void {
    for (const n of all) {
      if (!n.figures) continue;
      const before = this.seen.get(n.name);
      const last = before && n.figures.uptime_ms >= before.uptime ? before.seq : 0; // a process begins anew
      for (const e of n.figures.events) {
        if (e.seq <= last) continue;
        const what = [e.text, e.node, e.room, e.rooms ? `(${e.rooms})` : undefined, e.members ? `(${e.members})` : undefined].filter((s) => s !== undefined).join(" ");
        this.happened.push({ at: now - e.ago_ms, node: n.name, text: what, warning: e.warning ?? false, ...(e.room ? { room: e.room } : {}) });
      }
      this.seen.set(n.name, { seq: Math.max(last, n.figures.events.at(-1)?.seq ?? 0), uptime: n.figures.uptime_ms });
    }
    this.happened.sort((a, b) => a.at - b.at);
    if (this.happened.length > maxHappened) this.happened.splice(0, this.happened.length - maxHappened);
  }

  private sample(now: number): void {
    this.times.push(now / 1000);
    for (const n of this.nodes) {
      let s = this.series.get(n.name);
      if (!s) {
        const empty = (): number[] => this.times.slice(1).map(() => 0);
        this.series.set(n.name, (s = { in: empty(), out: empty(), dropped: empty() }));
      }
    }
    const rates = new Map(this.nodes.map((n) => [n.name, n.rates]));
    for (const [name, s] of this.series) {
      const r = rates.get(name) ?? none;
      s.in.push(r.in);
      s.out.push(r.out);
      s.dropped.push(r.dropped);
      if (this.times.length > kept) for (const a of [s.in, s.out, s.dropped]) a.shift();
    }
    if (this.times.length > kept) this.times.shift();
  }
}

/** Seconds between two answers of one process; 0 if they are of two. */
function uptime(before: ClusterNode | undefined, now: ClusterNode): number {
  return before?.figures && now.figures ? Math.max(0, now.figures.uptime_ms - before.figures.uptime_ms) / 1000 : 0;
}

function rates(before: ClusterNode | undefined, now: ClusterNode): Rates {
  const seconds = uptime(before, now);
  const [a, b] = [before?.figures, now.figures];
  if (seconds <= 0 || !a || !b) return none;
  const rate = (x: number, y: number): number => Math.max(0, y - x) / seconds;
  return {
    in: rate(a.frames_in, b.frames_in), out: rate(a.deliveries, b.deliveries), bytesIn: rate(a.bytes_in, b.bytes_in), bytesOut: rate(a.bytes_out, b.bytes_out),
    dropped: rate(a.dropped_frames, b.dropped_frames),
  };
}
