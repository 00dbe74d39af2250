// Rooms and sessions of all nodes: searched, sorted.

import { h } from "../shell/dom.js";
import { get, of, type Page, type Room, type Session } from "./api.js";
import { ago, bytes, link, t, Table, to, type Cell } from "./parts.js";
import type { Console, View } from "./view.js";

const perNode = 100;

interface Column<T> { head: string; key?: string; number?: boolean; cell: (item: T & { node: string }) => Cell }

/** A list that every node is asked for. What a search finds in more than one node is shown once for each. */
function list<T>(c: Console, title: string, path: string, q: string, columns: Array<Column<T>>, first: string, none: string, keep: (item: T) => boolean): { element: HTMLElement; tick(): Promise<void> } {
  let sort = first;
  const order = (key: string): void => {
    sort = sort === `-${key}` ? key : `-${key}`;
    void tick();
  };
  const table = new Table(title, columns.map(({ head, key, number }) => ({
    head, ...(number ? { number } : {}),
    ...(key ? { sort: () => order(key), sorted: () => (sort === key ? "ascending" : sort === `-${key}` ? "descending" : "none") as "ascending" } : {}),
  })), none);
  const note = h("p", { class: "hint" });
  const tick = async (): Promise<void> => {
    const query = new URLSearchParams({ search: q, sort, per_page: String(perNode) });
    const answers = await Promise.all(c.model.nodes.filter((n) => !n.gone && n.figures).map(async (n) => {
      const p = await get<Page<T>>(of(n.name, `${path}?${query}`)).catch(() => undefined); // it may be going
      return { node: n.name, total: p?.total ?? 0, items: p?.items ?? [] };
    }));
    const turned = sort.startsWith("-") ? -1 : 1;
    const key = columns.find((col) => col.key === sort.replace("-", ""));
    const all = answers.flatMap((a) => a.items.filter(keep).map((i) => ({ ...i, node: a.node })));
    // Each node has sorted its own; the order of all is that of what is shown.
    const value = (i: T & { node: string }): string | number => (key ? sortValue(i, sort.replace("-", "")) : 0);
    all.sort((a, b) => turned * (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0));
    table.fill(all.slice(0, perNode).map((i) => columns.map((col) => col.cell(i))));
    const total = answers.reduce((sum, a) => sum + a.total, 0);
    note.textContent = total > Math.min(all.length, perNode) && all.length >= perNode ? t("shown", { n: Math.min(all.length, perNode), total }) : "";
  };
  return { element: h("section", { class: "panel" }, h("h2", {}, title), table.element, note), tick };
}

/** The field that a list is sorted by under a key of the API's. */
function sortValue(item: unknown, key: string): string | number {
  const fields: Record<string, string> = { age: "age_ms", idle: "idle_ms", lag: "lag_ms" };
  return (item as Record<string, string | number>)[fields[key] ?? key] ?? 0;
}

const roomList = (c: Console, q: string) => list<Room>(c, t("rooms"), "rooms", q, [
  { head: t("room"), key: "id", cell: (r) => to(link.room(r.id), r.id, true) },
  { head: t("owner"), key: "owner", cell: (r) => r.owner },
  { head: t("relay"), cell: (r) => to(link.node(r.node), r.node) },
  { head: t("policy"), cell: (r) => r.policy },
  { head: t("subscribers"), key: "subscribers", number: true, cell: (r) => r.subscribers },
  { head: t("publishers"), key: "publishers", number: true, cell: (r) => r.publishers },
  { head: t("frames"), key: "frames", number: true, cell: (r) => r.frames },
  { head: t("size"), key: "bytes", number: true, cell: (r) => bytes(r.bytes) },
  { head: t("lastPush"), key: "idle", number: true, cell: (r) => ago(r.idle_ms) },
  { head: t("age"), key: "age", number: true, cell: (r) => ago(r.age_ms) },
], "-bytes", t("noRooms"), (r) => r.role === "relay");

const sessionList = (c: Console, q: string) => list<Session>(c, t("sessions"), "sessions", q, [
  { head: t("session"), key: "id", cell: (s) => to(link.session(s.node, s.id), String(s.id)) },
  { head: t("account"), key: "account", cell: (s) => s.account },
  { head: t("node"), cell: (s) => to(link.node(s.node), s.node) },
  { head: t("address"), cell: (s) => s.addr },
  { head: t("by"), cell: (s) => s.transport },
  { head: t("since"), key: "age", number: true, cell: (s) => ago(s.age_ms) },
  { head: t("subscribes"), key: "subscriptions", number: true, cell: (s) => s.subscriptions },
  { head: t("publishes"), key: "publications", number: true, cell: (s) => s.publications },
  { head: t("lag"), key: "lag", number: true, cell: (s) => ago(s.lag_ms) },
  { head: t("queued"), number: true, cell: (s) => bytes(s.lag_bytes) },
], "-lag", t("noSessions"), () => true);

const view = (title: string, lists: Array<(c: Console, q: string) => { element: HTMLElement; tick(): Promise<void> }>): View => (root, c, q = "") => {
  const all = lists.map((l) => l(c, q));
  root.append(h("h1", {}, q ? t("found", { what: q }) : title), ...all.map((l) => l.element));
  return {
    async tick() {
      await Promise.all(all.map((l) => l.tick()));
    },
  };
};

export const rooms = view(t("rooms"), [roomList]);
export const sessions = view(t("sessions"), [sessionList]);
export const find = view(t("find"), [roomList, sessionList]);
