// The cluster as a picture: nodes in a ring, each a box with the rooms that it relays; what flows from relays to other nodes; who stands
// by; takeovers for as long as they are fresh. All it shows is in the tables below it, too.

import { fresh, type Model, type NodeNow, type RoomNow } from "./model.js";
import { renew } from "./parts.js";

const ns = "http://www.w3.org/2000/svg";
const [halfWidth, halfHeight] = [66, 52]; // of a node's box
const perRow = 7; // rooms beside each other in a box
const maxDots = 2 * perRow;
const maxStandbys = 8; // busiest rooms whose standbys are drawn
const narrow = 600; // pixels: a phone

type At = readonly [x: number, y: number];

/** What words the picture has. */
export interface Words { rooms: string; dropped: string; more: (n: number) => string; short: (n: number) => string }

function make(tag: string, attributes: Record<string, string | number>, text?: string): SVGElement {
  const e = document.createElementNS(ns, tag);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, String(v));
  if (text !== undefined) e.textContent = text;
  return e;
}

const point = ([x, y]: At): string => `${x.toFixed(1)} ${y.toFixed(1)}`;

/** Where n nodes are, around 0, so that no box covers another; and how wide the picture is. */
function ring(n: number, phone: boolean): { at: At[]; width: number } {
  const at = [...Array(n).keys()];
  if (n === 1) return { at: [[0, 0]], width: phone ? 400 : 900 };
  if (phone && n > 4) return { at: at.map((i) => [i % 2 === 0 ? -110 : 110, Math.floor(i / 2) * 150]), width: 440 }; // a ring would not fit
  const apart = Math.sin((2 * Math.PI) / Math.max(n, 4));
  const [rx, ry] = phone ? [140, 160] : [Math.max(300, (2.2 * halfWidth) / apart), Math.max(130, n > 4 ? (2.3 * halfHeight) / apart : 0)];
  const places = at.map((i): At => {
    const angle = -Math.PI / 2 + (2 * Math.PI * i) / n;
    return [rx * Math.cos(angle), ry * Math.sin(angle)];
  });
  return { at: places, width: phone ? 440 : 2 * rx + 300 };
}

/** A line from a box to another, bent to one side so that the one back lies beside it. `half` is its middle. */
function line(a: At, b: At, bend: number): { d: string; half: At } {
  const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
  const long = Math.hypot(dx, dy) || 1;
  const [ux, uy] = [dx / long, dy / long];
  const covered = Math.min(halfWidth / Math.max(Math.abs(ux), 1e-6), halfHeight / Math.max(Math.abs(uy), 1e-6)) + 6; // by the boxes
  const aside = Math.sign(bend) * 9;
  const at = (along: number, across: number): At => [a[0] + ux * along - uy * across, a[1] + uy * along + ux * across];
  const d = `M${point(at(covered, aside))} Q${point(at(long / 2, aside + bend))} ${point(at(long - covered, aside))}`;
  return { d, half: at(long / 2, aside + bend / 2) };
}

