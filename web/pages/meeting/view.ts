import { camera, devices, microphone, screen, type Source } from "@timedge/media";
import { h, icon } from "../shell/dom.js";
import { sure } from "../shell/sure.js";
import { chat } from "../live/chat.js";
import { icons } from "../live/icons.js";
import { fit, pageOf, perPage } from "./grid.js";
import { marks } from "./icons.js";
import { deviceChoice, lacking, mirror, whyNot, type Choice } from "./lobby.js";
import type { Other } from "./gallery.js";
import type { Meeting } from "./meeting.js";
import { people } from "./people.js";
import { t } from "./words.js";

const emojis = ["👍", "👏", "😂", "🎉", "❤️"];
const gap = 8;
/** A tile beside one that is looked at is so wide, pixels. */
const stripWidth = 200;
const maxStrip = 5; // the style sheet has so many rows
const refreshMillis = 250;
const reactionMillis = 4000;

/** One tile: a person's picture, or a screen. This one's own has the publisher 0. */
interface Tile {
  key: string;
  pub: number;
  kind: "picture" | "screen";
  element: HTMLElement;
  update(): void;
}

export interface RoomView {
  changed(): void;
  line(from: string, text: string): void;
  reaction(pub: number, emoji: string): void;
  away(is: boolean): void;
  /** The meeting has another link. */
  relinked(link: string): void;
  /** So many messages were changed on their way, and dropped. */
  tampered(n: number): void;
  close(): void;
}

