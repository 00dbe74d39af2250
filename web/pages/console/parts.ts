// Pieces that several views are made of.

import { h } from "../shell/dom.js";
import { bytes, language, words } from "../shell/i18n.js";
import { apart } from "../shell/sure.js";

export const t = words({
  name: ["timedge console", "timedge 控制台"],
  skip: ["Skip to the content", "跳到内容"],
  views: ["Views", "视图"],
  cluster: ["Cluster", "集群"],
  rooms: ["Rooms", "房间"],
  sessions: ["Sessions", "会话"],
  theme: ["Light or dark", "浅色或深色"],
  search: ["Room, account, session or address", "房间、账户、会话或地址"],
  find: ["Search", "搜索"],
  operator: ["Operator", "操作员"],
  signIn: ["Sign in", "登录"],
  signOut: ["Sign out", "退出"],
  token: ["Token", "令牌"],
  tokenHint: ["That of the server's admin-token-file. It is kept until the tab is closed. Without it this machine may look, and change nothing.", "服务器 admin-token-file 中的令牌，仅在此标签页内保留。没有令牌时，本机只能查看。"],
  use: ["Use", "使用"],
  cancel: ["Cancel", "取消"],
  tokenUsed: ["The token is used from now on.", "已使用该令牌。"],
  refused: ["Refused: {why}", "被拒绝：{why}"],
  silent: ["{why}. Trying again …", "{why}，正在重试……"],
  noAnswer: ["The node that this page is from does not answer", "提供此页面的节点没有响应"],
  picture: ["The cluster: {nodes}. {rooms} rooms are drawn; the tables below have the same.", "集群：{nodes}。图中有 {rooms} 个房间，下方表格内容相同。"],
  legend: ["Boxes are nodes, dots rooms at their relays. Lines: frames to other nodes; dotted, to standbys; red, a takeover just now. Above a node: what it drops, if it does.", "方框为节点，圆点为其中继的房间。实线：流向其他节点；虚线：备用节点；红线：刚发生的接管。节点上方：正在丢弃的帧。"],
  more: ["and {n} more", "另有 {n} 个"],
  nodes: ["Nodes", "节点"],
  node: ["Node", "节点"],
  state: ["State", "状态"],
  relayed: ["Relayed", "中继"],
  mirrored: ["Mirrored", "镜像"],
  in: ["In", "流入"],
  out: ["Out", "流出"],
  dropped: ["Dropped", "丢弃"],
  memory: ["Memory", "内存"],
  queued: ["Queued", "排队"],
  up: ["Up", "运行时间"],
  version: ["Version", "版本"],
  address: ["Address", "地址"],
  cutOff: ["Cut off", "被切断"],
  takeovers: ["Takeovers", "接管"],
  panics: ["Faults", "故障"],
  here: ["this page's", "本页面"],
  busiest: ["Busiest rooms", "最忙的房间"],
  noRooms: ["No rooms.", "没有房间。"],
  noSessions: ["No sessions.", "没有会话。"],
  room: ["Room", "房间"],
  owner: ["Owner", "所有者"],
  policy: ["Policy", "策略"],
  relay: ["Relay", "中继节点"],
  standbys: ["Standbys", "备用节点"],
  edges: ["Also at", "也在"],
  role: ["Role", "角色"],
  subscribers: ["Subscribers", "订阅者"],
  publishers: ["Publishers", "发布者"],
  frames: ["Frames", "帧"],
  size: ["Bytes", "字节"],
  rate: ["Rate", "速率"],
  lastPush: ["Last push", "最近推送"],
  age: ["Age", "存在时间"],
  epoch: ["Epoch", "任期"],
  happened: ["What has happened", "事件"],
  nothing: ["Nothing yet.", "暂无。"],
  time: ["Time", "时间"],
  event: ["Event", "事件"],
  tookOver: ["{to} relays {room} now, {from} no more", "{to} 现在中继 {room}，{from} 不再中继"],
  went: ["{node} is no member any more", "{node} 已不在集群中"],
  framesIn: ["Frames in, a second", "每秒流入帧"],
  deliveries: ["Deliveries, a second", "每秒投递"],
  drops: ["Frames dropped, a second", "每秒丢弃帧"],
  actions: ["Actions", "操作"],
  drain: ["Drain", "排空"],
  undrain: ["Undrain", "取消排空"],
  reload: ["Reload settings", "重新加载设置"],
  level: ["Log level", "日志级别"],
  set: ["Set", "设置"],
  profile: ["Profile, 10 s", "性能剖析 10 秒"],
  profiling: ["The profile takes 10 s …", "剖析需要 10 秒……"],
  askDrain: ["Drain {node}? Its rooms go to the others, and its clients are sent away.", "排空 {node}？其房间将移交其他节点，客户端将被请走。"],
  did: ["Done: {what}", "已完成：{what}"],
  reloaded: ["Taken up: {taken}. Needs a restart: {restart}.", "已生效：{taken}。需要重启：{restart}。"],
  none: ["none", "无"],
  noNode: ["There is no node {name}.", "没有节点 {name}。"],
  noRoom: ["There is no room {name}.", "没有房间 {name}。"],
  noSession: ["There is no session {name} at {node}.", "{node} 上没有会话 {name}。"],
  closeRoom: ["Close the room", "关闭房间"],
  askClose: ["Close {room} for everybody?", "对所有人关闭 {room}？"],
  account: ["Account", "账户"],
  grant: ["Let push", "允许推送"],
  revoke: ["Revoke", "撤销"],
  askRevoke: ["Take {account}'s right to push away, at once?", "立即取消 {account} 的推送权？"],
  streams: ["Streams", "流"],
  dtype: ["Type", "类型"],
  next: ["Next frame", "下一帧"],
  log: ["Kept", "缓存"],
  away: ["away", "离开"],
  lag: ["Lag", "延迟"],
  by: ["By", "方式"],
  since: ["Since", "连接时长"],
  subscribes: ["Subscribes", "订阅"],
  publishes: ["Publishes", "发布"],
  session: ["Session", "会话"],
  another: ["another node", "其他节点"],
  cut: ["Cut off", "切断"],
  askCut: ["End {account}'s session {id}? It may come back.", "结束 {account} 的会话 {id}？它可能会重新连接。"],
  sort: ["Sort by {what}", "按{what}排序"],
  shown: ["{n} of {total}", "共 {total}，显示 {n}"],
  found: ["Found: {what}", "搜索结果：{what}"],
  all: ["all", "全部"],
});