/** Draws what is known now into an svg element. */
export function draw(svg: SVGSVGElement, m: Model, now: number, words: Words): void {
  const { at, width } = ring(m.nodes.length, svg.clientWidth > 0 && svg.clientWidth < narrow);
  const places = new Map(m.nodes.map((n, i) => [n.name, at[i]!]));
  const ys = at.map(([, y]) => y);
  const top = Math.min(...ys, 0) - halfHeight - 24;
  svg.setAttribute("viewBox", `${-width / 2} ${top} ${width} ${Math.max(...ys, 0) + halfHeight + 24 - top}`);
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
    parts.push(make("path", { class: f.bytes > 0 ? "flow" : "flow still", d: line(a, b, 14).d, "stroke-width": w.toFixed(1), "marker-end": "url(#flow-head)" }));
  }

  const dots = new Map<string, At>(); // rooms, in their relays' boxes
  for (const n of m.nodes) {
    const [x, y] = places.get(n.name)!;
    const rooms = m.rooms.filter((r) => r.relay === n.name).slice(0, maxDots);
    rooms.forEach((r, i) => {
      const row = Math.floor(i / perRow);
      const inRow = Math.min(rooms.length - row * perRow, perRow);
      dots.set(r.id, [x + ((i % perRow) - (inRow - 1) / 2) * 17, y + 25 + row * 16]);
    });
    const more = (n.figures?.relayed ?? 0) - rooms.length;
    if (more > 0 && rooms.length === maxDots) parts.push(make("text", { class: "small", x, y: y + halfHeight + 16 }, words.more(more)));
  }
  for (const r of m.rooms.filter((r) => dots.has(r.id)).slice(0, maxStandbys)) {
    for (const name of r.chain) {
      const to = places.get(name);
      if (to && name !== r.relay) parts.push(make("path", { class: "standby", d: `M${point(dots.get(r.id)!)} L${point(to)}` }));
    }
  }
  for (const n of m.nodes) parts.push(nodeOf(n, places.get(n.name)!, words));
  for (const [id, at] of dots) parts.push(dotOf(m.rooms.find((r) => r.id === id)!, at, now));

  // Takeovers: from who relayed a room to who does. Rooms that took the same way are one line.
  const moves = new Map<string, RoomNow[]>();
  for (const r of m.rooms) if (r.moved && now - r.moved < fresh) moves.set(`${r.from}\n${r.relay}`, [...(moves.get(`${r.from}\n${r.relay}`) ?? []), r]);
  for (const rooms of moves.values()) {
    const [a, b] = [places.get(rooms[0]!.from), places.get(rooms[0]!.relay)];
    if (!a || !b) continue;
    const { d, half } = line(a, b, -30);
    parts.push(make("path", { class: "move", d, "marker-end": "url(#move-head)" }));
    parts.push(make("text", { class: "moved", x: half[0].toFixed(1), y: (half[1] + 4).toFixed(1) }, rooms.length === 1 ? rooms[0]!.id : `${rooms.length} ${words.rooms}`));
  }
  renew(svg, ...parts); // so that what moves goes on moving
}

function arrowHead(id: string, name: string): SVGElement {
  const m = make("marker", { id, viewBox: "0 0 8 8", refX: 6, refY: 4, markerWidth: 10, markerHeight: 10, markerUnits: "userSpaceOnUse", orient: "auto" });
  m.append(make("path", { class: `head ${name}-fill`, d: "M0 0 8 4 0 8z" }));
  return m;
}

function nodeOf(n: NodeNow, [x, y]: At, words: Words): SVGElement {
  const g = make("g", { class: `node ${n.state}` });
  const there = n.figures && !n.gone;
  g.append(
    make("rect", { x: x - halfWidth, y: y - halfHeight, width: 2 * halfWidth, height: 2 * halfHeight, rx: 14 }),
    make("text", { class: "name", x, y: y - 30 }, n.name.length > 14 ? `${n.name.slice(0, 13)}…` : n.name),
    make("text", { class: "small", x, y: y - 11 }, there ? `${words.short(n.rates.out)}/s` : n.state.replaceAll("_", " ")),
    make("text", { class: "small", x, y: y + 7 }, there ? `${n.figures!.relayed} ${words.rooms}` : ""),
  );
  if (n.rates.dropped > 0) g.append(make("text", { class: "dropping", x, y: y - halfHeight - 8 }, `${words.dropped} ${words.short(n.rates.dropped)}/s`));
  return g;
}

function dotOf(r: RoomNow, [x, y]: At, now: number): SVGElement {
  const c = make("circle", {
    class: `room${r.moved && now - r.moved < fresh ? " taken" : ""}${r.framesRate > 0 ? "" : " idle"}`,
    cx: x.toFixed(1), cy: y.toFixed(1), r: (3.5 + Math.min(4, Math.log10(1 + r.bytesRate) * 0.6)).toFixed(1),
  });
  c.append(make("title", {}, `${r.id} ${r.owner}`));
  return c;
}
