import type { Client } from "@timedge/sdk";
import { encrypted, formatHash, Keys, newLinkKey } from "@timedge/sdk/e2ee";
import { Broadcast, camera, devices, encodable, file, microphone, screen, type PictureCodec, type Quality, type Source } from "@timedge/media";
import { keepAwake } from "../shell/awake.js";
import { h, icon } from "../shell/dom.js";
import { language, words } from "../shell/i18n.js";
import type { Shell } from "../shell/page.js";
import { chat } from "./chat.js";
import { icons } from "./icons.js";
import { worklet } from "./live.js";
import { qr } from "./qr.js";

const t = words({
  title: ["Go live", "开始直播"],
  lead: ["Choose what to show. Nobody sees it before you go live.", "选择要播出的内容。开始直播前没有人能看到。"],
  source: ["Source", "来源"],
  camera: ["Camera", "摄像头"],
  screen: ["Screen", "屏幕"],
  file: ["File", "文件"],
  microphone: ["Microphone", "麦克风"],
  cameraChoice: ["Camera", "摄像头"],
  none: ["Default", "默认"],
  quality: ["Quality", "画质"],
  codec: ["Codec", "编码"],
  automatic: ["Automatic", "自动"],
  name: ["Title", "标题"],
  nameOf: ["{who}'s broadcast", "{who} 的直播"],
  small: ["Also send a small picture, for viewers on slow lines", "同时发送小画面，供网络较慢的观众使用"],
  seal: ["Encrypt: only who has the link can watch, not even the server", "加密：仅持有链接者可观看，服务器也无法查看"],
  sealed: ["Encrypted", "已加密"],
  sealedHint: ["The link carries the key. Send it where only those who may watch read it.", "链接中含有密钥，请只发送给可以观看的人。"],
  go: ["Go live", "开始直播"],
  starting: ["Starting …", "正在开始……"],
  end: ["End", "结束直播"],
  preview: ["Preview", "预览"],
  previewHint: ["Choose camera, screen or file.", "请选择摄像头、屏幕或文件。"],
  live: ["LIVE", "直播中"],
  viewers: ["Viewers", "观众"],
  rate: ["Bit rate", "码率"],
  pictures: ["Pictures", "帧率"],
  missed: ["Missed by viewers", "观众未看到"],
  missedValue: ["{n} pictures", "{n} 帧"],
  skipped: ["Left out here", "此处跳过"],
  skippedValue: ["{n} pictures", "{n} 帧"],
  perSecond: ["{n} a second", "每秒 {n} 帧"],
  link: ["Link for viewers", "观看链接"],
  copy: ["Copy", "复制"],
  copied: ["The link is copied.", "链接已复制。"],
  code: ["QR code of the link", "观看链接的二维码"],
  scan: ["A phone opens the page with its camera.", "用手机相机扫描即可观看。"],
  mute: ["Mute", "静音"],
  unmute: ["Unmute", "取消静音"],
  hide: ["Picture off", "关闭画面"],
  show: ["Picture on", "打开画面"],
  captions: ["What you write is also a caption for those who turn captions on.", "您输入的文字也会作为字幕显示给开启字幕的观众。"],
  ended: ["The broadcast has ended.", "直播已结束。"],
  endedBy: ["The broadcast has ended: {why}", "直播已结束：{why}"],
  away: ["The server is away; what was sent is kept and goes on.", "与服务器的连接中断，恢复后将继续。"],
  denied: ["The browser did not give access. Allow it in the address bar and try again.", "浏览器未授权。请在地址栏允许后重试。"],
  notFound: ["There is no such device.", "没有找到设备。"],
  unable: ["This browser cannot encode video. Chrome, Edge, Firefox 130 and Safari 16.4 or later can.", "此浏览器无法编码视频，请使用较新的 Chrome、Edge、Firefox 或 Safari。"],
  insecure: ["Browsers give a camera only to pages by https, or of this very machine.", "浏览器只允许 https 页面或本机页面使用摄像头。"],
});