const numbers = new Intl.NumberFormat(language, { notation: "compact", maximumFractionDigits: 1 });

/** A number made short: 12.3K. */
export const short = (n: number): string => numbers.format(n >= 100 ? Math.round(n) : n);

/** A time in ms for people. */
export function ago(ms: number): string {
  const s = ms / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.round(s)} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  return s < 172_800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86_400)} d`;
}

export { bytes };

export const link = {
  cluster: "#/",
  node: (name: string): string => `#/node/${encodeURIComponent(name)}`,
  room: (id: string): string => `#/room/${encodeURIComponent(id)}`,
  session: (node: string, id: number | string): string => `#/session/${encodeURIComponent(node)}/${id}`,
  rooms: (q = ""): string => `#/rooms${q ? `?${encodeURIComponent(q)}` : ""}`,
  sessions: (q = ""): string => `#/sessions${q ? `?${encodeURIComponent(q)}` : ""}`,
};

export const to = (href: string, text: string, mono = false): HTMLElement => h("a", { href, ...(mono ? { class: "mono" } : {}) }, text);

export type Cell = Node | string | number;

/** What is replaced whole or not at all: what somebody is about to press must not become another thing. */
const whole = ["A", "BUTTON"];

/** Makes an element's children those that are given, and leaves what is the same as it is. */
function become(e: Element, children: readonly Node[]): void {
  children.forEach((next, i) => {
    const old = e.childNodes[i];
    if (!old) e.append(next);
    else if (old.isEqualNode(next)) return;
    else if (old instanceof Element && next instanceof Element && old.tagName === next.tagName && !whole.includes(old.tagName)) {
      for (const { name } of [...old.attributes]) if (!next.hasAttribute(name)) old.removeAttribute(name);
      for (const { name, value } of next.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
      become(old, [...next.childNodes]);
    } else old.replaceWith(next);
  });
  while (e.childNodes.length > children.length) e.lastChild!.remove();
}

/**
 * Shows the same anew, as it is now. What has not changed stays, so that a press, a focus, a selection or a movement
 * outlasts the look at the nodes that falls into it. Who is on a link or a button that has moved still is.
 */
export function renew(e: Element, ...children: Node[]): void {
  const name = (of: HTMLElement): string => of.dataset["key"] ?? (of as HTMLAnchorElement).href ?? "";
  const focused = e.contains(document.activeElement) ? name(document.activeElement as HTMLElement) : "";
  become(e, children);
  if (focused && !e.contains(document.activeElement)) [...e.querySelectorAll<HTMLElement>("a, button")].find((x) => name(x) === focused)?.focus();
}

/** A table that is filled again and again. Columns of numbers stand to the right. */
export class Table {
  readonly element: HTMLElement;
  private readonly body = h("tbody");
  private readonly empty: HTMLElement;

  constructor(title: string, private readonly columns: ReadonlyArray<{ head: string; number?: boolean; sort?: () => void; sorted?: () => "ascending" | "descending" | "none" }>, none: string) {
    this.empty = h("p", { class: "hint", hidden: true }, none);
    const head = h("tr", {}, ...columns.map((c) => {
      const th = h("th", { scope: "col", class: c.number ? "number" : "" });
      if (c.sort) th.append(h("button", { type: "button", class: "sort", title: t("sort", { what: c.head }), onclick: c.sort }, c.head));
      else th.textContent = c.head;
      return th;
    }));
    // What is wider than a phone scrolls by itself, by keyboard, too.
    this.element = h("div", {}, h("div", { class: "wide", role: "region", tabIndex: 0, aria: { label: title } }, h("table", {}, h("caption", { class: "sr" }, title), h("thead", {}, head), this.body)), this.empty);
  }

  fill(rows: Cell[][]): void {
    renew(this.body, ...rows.map((cells) => h("tr", {}, ...cells.map((cell, i) => {
      const td = h(i === 0 ? "th" : "td", { class: this.columns[i]?.number ? "number" : "" });
      if (i === 0) td.setAttribute("scope", "row");
      td.append(typeof cell === "number" ? cell.toLocaleString(language) : cell);
      return td;
    }))));
    this.columns.forEach((c, i) => {
      if (c.sorted) this.element.querySelectorAll("thead th")[i]!.setAttribute("aria-sort", c.sorted());
    });
    this.empty.hidden = rows.length > 0;
    (this.element.firstElementChild as HTMLElement).hidden = rows.length === 0;
  }
}

/** Names and values. */
export function figures(pairs: ReadonlyArray<readonly [string, Cell]>): HTMLElement {
  return h("dl", { class: "figures" }, ...pairs.map(([k, v]) => {
    const dd = h("dd");
    dd.append(typeof v === "number" ? v.toLocaleString(language) : v);
    return h("div", {}, h("dt", {}, k), dd);
  }));
}

/** A state as a mark: never by colour alone. */
export function mark(state: string): HTMLElement {
  const good = ["ready", "linked", "relay"].includes(state);
  const bad = ["gone", "out_of_reach"].includes(state);
  return h("span", { class: `mark ${good ? "good" : bad ? "bad" : "warn"}` }, state.replaceAll("_", " "));
}

/**
 * Asks before something that cannot be taken back; resolves to whether to do it. No key or double click that was meant for the button that asks is an answer: the
 * focus is where nothing is done, and the other button takes nothing at first.
 */
export function sure(question: string, action: string): Promise<boolean> {
  return new Promise((resolve) => {
    const yes: HTMLButtonElement = h("button", { type: "button", class: "danger", onclick: () => {
      if (answer.meant()) dialog.close("yes");
    } }, action);
    const answer = apart(yes);
    const dialog: HTMLDialogElement = h("dialog", { aria: { label: question } }, h("form", { method: "dialog" },
      h("p", {}, question),
      h("div", { class: "row" }, yes, h("button", { class: "second", value: "", autofocus: true }, t("cancel")))));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
    answer.begin();
  });
}
