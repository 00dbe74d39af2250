import { connect, createServer, type AddressInfo, type Socket } from "node:net";

/**
 * A way to the server that records all that goes over WebSockets, in both directions. What a page sends is masked: that is taken off. While `changing` is
 * set it changes the last byte of each message to a page that is longer than that, which is the end of the last frame in it.
 */
export interface Tap {
  url: string;
  changing: number;
  /** How many messages it has changed. */
  changed: number;
  /** While it is set nobody gets through. */
  refusing: boolean;
  /** While it is set pages are told nothing: it is thrown away. */
  deaf: boolean;
  recorded(): Buffer;
  /** What pages have sent, by connection. */
  sent(): Buffer[];
  /** Breaks all connections that there are. */
  breakAll(): void;
  close(): void;
}

export async function tap(to: string): Promise<Tap> {
  const port = Number(new URL(to).port);
  const pieces: Buffer[] = [];
  const bySender: Buffer[][] = [];
  const pairs = new Set<Socket>();
  const listener = createServer((near) => {
    if (t.refusing) return void near.destroy();
    const far = connect(port, "127.0.0.1");
    let sent = Buffer.alloc(0); // of a WebSocket, what is not yet taken apart
    let upgraded = false;
    const mine: Buffer[] = [];
    pairs.add(near);
    near.on("close", () => pairs.delete(near));
    const messages = new Messages();
    near.on("data", (b) => {
      far.write(b);
      sent = Buffer.concat([sent, b]);
      if (!upgraded) {
        const end = sent.indexOf("\r\n\r\n");
        if (end < 0 || !/upgrade: websocket/i.test(sent.toString("latin1"))) return;
        upgraded = true;
        bySender.push(mine);
        sent = sent.subarray(end + 4);
      }
      for (let f = unmask(sent); f; f = unmask(sent)) {
        pieces.push(f.payload);
        mine.push(f.payload);
        sent = sent.subarray(f.size);
      }
    });
    far.on("data", (b) => {
      if (upgraded) pieces.push(Buffer.from(b)); // the pages themselves know words of a broadcast, too
      if (upgraded) {
        for (const { end, size } of messages.pass(b)) {
          if (t.changing === 0 || size < t.changing) continue;
          b[end]! ^= 1;
          t.changed++;
        }
      }
      if (!t.deaf) near.write(b);
    });
    for (const [a, z] of [[near, far], [far, near]] as const) {
      a.on("close", () => z.destroy());
      a.on("error", () => z.destroy());
    }
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  const t: Tap = { url: `http://127.0.0.1:${(listener.address() as AddressInfo).port}`, changing: 0, changed: 0, refusing: false, deaf: false, recorded: () => Buffer.concat(pieces), sent: () => bySender.map((b) => Buffer.concat(b)), breakAll: () => pairs.forEach((s) => s.destroy()), close() {
    listener.close();
    t.breakAll();
  } };
  return t;
}

/** Follows what a server sends, behind the answer to the upgrade: frames without a mask. RFC 6455, section 5.2. */
class Messages {
  private answered = false;
  private head = Buffer.alloc(0);
  private left = 0; // of the message that goes on
  private size = 0;

  /** Returns where in the piece messages have their last byte. */
  pass(b: Buffer): Array<{ end: number; size: number }> {
    const found: Array<{ end: number; size: number }> = [];
    for (let at = 0; at < b.length; ) {
      if (this.left > 0) {
        const n = Math.min(this.left, b.length - at);
        at += n;
        this.left -= n;
        if (this.left === 0) found.push({ end: at - 1, size: this.size });
        continue;
      }
      this.head = Buffer.concat([this.head, b.subarray(at, ++at)]);
      if (!this.answered) {
        if (!this.head.subarray(-4).equals(Buffer.from("\r\n\r\n"))) continue;
        this.answered = true;
        this.head = Buffer.alloc(0);
        continue;
      }
      const n = this.head.length > 1 ? this.head[1]! & 0x7f : 0;
      if (this.head.length < 2 + (n === 127 ? 8 : n === 126 ? 2 : 0)) continue;
      this.left = this.size = n === 127 ? Number(this.head.readBigUInt64BE(2)) : n === 126 ? this.head.readUInt16BE(2) : n;
      this.head = Buffer.alloc(0);
    }
    return found;
  }
}

/** Takes a client's frame off the front: RFC 6455, section 5.2. */
function unmask(b: Buffer): { payload: Buffer; size: number } | undefined {
  if (b.length < 6) return undefined;
  let [n, at] = [b[1]! & 0x7f, 2];
  if (n === 126) [n, at] = [b.readUInt16BE(2), 4];
  else if (n === 127) {
    if (b.length < 14) return undefined;
    [n, at] = [Number(b.readBigUInt64BE(2)), 10];
  }
  if (b.length < at + 4 + n) return undefined;
  const mask = b.subarray(at, at + 4);
  const payload = Buffer.from(b.subarray(at + 4, at + 4 + n).map((x, i) => x ^ mask[i % 4]!));
  return { payload, size: at + 4 + n };
}
