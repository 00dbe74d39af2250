// What the console makes of the nodes' figures: rates, takeovers, nodes that go and come back, what has happened.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { ClusterNode, Event, FlowingRoom } from "../console/api.js";
import { Model } from "../console/model.js";

const room = (id: string, role: string, frames: number): FlowingRoom => ({
  id, owner: "o", policy: "live", role, subscribers: 1, publishers: 1, frames, bytes: frames * 100, age_ms: 0, idle_ms: 0, chain: ["a", "b"],
});

function node(name: string, uptime: number, busiest: FlowingRoom[], more: { deliveries?: number; events?: Event[] } = {}): ClusterNode {
  return {
    name, self: name === "a", state: "ready",
    figures: {
      node: name, version: "v", uptime_ms: uptime, clock_unix_ms: 1, state: "ready", reasons: [], sessions: 1, rooms: 1, memory_bytes: 0, memory_bound: 1, queued_bytes: 0, frames_in: 0, bytes_in: 0,
      deliveries: more.deliveries ?? 0, bytes_out: 0, dropped_frames: 0, cut_off: 0, takeovers: 0, panics: 0, relayed: 1, mirrored: 0, busiest, events: more.events ?? [],
    },
  };
}

function take(m: Model, now: number, ...all: ClusterNode[]): void {
  m.take(all, now, (r, from, to) => `${r}: ${from} to ${to}`, (n) => `${n} went`);
}

test("rates are since the answer before, by the node's own clock", () => {
  const m = new Model();
  take(m, 1000, node("a", 5000, [room("r", "relay", 100)], { deliveries: 10 }), node("b", 5000, [room("r", "edge", 90)]));
  assert.equal(m.nodes[0]!.rates.out, 0);
  assert.deepEqual(m.rooms[0]!.edges, ["b"]);
  take(m, 2500, node("a", 7000, [room("r", "relay", 150)], { deliveries: 50 }), node("b", 7000, [room("r", "edge", 140)]));
  assert.equal(m.nodes[0]!.rates.out, 20);
  assert.equal(m.rooms[0]!.framesRate, 25);
  assert.deepEqual([...m.series.get("a")!.out], [0, 20]);
  assert.equal(m.times.length, 2);
  take(m, 3500, node("a", 100, [room("r", "relay", 3)], { deliveries: 5 })); // it has been started anew
  assert.equal(m.nodes[0]!.rates.out, 0);
  assert.equal(m.rooms[0]!.framesRate, 0);
});

test("a node that goes is drawn for a while, and its rooms until another has them", () => {
  const m = new Model();
  take(m, 1000, node("a", 1000, []), node("b", 1000, [room("r", "relay", 100)]));
  take(m, 2000, node("a", 2000, []));
  const gone = m.nodes.find((n) => n.name === "b")!;
  assert.deepEqual([gone.state, gone.gone, gone.figures], ["gone", 2000, undefined]);
  assert.equal(m.rooms[0]!.relay, "b");
  take(m, 3000, node("a", 3000, [room("r", "relay", 120)]));
  assert.deepEqual([m.rooms[0]!.relay, m.rooms[0]!.from, m.rooms[0]!.moved], ["a", "b", 3000]);
  assert.deepEqual(m.happened.map((h) => h.text), ["b went", "r: b to a"]);
  take(m, 4000, node("a", 4000, [room("r", "relay", 120)]), node("b", 100, []));
  assert.equal(m.nodes.find((n) => n.name === "b")!.gone, 0);
  take(m, 5000, node("a", 5000, []));
  take(m, 5000 + 60_001, node("a", 65_001, []));
  assert.deepEqual(m.nodes.map((n) => n.name), ["a"]);
  assert.equal(m.rooms.length, 0);
});

test("a relay that says nothing keeps its rooms for a while, and who has them then has taken them over", () => {
  const m = new Model();
  const silent = (name: string): ClusterNode => ({ name, self: false, state: "linked", error: "no answer" });
  take(m, 1000, node("a", 1000, []), node("b", 1000, [room("r", "relay", 100), room("s", "relay", 7)]));
  take(m, 2000, node("a", 2000, []), silent("b")); // dead, but a member still
  assert.deepEqual(m.rooms.map((r) => [r.id, r.relay]), [["r", "b"], ["s", "b"]]);
  take(m, 3000, node("a", 3000, [room("s", "relay", 8)])); // a member no more
  take(m, 4000, node("a", 4000, [room("r", "relay", 120), room("s", "relay", 9)]));
  assert.deepEqual(m.rooms.map((r) => [r.id, r.relay, r.from, r.moved]).sort(), [["r", "a", "b", 4000], ["s", "a", "b", 3000]]);
  take(m, 5000, node("a", 5000, [room("r", "relay", 130), room("s", "relay", 10)]));
  assert.deepEqual(m.happened.map((h) => h.text), ["b went", "s: b to a", "r: b to a"]);
});

test("a room that is handed over has been, though for one answer it was nobody's", () => {
  const m = new Model();
  take(m, 1000, node("a", 1000, []), node("b", 1000, [room("r", "relay", 100)]));
  take(m, 2000, node("a", 2000, []), node("b", 2000, []));
  assert.equal(m.rooms.length, 0);
  take(m, 3000, node("a", 3000, [room("r", "relay", 120)]), node("b", 3000, []));
  assert.deepEqual([m.rooms[0]!.relay, m.rooms[0]!.from, m.rooms[0]!.moved, m.rooms[0]!.framesRate], ["a", "b", 3000, 0]);
  assert.deepEqual(m.happened.map((h) => h.text), ["r: b to a"]);
  // One that comes back long after it has gone has not been taken from anybody.
  take(m, 4000, node("a", 4000, []), node("b", 4000, []));
  take(m, 24_000, node("a", 24_000, []), node("b", 24_000, []));
  take(m, 25_000, node("a", 25_000, []), node("b", 25_000, [room("r", "relay", 3)]));
  assert.equal(m.rooms[0]!.from, "");
});

test("what nodes tell is told once, and anew by a process that is", () => {
  const m = new Model();
  const linked: Event = { seq: 1, ago_ms: 500, text: "linked", node: "b" };
  const lost: Event = { seq: 2, ago_ms: 0, text: "link lost", node: "b", warning: true };
  take(m, 10_000, node("a", 1000, [], { events: [linked] }));
  take(m, 11_000, node("a", 2000, [], { events: [linked, lost] }));
  take(m, 12_000, node("a", 3000, [], { events: [linked, lost] }));
  assert.deepEqual(m.happened.map((h) => [h.at, h.text, h.warning]), [[9500, "linked b", false], [11_000, "link lost b", true]]);
  take(m, 13_000, node("a", 600, [], { events: [linked] }));
  assert.equal(m.happened.length, 3);
});

test("a bounded number of samples is kept, as many of each node", () => {
  const m = new Model();
  for (let i = 1; i <= 400; i++) take(m, i * 1000, node("a", i * 1000, []), ...(i > 350 ? [node("b", i * 1000, [])] : []));
  assert.equal(m.times.length, 300);
  for (const s of m.series.values()) assert.deepEqual([s.in.length, s.out.length, s.dropped.length], [300, 300, 300]);
});
