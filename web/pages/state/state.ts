// The state page: cursors and a board that everybody draws on, and a scene with heads and hands, all at the rate of the screen.

import type { Client } from "@timedge/sdk";
import { h, icon } from "../shell/dom.js";
import { words } from "../shell/i18n.js";
import { sure } from "../shell/sure.js";
import type { Page } from "../shell/page.js";
import { icons } from "../live/icons.js";
import type { Change, Stroke } from "./board.js";
import { boardHeight, boardWidth, inkOf, inks, pixels, svg } from "./ink.js";
import { drawScene, mixPose, poseOf, type Stand } from "./scene.js";
import { formatRooms, makeRooms, parseRooms, Shared, type Rooms } from "./shared.js";
import { Smooth } from "./smooth.js";

const t = words({
  title: ["Board", "白板"],
  lead: ["Draw together. Whoever has the link sees every hand move, and may draw.", "一起绘画。拥有链接的人都能看到每个人的动作，也可以绘画。"],
  make: ["New board", "新建白板"],
  link: ["Link for others", "邀请链接"],
  copy: ["Copy", "复制"],
  copied: ["The link is copied.", "链接已复制。"],
  board: ["Board", "白板"],
  scene: ["Scene", "场景"],
  boardHow: ["Board. Arrow keys move the pen, space puts it down and lifts it.", "白板。方向键移动画笔，空格键落笔或提笔。"],
  sceneHow: ["Scene. W, A, S, D or the arrow keys walk, dragging looks around; the pointer is your right hand.", "场景。W、A、S、D 或方向键行走，拖动可环视，指针是您的右手。"],
  colour: ["Colour: {name}", "颜色：{name}"],
  black: ["black", "黑"],
  blue: ["blue", "蓝"],
  red: ["red", "红"],
  green: ["green", "绿"],
  orange: ["orange", "橙"],
  violet: ["violet", "紫"],
  ink: ["Ink", "墨色"],
  width: ["Width", "粗细"],
  undo: ["Undo", "撤销"],
  clear: ["Clear", "清空"],
  sureClear: ["Really clear it for all?", "确定为所有人清空？"],
  save: ["Save", "保存"],
  strokes: ["Strokes on the board: {n}", "白板上的笔画：{n}"],
  people: ["Who is here", "在场的人"],
  me: ["{name} (you)", "{name}（您）"],
  connecting: ["Connecting …", "正在连接……"],
  away: ["The server is away; it goes on by itself.", "与服务器的连接中断，将自动恢复。"],
  unknown: ["There is no such board, or it has ended.", "没有这个白板，或已结束。"],
  ended: ["It does not go on: {why}", "无法继续：{why}"],
  again: ["Try again", "重试"],
  views: ["Views", "视图"],
});

/** Colours of people: they are read on a white board and in either scheme's scene. */
const peopleColours = ["#1668c7", "#c2410c", "#15803d", "#a21caf", "#0e7490", "#b91c1c", "#6d28d9", "#4d7c0f"];

interface Person {
  name: string;
  cursor: Smooth;
  shown: { drawing: boolean; away: boolean };
  pose: Smooth;
}

export const page: Page = (root, shell) => {
  const rooms = parseRooms(shell.hash);
  let over = false;
  let leave = (): void => {};
  let client: Client | undefined;
  const failed = h("p", { class: "error", role: "alert" });
  const fail = (e: Error): void => {
    failed.textContent = (e as { code?: string }).code === "room_unknown" ? t("unknown") : t("ended", { why: e.message });
  };
  const note = h("p", { class: "hint", role: "status" });
  const dial = async (): Promise<Client> =>
    (client ??= await shell.dial({ backoffMin: 50, onState: (s) => (note.textContent = s.phase === "disconnected" ? t("away") : s.phase === "connected" ? "" : note.textContent) }));

  const enter = async (r: Rooms): Promise<void> => {
    note.textContent = t("connecting");
    const c = await dial();
    if (over) return void c.close();
    leave = await room(root, c, r, shell.account(), { fail, tell: shell.tell });
    note.textContent = "";
    if (over) leave();
  };

  if (rooms) {
    root.append(h("h1", {}, t("title")), note, failed);
    enter(rooms).catch((e: Error) => {
      fail(e);
      root.append(h("button", { type: "button", class: "second", onclick: () => location.reload() }, t("again")));
    });
  } else {
    const make = h("button", { type: "button", onclick: () => {
      make.disabled = true;
      void (async () => {
        const r = await makeRooms(await dial());
        history.replaceState(null, "", `#${formatRooms(r)}`);
        intro.remove();
        await enter(r);
      })().catch((e: Error) => {
        make.disabled = false;
        fail(e);
      });
    } }, t("make"));
    const intro = h("div", {}, h("p", { class: "lead" }, t("lead")), make);
    root.append(h("h1", {}, t("title")), intro, note, failed);
  }
  return () => {
    over = true;
    leave();
    void client?.close();
  };
};

