/** Where pictures and sound come from. The stream's tracks are the caller's; `stop` ends them and what was made for them. */
export interface Source {
  stream: MediaStream;
  stop(): void;
}

export interface CameraWishes {
  camera?: string; // device id
  microphone?: string;
  /** The microphone is for speech: one channel is asked for. */
  voice?: boolean;
  width: number;
  height: number;
  fps: number;
}

function soundOf(id: string | undefined, voice = false): MediaTrackConstraints {
  return { ...(id ? { deviceId: { exact: id } } : {}), ...(voice ? { channelCount: { ideal: 1 } } : {}), echoCancellation: true, noiseSuppression: true };
}

function sourceOf(stream: MediaStream, also?: () => void): Source {
  return {
    stream,
    stop: () => {
      for (const t of stream.getTracks()) t.stop();
      also?.();
    },
  };
}

/** Reports whether the browser gives this page no such device; false where it does not say. */
async function forbidden(name: "camera" | "microphone"): Promise<boolean> {
  try {
    return (await navigator.permissions.query({ name: name as PermissionName })).state === "denied";
  } catch {
    return false;
  }
}

/** Opens camera and microphone, or one of them where the other is missing or forbidden. It rejects with the browser's DOMException. */
export async function camera(w: CameraWishes): Promise<Source> {
  const video = { ...(w.camera ? { deviceId: { exact: w.camera } } : {}), width: { ideal: w.width }, height: { ideal: w.height }, frameRate: { ideal: w.fps } };
  const audio = soundOf(w.microphone, w.voice);
  let tries: MediaStreamConstraints[] = [{ video, audio }, { video }, { audio }];
  let first: unknown;
  for (let t = tries.shift(); t; t = tries.shift()) {
    try {
      return sourceOf(await navigator.mediaDevices.getUserMedia(t));
    } catch (e) {
      first ??= e;
      const { name } = e as DOMException;
      if (name === "NotAllowedError") {
        const [noCamera, noMicrophone] = await Promise.all([forbidden("camera"), forbidden("microphone")]);
        if (noCamera === noMicrophone) break; // who has said no is not asked again
        tries = tries.filter((x) => !(noCamera && x.video) && !(noMicrophone && x.audio));
      } else if (name !== "NotFoundError" && name !== "NotReadableError") break;
    }
  }
  throw first;
}

/** Opens a microphone alone; with `voice` it is for speech, and one channel is asked for. */
export async function microphone(id?: string, voice = false): Promise<Source> {
  return sourceOf(await navigator.mediaDevices.getUserMedia({ audio: soundOf(id, voice) }));
}

/** Opens a screen, a window or a page, as the user chooses, with its sound where there is any. */
export async function screen(fps: number): Promise<Source> {
  return sourceOf(await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { ideal: fps } }, audio: true }));
}

/** Plays a file of the user's, again and again, into tracks; nothing of it is heard here. */
export async function file(f: File): Promise<Source> {
  const video = document.createElement("video");
  const url = URL.createObjectURL(f);
  video.src = url;
  video.loop = true;
  video.playsInline = true;
  await new Promise<void>((resolve, reject) => {
    video.onloadeddata = () => resolve();
    video.onerror = () => reject(new Error(video.error?.message || "the file cannot be played"));
  });
  const context = new AudioContext();
  const out = context.createMediaStreamDestination();
  context.createMediaElementSource(video).connect(out); // from here on the element itself is silent
  await video.play();
  const captured = video.captureStream?.() ?? video.mozCaptureStream?.();
  const tracks = [...(captured?.getVideoTracks() ?? []), ...out.stream.getAudioTracks()];
  return sourceOf(new MediaStream(tracks), () => {
    video.pause();
    video.removeAttribute("src");
    URL.revokeObjectURL(url);
    void context.close();
  });
}

/** Cameras and microphones; they have names once the user has allowed one. */
export async function devices(): Promise<{ cameras: MediaDeviceInfo[]; microphones: MediaDeviceInfo[] }> {
  const all = await navigator.mediaDevices.enumerateDevices();
  const of = (kind: MediaDeviceKind): MediaDeviceInfo[] => all.filter((d) => d.kind === kind && d.deviceId !== "");
  return { cameras: of("videoinput"), microphones: of("audioinput") };
}
