import { camera, devices, levelOf, sounds, type Quality, type Source, type Stop } from "@timedge/media";
import { h, icon } from "../shell/dom.js";
import { icons } from "../live/icons.js";
import { worklet } from "../live/live.js";
import { t } from "./words.js";

export const qualities: Record<string, Quality> = {
  "180p": { width: 320, height: 180, fps: 30, bitrate: 350_000 },
  "360p": { width: 640, height: 360, fps: 30, bitrate: 900_000 },
  "720p": { width: 1280, height: 720, fps: 30, bitrate: 2_200_000 },
};

const keptName = "timedge.meeting.name";

/** What somebody has chosen before joining. The source is the meeting's to stop; it may lack tracks. */
export interface Choice {
  name: string;
  quality: Quality;
  source: Source | undefined;
  microphone: boolean;
  camera: boolean;
  /** A meeting that is made now is encrypted end to end. */
  encrypt: boolean;
}

export interface Lobby {
  element: HTMLElement;
  fail(text: string): void;
  /** Ends the preview; with `keep` the source goes on. */
  close(keep?: boolean): void;
}

/** Returns a choice of devices: a label and a list that starts with the browser's own choice. */
export function deviceChoice(id: string, label: string, changed: () => void): { element: HTMLElement; select: HTMLSelectElement; fill(list: MediaDeviceInfo[]): void } {
  const select = h("select", { id, onchange: changed }, h("option", { value: "" }, t("standard")));
  return {
    element: h("div", {}, h("label", { htmlFor: id }, label), select),
    select,
    fill: (list) => {
      const was = select.value;
      select.replaceChildren(h("option", { value: "" }, t("standard")), ...list.map((d) => h("option", { value: d.deviceId }, d.label || d.deviceId.slice(0, 6))));
      if (list.some((d) => d.deviceId === was)) select.value = was;
    },
  };
}

/** What to tell of a device that did not open. */
export function whyNot(e: unknown): string {
  const name = (e as DOMException).name;
  if (name === "NotReadableError" || name === "AbortError") return t("inUse");
  return name === "NotAllowedError" ? t("denied") : name === "NotFoundError" || name === "OverconstrainedError" ? t("notFound") : (e as Error).message;
}

/** What to tell of a source that lacks something; `camera`: pictures were asked for, too. */
export function lacking(s: Source, camera = true): string {
  return [camera && s.stream.getVideoTracks().length === 0 && t("noCamera"), s.stream.getAudioTracks().length === 0 && t("noMicrophone")].filter((x) => x !== false).join(" ");
}

/** One looks at oneself as in a mirror, but for a camera that looks the other way. */
export function mirror(v: HTMLVideoElement, track: MediaStreamTrack | undefined): void {
  v.srcObject = track ? new MediaStream([track]) : null;
  v.classList.toggle("mirror", track !== undefined && track.getSettings().facingMode !== "environment");
}

