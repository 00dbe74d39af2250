// The meeting page: a look before joining, and the meeting itself. Without a room behind # a new one is made.

import { ClosedError, RefusedError, type Message, type RoomID } from "@timedge/sdk";
import { encrypted, formatHash, Keys, newLinkKey, parseHash } from "@timedge/sdk/e2ee";
import { h } from "../shell/dom.js";
import type { Page } from "../shell/page.js";
import { worklet } from "../live/live.js";
import { lobby, type Choice } from "./lobby.js";
import { makeMeeting, Meeting, type MeetingEvents } from "./meeting.js";
import { unfinished, type Keep } from "./removal.js";
import { room as roomView } from "./view.js";
import { t } from "./words.js";

const kept = "timedge.meeting.";
const place = (room: RoomID, what: string): string => `${kept}${room}${what === "control" ? "" : `.${what}`}`;
const keep: Keep = { get: (room, what) => sessionStorage.getItem(place(room, what)), set: (room, what, text) => sessionStorage.setItem(place(room, what), text) };

export const page: Page = (root, shell) => {
  let over = false;
  let leave = (): void => {};
  const link = parseHash(shell.hash);
  let room = link?.room;
  if (link?.key && !isSecureContext) {
    root.append(h("h1", {}, t("title")), h("p", { class: "error" }, t("insecureKey")));
    return () => {};
  }
  let removal = link?.key && unfinished(keep, link.room, link.key);
  let keys = link?.key && new Keys(removal?.before ?? link.key);
  const hash = (): string => formatHash({ room: room!, ...(keys ? { key: keys.link } : {}) });
  if (!link && shell.hash.includes("&key=")) {
    root.append(h("h1", {}, t("title")), h("p", { class: "error" }, t("locked")));
    return () => {};
  }

  const told = (e: unknown): string => {
    const code = e instanceof RefusedError || e instanceof ClosedError ? e.code : "";
    return code === "room_unknown" ? t("unknown") : code === "not_granted" || code === "revoked" ? t("closed") : t("failed", { why: (e as Error).message });
  };

  const begin = (text?: string): void => {
    const looking = lobby(shell.account(), room === undefined, async (c) => {
      try {
        await enter(c);
      } catch (e) {
        if (!over) looking.fail(told(e));
      }
    });
    leave = () => looking.close();
    const enter = async (c: Choice): Promise<void> => {
      if (room === undefined) {
        const client = await shell.dial();
        room = await makeMeeting(client);
        await client.close();
        if (c.encrypt) keys = new Keys(newLinkKey());
        history.replaceState(null, "", `#${hash()}`);
      }
      let view: ReturnType<typeof roomView> | undefined;
      const on: MeetingEvents = {
        changed: () => view?.changed(),
        line: (from, text) => view?.line(from, text),
        reaction: (pub, emoji) => view?.reaction(pub, emoji),
        away: (is) => view?.away(is),
        relinked: () => {
          history.replaceState(null, "", `#${hash()}`);
          view?.relinked(location.href);
        },
        ended: (why) => finish(typeof why === "string" ? t(why) : t("failed", { why: why.message })),
      };
      let tampered = 0;
      const onFault = (_: Message, fault: string): void => {
        if (fault === "forged" || fault === "replayed") view?.tampered(++tampered);
      };
      const m = await Meeting.join({ dial: async (o) => (keys ? encrypted(await shell.dial(o), keys, { onFault }) : shell.dial(o)), room, account: shell.account(), name: c.name, worklet, quality: c.quality, keep, keys, removal, on });
      removal = undefined;
      if (over) return void m.leave();
      looking.close(true);
      root.replaceChildren();
      const finish = (text: string): void => {
        view?.close();
        c.source?.stop();
        if (over) return;
        root.replaceChildren();
        begin(text);
        root.focus();
      };
      view = roomView(root, m, c, { link: `${location.origin}${location.pathname}#${hash()}`, encrypted: keys !== undefined, tell: shell.tell, left: () => finish(t("left")) });
      root.focus(); // what was pressed is gone
      leave = () => {
        void m.leave();
        view?.close();
      };
    };
    root.append(h("h1", {}, t("title")), h("p", { class: "lead", role: "status" }, text ?? t("lead")), looking.element);
  };
  begin();
  return () => {
    over = true;
    leave();
  };
};