/** Shows the meeting that one takes part in. */
export function room(root: HTMLElement, m: Meeting, c: Choice, o: { link: string; encrypted: boolean; tell(text: string): void; left(): void }): RoomView {
  let over = false;
  let source = c.source;
  let shared: Source | undefined;
  let pinned = "";
  let page = 0;
  let pages = 1;
  let unread = 0;
  let settled = false;
  let cameraOn = c.camera && (source?.stream.getVideoTracks().length ?? 0) > 0;
  const tiles = new Map<string, Tile>();

  // The tiles

  const grid = h("ul", { class: "tiles" });
  const area = h("div", { class: "meeting-area" }, grid);
  const self = h("video", { muted: true, autoplay: true, playsInline: true });
  const alone = h("p", { class: "hint" }, t("alone"));

  function tile(key: string, pub: number, kind: Tile["kind"], picture: HTMLElement, about: () => { name: string; there: boolean; microphone: boolean; hand: boolean; silent: boolean; line: number }): Tile {
    const face = h("span", { class: "face", aria: { hidden: "true" } });
    const name = h("span", { class: "name" });
    const signs = h("span", { class: "signs" });
    const pin = h("button", { type: "button", class: "quiet pin", onclick: () => {
      pinned = pinned === key ? "" : key;
      layOut();
      tiles.get(key)?.update();
    } }, icon(marks.pin));
    const element = h("li", { class: `tile ${kind}`, data: { pub: String(pub), kind } }, picture, face, h("div", { class: "plate" }, name, signs), pin);
    let seen = "";
    return {
      key, pub, kind, element,
      update: () => {
        const a = about();
        const now = JSON.stringify([a, pinned === key]);
        if (now === seen) return;
        seen = now;
        name.textContent = a.name;
        face.textContent = [...a.name][0]?.toUpperCase() ?? "?";
        face.hidden = picture.hidden = false;
        face.hidden = a.there;
        picture.hidden = !a.there;
        element.classList.toggle("silent", a.silent);
        const states = kind === "screen" ? [] : [t(a.microphone ? "on" : "off"), ...(a.hand ? [t("handUp")] : []), ...(a.silent ? [t("silent")] : []), ...(a.line < 2 ? [t("weak")] : [])];
        signs.replaceChildren(
          ...(a.hand ? [icon(marks.hand)] : []), ...(kind === "picture" && !a.microphone ? [icon(icons.microphoneOff)] : []), ...(a.line < 2 ? [icon(marks.bars)] : []),
          h("span", { class: "sr" }, states.join(", ")));
        const word = t(pinned === key ? "unpin" : "pin", { name: a.name });
        pin.title = word;
        pin.setAttribute("aria-label", word);
        pin.setAttribute("aria-pressed", String(pinned === key));
      },
    };
  }

  const others = (): Other[] => m.gallery.others();
  const find = (pub: number): Other | undefined => others().find((x) => x.pub === pub);

  /** Makes the tiles of who is here, and takes away the others'. */
  function settle(): void {
    const wanted = new Set(["0"]);
    const news: string[] = [];
    if (!tiles.has("0")) {
      tiles.set("0", tile("0", 0, "picture", self, () => ({ name: t("you", { name: c.name }), there: cameraOn, microphone: m.microphone, hand: m.hand, silent: false, line: m.quality })));
    }
    for (const x of others()) {
      const key = String(x.pub);
      wanted.add(key);
      if (!tiles.has(key)) {
        news.push(t("came", { name: x.presence.name }));
        tiles.set(key, tile(key, x.pub, "picture", x.canvas, () => {
          const p = find(x.pub);
          const muted = m.control.muted.includes(x.account);
          return { name: p?.presence.name ?? "", there: Boolean(p?.presence.large) && m.gallery.sizeOf(x.pub) !== "none", microphone: Boolean(p?.presence.microphone) && !muted, hand: p?.presence.hand ?? false, silent: p?.silent ?? true, line: p?.presence.line ?? 0 };
        }));
      }
      if (x.presence.screen === "") continue;
      wanted.add(`${key}s`);
      if (!tiles.has(`${key}s`)) {
        tiles.set(`${key}s`, tile(`${key}s`, x.pub, "screen", x.screenCanvas, () => ({ name: t("screenOf", { name: find(x.pub)?.presence.name ?? "" }), there: true, microphone: true, hand: false, silent: false, line: 2 })));
      }
    }
    for (const [key, x] of tiles) {
      if (wanted.has(key)) continue;
      if (x.kind === "picture") news.push(t("went", { name: x.element.querySelector(".name")!.textContent }));
      x.element.remove();
      tiles.delete(key);
      if (pinned === key) pinned = "";
    }
    alone.hidden = tiles.size > 1;
    if (settled && news.length > 0) said.textContent = news.join(" ");
    settled = true;
  }

  /** Puts the tiles of this page in their places, and says what of whom is shown. */
  function layOut(): void {
    if (over) return;
    const now = performance.now();
    const [width, height] = [area.clientWidth, area.clientHeight];
    const all = [...tiles.values()];
    const large = tiles.get(pinned) ?? all.findLast((x) => x.kind === "screen");
    const rest = all.filter((x) => x !== large);
    const narrow = width < 640;
    const speaker = m.gallery.speaking.current(now);
    const strip = Math.floor(narrow ? (width + gap) / (stripWidth * 0.7 + gap) : (height + gap) / ((stripWidth * 9) / 16 + gap));
    const size = large ? Math.max(1, Math.min(strip, maxStrip)) : perPage(width, height, gap);
    pages = Math.max(1, Math.ceil(rest.length / size));
    page = Math.min(page, pages - 1);
    const heard = (x: Tile): number => (x.pub === 0 || x.kind === "screen" ? Infinity : m.gallery.speaking.spokeAt(x.pub));
    const here = pageOf(rest, size, page, heard, rest.find((x) => x.pub === speaker && x.kind === "picture"));
    const order = [...(large ? [large] : []), ...here];
    const g = fit(here.length, width, height, gap);
    grid.dataset.look = large ? (narrow ? "above" : "beside") : "even";
    grid.style.setProperty("--tile", `${large ? (narrow ? stripWidth * 0.7 : stripWidth) : g.width}px`);
    grid.style.setProperty("--columns", String(g.columns));
    for (const x of all) x.element.hidden = !order.includes(x);
    if (order.some((x, i) => grid.children[i] !== x.element) || grid.childElementCount !== order.length) grid.replaceChildren(...order.map((x) => x.element));
    for (const x of all) x.element.classList.toggle("large", x === large);
    const wide = (key: string): number => {
      const x = tiles.get(key);
      if (!x || !order.includes(x) || document.hidden) return 0; // nobody looks: sound goes on
      return x.element.clientWidth * devicePixelRatio;
    };
    for (const x of others()) {
      const key = String(x.pub);
      const looked = pinned === key || speaker === x.pub || others().length === 1;
      m.gallery.show(x.pub, { width: wide(key), looked }, { width: wide(`${key}s`), looked: true });
    }
    pager.hidden = pages < 2;
    place.textContent = t("page", { n: page + 1, all: pages });
    before.disabled = page === 0;
    next.disabled = page === pages - 1;
  }

  const turn = (by: number) => (): void => {
    page = Math.max(0, Math.min(page + by, pages - 1));
    layOut();
  };
  const before = h("button", { type: "button", class: "second", aria: { label: t("before") }, title: t("before"), onclick: turn(-1) }, "‹");
  const next = h("button", { type: "button", class: "second", aria: { label: t("next") }, title: t("next"), onclick: turn(1) }, "›");
  const place = h("span", { class: "mono" });
  const pager = h("div", { class: "row pager", hidden: true }, before, place, next);

  // One's own devices

  const wrong = h("p", { class: "error", role: "alert" });
  const press = (b: HTMLButtonElement, is: boolean, path: string, word: string): void => {
    b.setAttribute("aria-pressed", String(is));
    b.setAttribute("aria-label", word);
    b.title = word;
    b.replaceChildren(icon(path));
  };
  const tool = (run: () => void): HTMLButtonElement => h("button", { type: "button", class: "second tool", onclick: run });
  const mic = tool(() => void setMicrophone(!m.microphone));
  const cam = tool(() => void setCamera(!cameraOn));
  const share = tool(() => void (m.sharing ? unshare() : startSharing()));
  const hand = tool(() => m.setHand(!m.hand));
  share.hidden = !("getDisplayMedia" in (navigator.mediaDevices ?? {})); // phones have none

  function showOwn(): void {
    press(mic, m.microphone, m.microphone ? icons.microphone : icons.microphoneOff, t(m.microphone ? "mute" : m.mutedByOwner ? "mutedByHost" : "unmute"));
    press(cam, cameraOn, cameraOn ? icons.camera : icons.cameraOff, t(cameraOn ? "video" : "noVideo"));
    press(share, m.sharing, icons.screen, t(m.sharing ? "unshare" : "share"));
    press(hand, m.hand, marks.hand, t("hand"));
  }

  function take(s: Source | undefined): void {
    source = s;
    for (const track of s?.stream.getTracks() ?? []) track.enabled = true;
    for (const track of s?.stream.getTracks() ?? []) track.addEventListener("ended", () => lost(s!, track));
    const picture = s?.stream.getVideoTracks()[0];
    mirror(self, picture);
    m.takeSound(s?.stream.getAudioTracks()[0]);
    void m.takePicture(cameraOn ? picture : undefined).catch((e: Error) => (wrong.textContent = e.message));
  }

  /** A device is gone: somebody pulled it out, or took it away from the page. */
  function lost(s: Source, track: MediaStreamTrack): void {
    if (over || s !== source || !s.stream.getTracks().includes(track)) return;
    s.stream.removeTrack(track);
    wrong.textContent = t("unplugged");
    if (track.kind === "audio") m.takeSound(undefined);
    else void setCamera(false, wrong.textContent);
    showOwn();
  }

  /** Opens the microphone, which may be one that was not there before. */
  async function setMicrophone(on: boolean): Promise<void> {
    if (on && !m.mutedByOwner && (source?.stream.getAudioTracks().length ?? 0) === 0) await reopen();
    m.setMicrophone(on);
  }

  /** Off means off: the device is let go of, and its light goes out. */
  async function setCamera(on: boolean, why = ""): Promise<void> {
    wrong.textContent = why;
    if (!on) {
      cameraOn = false;
      for (const track of source?.stream.getVideoTracks() ?? []) {
        track.stop();
        source!.stream.removeTrack(track);
      }
      mirror(self, undefined);
      await m.takePicture(undefined);
    } else await reopen(true);
    showOwn();
    tiles.get("0")?.update();
  }

  /** Opens the devices that are chosen. */
  async function reopen(withCamera = cameraOn): Promise<void> {
    wrong.textContent = "";
    try {
      const s = withCamera ? await camera({ ...c.quality, camera: cameras.select.value, microphone: microphones.select.value, voice: true }) : await microphone(microphones.select.value, true);
      if (over) return s.stop();
      const was = source;
      cameraOn = s.stream.getVideoTracks().length > 0;
      take(s);
      was?.stop();
      wrong.textContent = lacking(s, withCamera);
    } catch (e) {
      wrong.textContent = whyNot(e);
    }
    showOwn();
    tiles.get("0")?.update();
  }

  async function startSharing(): Promise<void> {
    wrong.textContent = "";
    try {
      const s = await screen(15);
      if (over) return s.stop();
      shared = s;
      const track = s.stream.getVideoTracks()[0];
      track?.addEventListener("ended", () => void unshare()); // by the browser's own button
      await m.takeScreen(track);
    } catch (e) {
      if ((e as DOMException).name !== "NotAllowedError") wrong.textContent = (e as Error).message;
    }
    showOwn();
  }

  async function unshare(): Promise<void> {
    shared?.stop();
    shared = undefined;
    await m.takeScreen(undefined);
    showOwn();
  }

  const cameras = deviceChoice("meeting-in-camera", t("camera"), () => void reopen());
  const microphones = deviceChoice("meeting-in-microphone", t("microphone"), () => void reopen());
  const fill = (): void => void devices().then((d) => {
    cameras.fill(d.cameras);
    microphones.fill(d.microphones);
  }).catch(() => {});
  fill();

  // What is beside the tiles

  const talk = chat(true, async (text) => {
    m.say(text);
    talk.add(t("you", { name: c.name }), text);
  });
  const list = people(m, c.name, (e) => (wrong.textContent = e.message));
  const open = h("input", { type: "checkbox", id: "meeting-open", checked: true, onchange: () => void m.open(open.checked).catch((e: Error) => (wrong.textContent = e.message)) });
  const link = h("input", { id: "meeting-link", readOnly: true, class: "mono", value: o.link, onfocus: () => link.select() });
  const tampered = h("p", { class: "error", hidden: true });
  const peoplePanel = h("section", { class: "panel" }, h("h2", {}, t("peopleTitle")), list.element,
    o.encrypted && h("p", { class: "hint lock" }, icon(icons.lock), " ", t("sealed")),
    tampered,
    h("label", { htmlFor: "meeting-link" }, t("link")),
    h("div", { class: "row" }, h("div", { class: "grow" }, link), h("button", { type: "button", class: "second", onclick: () => {
      void navigator.clipboard?.writeText(link.value).then(() => o.tell(t("copied")), () => link.select());
    } }, icon(icons.copy), t("copy"))),
    m.owner && h("div", { class: "check" }, open, h("label", { htmlFor: "meeting-open" }, t("open"))));
  const devicePanel = h("section", { class: "panel" }, h("h2", {}, t("settings")), cameras.element, microphones.element, h("p", { class: "hint" }, t("keys")));
  const panels = { people: peoplePanel, chat: talk.element, settings: devicePanel };
  type Name = keyof typeof panels;
  const aside = h("aside", { id: "meeting-side", hidden: true, aria: { label: t("peopleTitle") } }, ...Object.values(panels));
  let side: Name | undefined;
  const opener = (name: Name, path: string): HTMLButtonElement => {
    const b = tool(() => choose(side === name ? undefined : name));
    b.append(icon(path));
    b.setAttribute("aria-controls", "meeting-side");
    return b;
  };
  const openers: Record<Name, HTMLButtonElement> = { people: opener("people", marks.people), chat: opener("chat", marks.talk), settings: opener("settings", marks.gear) };

  function choose(name: Name | undefined): void {
    side = name;
    aside.hidden = name === undefined;
    aside.setAttribute("aria-label", name ? t(name === "people" ? "peopleTitle" : name) : "");
    for (const [n, p] of Object.entries(panels)) p.hidden = n !== name;
    if (name === "chat") unread = 0;
    body.dataset.side = name ?? "";
    count();
    layOut();
    if (name === "chat" && matchMedia("(pointer: fine)").matches) talk.element.querySelector("input")?.focus(); // a phone's keyboard would cover all
  }

  function count(): void {
    const label = (b: HTMLButtonElement, name: Name, word: string): void => {
      b.setAttribute("aria-label", word);
      b.title = word;
      b.setAttribute("aria-expanded", String(side === name));
    };
    label(openers.people, "people", t("people", { n: others().length + 1 }));
    label(openers.chat, "chat", unread > 0 ? t("unread", { n: unread }) : t("chat"));
    label(openers.settings, "settings", t("settings"));
    openers.chat.classList.toggle("new", unread > 0);
  }

  const menu = h("div", { class: "row emojis", hidden: true, role: "group", aria: { label: t("react") } }, ...emojis.map((emoji) =>
    h("button", { type: "button", class: "quiet", aria: { label: t("reaction", { emoji }) }, onclick: () => {
      m.react(emoji);
      reaction(0, emoji);
      menu.hidden = true;
      smile.setAttribute("aria-expanded", "false");
      smile.focus();
    } }, emoji)));
  const smile = h("button", { type: "button", class: "second tool", title: t("react"), aria: { label: t("react"), expanded: "false" }, onclick: () => {
    menu.hidden = !menu.hidden;
    smile.setAttribute("aria-expanded", String(!menu.hidden));
  } }, icon(marks.smile));
  const said = h("p", { class: "sr", role: "status" });

  function reaction(pub: number, emoji: string): void {
    const x = tiles.get(String(pub));
    const name = pub === 0 ? c.name : find(pub)?.presence.name;
    if (!x || name === undefined) return;
    said.textContent = t("reacted", { name, emoji });
    const e = h("span", { class: "reaction", aria: { hidden: "true" } }, emoji);
    x.element.append(e);
    setTimeout(() => e.remove(), reactionMillis);
  }

  const leave = (all: boolean) => (): void => {
    void m.leave(all);
    o.left();
  };
  const away = h("p", { class: "warning", role: "status" });
  const startSound = h("button", { type: "button", class: "start-sound", hidden: true, onclick: () => void m.gallery.resumeSound() }, icon(icons.sound), t("startSound"));
  area.append(startSound);
  const body = h("div", { class: "meeting", data: { side: "" } }, h("div", { class: "meeting-main" }, area, pager), aside);
  root.classList.add("wide");
  root.append(h("h1", { class: "sr" }, t("title")), body, menu,
    h("div", { class: "row tools-bar", role: "group", aria: { label: t("title") } }, mic, cam, share, hand, smile, openers.people, openers.chat, openers.settings,
      h("div", { class: "row ends" }, m.owner && sure(h("button", { type: "button", class: "danger" }, t("endAll")), t("sureEnd"), leave(true)), h("button", { type: "button", class: "danger", onclick: leave(false) }, t("leave")))),
    alone, away, wrong, said);

  // From time to time

  let isAway = false;
  const refresh = (): void => {
    const now = performance.now();
    for (const x of tiles.values()) {
      x.update();
      x.element.classList.toggle("speaks", x.kind === "picture" && m.gallery.speaking.speaks(x.pub, now));
    }
    startSound.hidden = !m.gallery.soundBlocked;
    const note = isAway ? t("away") : m.eased ? t("slowMachine") : m.gallery.level === "all" ? "" : m.gallery.level === "small" ? t("smallPictures") : t("lessPictures");
    if (away.textContent !== note) away.textContent = note;
    layOut();
  };
  const changed = (): void => {
    if (over) return;
    settle();
    showOwn();
    open.checked = m.control.open;
    list.update();
    count();
    refresh();
  };
  const timer = window.setInterval(refresh, refreshMillis);
  const resized = new ResizeObserver(() => layOut());
  resized.observe(area);
  const key = (e: KeyboardEvent): void => {
    if (e.key === "Escape") return escape();
    if (e.ctrlKey || e.altKey || e.metaKey || (e.target as HTMLElement).closest("input, select, textarea")) return;
    const press = ({ m: mic, v: cam, h: hand, c: openers.chat } as Record<string, HTMLButtonElement>)[e.key.toLowerCase()];
    press?.click();
    if (press) e.preventDefault(); // what it opens shall not get the letter
  };
  const escape = (): void => {
    const opened = !menu.hidden ? smile : side && openers[side];
    if (opened) [opened.click(), opened.focus()];
  };
  addEventListener("keydown", key);
  document.addEventListener("visibilitychange", layOut);
  navigator.mediaDevices?.addEventListener("devicechange", fill);

  choose(undefined);
  if (!c.microphone) m.setMicrophone(false);
  take(source);
  if (!cameraOn) void setCamera(false);
  changed();

  return {
    changed,
    line: (from, text) => {
      talk.add(from, text);
      if (side === "chat") return;
      unread++;
      count();
    },
    reaction,
    relinked: (l) => void (link.value = l),
    tampered(n) {
      tampered.textContent = t("tampered", { n });
      if (tampered.hidden) o.tell(tampered.textContent); // once to who listens; then it stands there
      tampered.hidden = false;
    },
    away: (is) => {
      isAway = is;
      refresh();
    },
    close: () => {
      over = true;
      clearInterval(timer);
      resized.disconnect();
      removeEventListener("keydown", key);
      document.removeEventListener("visibilitychange", layOut);
      navigator.mediaDevices?.removeEventListener("devicechange", fill);
      root.classList.remove("wide");
      source?.stop();
      shared?.stop();
    },
  };
}
