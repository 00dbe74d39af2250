// With a room in the address: what it offers, and how far it has come.

import { CodeError, type Client } from "@timedge/sdk";
import { encrypted, Keys, type RoomLink } from "@timedge/sdk/e2ee";
import { keepAwake } from "../shell/awake.js";
import { h } from "../shell/dom.js";
import { bytes } from "../shell/i18n.js";
import type { Disk } from "./disk.js";
import { fileList, meter } from "./parts.js";
import { Receiver } from "./receiver.js";
import { count, t, why } from "./words.js";

const troubles: Record<string, string> = { missing: t("missing"), unoffered: t("unoffered"), damaged: t("spoilt") };

/** Fills the page. What ends it goes to `ends`. */
export async function receive(root: HTMLElement, link: RoomLink, disk: Disk, dial: () => Promise<Client>, ends: Array<() => void>): Promise<void> {
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
