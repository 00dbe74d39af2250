// The file page. Without a room in the address: choose files and say who gets them, or enter a code. With one: receive.

import { CodeError, everyone, parseRoom, type Client } from "@timedge/sdk";
import { encrypted, formatHash, formatLinkKey, Keys, newLinkKey, parseHash, parseLinkKey, type RoomLink } from "@timedge/sdk/e2ee";
import { keepAwake } from "../shell/awake.js";
import { h, icon } from "../shell/dom.js";
import { bytes, words } from "../shell/i18n.js";
import type { Page, Shell } from "../shell/page.js";
import { qr } from "../live/qr.js";
import { Disk } from "./disk.js";
import { Receiver } from "./receiver.js";
import { Sender } from "./sender.js";
import { heard, hex, say } from "./wire.js";

const t = words({
  title: ["Send files", "发送文件"],
  receiveTitle: ["Receive files", "接收文件"],
  lead: ["From this browser to another, through the server and never kept there. Any size.", "从此浏览器直接送达另一方，经由服务器但不留存，大小不限。"],
  choose: ["Choose files", "选择文件"],
  folder: ["Choose a folder", "选择文件夹"],
  drop: ["or drop them here", "或拖放到这里"],
  again: ["Choose the same files again to go on sending.", "重新选择相同的文件即可继续发送。"],
  other: ["These are other files than before. Choose {names}.", "与之前的文件不同，请选择 {names}。"],
  receive: ["Receive with a code", "用代码接收"],
  code: ["Code of 6 digits", "6 位代码"],
  open: ["Open", "打开"],
  noCode: ["Nobody sends with this code.", "没有人用这个代码发送。"],
  accountHint: ["While this page is open, others can send to you as {name}.", "此页面打开时，其他人可以发送给 {name}。"],
  link: ["Link", "链接"],
  seal: ["Encrypt: only who has the link can read them, not even the server", "加密：仅持有链接者可读取，服务器也无法查看"],
  sealed: ["Encrypted. The link carries the key: send it where only those who may have the files read it.", "已加密。链接中含有密钥，请只发送给可以接收文件的人。"],
  broken: ["This link is not whole: its key is missing or damaged. Ask for it again.", "链接不完整：密钥缺失或损坏，请重新索取。"],
  copy: ["Copy", "复制"],
  copied: ["Copied", "已复制"],
  shareCode: ["Code, for one receiver", "代码（限一位接收者）"],
  toAccount: ["Send to an account", "发送给账户"],
  send: ["Send", "发送"],
  told: ["{name} was asked to accept.", "已请 {name} 接收。"],
  away: ["{name} is not there, or takes nothing from you.", "{name} 不在线，或不接收你的文件。"],
  nobody: ["Nobody has accepted yet. Keep this page open.", "尚无人接收，请保持此页面打开。"],
  pause: ["Pause", "暂停"],
  resume: ["Resume", "继续"],
  looking: ["Looking for the sender …", "正在寻找发送者……"],
  offers: ["{name} offers {count}, {size}", "{name} 想发送 {count}，共 {size}"],
  oneFile: ["1 file", "1 个文件"],
  manyFiles: ["{n} files", "{n} 个文件"],
  accept: ["Accept", "接收"],
  decline: ["Decline", "拒绝"],
  saving: ["Save", "保存"],
  whole: ["whole", "完整"],
  damaged: ["damaged", "已损坏"],
  done: ["All there.", "全部完成。"],
  retry: ["Interrupted ({why}); trying again …", "已中断（{why}），正在重试……"],
  missing: ["something is missing", "缺少部分内容"],
  unoffered: ["more comes than was offered", "收到的多于所提供的"],
  spoilt: ["a file arrived damaged", "文件已损坏"],
  waitSender: ["The sender is away. It goes on when the sender is back.", "发送者已离开，对方返回后将继续。"],
  notWhole: ["Not all is whole: what was damaged again and again can be tried once more.", "部分文件多次损坏，可再试一次。"],
  tryAgain: ["Try again", "重试"],
  unreadable: ["{name} waits: a file cannot be read here ({why}). Load the page anew and choose the files again.", "{name} 正在等待：此处无法读取文件（{why}）。请刷新页面并重新选择文件。"],
  rate: ["{have} of {size} · {rate}/s", "{have} / {size} · {rate}/秒"],
  progress: ["Progress", "进度"],
  gone: ["This link leads nowhere any more. Ask the sender for a new one.", "此链接已失效，请向发送者索取新链接。"],
  unsupported: ["This browser cannot keep files on its disk for a page; use a current one, by https.", "此浏览器无法为网页保存文件，请使用新版浏览器并通过 https 访问。"],
  failed: ["That did not work: {why}", "操作失败：{why}"],
});

const kept = "timedge.file.sending";
const troubles: Record<string, string> = { missing: t("missing"), unoffered: t("unoffered"), damaged: t("spoilt") };

interface Chosen {
  name: string;
  file: File;
}

const count = (n: number): string => (n === 1 ? t("oneFile") : t("manyFiles", { n }));
const why = (e: unknown): string => (e instanceof CodeError ? e.code : e instanceof Error ? e.message : String(e));

