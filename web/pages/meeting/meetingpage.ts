// The meeting page: a look before joining, and the meeting itself. Without a room behind # a new one is made.

import { ClosedError, parseRoom, RefusedError, type RoomID } from "@timedge/sdk";
import { h } from "../shell/dom.js";
import type { Page } from "../shell/page.js";
import { worklet } from "../live/live.js";
import { lobby, type Choice } from "./lobby.js";
import { makeMeeting, Meeting, type MeetingEvents } from "./meeting.js";
import { room as roomView } from "./view.js";
import { t } from "./words.js";

const kept = "timedge.meeting.";
const keep = { get: (room: RoomID) => sessionStorage.getItem(kept + room), set: (room: RoomID, text: string) => sessionStorage.setItem(kept + room, text) };

export const page: Page = (root, shell) => {
  let over = false;
  let leave = (): void => {};
  let room: RoomID | undefined = parseRoom(shell.hash) === undefined ? undefined : shell.hash;

  const told = (e: unknown): string => {
    const code = e instanceof RefusedError || e instanceof ClosedError ? e.code : "";
    return code === "room_unknown" ? t("unknown") : code === "not_granted" || code === "revoked" ? t("closed") : t("failed", { why: (e as Error).message });
  };

  const begin = (text?: string): void => {
    const looking = lobby(shell.account(), async (c) => {
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
        history.replaceState(null, "", `#${room}`);
      }
      let view: ReturnType<typeof roomView> | undefined;
      const on: MeetingEvents = {
        changed: () => view?.changed(),
        line: (from, text) => view?.line(from, text),
        reaction: (pub, emoji) => view?.reaction(pub, emoji),
        away: (is) => view?.away(is),
        ended: (why) => finish(typeof why === "string" ? t(why) : t("failed", { why: why.message })),
      };
      const m = await Meeting.join({ dial: (o) => shell.dial(o), room, account: shell.account(), name: c.name, worklet, quality: c.quality, keep, on });
      if (over) return void m.leave();
      looking.close(true);
      root.replaceChildren();
      const finish = (text: string): void => {
        view?.close();
        c.source?.stop();
        if (over) return;
        root.replaceChildren();
        begin(text);
      };
      view = roomView(root, m, c, { room, tell: shell.tell, left: () => finish(t("left")) });
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
