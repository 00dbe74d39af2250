import type { Client } from "@timedge/sdk";
import { encrypted, Keys, type RoomLink } from "@timedge/sdk/e2ee";
import { latencies, Watch, type WatchState } from "@timedge/media";
import { h, icon } from "../shell/dom.js";
import { language, words } from "../shell/i18n.js";
import type { Shell } from "../shell/page.js";
import { chat } from "./chat.js";
import { icons } from "./icons.js";
import { worklet } from "./live.js";
import { bits, figure } from "./send.js";

const t = words({
  watch: ["Live", "直播"],
  live: ["LIVE", "直播中"],
  paused: ["PAUSED", "已暂停"],
  viewers: ["{n} watching", "{n} 人正在观看"],
  connecting: ["Connecting …", "正在连接……"],
  waiting: ["The broadcast has not begun yet. It starts here by itself.", "直播尚未开始，开始后会自动播放。"],
  interrupted: ["Interrupted. It goes on as soon as pictures come.", "直播中断，画面恢复后将继续。"],
  ended: ["The broadcast has ended.", "直播已结束。"],
  unknown: ["There is no such broadcast, or it has ended.", "没有这个直播，或已结束。"],
  locked: ["This broadcast is encrypted, and this link has not its key. Ask for the whole link.", "此直播已加密，该链接缺少正确的密钥，请索取完整链接。"],
  sealed: ["Encrypted", "已加密"],
  insecure: ["Browsers decode live pictures only on pages by https, or of this very machine.", "浏览器只在 https 页面或本机页面上解码直播画面。"],
  insecureKey: ["Browsers open what is encrypted only on pages by https, or of this very machine.", "浏览器只在 https 页面或本机页面上打开加密内容。"],
  unsupported: ["This browser cannot play all of it: {what}.", "此浏览器无法播放其中的 {what}。"],
  unknownFormat: ["What is sent here is no picture or sound that a page can play.", "此处发送的内容不是网页可以播放的画面或声音。"],
  needsOther: ["a container that pages do not read ({what}); MPEG-TS, fragmented MP4 and WebM they do", "网页无法读取的封装格式（{what}），请使用 MPEG-TS、分片 MP4 或 WebM"],
  failed: ["No connection: {why}", "无法连接：{why}"],
  again: ["Try again", "重试"],
  startSound: ["Turn sound on", "打开声音"],
  picture: ["Picture of the broadcast", "直播画面"],
  mute: ["Mute", "静音"],
  volume: ["Volume", "音量"],
  latency: ["Latency", "延迟"],
  lowest: ["Lowest", "最低"],
  balanced: ["Balanced", "均衡"],
  smooth: ["Smooth", "流畅"],
  quality: ["Quality", "画质"],
  automatic: ["Automatic", "自动"],
  stills: ["Sound and stills", "声音与静态画面"],
  by: ["Played by", "播放方式"],
  decoders: ["WebCodecs", "WebCodecs"],
  element: ["a media element (MSE)", "媒体元素（MSE）"],
  slowLine: ["Slow line", "网络较慢"],
  full: ["Full screen", "全屏"],
  inPicture: ["Picture in picture", "画中画"],
  captions: ["Captions: what the sender writes", "字幕：主播输入的文字"],
  figures: ["Statistics", "统计"],
  size: ["Picture", "画面"],
  rate: ["Bit rate", "码率"],
  fps: ["Pictures", "帧率"],
  perSecond: ["{n} a second", "每秒 {n} 帧"],
  delay: ["Buffer", "缓冲"],
  age: ["From the camera to here", "从摄像头到此处"],
  skew: ["Sound and picture apart", "声画偏差"],
  missed: ["Missed pictures", "未显示的画面"],
  silence: ["Missed sound", "缺失的声音"],
  gaps: ["Gaps told by the server", "服务器告知的缺口"],
  node: ["Node", "节点"],
  none: ["none", "无"],
  keys: ["Keys: M sound, C captions, F full screen, S statistics", "快捷键：M 声音，C 字幕，F 全屏，S 统计"],
});

/** How long a caption stands, ms: some 12 letters are read in a second. */
const captionMillis = (text: string): number => 3000 + text.length * 80;
/** With neither sound nor anybody looking, nothing is fetched after so long, ms. */
const hiddenMillis = 10_000;