/** Progress with its speed over the last seconds, drawn at most four times a second. */
function meter(label: string): { element: HTMLElement; trouble: HTMLElement; show(have: number, size: number): void } {
  const bar = h("progress", { max: 1, value: 0, aria: { label } });
  const line = h("p", { class: "hint" });
  const trouble = h("p", { class: "error", role: "alert" });
  const seen: Array<[number, number]> = [];
  let [have, size, drawn, due] = [0, 0, 0, false];
  const draw = (): void => {
    const now = (drawn = performance.now());
    due = false;
    seen.push([now, have]);
    while (seen.length > 2 && now - seen[0]![0] > 4000) seen.shift();
    const [at, before] = seen[0]!;
    bar.value = size > 0 ? have / size : 1;
    line.textContent = t("rate", { have: bytes(have), size: bytes(size), rate: bytes(now > at ? ((have - before) * 1000) / (now - at) : 0) });
  };
  return {
    element: h("div", {}, bar, line, trouble),
    trouble,
    show(h, s) {
      [have, size] = [h, s];
      const wait = 250 - (performance.now() - drawn);
      if (wait <= 0) return draw();
      if (!due) setTimeout(draw, wait);
      due = true;
    },
  };
}

export const page: Page = (root, shell) => {
  const ends: Array<() => void> = [];
  const disk = new Disk();
  ends.push(() => disk.close());
  const dial = async (account?: string): Promise<Client> => {
    const c = await shell.dial(account ? { account } : {});
    ends.push(() => void c.close());
    return c;
  };
  const fail = (e: unknown): void => shell.tell(t("failed", { why: why(e) }));
  if (!("storage" in navigator) || !navigator.storage.getDirectory) root.append(h("h1", {}, t("title")), h("p", { class: "error" }, t("unsupported")));
  else if (parseHash(shell.hash)) void receive(root, parseHash(shell.hash)!, disk, dial, ends).catch(fail);
  else if (shell.hash.includes("&key=")) root.append(h("h1", {}, t("title")), h("p", { class: "error" }, t("broken")));
  else void send(root, shell, disk, dial, ends).catch(fail);
  return () => {
    for (const end of ends) end();
  };
};

async function send(root: HTMLElement, shell: Shell, disk: Disk, dial: (account?: string) => Promise<Client>, ends: Array<() => void>): Promise<void> {
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

function fileList(files: readonly { name: string; size: number }[]): { element: HTMLElement; note(i: number, text: string, action?: HTMLElement): void } {
  const rows = files.map((f) => ({ note: h("p", { class: "hint mono" }), action: h("div"), f }));
  return {
    element: h("ul", { class: "files" }, ...rows.map((r) => h("li", {}, h("div", { class: "grow" }, h("div", { class: "name" }, r.f.name), h("span", { class: "hint" }, bytes(r.f.size)), r.note), r.action))),
    note(i, text, action) {
      rows[i]!.note.textContent = text;
      if (action) rows[i]!.action.replaceChildren(action);
    },
  };
}

async function receive(root: HTMLElement, link: RoomLink, disk: Disk, dial: () => Promise<Client>, ends: Array<() => void>): Promise<void> {
  const status = h("p", { class: "lead", role: "status" }, t("looking"));
  const stage = h("div");
  root.append(h("h1", {}, t("receiveTitle")), status, stage);
  let r: Receiver;
  try {
    const c = await dial();
    r = await Receiver.start(link.key ? encrypted(c, new Keys(link.key)) : c, link.room, disk);
  } catch (e) {
    status.textContent = e instanceof CodeError && e.code === "room_unknown" ? t("gone") : t("failed", { why: why(e) });
    return;
  }
  const m = meter(t("progress"));
  const accept = h("button", { type: "button", onclick: () => void r.accept() }, t("accept"));
  const pause = h("button", { type: "button", class: "second", onclick: () => void (r.state === "paused" ? r.accept() : r.pause()) }, t("pause"));
  const decline = h("a", { class: "button second", href: "/file" }, t("decline"));
  const shown = new Set<number>();
  let list: ReturnType<typeof fileList> | undefined;
  let sleep: (() => void) | undefined;
  ends.push(() => sleep?.());
  r.onChange = () => {
    if (r.state === "running") sleep ??= keepAwake();
    else sleep = void sleep?.();
    if (!list && r.files.length > 0) {
      list = fileList(r.files);
      stage.replaceChildren(h("section", { class: "panel" }, list.element, h("div", { class: "row" }, accept, decline, pause), m.element));
    }
    if (!list) {
      if (r.problem) status.textContent = r.locked ? t("broken") : t("failed", { why: r.problem });
      return;
    }
    const [have, size] = [r.files.reduce((n, f) => n + f.have, 0), r.files.reduce((n, f) => n + f.size, 0)];
    accept.hidden = r.state !== "offered" && r.state !== "damaged";
    accept.textContent = r.state === "damaged" ? t("tryAgain") : t("accept");
    decline.hidden = r.state !== "offered";
    pause.hidden = r.state !== "running" && r.state !== "paused";
    m.element.hidden = r.state === "offered";
    pause.textContent = r.state === "paused" ? t("resume") : t("pause");
    const line = r.problem === "away" ? t("waitSender") : r.problem ? t("retry", { why: troubles[r.problem] ?? r.problem }) : r.state === "damaged" ? t("notWhole") : r.state === "done" ? t("done") : t("offers", { name: r.sender, count: count(r.files.length), size: bytes(size) });
    if (status.textContent !== line) status.textContent = line; // a screen reader says every change
    m.show(have, size);
    for (const [i, f] of r.files.entries()) {
      if (f.state === "damaged") list.note(i, `SHA-256 ${f.sum} (${t("damaged")})`);
      if (f.state !== "whole" || shown.has(i)) continue;
      shown.add(i);
      void r.file(i).then((file) => {
        const url = URL.createObjectURL(file); // of the disk's file: nothing is read
        ends.push(() => URL.revokeObjectURL(url));
        list!.note(i, `SHA-256 ${f.sum} (${t("whole")})`, h("a", { class: "button", href: url, download: f.name.split("/").at(-1)!, aria: { label: `${t("saving")} ${f.name}` } }, t("saving")));
      });
    }
  };
  r.onChange();
}
