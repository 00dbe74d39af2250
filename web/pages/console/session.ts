// One session: whose it is, how it is connected, what it subscribes to, and how far it is behind.

import { h } from "../shell/dom.js";
import { ask, get, of, Refused, type SessionDetail } from "./api.js";
import { ago, bytes, figures, link, renew, sure, t, Table, to } from "./parts.js";
import type { View } from "./view.js";

export const session: View = (root, c, node = "", id = "") => {
  const now = h("div");
  const rooms = new Table(t("subscribes"), [{ head: t("room") }], t("noRooms"));
  let account = "";
  const path = of(node, `sessions/${encodeURIComponent(id)}`);
  const actions = h("section", { class: "panel" }, h("h2", {}, t("actions")), h("div", { class: "row" }, h("button", { type: "button", class: "danger", onclick: () => void c.act(async () => {
    if (!(await sure(t("askCut", { account, id }), t("cut")))) return "";
    await ask("DELETE", path);
    return t("did", { what: `${t("cut")} ${id}` });
  }) }, t("cut"))));
  root.append(h("h1", {}, `${t("session")} ${id}`), h("section", { class: "panel" }, now), h("section", { class: "panel" }, h("h2", {}, t("rooms")), rooms.element), actions);
  return {
    async tick() {
      let d: SessionDetail;
      try {
        d = await get<SessionDetail>(path);
      } catch (e) {
        if (!(e instanceof Refused) || (e.status !== 404 && e.status !== 400)) throw e;
        renew(now, h("p", {}, t("noSession", { name: id, node })));
        rooms.fill([]);
        actions.hidden = true;
        return;
      }
      account = d.account;
      renew(now, figures([
        [t("account"), d.account], [t("node"), to(link.node(node), node)], [t("address"), d.addr], [t("by"), d.transport], [t("since"), ago(d.age_ms)],
        [t("subscribes"), d.subscriptions], [t("publishes"), d.publications], [t("lag"), ago(d.lag_ms)], [t("queued"), bytes(d.lag_bytes)],
      ]));
      rooms.fill(d.subscribes_to.map((r) => [to(link.room(r), r, true)]));
    },
  };
};
