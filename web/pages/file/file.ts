// The file page. Without a room in the address it sends, with one it receives.

import type { Client } from "@timedge/sdk";
import { parseHash } from "@timedge/sdk/e2ee";
import { h } from "../shell/dom.js";
import type { Page } from "../shell/page.js";
import { Disk } from "./disk.js";
import { receive } from "./receive.js";
import { send } from "./send.js";
import { t, why } from "./words.js";

export const page: Page = (root, shell) => {
  const ends: Array<() => void> = [];
  const disk = new Disk();
  ends.push(() => disk.close());
  const dial = async (account?: string): Promise<Client> => {
    const c = await shell.dial(account ? { account } : {});
    ends.push(() => void c.close());
    return c;
  };
  const fail = (e: unknown): void => shell.tell(t("failed", { why: why(e) }));
  if (!("storage" in navigator) || !navigator.storage.getDirectory) root.append(h("h1", {}, t("title")), h("p", { class: "error" }, t("unsupported")));
  else if (parseHash(shell.hash)) void receive(root, parseHash(shell.hash)!, disk, dial, ends).catch(fail);
  else if (shell.hash.includes("&key=")) root.append(h("h1", {}, t("title")), h("p", { class: "error" }, t("broken")));
  else void send(root, shell, disk, dial, ends).catch(fail);
  return () => {
    for (const end of ends) end();
  };
};
