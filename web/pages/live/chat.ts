import { h } from "../shell/dom.js";
import { words } from "../shell/i18n.js";

const t = words({
  chat: ["Chat", "聊天"],
  write: ["Say something", "说点什么"],
  send: ["Send", "发送"],
  nothing: ["Nobody has said anything yet.", "还没有人发言。"],
  guest: ["Sign in to write.", "登录后可发言。"],
  refused: ["It was not sent: this server does not let you write here.", "未发送：此服务器不允许您在此发言。"],
});

/** So many lines stay on the page. */
const maxLines = 200;

export interface Chat {
  element: HTMLElement;
  add(from: string, text: string): void;
}

/** Makes the chat beside a picture; `note` is what who writes should know. */
export function chat(may: boolean, say: (text: string) => Promise<void>, note = ""): Chat {
  const none = h("p", { class: "hint" }, t("nothing"));
  const lines = h("div", { class: "lines", role: "log", tabIndex: 0, aria: { label: t("chat") } }, none);
  const input = h("input", { maxLength: 500, placeholder: t("write"), autocomplete: "off", aria: { label: t("write") } });
  const wrong = h("p", { class: "error", role: "alert" });
  const form = h("form", { class: "row say", onsubmit: (e) => {
    e.preventDefault();
    const text = input.value.trim();
    if (text === "") return;
    wrong.textContent = "";
    say(text).then(() => (input.value = ""), () => (wrong.textContent = t("refused")));
  } }, h("div", { class: "grow" }, input), h("button", { type: "submit", class: "second" }, t("send")));
  return {
    element: h("section", { class: "panel chat" }, h("h2", {}, t("chat")), lines, may ? form : h("p", { class: "hint" }, t("guest")), note !== "" && h("p", { class: "hint" }, note), wrong),
    add: (from, text) => {
      none.remove();
      const end = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 40;
      lines.append(h("p", {}, h("b", {}, from), " ", text));
      while (lines.childElementCount > maxLines) lines.firstElementChild!.remove();
      if (end) lines.scrollTop = lines.scrollHeight;
    },
  };
}
