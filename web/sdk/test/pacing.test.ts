// A publisher paces itself by acknowledgements: a transport that takes everything, as a browser's does, tells it nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeControl, frameLength, isStream } from "../src/codec.js";
import { dial, formatRoom, type Client, type Publisher, type Receiver } from "../src/index.js";

const preface = Uint8Array.from([0x54, 0x44, 0x47, 0x45, 1, 1, 1, 0]);
const room = 0x1234n;
const window = 256 << 10;

/** A server in memory that takes all at once and acknowledges only what it is told to. */
class Server {
  bytes = 0; // of stream frames
  frames = 0;
  private to!: Receiver;
  private sends = 0;

  async publisher(): Promise<{ client: Client; pub: Publisher }> {
    const client = await dial({ servers: "memory", account: "a", dialer: (_, receiver) => {
      this.to = receiver;
      queueMicrotask(() => receiver.opened());
      return { send: (b) => this.take(b), close: () => receiver.closed("closed here") };
    } });
    return { client, pub: await client.publish(formatRoom(room)) };
  }

  private take(b: Uint8Array): void {
    if (this.sends++ === 0) {
      queueMicrotask(() => {
        this.to.received(preface);
        this.to.received(encodeControl("welcome", { session: 1n, node: "n", caps: 0n, max_payload: 16n << 20n, ping_millis: 60_000 }));
      });
      return;
    }
    for (let at = 0; at < b.length; ) {
      const frame = b.subarray(at, at + frameLength(b.subarray(at)));
      at += frame.length;
      if (isStream(frame)) [this.bytes, this.frames] = [this.bytes + frame.length, this.frames + 1];
      else if (this.sends === 2) queueMicrotask(() => this.to.received(encodeControl("published", { req: 1, room, pub: 1, policy: 0, window, streams: [] })));
    }
  }

  acknowledge(seq: number): void {
    this.to.received(encodeControl("ack", { room, pub: 1, dtype: 1, seq }));
  }
}

/** Lets all go that can go: nothing here waits for time. */
async function settle(): Promise<void> {
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
}

test("no more than the window is on its way, and pushes wait for acknowledgements", async () => {
  const server = new Server();
  const { client, pub } = await server.publisher();
  let pushed = 0;
  const all = Array.from({ length: 40 }, () => pub.push(1, "delta", new Uint8Array(30_000)).then(() => pushed++));
  await settle();
  const frame = 30_020;
  const fits = Math.floor(window / frame);
  assert.deepEqual([server.frames, server.bytes, pushed, pub.buffered], [fits, fits * frame, fits, fits * frame]);
  for (let acked = 1; acked <= 40; acked++) {
    server.acknowledge(acked);
    await settle();
    const sent = Math.min(40, acked + fits);
    assert.deepEqual([server.frames, pushed, pub.buffered], [sent, sent, (sent - acked) * frame], `after ${acked} acknowledgements`);
  }
  await Promise.all(all);
  await client.close();
});

test("a message larger than the window goes in pieces, and leaves room for a small one of another stream", async () => {
  const server = new Server();
  const { client, pub } = await server.publisher();
  const large = pub.push(1, "key", new Uint8Array(1_000_000));
  await settle();
  assert.ok(server.bytes <= (window * 3) / 4 && server.bytes > window / 2, `${server.bytes} bytes of a window of ${window}`);
  let small = false;
  void pub.push(2, "delta", new Uint8Array(100)).then(() => (small = true));
  await settle();
  assert.ok(small, "the small message waits for the large one");
  for (let acked = 1; acked <= 16; acked++) {
    server.acknowledge(acked);
    await settle();
    assert.ok(pub.buffered <= window);
  }
  await large;
  await client.close();
});