async function room(root: HTMLElement, client: Client, rooms: Rooms, me: string, tell: { fail(e: Error): void; tell(text: string): void }): Promise<() => void> {
  const people = new Map<number, Person>();
  const list = h("ul", { class: "people", aria: { label: t("people") } });
  const person = (pub: number): Person => {
    let p = people.get(pub);
    if (!p) people.set(pub, (p = { name: "", cursor: new Smooth(), shown: { drawing: false, away: true }, pose: new Smooth({ min: 20, max: 250 }, mixPose) }));
    return p;
  };
  const colourOf = (pub: number): string => peopleColours[pub % peopleColours.length]!;
  const enumerate = (): void => list.replaceChildren(h("li", {}, t("me", { name: me })), ...[...people].map(([pub, p]) => {
    const dot = h("span", {});
    dot.style.background = colourOf(pub);
    return h("li", {}, dot, p.name);
  }));

  let all = true; // the whole board is to be drawn again
  const shared = await Shared.join(client, rooms, me, {
    who: (pub, name) => {
      person(pub).name = name;
      enumerate();
    },
    left: (pub) => {
      people.delete(pub);
      enumerate();
    },
    cursor: (pub, c) => {
      const p = person(pub);
      p.cursor.put(c.at, [c.x, c.y], wall());
      p.shown = c;
    },
    pose: (pub, at, pose) => person(pub).pose.put(at, pose, wall()),
    board: (c: Change) => (all ||= c === "all"),
    ended: tell.fail,
  });
  enumerate();

  // The board

  let colour = 1;
  const width = h("input", { type: "range", min: "2", max: "24", value: "5", id: "state-width" });
  const ink = h("canvas", { class: "ink", width: boardWidth, height: boardHeight, tabIndex: 0, role: "application", aria: { label: t("boardHow") } });
  const over = h("canvas", { class: "cursors", width: boardWidth, height: boardHeight, aria: { hidden: "true" } });
  const swatches = inks.map(([name, code], i) => {
    const dot = h("span", {});
    dot.style.background = code;
    return h("button", { type: "button", title: t(name), aria: { label: t("colour", { name: t(name) }), pressed: String(i === colour) }, onclick: () => {
      colour = i;
      swatches.forEach((s, k) => s.setAttribute("aria-pressed", String(k === i)));
    } }, dot);
  });
  const pen = { x: 0.5, y: 0.5, down: false, away: true, told: "" };
  let pending: number[] = []; // points of this frame
  const place = (x: number, y: number): void => {
    [pen.x, pen.y, pen.away] = [Math.max(0, Math.min(1, x)), Math.max(0, Math.min(1, y)), false];
    if (pen.down) pending.push(Math.round(pen.x * 65535), Math.round(pen.y * 65535));
  };
  const down = (): void => {
    pen.down = true;
    shared.begin(colour, Number(width.value), [Math.round(pen.x * 65535), Math.round(pen.y * 65535)]);
  };
  const up = (): void => {
    flush();
    pen.down = false;
  };
  const flush = (): void => {
    if (pending.length > 0) shared.more(pending);
    pending = [];
  };
  const point = (e: PointerEvent): void => {
    const box = ink.getBoundingClientRect();
    for (const each of e.getCoalescedEvents?.().length ? e.getCoalescedEvents() : [e]) place((each.clientX - box.left) / box.width, (each.clientY - box.top) / box.height);
  };
  ink.onpointerdown = (e) => {
    if (e.button !== 0) return;
    ink.setPointerCapture(e.pointerId);
    point(e);
    pending = [];
    down();
  };
  ink.onpointermove = point;
  ink.onpointerup = ink.onpointercancel = up;
  ink.onpointerleave = () => (pen.away = !pen.down);
  ink.onkeydown = (e) => {
    const step = e.shiftKey ? 0.05 : 0.01;
    const move = ({ ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] } as Record<string, [number, number]>)[e.key];
    if (move) place(pen.x + move[0], pen.y + move[1]);
    else if (e.key === " ") {
      pen.away = false;
      if (pen.down) up();
      else down();
    } else return;
    e.preventDefault();
  };

  const g = ink.getContext("2d")!;
  const marks = over.getContext("2d")!;
  let drawn: { stroke: Stroke; points: number } | undefined;
  const line = (s: Stroke, from: number): void => {
    g.strokeStyle = g.fillStyle = inkOf(s);
    g.lineWidth = Math.max(1, s.width);
    g.lineCap = g.lineJoin = "round";
    const p = pixels(s);
    const at = (i: number): [number, number] => [p[i]!, p[i + 1]!];
    g.beginPath();
    if (s.points.length === 2) g.arc(...at(0), g.lineWidth / 2, 0, 2 * Math.PI);
    else {
      g.moveTo(...at(Math.max(0, from - 2)));
      for (let i = Math.max(0, from); i < s.points.length; i += 2) g.lineTo(...at(i));
    }
    if (s.points.length === 2) g.fill();
    else g.stroke();
  };
  const paint = (): void => {
    const strokes = shared.board.strokes();
    if (all) {
      g.clearRect(0, 0, boardWidth, boardHeight);
      for (const s of strokes) line(s, 0);
    } else {
      // Only the uppermost have grown: from the one that was uppermost on.
      const first = drawn ? strokes.indexOf(drawn.stroke) : 0;
      for (const s of strokes.slice(Math.max(0, first))) {
        const from = s === drawn?.stroke ? drawn.points : 0;
        if (from < s.points.length) line(s, from);
      }
    }
    count.textContent = t("strokes", { n: strokes.length });
    const top = strokes.at(-1);
    drawn = top && { stroke: top, points: top.points.length };
    all = false;
  };
  let seen = 0; // operations that are drawn
  const count = h("p", { class: "hint", id: "state-count" }, t("strokes", { n: 0 }));
  const save = (): void => {
    const url = URL.createObjectURL(new Blob([svg(shared.board.strokes())], { type: "image/svg+xml" }));
    h("a", { href: url, download: "board.svg" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  };
  const point2 = (x: number, y: number, colour: string, name: string): void => {
    marks.fillStyle = colour;
    marks.beginPath();
    marks.moveTo(x, y);
    marks.lineTo(x + 10, y + 28);
    marks.lineTo(x + 26, y + 18);
    marks.fill();
    marks.font = "600 22px system-ui, sans-serif";
    marks.fillText(name, x + 24, y + 44);
  };

  // The scene

  const view = h("canvas", { width: boardWidth / 2, height: boardHeight / 2, tabIndex: 0, role: "application", aria: { label: t("sceneHow") } });
  const turn = Math.random() * 2 * Math.PI;
  const stand: Stand & { reach: [number, number] } = { x: 2 * Math.sin(turn), z: 2 * Math.cos(turn), yaw: turn, pitch: -0.1, reach: [0, 0] };
  const keys = new Set<string>();
  view.onkeydown = (e) => {
    const k = e.key.length === 1 ? e.key.toLowerCase() : e.key;
    if (!(k in steps)) return;
    keys.add(k);
    e.preventDefault();
  };
  view.onkeyup = (e) => void keys.delete(e.key.length === 1 ? e.key.toLowerCase() : e.key);
  view.onblur = () => keys.clear();
  view.onpointerdown = (e) => view.setPointerCapture(e.pointerId);
  view.onpointermove = (e) => {
    const box = view.getBoundingClientRect();
    stand.reach = [((e.clientX - box.left) / box.width) * 2 - 1, 1 - ((e.clientY - box.top) / box.height) * 2];
    if (e.buttons === 0) return;
    stand.yaw -= (e.movementX / box.width) * 3;
    stand.pitch = Math.max(-1.2, Math.min(stand.pitch - (e.movementY / box.width) * 3, 1.2));
  };
  const walk = (millis: number): void => {
    for (const k of keys) {
      const [ahead, aside] = steps[k]!;
      const far = (1.6 * millis) / 1000;
      stand.x += far * (-ahead * Math.sin(stand.yaw) + aside * Math.cos(stand.yaw));
      stand.z += far * (-ahead * Math.cos(stand.yaw) - aside * Math.sin(stand.yaw));
    }
    [stand.x, stand.z] = [Math.max(-6, Math.min(stand.x, 6)), Math.max(-6, Math.min(stand.z, 6))];
  };
  let before: { pose: Float32Array; at: number } | undefined;

  // Both

  const boardPanel = h("div", { role: "tabpanel", id: "state-board", aria: { labelledby: "state-board-tab" } },
    h("div", { class: "board" }, ink, over),
    h("div", { class: "row bar" }, h("div", { class: "inks", role: "group", aria: { label: t("ink") } }, ...swatches),
      h("div", { class: "row pick" }, h("label", { htmlFor: "state-width" }, t("width")), width),
      h("div", { class: "row ends" },
        h("button", { type: "button", class: "second", onclick: () => shared.undo() }, t("undo")),
        h("button", { type: "button", class: "second", onclick: save }, t("save")),
        sure(h("button", { type: "button", class: "danger" }, t("clear")), t("sureClear"), () => shared.clear()))), count);
  const scenePanel = h("div", { role: "tabpanel", id: "state-scene", hidden: true, aria: { labelledby: "state-scene-tab" } }, h("div", { class: "board scene" }, view), h("p", { class: "hint" }, t("sceneHow")));
  const panels = [["board", boardPanel], ["scene", scenePanel]] as const;
  const tabs = panels.map(([name, panel], i): HTMLButtonElement => h("button", {
    type: "button", class: "quiet", role: "tab", id: `state-${name}-tab`, tabIndex: i === 0 ? 0 : -1, aria: { selected: String(i === 0), controls: panel.id },
    onclick: () => choose(i),
    onkeydown: (e) => {
      if (e.key !== "ArrowLeft" && e.key !== "ArrowRight") return;
      choose(1 - i);
      tabs[1 - i]!.focus();
    },
  }, t(name)));
  const choose = (i: number): void => tabs.forEach((tab, k) => {
    tab.setAttribute("aria-selected", String(k === i));
    tab.tabIndex = k === i ? 0 : -1;
    panels[k]![1].hidden = k !== i;
  });
  const link = h("input", { id: "state-link", readOnly: true, class: "mono", value: `${location.origin}${location.pathname}#${formatRooms(rooms)}`, onfocus: () => link.select() });
  root.append(
    h("div", { class: "tabs", role: "tablist", aria: { label: t("views") } }, ...tabs), boardPanel, scenePanel, list,
    h("label", { htmlFor: "state-link" }, t("link")),
    h("div", { class: "row" }, h("div", { class: "grow" }, link), h("button", { type: "button", class: "second", onclick: () => {
      void navigator.clipboard?.writeText(link.value).then(() => tell.tell(t("copied")), () => link.select());
    } }, icon(icons.copy), t("copy"))));

  let last = performance.now();
  let request = 0;
  const frame = (): void => {
    const now = performance.now();
    const clock = wall();
    flush();
    const state = `${pen.x} ${pen.y} ${pen.down} ${pen.away}`;
    if (state !== pen.told && shared.cursor(pen.x, pen.y, pen.down, pen.away)) pen.told = state;
    if (!boardPanel.hidden) {
      const n = shared.board.held;
      if (all || n !== seen) paint();
      seen = n;
      marks.clearRect(0, 0, boardWidth, boardHeight);
      for (const [pub, p] of people) {
        const at = p.cursor.get(clock);
        if (at && !p.shown.away) point2(at[0]! * boardWidth, at[1]! * boardHeight, colourOf(pub), p.name);
      }
      if (document.activeElement === ink && !pen.away) point2(pen.x * boardWidth, pen.y * boardHeight, inks[colour]![1], "");
    } else {
      walk(now - last);
      const pose = poseOf(stand, clock, before);
      before = { pose, at: clock };
      shared.pose(pose);
      drawScene(view.getContext("2d")!, pose, [...people].flatMap(([pub, p]) => {
        const pose = p.pose.get(clock);
        return pose ? [{ pose, colour: colourOf(pub), name: p.name }] : [];
      }), getComputedStyle(document.body).color);
    }
    last = now;
    request = requestAnimationFrame(frame);
  };
  request = requestAnimationFrame(frame);
  return () => {
    cancelAnimationFrame(request);
    void shared.close();
  };
}

const wall = (): number => performance.timeOrigin + performance.now();

const steps: Record<string, readonly [ahead: number, aside: number]> = {
  w: [1, 0], ArrowUp: [1, 0], s: [-1, 0], ArrowDown: [-1, 0], a: [0, -1], ArrowLeft: [0, -1], d: [0, 1], ArrowRight: [0, 1],
};
