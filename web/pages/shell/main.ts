// The shell: header, account, languages, light and dark, and the page that the address names.

import { account } from "./account.js";
import { h, icon } from "./dom.js";
import { language, speak, words } from "./i18n.js";
import type { About } from "./page.js";
import { routes } from "./routes.js";
import "./style.css";

const t = words({
  skip: ["Skip to the content", "跳到内容"],
  home: ["Home", "首页"],
  lead: ["Live video and files, straight through this server. Nothing is stored.", "实时视频和文件，直接经由此服务器传送，不留存任何内容。"],
  theme: ["Light or dark", "浅色或深色"],
  missing: ["There is no such page.", "没有这个页面。"],
  broken: ["The page did not load. Load it again.", "页面未能加载，请刷新。"],
  pages: ["Pages", "页面"],
});

const themes = ["", "light", "dark"];

function showTheme(): void {
  document.documentElement.dataset.theme = localStorage.getItem("timedge.theme") ?? "";
}

function nextTheme(): void {
  const dark = document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  localStorage.setItem("timedge.theme", dark === "dark" ? themes[1]! : themes[2]!);
  showTheme();
}

const pick = (pair: readonly [string, string]): string => pair[language === "zh" ? 1 : 0];

async function main(): Promise<void> {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  showTheme();
  const about = (await (await fetch("/about.json")).json()) as About;
  const status = h("div", { class: "toast", role: "status" });
  let hide = 0;
  const tell = (text: string): void => {
    status.textContent = text;
    clearTimeout(hide);
    hide = window.setTimeout(() => (status.textContent = ""), 5000);
  };
  const who = account(about);
  const main = h("main", { id: "content", tabIndex: -1 });
  const nav = h("nav", { aria: { label: t("pages") } }, ...routes.map((r) =>
    h("a", { href: r.path, ...(location.pathname === r.path ? { aria: { current: "page" } } : {}) }, pick(r.title))));
  document.body.append(
    h("a", { class: "skip", href: "#content", onclick: (e) => { e.preventDefault(); main.focus(); } }, t("skip")),
    h("header", {},
      h("a", { class: "brand", href: "/", aria: { label: `timedge: ${t("home")}` } }, icon("M2 12h5l3-7 5 14 3-7h4"), h("span", {}, "timedge")),
      nav,
      h("div", { class: "tools" },
        who.element,
        h("button", { class: "quiet", type: "button", lang: language === "zh" ? "en" : "zh-CN", onclick: () => speak(language === "zh" ? "en" : "zh") }, language === "zh" ? "English" : "中文"),
        h("button", { class: "quiet", type: "button", title: t("theme"), aria: { label: t("theme") }, onclick: nextTheme }, icon("M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18")),
      ),
    ),
    main,
    status,
  );
  if (location.pathname === "/") {
    document.title = "timedge";
    main.append(h("h1", {}, "timedge"), h("p", { class: "lead" }, t("lead")), h("div", { class: "cards" }, ...routes.map((r) =>
      h("a", { class: "card", href: r.path }, icon(r.icon), h("h2", {}, pick(r.title)), h("p", {}, pick(r.about))))));
    return;
  }
  const route = routes.find((r) => r.path === location.pathname);
  if (!route) {
    main.append(h("h1", {}, t("missing")));
    return;
  }
  document.title = `${pick(route.title)} · timedge`;
  let leave = (): void => {};
  try {
    const { page } = await route.load();
    const show = (): void => {
      leave();
      main.replaceChildren();
      leave = page(main, { about, hash: decodeURIComponent(location.hash.slice(1)), account: who.name, dial: who.dial, tell });
    };
    show();
    addEventListener("hashchange", show);
    addEventListener("pagehide", () => leave());
  } catch (e) {
    console.error(e);
    main.append(h("h1", {}, t("broken")));
  }
}

void main();
