// One node: its figures, its rooms, what it tells, and what an operator does with it.

import { h } from "../shell/dom.js";
import { ask, of } from "./api.js";
import { eventRow, eventTable, roomRow, roomTable } from "./cluster.js";
import { ago, bytes, figures, link, mark, renew, short, sure, t, to } from "./parts.js";
import { Plot } from "./plot.js";
import type { View } from "./view.js";

export const node: View = (root, c, name = "") => {
  const now = h("div");
  const rooms = roomTable();
  const events = eventTable();
  const plots = [new Plot(t("framesIn"), (s) => s.in, short), new Plot(t("deliveries"), (s) => s.out, short), new Plot(t("drops"), (s) => s.dropped, short)];
  const level = h("select", { id: "level" }, ...["debug", "info", "warn", "error"].map((l) => h("option", { value: l, selected: l === "info" }, l)));
  const button = (text: string, f: () => Promise<string>, kind = "second"): HTMLElement => h("button", { type: "button", class: kind, onclick: () => void c.act(f) }, text);
  const does = async (method: string, path: string, what: string, body?: unknown): Promise<string> => {
    await ask(method, of(name, path), body);
    return t("did", { what });
  };
  const profile = h("span");
  const actions = h("section", { class: "panel" }, h("h2", {}, t("actions")),
    h("div", { class: "row" },
      button(t("drain"), async () => ((await sure(t("askDrain", { node: name }), t("drain"))) ? does("PUT", "drain", t("drain")) : ""), "danger"),
      button(t("undrain"), () => does("DELETE", "drain", t("undrain"))),
      button(t("reload"), async () => {
        const r = (await (await ask("POST", of(name, "reload"))).json()) as { taken: string[]; needs_restart: string[] };
        const all = (s: string[]): string => s.join(", ") || t("none");
        return t("reloaded", { taken: all(r.taken), restart: all(r.needs_restart) });
      }),
      profile),
    h("label", { htmlFor: "level" }, t("level")),
    h("div", { class: "row level" }, level, button(t("set"), () => does("PUT", "log-level", `${t("level")} ${level.value}`, { level: level.value }))));
  root.append(
    h("h1", {}, `${t("node")} ${name}`),
    h("section", { class: "panel" }, now),
    h("div", { class: "plots" }, ...plots.map((p) => p.element)),
    h("section", { class: "panel" }, h("h2", {}, t("busiest")), rooms.element),
    h("section", { class: "panel" }, h("h2", {}, t("happened")), events.element),
    actions,
  );
  // A profile is long: only the node that the page is from gives one.
  const offer = (): void => {
    if (profile.childElementCount > 0) return;
    profile.append(button(t("profile"), async () => {
      c.tell(t("profiling"));
      const blob = await (await ask("POST", "profile?seconds=10")).blob();
      const a = h("a", { href: URL.createObjectURL(blob), download: `${name}.pprof` });
      a.click();
      setTimeout(() => URL.revokeObjectURL(a.href), 60_000);
      return t("did", { what: t("profile") });
    }));
  };
  return {
    tick() {
      const n = c.model.nodes.find((n) => n.name === name);
      actions.hidden = !n || n.gone > 0;
      events.fill(c.model.happened.filter((e) => e.node === name).slice(-40).reverse().map(eventRow));
      if (!n) {
        renew(now, h("p", {}, t("noNode", { name })));
        return;
      }
      if (n.self) offer();
      const f = n.figures;
      renew(now, figures([
        [t("state"), mark(n.state)], ...(n.addr ? [[t("address"), n.addr] as const] : []),
        ...(f && !n.gone ? ([
          [t("version"), f.version], [t("up"), ago(f.uptime_ms)], [t("sessions"), to(link.sessions(name), String(f.sessions))], [t("relayed"), f.relayed], [t("mirrored"), f.mirrored],
          [t("in"), `${short(n.rates.in)}/s, ${bytes(n.rates.bytesIn)}/s`], [t("out"), `${short(n.rates.out)}/s, ${bytes(n.rates.bytesOut)}/s`], [t("dropped"), `${short(n.rates.dropped)}/s, ${short(f.dropped_frames)}`],
          [t("memory"), `${bytes(f.memory_bytes)} / ${bytes(f.memory_bound)}`], [t("queued"), bytes(f.queued_bytes)], [t("cutOff"), f.cut_off], [t("takeovers"), f.takeovers], [t("panics"), f.panics],
        ] as const) : []),
      ]), ...(f?.reasons ?? []).map((r) => h("p", { class: "warning" }, r)), ...(n.error ? [h("p", { class: "warning" }, n.error)] : []));
      rooms.fill(c.model.rooms.filter((r) => r.relay === name || r.edges.includes(name)).map(roomRow));
      for (const p of plots) p.show(c.model, name);
    },
    end: () => plots.forEach((p) => p.close()),
  };
};
