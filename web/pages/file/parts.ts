// What both ends show: files, and how far they are.

import { h } from "../shell/dom.js";
import { bytes } from "../shell/i18n.js";
import { t } from "./words.js";

/** Progress with its speed over the last seconds, drawn at most four times a second. */
export function meter(label: string): { element: HTMLElement; trouble: HTMLElement; show(have: number, size: number): void } {
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

/** Files by name and size, each with a note, and with something to do. */
export function fileList(files: readonly { name: string; size: number }[]): { element: HTMLElement; note(i: number, text: string, action?: HTMLElement): void } {
  const rows = files.map((f) => ({ note: h("p", { class: "hint mono" }), action: h("div"), f }));
  return {
    element: h("ul", { class: "files" }, ...rows.map((r) => h("li", {}, h("div", { class: "grow" }, h("div", { class: "name" }, r.f.name), h("span", { class: "hint" }, bytes(r.f.size)), r.note), r.action))),
    note(i, text, action) {
      rows[i]!.note.textContent = text;
      if (action) rows[i]!.action.replaceChildren(action);
    },
  };
}
