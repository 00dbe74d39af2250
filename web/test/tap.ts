import { connect, createServer, type AddressInfo } from "node:net";

/** A way to the server that records all that goes over WebSockets, in both directions. What a page sends is masked: that is taken off. */
export async function tap(to: string): Promise<{ url: string; recorded(): Buffer; close(): void }> {
  const port = Number(new URL(to).port);
  const pieces: Buffer[] = [];
  const listener = createServer((near) => {
    const far = connect(port, "127.0.0.1");
    let sent = Buffer.alloc(0); // of a WebSocket, what is not yet taken apart
    let upgraded = false;
    near.on("data", (b) => {
      far.write(b);
      sent = Buffer.concat([sent, b]);
      if (!upgraded) {
        const end = sent.indexOf("\r\n\r\n");
        if (end < 0 || !/upgrade: websocket/i.test(sent.toString("latin1"))) return;
        upgraded = true;
        sent = sent.subarray(end + 4);
      }
      for (let f = unmask(sent); f; f = unmask(sent)) {
        pieces.push(f.payload);
        sent = sent.subarray(f.size);
      }
    });
    far.on("data", (b) => {
      near.write(b);
      if (upgraded) pieces.push(b); // the pages themselves know words of a broadcast, too
    });
    for (const [a, z] of [[near, far], [far, near]] as const) {
      a.on("close", () => z.destroy());
      a.on("error", () => z.destroy());
    }
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${(listener.address() as AddressInfo).port}`, recorded: () => Buffer.concat(pieces), close: () => void listener.close() };
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
