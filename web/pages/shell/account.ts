// Who the visitor is: a guest's name on an open server, else an account with its token, kept for the session of the tab.

import { dial, type Client, type Options } from "@timedge/sdk";
import { h } from "./dom.js";
import { words } from "./i18n.js";
import type { About, Shell } from "./page.js";

const t = words({
  name: ["Name", "名称"],
  token: ["Token", "令牌"],
  use: ["Use", "使用"],
  cancel: ["Cancel", "取消"],
  forget: ["Sign out", "退出"],
  signIn: ["Sign in", "登录"],
  who: ["Account", "账户"],
  openHint: ["Others see this name. This server asks for no proof.", "其他人会看到这个名称。此服务器不要求证明。"],
  tokenHint: ["This server asks for an account and its token. They are kept until the tab is closed.", "此服务器需要账户和令牌，关闭标签页后即清除。"],
  bad: ["1 to 128 bytes without spaces and commas; neither * nor # first", "1 至 128 字节，不含空格和逗号，不以 * 或 # 开头"],
});

const kept = "timedge.account";

interface Kept {
  name: string;
  token: string;
}

function guestName(): string {
  const letters = "abcdefghjkmnpqrstuvwxyz23456789";
  return `guest-${[...crypto.getRandomValues(new Uint8Array(6))].map((b) => letters[b % letters.length]).join("")}`;
}

/** What the protocol calls an account. */
function allowed(name: string): boolean {
  return new TextEncoder().encode(name).length <= 128 && /^[^*#\s,][^\s,\p{C}]*$/u.test(name);
}

export interface Account extends Pick<Shell, "dial"> {
  element: HTMLElement;
  name(): string;
}

export function account(about: About): Account {
  let who = JSON.parse(sessionStorage.getItem(kept) ?? "null") as Kept | null;
  if (!who && about.open) sessionStorage.setItem(kept, JSON.stringify((who = { name: guestName(), token: "" })));

  const name = h("input", { id: "account-name", autocomplete: "username", required: true, maxLength: 128, value: who?.name ?? "" });
  const token = h("input", { id: "account-token", type: "password", autocomplete: "current-password", required: !about.open, value: "" });
  const wrong = h("p", { class: "error", id: "account-error", role: "alert" });
  const button = h("button", { class: "quiet who", type: "button", onclick: () => dialog.showModal() });
  const forget = h("button", { type: "button", class: "quiet", onclick: () => {
    sessionStorage.removeItem(kept);
    location.reload();
  } }, t("forget"));
  const dialog: HTMLDialogElement = h("dialog", { aria: { labelledby: "account-title" } },
    h("form", { method: "dialog", onsubmit: (e) => {
      e.preventDefault();
      if (!allowed(name.value)) {
        wrong.textContent = t("bad");
        return;
      }
      sessionStorage.setItem(kept, JSON.stringify({ name: name.value, token: token.value }));
      location.reload(); // with the name, everything begins anew
    } },
      h("h2", { id: "account-title" }, t("who")),
      h("p", { class: "hint" }, about.open ? t("openHint") : t("tokenHint")),
      h("label", { htmlFor: "account-name" }, t("name")), name,
      ...(about.open ? [] : [h("label", { htmlFor: "account-token" }, t("token")), token]),
      wrong,
      h("div", { class: "row" }, h("button", { type: "submit" }, t("use")), h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, t("cancel")),
        !about.open && Boolean(who) && forget),
    ),
  );
  button.textContent = who?.name ?? t("signIn");
  button.title = t("who");

  return {
    element: h("div", {}, button, dialog),
    name: () => who?.name ?? "",
    dial: ({ guest, ...o } = {}): Promise<Client> => {
      const servers = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/`;
      const options: Options = { servers, account: who?.name ?? "", token: who?.token ?? "", ...o };
      if (who || (guest && about.guests)) return dial(options);
      dialog.showModal();
      return new Promise(() => {}); // signing in loads the page anew
    },
  };
}
