import type { Presence } from "./wire.js";

/** How often everybody says that it is here; after so long without, it counts as silent, and as gone. All in ms. */
export const beat = 2000;
const silentAfter = 5000;
const goneAfter = 8000;

export interface Member {
  pub: number;
  account: string;
  presence: Presence;
  /** Nothing was heard of late: it reconnects, or has crashed. */
  silent: boolean;
}

interface Known {
  account: string;
  presence: Presence | undefined;
  heardAt: number;
}

/** Roster knows who takes part: by what the server says of publishers, and by what they say of themselves. Times in ms, on the caller's clock. */
export class Roster {
  private readonly known = new Map<number, Known>();

  joined(pub: number, account: string, now: number): void {
    if (!this.known.has(pub)) this.known.set(pub, { account, presence: undefined, heardAt: now });
  }

  left(pub: number): void {
    this.known.delete(pub);
  }

  /** Takes what somebody says of itself. */
  said(pub: number, p: Presence, now: number): void {
    const k = this.known.get(pub);
    if (k) [k.presence, k.heardAt] = [p, now];
  }

  /** Anything of somebody's was heard: it is here. */
  heard(pub: number, now: number): void {
    const k = this.known.get(pub);
    if (k) k.heardAt = now;
  }

  /** This one itself was away: nobody's silence counts before now. */
  resumed(now: number): void {
    for (const k of this.known.values()) k.heardAt = now;
  }

  /** Returns who is here, in the order of their coming. */
  members(now: number): Member[] {
    const found: Member[] = [];
    for (const [pub, { account, presence, heardAt }] of this.known) {
      if (presence && !presence.leaving && now - heardAt < goneAfter) found.push({ pub, account, presence, silent: now - heardAt >= silentAfter });
    }
    return found;
  }
}
