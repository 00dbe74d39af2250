// The cluster as a picture: nodes in a circle, each with the rooms that it relays; what flows from relays to other nodes; who stands by;
// takeovers for as long as they are fresh. All it shows is in the tables below it, too.

import { fresh, type Model, type NodeNow, type RoomNow } from "./model.js";
import { renew } from "./parts.js";

const ns = "http://www.w3.org/2000/svg";
const [width, height] = [900, 480];
const maxDots = 14; // rooms drawn at a node
const maxStandbys = 8; // busiest rooms whose standbys are drawn

type At = readonly [x: number, y: number];

function make(tag: string, attributes: Record<string, string | number>, text?: string): SVGElement {
  const e = document.createElementNS(ns, tag);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, String(v));
  if (text !== undefined) e.textContent = text;
  return e;
}

const point = ([x, y]: At): string => `${x.toFixed(1)} ${y.toFixed(1)}`;

/** A line from a to b, bent to one side so that the one back lies beside it, shortened by what the ends cover. */
function bent(a: At, b: At, bend: number, cut: number): string {
  const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
  const long = Math.hypot(dx, dy) || 1;
  const [ux, uy] = [dx / long, dy / long];
  const from: At = [a[0] + ux * cut, a[1] + uy * cut];
  const to: At = [b[0] - ux * cut, b[1] - uy * cut];
  return `M${point(from)} Q${point([(a[0] + b[0]) / 2 - uy * bend, (a[1] + b[1]) / 2 + ux * bend])} ${point(to)}`;
}

/** Draws what is known now into an svg element. `short` makes a number short. */
export function draw(svg: SVGSVGElement, m: Model, now: number, short: (n: number) => string, words: { rooms: string; dropped: string; more: (n: number) => string }): void {
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const places = new Map<string, At>();
  m.nodes.forEach((n, i) => {
    const angle = m.nodes.length === 1 ? Math.PI / 2 : -Math.PI / 2 + (2 * Math.PI * i) / m.nodes.length;
    const radius = m.nodes.length === 1 ? [0, 0] : [280, 150];
    places.set(n.name, [width / 2 + radius[0]! * Math.cos(angle), height / 2 + radius[1]! * Math.sin(angle)]);
  });
  const parts: SVGElement[] = [arrowHead("flow-head", "flow"), arrowHead("move-head", "move")];

  // What flows between nodes: all rooms of a pair are one line, the wider the more bytes.
  const flows = new Map<string, { from: string; to: string; bytes: number }>();
  for (const r of m.rooms) {
    for (const to of r.edges) {
      const key = `${r.relay}\n${to}`;
      const f = flows.get(key) ?? { from: r.relay, to, bytes: 0 };
      f.bytes += r.bytesRate;
      flows.set(key, f);
    }
  }
  for (const f of flows.values()) {
    const [a, b] = [places.get(f.from), places.get(f.to)];
    if (!a || !b) continue;
    const w = 1.5 + Math.min(7, Math.log10(1 + f.bytes) * 0.9);
    parts.push(make("path", { class: f.bytes > 0 ? "flow" : "flow still", d: bent(a, b, 26, 58), "stroke-width": w.toFixed(1), "marker-end": "url(#flow-head)" }));
  }

  // Rooms at their relays, on an arc below the node.
  const dots = new Map<string, At>();
  for (const n of m.nodes) {
    const at = places.get(n.name)!;
    const rooms = m.rooms.filter((r) => r.relay === n.name);
    const drawn = rooms.slice(0, maxDots);
    drawn.forEach((r, i) => {
      const angle = Math.PI * (0.06 + 0.88 * ((i + 0.5) / Math.max(drawn.length, 5)));
      dots.set(r.id, [at[0] - 64 * Math.cos(angle), at[1] + 50 * Math.sin(angle)]);
    });
    const more = (n.figures?.relayed ?? 0) - drawn.length;
    if (more > 0 && drawn.length === maxDots) parts.push(make("text", { class: "small", x: at[0], y: at[1] + 74 }, words.more(more)));
  }
  for (const r of m.rooms.filter((r) => dots.has(r.id)).slice(0, maxStandbys)) {
    for (const name of r.chain) {
      const at = places.get(name);
      if (at && name !== r.relay) parts.push(make("path", { class: "standby", d: `M${point(dots.get(r.id)!)} L${point(at)}` }));
    }
  }
  for (const n of m.nodes) parts.push(nodeOf(n, places.get(n.name)!, short, words));
  for (const [id, at] of dots) parts.push(dotOf(m.rooms.find((r) => r.id === id)!, at, now));

  // Takeovers: from who relayed a room to who does. Rooms that took the same way are one line.
  const moves = new Map<string, RoomNow[]>();
  for (const r of m.rooms) if (r.moved && now - r.moved < fresh) moves.set(`${r.from}\n${r.relay}`, [...(moves.get(`${r.from}\n${r.relay}`) ?? []), r]);
  for (const rooms of moves.values()) {
    const [a, b] = [places.get(rooms[0]!.from), places.get(rooms[0]!.relay)];
    if (!a || !b) continue;
    parts.push(make("path", { class: "move", d: bent(a, b, -30, 54), "marker-end": "url(#move-head)" }));
    const text = rooms.length === 1 ? rooms[0]!.id : `${rooms.length} ${words.rooms}`;
    parts.push(make("text", { class: "moved", x: (a[0] + b[0]) / 2, y: (a[1] + b[1]) / 2 - 22 }, text));
  }
  renew(svg, ...parts); // so that what moves goes on moving
}

function arrowHead(id: string, name: string): SVGElement {
  const m = make("marker", { id, viewBox: "0 0 8 8", refX: 6, refY: 4, markerWidth: 10, markerHeight: 10, markerUnits: "userSpaceOnUse", orient: "auto" });
  m.append(make("path", { class: `head ${name}-fill`, d: "M0 0 8 4 0 8z" }));
  return m;
}

function nodeOf(n: NodeNow, at: At, short: (n: number) => string, words: { rooms: string; dropped: string }): SVGElement {
  const g = make("g", { class: `node ${n.state}` });
  const [x, y] = at;
  g.append(
    make("rect", { x: x - 62, y: y - 36, width: 124, height: 72, rx: 14 }),
    make("text", { class: "name", x, y: y - 12 }, n.name.length > 14 ? `${n.name.slice(0, 13)}…` : n.name),
    make("text", { class: "small", x, y: y + 8 }, n.gone || !n.figures ? n.state.replaceAll("_", " ") : `${short(n.rates.out)}/s`),
    make("text", { class: "small", x, y: y + 26 }, n.figures && !n.gone ? `${n.figures.relayed} ${words.rooms}` : ""),
  );
  if (n.rates.dropped > 0) g.append(make("text", { class: "dropping", x, y: y - 44 }, `${words.dropped} ${short(n.rates.dropped)}/s`));
  return g;
}

function dotOf(r: RoomNow, [x, y]: At, now: number): SVGElement {
  const c = make("circle", {
    class: `room${r.moved && now - r.moved < fresh ? " taken" : ""}${r.framesRate > 0 ? "" : " idle"}`,
    cx: x.toFixed(1), cy: y.toFixed(1), r: (4 + Math.min(5, Math.log10(1 + r.bytesRate) * 0.7)).toFixed(1),
  });
  c.append(make("title", {}, `${r.id} ${r.owner}`));
  return c;
}
