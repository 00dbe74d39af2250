import type { Client } from "../client.js";
import { codes } from "../codes.js";
import { RefusedError } from "../errors.js";
import { dispose, free } from "../memory.js";
import type { Publisher } from "../publisher.js";
import { parseRoom, type RoomID } from "../room.js";
import type { Event, Message, Subscription } from "../subscription.js";
import { Keys, Opener, SealError, Sealer, type SealFault } from "./keys.js";
import { overhead } from "./sframe.js";

export interface EncryptedOptions {
  /** Told of each message that was dropped, and why; `withheld`: of messages that did not come though the server told no gap. */
  onFault?: (m: Message, fault: SealFault | "withheld") => void;
}

/**
 * Returns the client as one that seals all it pushes into rooms and opens all it receives from them: what takes a client works with it as with a plain
 * one, and the server reads nothing. What cannot be opened is dropped, and a gap `refused` stands in its place; a gap `withheld`, of no frames,
 * stands before a message of which the server kept some that were sealed before it. Inboxes, and what is sent to accounts, it leaves as they are.
 */
export function encrypted(client: Client, keys: Keys, o: EncryptedOptions = {}): Client {
  return altered(client, {
    publish: async (room, wishes) => sealing(await client.publish(room, wishes), keys, client),
    subscribe: async (room, wishes) => opening(await client.subscribe(room, wishes), keys, o),
  });
}

/** Returns target with some of its methods in other forms. The others run on target itself. */
function altered<T extends object>(target: T, changes: Partial<T>): T {
  return new Proxy(target, {
    get(t, name) {
      if (name in changes) return changes[name as keyof T];
      const v: unknown = Reflect.get(t, name, t);
      return typeof v === "function" ? (v.bind(t) as unknown) : v;
    },
    set: (t, name, v) => Reflect.set(t, name, v, t),
  });
}

function roomNumber(room: RoomID): bigint {
  return parseRoom(room)!; // the server has taken it
}

function sealing(publisher: Publisher, keys: Keys, client: Client): Publisher {
  const sealer = new Sealer(keys, roomNumber(publisher.room), client.account);
  const turns = new Map<number, Promise<unknown>>(); // of a dtype, until the last message is handed on
  const handedOn = async (): Promise<void> => void (await Promise.all(turns.values()));
  return altered(publisher, {
    push: (dtype, kind, payload) => {
      if (payload.length > client.maxPayload - overhead) return Promise.reject(new RefusedError(codes.payload_size));
      // Sealing takes its time, and goes on beside that of others; the order is that of the calls.
      const handed = Promise.all([sealer.seal(dtype, kind, payload), turns.get(dtype)]).then(([sealed]) => ({ sealed, pushed: publisher.push(dtype, kind, sealed) }));
      turns.set(dtype, handed.catch(() => {}));
      return handed.then(({ pushed, sealed }) => pushed.then(() => free(sealed.buffer)));
    },
    flush: () => handedOn().then(() => publisher.flush()),
    close: () => handedOn().then(() => publisher.close()),
  });
}

function opening(subscription: Subscription, keys: Keys, o: EncryptedOptions): Subscription {
  const opener = new Opener(keys, roomNumber(subscription.room));
  let held: Message | undefined; // behind the gap that was returned
  const gap = (m: Message, reason: "refused" | "withheld", to: number): Event => ({ type: "gap", room: m.room, publisher: m.publisher, pub: m.pub, dtype: m.dtype, from: m.first, to, reason, interrupted: 0 });
  const next = async (signal?: AbortSignal): Promise<Event | undefined> => {
    if (held) {
      const m = held;
      held = undefined;
      return m;
    }
    const e = await subscription.next(signal);
    if (e?.type === "gap") opener.gap(e);
    if (e?.type === "left") opener.left(e.pub);
    if (e?.type !== "message") return e;
    try {
      const { plain, withheld } = await opener.open(e);
      dispose(e.payload.buffer);
      e.payload = plain;
      if (withheld === 0) return e;
      o.onFault?.(e, "withheld");
      held = e;
      return gap(e, "withheld", e.first - 1);
    } catch (x) {
      if (!(x instanceof SealError)) throw x;
      o.onFault?.(e, x.fault);
      return gap(e, "refused", e.last);
    }
  };
  return altered(subscription, {
    next,
    [Symbol.asyncIterator]: async function* () {
      for (let e = await next(); e; e = await next()) yield e;
    },
  });
}
