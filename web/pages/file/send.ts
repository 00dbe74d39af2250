// Without a room in the address: choose files and say who gets them, or enter a code.

import { everyone, parseRoom, type Client } from "@timedge/sdk";
import { encrypted, formatHash, formatLinkKey, Keys, newLinkKey, parseLinkKey } from "@timedge/sdk/e2ee";
import { qr } from "../live/qr.js";
import { keepAwake } from "../shell/awake.js";
import { h, icon } from "../shell/dom.js";
import { bytes } from "../shell/i18n.js";
import type { Shell } from "../shell/page.js";
import type { Disk } from "./disk.js";
import { fileList, meter } from "./parts.js";
import { Sender } from "./sender.js";
import { heard, hex, say } from "./wire.js";
import { count, t, why } from "./words.js";

const kept = "timedge.file.sending";

interface Chosen {
  name: string;
  file: File;
}

/** Fills the page. What ends it goes to `ends`. */
export async function send(root: HTMLElement, shell: Shell, disk: Disk, dial: (account?: string) => Promise<Client>, ends: Array<() => void>): Promise<void> {
  const before = JSON.parse(sessionStorage.getItem(kept) ?? "null") as { room: string; key?: string; files: Array<{ name: string; size: number }> } | null;
  const stage = h("div");
  const take = (list: FileList | null): void => {
    const files = [...(list ?? [])].map((file) => ({ name: file.webkitRelativePath || file.name, file })).sort((a, b) => (a.name < b.name ? -1 : 1));
    if (files.length === 0) return;
    const same = before && before.files.length === files.length && before.files.every((f, i) => f.name === files[i]!.name && f.size === files[i]!.file.size);
    if (before && !same) {
      wrong.textContent = t("other", { names: before.files.map((f) => f.name).join(", ") });
      sessionStorage.removeItem(kept);
      return;
    }
    const key = before ? before.key && parseLinkKey(before.key) : seal.checked && newLinkKey();
    void begin(files, before?.room, key ? new Keys(key) : undefined).catch((e: unknown) => shell.tell(t("failed", { why: why(e) })));
  };
  const wrong = h("p", { class: "error", role: "alert" });
  const input = h("input", { type: "file", multiple: true, class: "sr", id: "files", tabIndex: -1, aria: { label: t("choose") }, onchange: () => take(input.files) });
  const folder = h("input", { type: "file", webkitdirectory: true, class: "sr", id: "folder", tabIndex: -1, aria: { label: t("folder") }, onchange: () => take(folder.files) });
  const seal = h("input", { type: "checkbox", id: "seal" });
  const drop = h("div", { class: "panel drop" },
    icon("M12 16V4m0 0L7 9m5-5l5 5M4 16v4h16v-4"),
    h("div", { class: "row center" },
      h("button", { type: "button", onclick: () => input.click() }, t("choose")), h("button", { type: "button", class: "second", onclick: () => folder.click() }, t("folder"))),
    h("p", { class: "hint" }, before ? t("again") : t("drop")),
    !before && h("div", { class: "check" }, seal, h("label", { htmlFor: "seal" }, t("seal"))), wrong, input, folder);
  drop.addEventListener("dragover", (e) => e.preventDefault());
  drop.addEventListener("drop", (e) => {
    e.preventDefault();
    take(e.dataTransfer?.files ?? null);
  });
  const code = h("input", { id: "code", inputMode: "numeric", pattern: "[0-9]{6}", maxLength: 6, autocomplete: "one-time-code", required: true });
  const askCode = h("form", { class: "panel" }, h("h2", {}, t("receive")), h("label", { htmlFor: "code" }, t("code")),
    h("div", { class: "row" }, h("div", { class: "grow" }, code), h("button", { type: "submit", class: "second" }, t("open"))));
  askCode.addEventListener("submit", (e) => {
    e.preventDefault();
    void client.then((c) => c.sendTo(`code-${code.value}`, 0, say({ t: "ask" }))).catch(() => shell.tell(t("noCode")));
  });
  stage.append(drop, ...(shell.about.open ? [askCode] : []), h("p", { class: "hint below" }, shell.account() ? t("accountHint", { name: shell.account() }) : ""));
  root.append(h("h1", {}, t("title")), h("p", { class: "lead" }, t("lead")), stage);

  const client = dial();
  client.catch((e: unknown) => (wrong.textContent = t("failed", { why: why(e) })));
  void (async () => { // who is sent a link, by account or for a code, goes there
    for await (const e of await (await client).inbox({ accept: [everyone] })) {
      const s = e.type === "message" ? heard(e) : undefined;
      if (s?.t === "link" && parseRoom(s.room) !== undefined && stage.contains(drop)) location.hash = s.room;
    }
  })().catch(() => {});

  async function begin(files: readonly Chosen[], room: string | undefined, keys: Keys | undefined): Promise<void> {
    const plain = await client;
    const c = keys ? encrypted(plain, keys) : plain;
    const sender = await Sender.start(c, files, disk, room).catch(() => Sender.start(c, files, disk)); // the old room may have ended
    ends.push(keepAwake());
    sessionStorage.setItem(kept, JSON.stringify({ room: sender.room, ...(keys ? { key: formatLinkKey(keys.link) } : {}), files: files.map((f) => ({ name: f.name, size: f.file.size })) }));
    const link = `${location.origin}/file#${formatHash({ room: sender.room, ...(keys ? { key: keys.link } : {}) })}`;
    const account = h("input", { id: "to", autocomplete: "off", required: true, maxLength: 128 });
    const pause = h("button", { type: "button", class: "second", onclick: () => {
      sender.pause(!sender.paused);
      pause.textContent = sender.paused ? t("resume") : t("pause");
    } }, t("pause"));
    const to = h("form", {}, h("label", { htmlFor: "to" }, t("toAccount")), h("div", { class: "row" }, h("div", { class: "grow" }, account), h("button", { type: "submit", class: "second" }, t("send"))));
    to.addEventListener("submit", (e) => {
      e.preventDefault();
      const name = account.value;
      void c.sendTo(name, 0, say({ t: "link", room: sender.room })).then(() => shell.tell(t("told", { name })), () => shell.tell(t("away", { name })));
    });
    const digits = h("output", { class: "digits", id: "share-code" });
    const byServer = !keys; // a code and an account get the link by way of the server, which must not see the key
    if (byServer && shell.about.open) void shareCode(dial, sender.room, digits).catch(() => {});
    const receivers = h("div", { aria: { live: "polite" } }, h("p", { class: "hint" }, t("nobody")));
    const list = fileList(files.map((f) => ({ name: f.name, size: f.file.size })));
    stage.replaceChildren(
      h("section", { class: "panel" }, h("h2", {}, `${count(files.length)}, ${bytes(sender.total)}`), list.element),
      h("section", { class: "panel share" },
        h("div", { class: "grow" },
          h("label", { htmlFor: "link" }, t("link")),
          h("div", { class: "row" }, h("input", { id: "link", class: "grow mono", readOnly: true, value: link }),
            h("button", { type: "button", onclick: () => void navigator.clipboard.writeText(link).then(() => shell.tell(t("copied"))) }, t("copy"))),
          keys && h("p", { class: "hint" }, t("sealed")), byServer && shell.about.open && h("p", {}, t("shareCode"), " ", digits), byServer && to),
        qr(link, t("link"))),
      h("section", { class: "panel" }, receivers, pause));
    const meters = new Map<string, ReturnType<typeof meter>>();
    sender.onChange = () => {
      for (const [id, r] of sender.receivers) {
        let m = meters.get(id);
        if (!m) {
          if (meters.size === 0) receivers.replaceChildren();
          meters.set(id, (m = meter(`${t("progress")}: ${r.account}`)));
          receivers.append(h("h3", {}, r.account), m.element);
        }
        m.show(r.sent, sender.total);
        m.trouble.textContent = r.problem && t("unreadable", { name: r.account, why: r.problem });
      }
      for (const i of files.keys()) void sender.sum(i)?.then((s) => list.note(i, `SHA-256 ${hex(s)}`), () => {});
    };
  }
}

/** Answers one who knows the code with the link. */
async function shareCode(dial: (account: string) => Promise<Client>, room: string, show: HTMLElement): Promise<void> {
  const code = String(crypto.getRandomValues(new Uint32Array(1))[0]! % 1_000_000).padStart(6, "0");
  const client = await dial(`code-${code}`);
  const inbox = await client.inbox({ accept: [everyone] });
  show.textContent = code;
  for await (const e of inbox) {
    if (e.type !== "message" || heard(e)?.t !== "ask") continue;
    await client.sendTo(e.publisher, 0, say({ t: "link", room }));
    break; // once: who tries codes out takes at most what then somebody misses
  }
  show.textContent = "–";
  await client.close();
}