/** Makes the page of a viewer; of a link whose key is none it says so. */
export function watchPage(root: HTMLElement, shell: Shell, link: RoomLink | undefined): () => void {
  let client: Client | undefined;
  let watch: Watch | undefined;
  let over = false;
  let loud = 1;
  let muted = false;
  let outside = false;
  let captioned = false;
  let uncaption = 0;

  const canvas = h("canvas", { width: 640, height: 360, role: "img", aria: { label: t("picture") } });
  const message = h("p", { class: "over", role: "status" }, t("connecting"));
  const again = h("button", { type: "button", class: "second", hidden: true, onclick: () => location.reload() }, t("again"));
  const badge = h("span", { class: "badge", hidden: true });
  const viewers = h("span", { class: "clock", hidden: true });
  const caption = h("p", { class: "caption", lang: "", hidden: true });
  const captions = h("button", { type: "button", class: "quiet", title: t("captions"), aria: { label: t("captions"), pressed: "false" }, onclick: () => {
    captioned = !captioned;
    captions.setAttribute("aria-pressed", String(captioned));
    caption.hidden = true;
  } }, icon(icons.captions));
  const slow = h("span", { class: "clock", role: "status" });
  const lock = h("span", { class: "clock lock", hidden: true }, icon(icons.lock), t("sealed"));
  const startSound = h("button", { type: "button", class: "start-sound", hidden: true, onclick: () => void watch?.resumeSound() }, icon(icons.sound), t("startSound"));
  const mute = h("button", { type: "button", class: "quiet", title: t("mute"), aria: { label: t("mute"), pressed: "false" }, onclick: () => setMuted(!muted) }, icon(icons.sound));
  const volume = h("input", { type: "range", min: "0", max: "1", step: "0.05", value: "1", aria: { label: t("volume") }, oninput: () => {
    loud = Number(volume.value);
    setMuted(loud === 0);
  } });
  const latency = h("select", { id: "watch-latency", onchange: () => watch && (watch.latency = latencies[latency.value as keyof typeof latencies]) },
    ...Object.keys(latencies).map((l) => h("option", { value: l }, t(l as "lowest"))));
  latency.value = "balanced";
  const quality = h("select", { id: "watch-quality", onchange: () => watch && (watch.quality = quality.value === "" ? undefined : Number(quality.value)) }, h("option", { value: "" }, t("automatic")));
  const stage = h("div", { class: "stage" }, canvas, h("div", { class: "notice" }, message, again), startSound, h("div", { class: "marks" }, badge, viewers, slow, lock), caption);
  const full = h("button", { type: "button", class: "quiet", title: t("full"), aria: { label: t("full") }, hidden: !document.fullscreenEnabled, onclick: () => {
    if (document.fullscreenElement) void document.exitFullscreen();
    else void stage.requestFullscreen();
  } }, icon(icons.full));
  const inPicture = h("button", { type: "button", class: "quiet", title: t("inPicture"), aria: { label: t("inPicture") }, hidden: !document.pictureInPictureEnabled, onclick: () => void popOut() }, icon(icons.inPicture));
  const rows = { size: figure(t("size")), rate: figure(t("rate")), fps: figure(t("fps")), delay: figure(t("delay")), age: figure(t("age")), skew: figure(t("skew")), missed: figure(t("missed")), silence: figure(t("silence")), gaps: figure(t("gaps")), by: figure(t("by")), node: figure(t("node")) };
  const figures = h("section", { class: "panel", hidden: true, id: "watch-figures" }, h("h2", {}, t("figures")), h("dl", { class: "figures" }, ...Object.values(rows).map((r) => r.element)), h("p", { class: "hint" }, t("keys")));
  const statistics = h("button", { type: "button", class: "quiet", title: t("figures"), aria: { label: t("figures"), expanded: "false", controls: "watch-figures" }, onclick: () => {
    figures.hidden = !figures.hidden;
    statistics.setAttribute("aria-expanded", String(!figures.hidden));
  } }, icon(icons.figures));
  const heading = h("h1", {}, t("watch"));
  const talk = chat(shell.account() !== "", async (text) => watch!.say(text));
  const popped = h("video", { muted: true, playsInline: true });

  root.append(heading, h("div", { class: "live" },
    h("div", { class: "column" }, stage,
      h("div", { class: "row bar" }, h("div", { class: "row sound" }, mute, volume),
        h("div", { class: "row pick" }, h("label", { htmlFor: "watch-latency" }, t("latency")), latency),
        h("div", { class: "row pick" }, h("label", { htmlFor: "watch-quality" }, t("quality")), quality),
        h("div", { class: "row ends" }, captions, statistics, inPicture, full)),
      figures),
    h("div", { class: "column" }, talk.element)));

  function setMuted(m: boolean): void {
    muted = m;
    mute.setAttribute("aria-pressed", String(m));
    mute.firstElementChild!.replaceWith(icon(m ? icons.soundOff : icons.sound));
    if (watch) watch.volume = m ? 0 : loud;
    if (!m) void watch?.resumeSound();
  }

  async function popOut(): Promise<void> {
    if (document.pictureInPictureElement) return document.exitPictureInPicture();
    popped.srcObject ??= canvas.captureStream();
    await popped.play();
    await popped.requestPictureInPicture();
  }

  function become(s: WatchState): void {
    const live = s === "live";
    const lacks = watch?.lacks ?? "";
    message.textContent = live ? "" : s !== "unsupported" ? t(s) : !isSecureContext && !outside ? t("insecure") : lacks === "?" ? t("unknownFormat") : t(s, { what: lacks === "FLV" ? t("needsOther", { what: lacks }) : lacks });
    again.hidden = s !== "unknown" && s !== "ended";
    lock.hidden = !live || !link?.key;
    if (s === "ended") viewers.hidden = true;
    badge.hidden = !live && s !== "interrupted";
    badge.classList.toggle("paused", !live);
    badge.replaceChildren(h("span", { class: "dot" }), t(live ? "live" : "paused"));
    stage.dataset.state = s;
  }

  function begin(): void {
    if (!client || !link) return;
    watch = Watch.start({
      client: link.key ? encrypted(client, new Keys(link.key)) : client, room: link.room, canvas, worklet, latency: latencies[latency.value as keyof typeof latencies],
      onState: become,
      onInfo: (i) => {
        heading.textContent = i.title || t("watch");
        document.title = `${i.title} · timedge`;
        const was = quality.value;
        quality.replaceChildren(h("option", { value: "" }, t("automatic")), ...i.renditions.map((r, n) => h("option", { value: String(n) }, r.stills ? t("stills") : `${Math.min(r.width, r.height)}p`)));
        if (was !== "" && Number(was) < i.renditions.length) quality.value = was;
      },
      onOutside: () => (outside = talk.element.hidden = true),
      onViewers: (n) => {
        viewers.hidden = false;
        viewers.textContent = t("viewers", { n: n.toLocaleString(language) });
      },
      onLine: (from, text) => {
        talk.add(from, text);
        if (captioned && from === watch?.sender) show(text);
      },
    });
    watch.volume = muted ? 0 : loud;
  }

  function show(text: string): void {
    caption.textContent = text;
    caption.hidden = false;
    clearTimeout(uncaption);
    uncaption = window.setTimeout(() => (caption.hidden = true), captionMillis(text));
  }

  const milliseconds = (n: number | undefined): string => (n === undefined ? "–" : `${Math.round(n)} ms`);
  const timer = window.setInterval(() => {
    if (!watch) return;
    startSound.hidden = !(watch.soundBlocked && watch.state === "live" && !muted);
    const line = watch.state !== "live" ? "" : watch.lacks ? t("unsupported", { what: watch.lacks }) : watch.slow ? t("slowLine") : "";
    if (slow.textContent !== line) slow.textContent = line;
    if (figures.hidden) return;
    const s = watch.stats();
    rows.size.set(s.codec && `${s.width} × ${s.height}, ${s.codec}`);
    rows.rate.set(bits(s.bitrate));
    rows.fps.set(t("perSecond", { n: Math.round(s.fps) }));
    rows.delay.set(milliseconds(s.delay));
    rows.age.set(milliseconds(s.age));
    rows.skew.set(milliseconds(s.skew?.p50));
    rows.missed.set(s.missedPictures.toLocaleString(language));
    rows.silence.set(milliseconds(s.missedSound));
    rows.gaps.set(Object.entries(s.gaps).map(([reason, n]) => `${n} ${reason}`).join(", ") || t("none"));
    rows.by.set(t(s.by));
    rows.node.set(client?.node ?? "–");
  }, 500);

  function key(e: KeyboardEvent): void {
    if (e.ctrlKey || e.altKey || e.metaKey || (e.target as HTMLElement).closest("input, select, textarea")) return;
    if (e.key === "m") setMuted(!muted);
    else if (e.key === "c") captions.click();
    else if (e.key === "f") full.click();
    else if (e.key === "s") statistics.click();
  }
  addEventListener("keydown", key);

  let hide = 0;
  function seen(): void {
    clearTimeout(hide);
    if (!document.hidden) return void (watch ?? begin());
    hide = window.setTimeout(() => {
      if (!muted && !watch?.soundBlocked || document.pictureInPictureElement) return;
      void watch?.close();
      watch = undefined;
    }, hiddenMillis);
  }
  document.addEventListener("visibilitychange", seen);

  if (!link) become("locked");
  else if (link.key && !isSecureContext) message.textContent = t("insecureKey");
  else shell.dial({ guest: true, backoffMin: 50, onState: (s) => {
    if (s.phase === "disconnected" && watch?.state === "live") message.textContent = ""; // pictures in the buffer go on; the state tells when they do not
  } }).then((c) => {
    if (over) return void c.close();
    client = c;
    begin();
  }, (e: Error) => {
    message.textContent = t("failed", { why: e.message });
    again.hidden = false;
  });

  return () => {
    over = true;
    clearInterval(timer);
    clearTimeout(hide);
    clearTimeout(uncaption);
    removeEventListener("keydown", key);
    document.removeEventListener("visibilitychange", seen);
    void (watch?.close() ?? Promise.resolve()).then(() => client?.close());
  };
}