const qualities: Record<string, Quality> = {
  "180p": { width: 320, height: 180, fps: 30, bitrate: 400_000 },
  "360p": { width: 640, height: 360, fps: 30, bitrate: 1_000_000 },
  "720p": { width: 1280, height: 720, fps: 30, bitrate: 2_500_000 },
  "1080p": { width: 1920, height: 1080, fps: 30, bitrate: 4_500_000 },
};

type Kind = "camera" | "screen" | "file";

/** Numbers of bits per second for people. */
export function bits(n: number): string {
  return n >= 1e6 ? `${(n / 1e6).toLocaleString(language, { maximumFractionDigits: 1 })} Mbit/s` : `${Math.round(n / 1000).toLocaleString(language)} kbit/s`;
}

/** A row of figures. */
export function figure(label: string): { element: HTMLElement; set(text: string): void } {
  const value = h("dd", {}, "–");
  return { element: h("div", {}, h("dt", {}, label), value), set: (text) => void (value.textContent !== text && (value.textContent = text)) };
}

function choice(id: string, label: string, options: Array<readonly [value: string, text: string]>, changed: () => void): { element: HTMLElement; select: HTMLSelectElement; fill(o: Array<readonly [string, string]>): void } {
  const select = h("select", { id, onchange: changed });
  const fill = (o: Array<readonly [string, string]>): void => {
    const was = select.value;
    select.replaceChildren(...o.map(([value, text]) => h("option", { value }, text)));
    if (o.some(([value]) => value === was)) select.value = was;
  };
  fill(options);
  return { element: h("div", {}, h("label", { htmlFor: id }, label), select), select, fill };
}

