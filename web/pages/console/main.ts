// The console: header, search, the operator's token, and the view that the address names. It asks the node that it is from, about once a
// second while somebody looks, and nobody else.

import { h, icon } from "../shell/dom.js";
import { language, speak } from "../shell/i18n.js";
import { get, Refused, token, type ClusterNode } from "./api.js";
import { cluster } from "./cluster.js";
import { find, rooms, sessions } from "./lists.js";
import { Model } from "./model.js";
import { node } from "./node.js";
import { link, t } from "./parts.js";
import { room } from "./room.js";
import { session } from "./session.js";
import type { Console, View } from "./view.js";
import "../shell/style.css";
import "./console.css";

const every = 1000;

const views: Record<string, View> = { "": cluster, node, room, session, rooms, sessions, find };

/** Reads "#/room/ID" or "#/rooms?what". */
function route(): [name: string, names: string[]] {
  const [path = "", query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name = "", ...names] = path.split("/").map((s) => decodeURIComponent(s));
  return [name, query === undefined ? names : [decodeURIComponent(query)]];
}

function showTheme(): void {
  document.documentElement.dataset.theme = localStorage.getItem("timedge.theme") ?? "";
}

function nextTheme(): void {
  const dark = document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  localStorage.setItem("timedge.theme", dark === "dark" ? "light" : "dark");
  showTheme();
}

/** The button and dialog by which an operator gives the token. */
function operator(tell: (text: string) => void): { element: HTMLElement; open: () => void } {
  const input = h("input", { id: "token", type: "password", autocomplete: "current-password", required: true });
  const button = h("button", { class: "quiet", type: "button" });
  const name = (): void => void (button.textContent = token.get() ? t("operator") : t("signIn"));
  const out = h("button", { type: "button", class: "quiet", onclick: () => {
    token.set("");
    location.reload();
  } }, t("signOut"));
  const dialog: HTMLDialogElement = h("dialog", { aria: { labelledby: "token-title" } }, h("form", { onsubmit: (e) => {
    e.preventDefault();
    token.set(input.value.trim());
    input.value = "";
    name();
    dialog.close();
    tell(t("tokenUsed"));
  } },
    h("h2", { id: "token-title" }, t("operator")), h("p", { class: "hint" }, t("tokenHint")), h("label", { htmlFor: "token" }, t("token")), input,
    h("div", { class: "row" }, h("button", { type: "submit" }, t("use")), h("button", { type: "button", class: "second", onclick: () => dialog.close() }, t("cancel")), out)));
  const open = (): void => {
    out.hidden = !token.get();
    if (!dialog.open) dialog.showModal();
  };
  button.onclick = open;
  name();
  return { element: h("div", {}, button, dialog), open };
}

function main(): void {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  showTheme();
  const status = h("div", { class: "toast", role: "status" });
  let hide = 0;
  const tell = (text: string): void => {
    status.textContent = text;
    clearTimeout(hide);
    hide = window.setTimeout(() => (status.textContent = ""), 6000);
  };
  const who = operator(tell);
  const model = new Model();
  const c: Console = {
    model, tell,
    async act(f) {
      try {
        const text = await f();
        if (text) tell(text);
      } catch (e) {
        tell(t("refused", { why: e instanceof Error ? e.message : String(e) }));
        if (e instanceof Refused && e.status === 401) who.open();
      }
    },
  };
  const banner = h("p", { class: "banner", role: "alert" });
  const content = h("main", { id: "content", tabIndex: -1 });
  const nav = h("nav", { aria: { label: t("views") } });
  const what = h("input", { type: "search", id: "search", placeholder: t("search"), aria: { label: t("search") } });
  document.body.append(
    h("a", { class: "skip", href: "#content", onclick: (e) => { e.preventDefault(); content.focus(); } }, t("skip")),
    h("header", {},
      h("a", { class: "brand", href: link.cluster, aria: { label: `${t("name")}: ${t("cluster")}` } }, icon("M2 12h5l3-7 5 14 3-7h4"), h("span", {}, t("name"))),
      nav,
      h("form", { role: "search", class: "find", onsubmit: (e) => {
        e.preventDefault();
        location.hash = `#/find?${encodeURIComponent(what.value.trim())}`;
      } }, what),
      h("div", { class: "tools" },
        who.element,
        h("button", { class: "quiet", type: "button", lang: language === "zh" ? "en" : "zh-CN", onclick: () => speak(language === "zh" ? "en" : "zh") }, language === "zh" ? "English" : "中文"),
        h("button", { class: "quiet", type: "button", title: t("theme"), aria: { label: t("theme") }, onclick: nextTheme }, icon("M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18")),
      ),
    ),
    banner, content, status,
  );

  let view: ReturnType<View> = { tick() {} };
  const say = (e: unknown): void => {
    const bad = e instanceof Refused ? e : undefined;
    banner.textContent = !bad ? String(e) : bad.status === 0 ? t("silent", { why: t("noAnswer") }) : bad.message;
    if (bad?.status === 401 && !token.get()) who.open();
  };
  const look = async (): Promise<void> => {
    try {
      model.take(await get<ClusterNode[]>("cluster"), Date.now(), (room, from, to) => t("tookOver", { room, from, to }), (node) => t("went", { node }));
      await view.tick();
      banner.textContent = "";
    } catch (e) {
      say(e);
    }
  };
  const show = (): void => {
    view.end?.();
    const [name, names] = route();
    what.value = name === "find" ? (names[0] ?? "") : "";
    const links = [["", link.cluster, t("cluster")], ["rooms", link.rooms(), t("rooms")], ["sessions", link.sessions(), t("sessions")]] as const;
    nav.replaceChildren(...links.map(([n, href, text]) => h("a", { href, ...(n === name ? { aria: { current: "page" } } : {}) }, text)));
    content.replaceChildren();
    view = (views[name] ?? cluster)(content, c, ...names);
    const title = content.querySelector("h1")?.textContent ?? "";
    document.title = `${title} · ${t("name")}`;
    if (model.begun) void Promise.resolve(view.tick()).catch(say);
  };
  addEventListener("hashchange", () => {
    show();
    content.focus(); // who listens hears the new view
    scrollTo(0, 0);
  });
  show();
  const run = async (): Promise<void> => {
    if (!document.hidden) await look();
    setTimeout(() => void run(), every);
  };
  void run();
}

main();
