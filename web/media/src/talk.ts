import { ClosedError, type Client, type Publisher, type RoomID, type Subscription } from "@timedge/sdk";
import { dtypes, encodeText, parseText, type Report } from "./layout.js";

/** What arrives in a talk room. */
export interface TalkEvents {
  line(from: string, text: string): void;
  report(from: string, r: Report): void;
  /** Somebody who reports has left. */
  left(from: string): void;
}

/** Talk is the room beside a broadcast in which everybody may push: lines of the viewers, and what they report to the sender. */
export class Talk {
  private publisher: Promise<Publisher> | undefined;

  private constructor(private readonly client: Client, readonly room: RoomID, private readonly subscription: Subscription) {}

  static async join(client: Client, room: RoomID, on: Partial<TalkEvents>): Promise<Talk> {
    const t = new Talk(client, room, await client.subscribe(room));
    void t.listen(on).catch(() => {}); // the room has ended, and the broadcast with it
    return t;
  }

  private async listen(on: Partial<TalkEvents>): Promise<void> {
    for await (const e of this.subscription) {
      if (e.type === "left") on.left?.(e.account);
      if (e.type !== "message") continue;
      const t = parseText(e.payload);
      if (e.dtype === dtypes.chat && t?.type === "chat") on.line?.(e.publisher, t.text);
      if (e.dtype === dtypes.report && t?.type === "report") on.report?.(e.publisher, t);
    }
  }

  /** Says something. It rejects where the server does not let this account push, a guest for one. */
  async say(text: string): Promise<void> {
    await this.push(dtypes.chat, encodeText({ type: "chat", text }));
  }

  /** Tells the sender how it goes here. */
  async report(r: Report): Promise<void> {
    await this.push(dtypes.report, encodeText(r));
  }

  private async push(dtype: number, message: Uint8Array): Promise<void> {
    this.publisher ??= this.client.publish(this.room);
    const p = this.publisher;
    try {
      await (await p).push(dtype, "delta", message);
    } catch (e) {
      if (this.publisher === p && !(e instanceof ClosedError)) this.publisher = undefined;
      throw e;
    }
  }

  async close(): Promise<void> {
    const p = this.publisher;
    await this.subscription.close();
    await (await p?.catch(() => undefined))?.close().catch(() => {});
  }
}
