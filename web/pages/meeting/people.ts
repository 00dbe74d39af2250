import { h, icon } from "../shell/dom.js";
import { sure } from "../shell/sure.js";
import { icons } from "../live/icons.js";
import type { Other } from "./gallery.js";
import { marks } from "./icons.js";
import type { Meeting } from "./meeting.js";
import { t } from "./words.js";

interface Row {
  element: HTMLElement;
  update(x: Other): void;
}

/** Makes the list of who takes part, with what the owner may do with them. */
export function people(m: Meeting, me: string, failed: (e: Error) => void): { element: HTMLElement; update(): void } {
  const element = h("ul", { class: "members" }, h("li", {}, t("you", { name: me })));
  const rows = new Map<number, Row>();

  /** A line stays while somebody is here: who has the focus on one of its buttons, or is asked whether it is meant, keeps that. */
  function row({ account, presence: { name: called } }: Other): Row {
    let muted = false;
    const who = h("span", { class: "grow" });
    const signs = h("span", { class: "signs" });
    const mute = h("button", { type: "button", class: "quiet", onclick: () => m.mute(account, !muted) });
    const word = t("removeOne", { name: called });
    const remove = sure(h("button", { type: "button", class: "danger", title: word, aria: { label: word } }, "✕"), t("sureRemove", { name: called }), () => void m.remove(account).catch(failed));
    return {
      element: h("li", {}, who, signs, m.owner && mute, m.owner && remove),
      update: ({ presence: { name, hand, microphone } }) => {
        muted = m.control.muted.includes(account);
        who.replaceChildren(name, ...(name === account ? [] : [h("span", { class: "account" }, account)]));
        signs.replaceChildren(...(hand ? [icon(marks.hand)] : []), ...((m.owner ? !muted && !microphone : muted || !microphone) ? [icon(icons.microphoneOff)] : []));
        const word = t(muted ? "unmuteOne" : "muteOne", { name });
        mute.title = word;
        mute.setAttribute("aria-label", word);
        mute.replaceChildren(icon(muted ? icons.microphoneOff : icons.microphone));
      },
    };
  }

  return {
    element,
    update: () => {
      const here = m.gallery.others();
      for (const [pub, r] of rows) {
        if (here.some((x) => x.pub === pub)) continue;
        r.element.remove();
        rows.delete(pub);
      }
      for (const x of here) {
        let r = rows.get(x.pub);
        if (!r) {
          rows.set(x.pub, (r = row(x)));
          element.append(r.element);
        }
        r.update(x);
      }
    },
  };
}