export function broadcastPage(root: HTMLElement, shell: Shell): () => void {
  let source: Source | undefined;
  let kind: Kind | undefined;
  let client: Client | undefined;
  let broadcast: Broadcast | undefined;
  let over = false;
  let timer = 0;
  let began = 0;
  let chosen: File | undefined;
  let sleep: (() => void) | undefined;

  const preview = h("video", { muted: true, autoplay: true, playsInline: true, aria: { label: t("preview") } });
  const empty = h("p", { class: "over" }, t("previewHint"));
  const badge = h("span", { class: "badge", hidden: true }, h("span", { class: "dot" }), t("live"));
  const clock = h("span", { class: "clock", hidden: true });
  const lock = h("span", { class: "clock lock", hidden: true }, icon(icons.lock), t("sealed"));
  const wrong = h("p", { class: "error", role: "alert" });
  const note = h("p", { class: "warning", role: "status", hidden: true }, t("away"));

  const pick = h("input", { type: "file", accept: "video/*,audio/*", hidden: true, onchange: () => {
    chosen = pick.files?.[0];
    if (chosen) void open("file");
  } });
  const buttons = (["camera", "screen", "file"] as const).map((k) =>
    h("button", { type: "button", class: "second source", aria: { pressed: "false" }, onclick: () => (k === "file" ? pick.click() : void open(k)) }, icon(icons[k]), t(k)));
  const changed = (): void => void (kind === "camera" && open("camera"));
  const cameras = choice("live-camera", t("cameraChoice"), [["", t("none")]], changed);
  const microphones = choice("live-microphone", t("microphone"), [["", t("none")]], changed);
  const quality = choice("live-quality", t("quality"), Object.keys(qualities).map((q) => [q, q] as const), changed);
  quality.select.value = "360p";
  const codec = choice("live-codec", t("codec"), [["", t("automatic")]], () => {});
  if (isSecureContext) void encodable(640, 360).then((list) => {
    codec.fill([["", t("automatic")], ...list.map((c) => [c, c] as const)]);
    if (list.length === 0) fail(t("unable"));
  });
  const title = h("input", { id: "live-title", maxLength: 100, value: t("nameOf", { who: shell.account() || "timedge" }) });
  const small = h("input", { type: "checkbox", id: "live-small" });
  const seal = h("input", { type: "checkbox", id: "live-seal" });
  const go = h("button", { type: "submit", disabled: true }, t("go"));
  const setup = h("form", { class: "panel setup", onsubmit: (e) => {
    e.preventDefault();
    void start();
  } },
    h("div", { class: "pair" }, cameras.element, microphones.element),
    h("div", { class: "pair" }, quality.element, codec.element),
    h("label", { htmlFor: "live-title" }, t("name")), title,
    h("div", { class: "check" }, small, h("label", { htmlFor: "live-small" }, t("small"))),
    h("div", { class: "check" }, seal, h("label", { htmlFor: "live-seal" }, t("seal"))),
    h("div", { class: "row" }, go));

  const figures = { viewers: figure(t("viewers")), rate: figure(t("rate")), pictures: figure(t("pictures")), missed: figure(t("missed")), skipped: figure(t("skipped")) };
  const link = h("input", { id: "live-link", readOnly: true, class: "mono", onfocus: () => link.select() });
  const code = h("div", {});
  const sealedHint = h("span", { hidden: true }, t("sealedHint"));
  const muteLabel = h("span", {}, t("mute"));
  const mute = h("button", { type: "button", class: "second", aria: { pressed: "false" }, onclick: () => toggle("audio") }, icon(icons.microphone), muteLabel);
  const hideLabel = h("span", {}, t("hide"));
  const hide = h("button", { type: "button", class: "second", aria: { pressed: "false" }, onclick: () => toggle("video") }, icon(icons.camera), hideLabel);
  const talk = chat(true, (text) => broadcast!.say(text), t("captions"));
  const air = h("section", { class: "panel", hidden: true },
    h("dl", { class: "figures" }, ...Object.values(figures).map((f) => f.element)),
    h("label", { htmlFor: "live-link" }, t("link")),
    h("div", { class: "row" }, h("div", { class: "grow" }, link), h("button", { type: "button", class: "second", onclick: () => {
      void navigator.clipboard?.writeText(link.value).then(() => shell.tell(t("copied")), () => link.select());
    } }, icon(icons.copy), t("copy"))),
    h("div", { class: "row code" }, code, h("p", { class: "hint grow" }, t("scan"), " ", sealedHint)));
  talk.element.hidden = true;
  const end = h("button", { type: "button", class: "danger", onclick: () => void finish() }, t("end"));
  const airBar = h("div", { class: "row bar", hidden: true }, mute, hide, end);
  const heading = h("h1", {}, t("title"));

  const lead = h("p", { class: "lead" }, t("lead"));

  root.append(heading, lead, h("div", { class: "live" },
    h("div", { class: "column" },
      h("div", { class: "stage" }, preview, empty, h("div", { class: "marks" }, badge, clock, lock)),
      airBar,
      h("div", { class: "row sources", role: "group", aria: { label: t("source") } }, ...buttons, pick),
      wrong, note),
    h("div", { class: "column" }, setup, air, talk.element)));
  if (!isSecureContext) fail(t("insecure")); // where nothing else works either

  function fail(text: string): void {
    wrong.textContent = text;
  }

  function why(e: unknown): string {
    const name = (e as DOMException).name;
    return name === "NotAllowedError" ? t("denied") : name === "NotFoundError" || name === "OverconstrainedError" ? t("notFound") : (e as Error).message;
  }

  async function open(k: Kind): Promise<void> {
    fail("");
    const q = qualities[quality.select.value]!;
    try {
      let next: Source;
      if (k === "camera") next = await camera({ ...q, camera: cameras.select.value, microphone: microphones.select.value });
      else if (k === "file") next = await file(chosen!);
      else {
        next = await screen(q.fps);
        if (next.stream.getAudioTracks().length === 0) await addMicrophone(next);
      }
      if (over) return next.stop();
      const before = source;
      [source, kind] = [next, k];
      preview.srcObject = new MediaStream(next.stream.getVideoTracks());
      broadcast?.take(next.stream.getVideoTracks()[0], next.stream.getAudioTracks()[0]);
      before?.stop();
      empty.hidden = true;
      go.disabled = false;
      buttons.forEach((b, i) => b.setAttribute("aria-pressed", String((["camera", "screen", "file"] as const)[i] === k)));
      show("audio", true);
      show("video", true);
      const d = await devices();
      const fill = (list: MediaDeviceInfo[]): Array<readonly [string, string]> => [["", t("none")], ...list.map((x) => [x.deviceId, x.label || x.deviceId.slice(0, 6)] as const)];
      cameras.fill(fill(d.cameras));
      microphones.fill(fill(d.microphones));
    } catch (e) {
      if (!over) fail(why(e));
    }
  }

  /** A screen without sound is spoken over, if the user lets us. */
  async function addMicrophone(to: Source): Promise<void> {
    const m = await microphone(microphones.select.value).catch(() => undefined);
    for (const track of m?.stream.getAudioTracks() ?? []) to.stream.addTrack(track);
  }

  function toggle(what: "audio" | "video"): void {
    const tracks = (what === "audio" ? source?.stream.getAudioTracks() : source?.stream.getVideoTracks()) ?? [];
    const on = !(tracks[0]?.enabled ?? true);
    for (const track of tracks) track.enabled = on;
    show(what, on);
  }

  function show(what: "audio" | "video", on: boolean): void {
    const [button, label] = what === "audio" ? [mute, muteLabel] : [hide, hideLabel];
    label.textContent = what === "audio" ? t(on ? "mute" : "unmute") : t(on ? "hide" : "show");
    const path = what === "audio" ? (on ? icons.microphone : icons.microphoneOff) : on ? icons.camera : icons.cameraOff;
    button.firstElementChild!.replaceWith(icon(path));
    button.setAttribute("aria-pressed", String(!on));
  }

  async function start(): Promise<void> {
    if (!source || broadcast) return;
    go.disabled = true;
    go.textContent = t("starting");
    const keys = seal.checked ? new Keys(newLinkKey()) : undefined;
    try {
      client ??= await shell.dial({ onState: (s) => void (note.hidden = s.phase === "connected" || s.phase === "draining" || !broadcast) });
      broadcast = await Broadcast.start({
        client: keys ? encrypted(client, keys) : client, title: title.value, worklet, picture: source.stream.getVideoTracks()[0], sound: source.stream.getAudioTracks()[0],
        quality: qualities[quality.select.value]!, codec: (codec.select.value || undefined) as PictureCodec | undefined, small: small.checked,
        onLine: talk.add, onEnd: (e) => stopped(t("endedBy", { why: e.message })),
      });
    } catch (e) {
      fail(why(e));
      go.disabled = false;
      go.textContent = t("go");
      return;
    }
    if (over) return void broadcast.stop();
    began = Date.now();
    link.value = `${location.origin}/live#${formatHash({ room: broadcast.room, ...(keys ? { key: keys.link } : {}) })}`;
    sealedHint.hidden = keys === undefined;
    code.replaceChildren(qr(link.value, t("code")));
    onAir(true);
    lock.hidden = keys === undefined;
    timer = window.setInterval(update, 500);
    update();
  }

  function onAir(on: boolean): void {
    sleep?.();
    sleep = on ? keepAwake() : undefined;
    setup.hidden = lead.hidden = on;
    for (const e of [air, talk.element, airBar, badge, clock]) e.hidden = !on;
    lock.hidden = true;
    heading.textContent = on ? title.value : t("title");
  }

  function update(): void {
    if (!broadcast) return;
    const s = broadcast.stats();
    const seconds = Math.floor((Date.now() - began) / 1000);
    clock.textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    figures.viewers.set(broadcast.viewers.toLocaleString(language));
    figures.rate.set(bits(s.bitrate));
    figures.pictures.set(t("perSecond", { n: Math.round(s.fps) }));
    figures.missed.set(t("missedValue", { n: [...s.reports.values()].reduce((n, r) => n + r.missedPictures, 0) }));
    figures.skipped.set(t("skippedValue", { n: s.skipped }));
  }

  async function finish(): Promise<void> {
    end.disabled = true;
    await broadcast?.stop();
    end.disabled = false;
    stopped(t("ended"));
  }

  function stopped(text: string): void {
    clearInterval(timer);
    broadcast = undefined;
    if (over) return;
    onAir(false);
    go.disabled = false;
    go.textContent = t("go");
    shell.tell(text);
  }

  return () => {
    over = true;
    clearInterval(timer);
    sleep?.();
    source?.stop();
    void (broadcast?.stop() ?? Promise.resolve()).then(() => client?.close());
  };
}
