// The cluster: the picture, its nodes, its busiest rooms, the last minutes, what has happened.

import { h } from "../shell/dom.js";
import { draw } from "./draw.js";
import type { Happened, RoomNow } from "./model.js";
import { ago, bytes, link, mark, short, t, Table, to, type Cell } from "./parts.js";
import { Plot } from "./plot.js";
import type { View } from "./view.js";

const maxListed = 20;
const maxShown = 40; // events

const names = (all: string[]): Cell => {
  const s = h("span");
  all.forEach((n, i) => s.append(i > 0 ? ", " : "", to(link.node(n), n)));
  return s;
};

/** A row of the busiest rooms. */
export const roomRow = (r: RoomNow): Cell[] => [
  to(link.room(r.id), r.id, true), r.owner, to(link.node(r.relay), r.relay), names(r.chain.filter((n) => n !== r.relay)), names(r.edges),
  r.subscribers, r.publishers, `${short(r.framesRate)}/s`, `${bytes(r.bytesRate)}/s`,
];

export const roomTable = (): Table => new Table(t("busiest"), [
  { head: t("room") }, { head: t("owner") }, { head: t("relay") }, { head: t("standbys") }, { head: t("edges") }, { head: t("subscribers"), number: true },
  { head: t("publishers"), number: true }, { head: t("frames"), number: true }, { head: t("rate"), number: true },
], t("noRooms"));

export const eventTable = (): Table => new Table(t("happened"), [{ head: t("time") }, { head: t("node") }, { head: t("event") }, { head: t("room") }], t("nothing"));

/** A row of what has happened. */
export function eventRow(e: Happened): Cell[] {
  const text = h("span", { class: e.warning ? "warning" : "" }, e.text);
  return [new Date(e.at).toLocaleTimeString(), to(link.node(e.node), e.node), text, e.room ? to(link.room(e.room), e.room, true) : ""];
}

export const cluster: View = (root, c) => {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "drawing");
  svg.setAttribute("role", "img");
  const nodes = new Table(t("nodes"), [
    { head: t("node") }, { head: t("state") }, { head: t("sessions"), number: true }, { head: t("relayed"), number: true }, { head: t("mirrored"), number: true },
    { head: t("in"), number: true }, { head: t("out"), number: true }, { head: t("dropped"), number: true }, { head: t("queued"), number: true }, { head: t("memory"), number: true }, { head: t("up"), number: true },
  ], "");
  const rooms = roomTable();
  const events = eventTable();
  const plots = [
    new Plot(t("framesIn"), (s) => s.in, short), new Plot(t("deliveries"), (s) => s.out, short), new Plot(t("drops"), (s) => s.dropped, short),
  ];
  root.append(
    h("h1", {}, t("cluster")),
    h("section", { class: "panel" }, svg as unknown as HTMLElement, h("p", { class: "hint" }, t("legend"))),
    h("section", { class: "panel" }, h("h2", {}, t("nodes")), nodes.element),
    h("div", { class: "plots" }, ...plots.map((p) => p.element)),
    h("section", { class: "panel" }, h("h2", {}, t("busiest")), rooms.element),
    h("section", { class: "panel" }, h("h2", {}, t("happened")), events.element),
  );
  return {
    tick() {
      const m = c.model;
      draw(svg, m, Date.now(), { rooms: t("rooms").toLowerCase(), dropped: t("dropped"), more: (n) => t("more", { n }), short });
      svg.setAttribute("aria-label", t("picture", { nodes: m.nodes.map((n) => `${n.name} ${n.state.replaceAll("_", " ")}`).join(", "), rooms: m.rooms.length }));
      nodes.fill(m.nodes.map((n) => {
        const f = n.gone ? undefined : n.figures;
        const s = h("span", {}, mark(n.state), n.self ? ` ${t("here")}` : "");
        return [
          to(link.node(n.name), n.name), s, f?.sessions ?? "", f?.relayed ?? "", f?.mirrored ?? "", `${short(n.rates.in)}/s`, `${short(n.rates.out)}/s`, `${short(n.rates.dropped)}/s`,
          f ? bytes(f.queued_bytes) : "", f ? bytes(f.memory_bytes) : "", f ? ago(f.uptime_ms) : "",
        ];
      }));
      rooms.fill(m.rooms.slice(0, maxListed).map(roomRow));
      events.fill(m.happened.slice(-maxShown).reverse().map(eventRow));
      for (const p of plots) p.show(m);
    },
    end: () => plots.forEach((p) => p.close()),
  };
};
