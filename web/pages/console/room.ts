// One room: who relays it and stands by, what flows, who publishes, who subscribes and how far each is behind.

import { h } from "../shell/dom.js";
import { ask, get, of, Refused, type RoomDetail, type Subscriber } from "./api.js";
import { ago, bytes, figures, link, mark, renew, short, sure, t, Table, to, type Cell } from "./parts.js";
import type { View } from "./view.js";

const maxReaders = 200;

export const room: View = (root, c, id = "") => {
  const now = h("div");
  const nodes = new Table(t("nodes"), [{ head: t("node") }, { head: t("role") }, { head: t("subscribers"), number: true }, { head: t("publishers"), number: true }], t("none"));
  const writers = new Table(t("publishers"), [{ head: t("account") }, { head: t("node") }, { head: t("actions") }], t("none"));
  const streams = new Table(t("streams"), [{ head: t("account") }, { head: t("dtype"), number: true }, { head: t("next"), number: true }, { head: t("log"), number: true }], t("none"));
  const readers = new Table(t("subscribers"), [
    { head: t("session") }, { head: t("account") }, { head: t("node") }, { head: t("address") }, { head: t("lag"), number: true }, { head: t("queued"), number: true },
  ], t("none"));
  const path = `rooms/${encodeURIComponent(id)}`;
  const grant = (method: string, account: string): Promise<Response> => ask(method, `${path}/grants/${encodeURIComponent(account)}`);
  const account = h("input", { id: "grant", maxLength: 128, required: true, autocomplete: "off" });
  const actions = h("section", { class: "panel" }, h("h2", {}, t("actions")),
    h("form", { onsubmit: (e) => {
      e.preventDefault();
      void c.act(async () => {
        await grant("PUT", account.value);
        return t("did", { what: `${t("grant")} ${account.value}` });
      });
    } }, h("label", { htmlFor: "grant" }, t("account")), h("div", { class: "row" }, h("div", { class: "grow" }, account), h("button", { class: "second" }, t("grant")))),
    h("div", { class: "row apart" }, h("button", { type: "button", class: "danger", onclick: () => void c.act(async () => {
      if (!(await sure(t("askClose", { room: id }), t("closeRoom")))) return "";
      await ask("DELETE", path);
      return t("did", { what: t("closeRoom") });
    }) }, t("closeRoom"))));
  const part = (title: string, what: Table): HTMLElement => h("section", { class: "panel" }, h("h2", {}, title), what.element);
  root.append(h("h1", { class: "mono" }, id), h("section", { class: "panel" }, now), part(t("nodes"), nodes), part(t("publishers"), writers), part(t("streams"), streams), part(t("subscribers"), readers), actions);

  const revoke = (who: string): Cell => h("button", { type: "button", class: "second", data: { key: `revoke ${who}` }, onclick: () => void c.act(async () => {
    if (!(await sure(t("askRevoke", { account: who }), t("revoke")))) return "";
    await grant("DELETE", who);
    return t("did", { what: `${t("revoke")} ${who}` });
  }) }, t("revoke"));

  return {
    async tick() {
      let d: RoomDetail;
      try {
        d = await get<RoomDetail>(path);
      } catch (e) {
        if (!(e instanceof Refused) || (e.status !== 404 && e.status !== 400)) throw e;
        renew(now, h("p", {}, t("noRoom", { name: id })));
        actions.hidden = true;
        return;
      }
      actions.hidden = false;
      // Figures and streams are the relay's word; each node knows its own subscribers.
      const parts = await Promise.all(d.nodes.filter((n) => n.role !== "standby" || n.subscribers > 0).map(async (n) => ({ node: n.node, d: await get<RoomDetail>(of(n.node, path)).catch(() => undefined) })));
      const relay = parts.find((p) => p.node === d.relay)?.d ?? d;
      const flow = c.model.rooms.find((r) => r.id === id);
      const standbys = h("span");
      (d.chain ?? []).filter((n) => n !== d.relay).forEach((n, i) => standbys.append(i > 0 ? ", " : "", to(link.node(n), n)));
      renew(now, figures([
        [t("owner"), d.owner], [t("policy"), d.policy], [t("relay"), d.relay ? to(link.node(d.relay), d.relay) : t("none")], [t("standbys"), standbys],
        ...(d.epoch ? [[t("epoch"), d.epoch] as const] : []), [t("frames"), relay.frames], [t("size"), bytes(relay.bytes)],
        ...(flow ? [[t("rate"), `${short(flow.framesRate)}/s, ${bytes(flow.bytesRate)}/s`] as const] : []), [t("lastPush"), ago(relay.idle_ms)], [t("age"), ago(relay.age_ms)],
      ]));
      nodes.fill(d.nodes.map((n) => [to(link.node(n.node), n.node), mark(n.role), n.subscribers, n.publishers]));
      writers.fill(d.publishers_by_relay.map((p) => [p.account, p.node ? to(link.node(p.node), p.node) : t("away"), p.account === d.owner ? "" : revoke(p.account)]));
      streams.fill(relay.streams.map((s) => [s.account, s.dtype, s.next, bytes(s.log_bytes)]));
      const all = parts.flatMap((p) => (p.d?.subscribers_here ?? []).map((s): Subscriber & { node: string } => ({ ...s, node: p.node })));
      all.sort((a, b) => b.lag_ms - a.lag_ms || b.lag_bytes - a.lag_bytes || (a.account < b.account ? -1 : 1));
      readers.fill(all.slice(0, maxReaders).map((s) => [
        s.of_other_node ? `${t("another")} (${s.account})` : to(link.session(s.node, s.session), String(s.session)), s.of_other_node ? "" : s.account, to(link.node(s.node), s.node), s.addr, ago(s.lag_ms), bytes(s.lag_bytes),
      ]));
    },
  };
};