/** The look before joining: one's picture, level, devices and name; of a meeting that is not yet made, `fresh`, whether it is encrypted. */
export function lobby(account: string, fresh: boolean, join: (c: Choice) => Promise<void>): Lobby {
  let source: Source | undefined;
  let over = false;
  let opened = 0;
  let stopLevel: Stop | undefined;
  let [micOn, cameraOn] = [true, true];

  const video = h("video", { muted: true, autoplay: true, playsInline: true, aria: { label: t("preview") } });
  const off = h("p", { class: "over", hidden: true }, t("cameraOff"));
  const level = h("progress", { max: 1, value: 0, aria: { label: t("level") } });
  const wrong = h("p", { class: "error", role: "alert" });
  const name = h("input", { id: "meeting-name", required: true, maxLength: 60, value: sessionStorage.getItem(keptName) ?? account, autocomplete: "name" });
  const changed = (): void => void open();
  const cameras = deviceChoice("meeting-camera", t("camera"), changed);
  const microphones = deviceChoice("meeting-microphone", t("microphone"), changed);
  const quality = h("select", { id: "meeting-quality", onchange: changed }, ...Object.keys(qualities).map((q) => h("option", { value: q }, q)));
  quality.value = "360p";
  const encrypt = h("input", { type: "checkbox", id: "meeting-seal" });
  const go = h("button", { type: "submit" }, t("join"));
  const toggle = (on: string, offWord: string, paths: readonly [on: string, off: string], flip: () => boolean): HTMLButtonElement => {
    const b = h("button", { type: "button", class: "second", aria: { pressed: "true" }, onclick: () => {
      const is = flip();
      b.setAttribute("aria-pressed", String(is));
      b.replaceChildren(icon(paths[is ? 0 : 1]), is ? on : offWord);
      apply();
    } }, icon(paths[0]), on);
    return b;
  };
  const mic = toggle(t("mute"), t("unmute"), [icons.microphone, icons.microphoneOff], () => (micOn = !micOn));
  const cam = toggle(t("video"), t("noVideo"), [icons.camera, icons.cameraOff], () => (cameraOn = !cameraOn));

  function apply(): void {
    for (const track of source?.stream.getAudioTracks() ?? []) track.enabled = micOn;
    for (const track of source?.stream.getVideoTracks() ?? []) track.enabled = cameraOn;
    off.hidden = cameraOn && (source?.stream.getVideoTracks().length ?? 0) > 0;
    video.hidden = !off.hidden;
  }

  async function open(): Promise<void> {
    const mine = ++opened;
    wrong.textContent = isSecureContext ? "" : t("insecure");
    try {
      const next = await camera({ ...qualities[quality.value]!, camera: cameras.select.value, microphone: microphones.select.value, voice: true });
      if (over || mine !== opened) return next.stop();
      source?.stop();
      source = next;
      mirror(video, next.stream.getVideoTracks()[0]);
      wrong.textContent = lacking(next);
      stopLevel?.();
      const track = next.stream.getAudioTracks()[0];
      stopLevel = track && sounds(track, worklet, (sound) => {
        const plane = new Float32Array(sound.numberOfFrames);
        sound.copyTo(plane, { planeIndex: 0, format: "f32-planar" });
        sound.close();
        level.value = Math.max(Math.min(1, levelOf([plane]) * 4), level.value * 0.9);
      });
      const d = await devices();
      cameras.fill(d.cameras);
      microphones.fill(d.microphones);
    } catch (e) {
      if (!over) wrong.textContent = whyNot(e);
    }
    apply();
  }
  void open();

  const close = (keep = false): void => {
    over = true;
    stopLevel?.();
    video.srcObject = null;
    if (!keep) source?.stop();
  };
  const element = h("div", { class: "live" },
    h("div", { class: "column" },
      h("div", { class: "stage" }, video, off),
      h("div", { class: "row bar" }, mic, cam, h("div", { class: "grow" }, level)),
      wrong),
    h("form", { class: "panel", onsubmit: (e) => {
      e.preventDefault();
      wrong.textContent = "";
      go.disabled = true;
      go.textContent = t("joining");
      sessionStorage.setItem(keptName, name.value);
      void join({ name: name.value.trim() || account, quality: qualities[quality.value]!, source, microphone: micOn, camera: cameraOn, encrypt: encrypt.checked }).finally(() => {
        go.disabled = false;
        go.textContent = t("join");
      });
    } },
      h("h2", {}, t("lookTitle")), h("p", { class: "hint" }, t("lookLead")),
      h("label", { htmlFor: "meeting-name" }, t("name")), name,
      cameras.element, microphones.element,
      h("label", { htmlFor: "meeting-quality" }, t("quality")), quality,
      fresh && h("div", { class: "check" }, encrypt, h("label", { htmlFor: "meeting-seal" }, t("seal"))),
      h("div", { class: "row go" }, go)));
  return { element, fail: (text) => (wrong.textContent = text), close };
}
