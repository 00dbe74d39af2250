import { clientPreface, encodeControl, frameLength, isStream, maxHandshakeFrame, parseControl, parseServerPreface, parseStream, prefaceSize, type Control, type Fields, type StreamFrame } from "./codec.js";
import { codes, ProtocolError } from "./codes.js";
import type { Dialer, Receiver, Transport } from "./transport.js";

/** What a connection hands on once the server has said welcome. */
export interface Handler {
  control(m: Control): void;
  stream(s: StreamFrame): void;
  /** The connection is over. `code` is the server's, 0 if it broke. */
  closed(code: number, text: string): void;
}

/** How much is sent as one WebSocket message at most, unless a frame is larger, bytes. */
const messageBytes = 64 << 10;

/**
 * Connection is one connection to one server, from its preface on. It joins and cuts what arrives into frames, and what is sent at once into
 * few messages.
 */
export class Connection implements Receiver {
  readonly welcome: Promise<Fields>;
  /** The server's welcome, once it is there. */
  terms: Fields = {};
  /** Something has come since this was last unset. */
  heard = true;
  private readonly transport: Transport;
  private settle!: { resolve(w: Fields): void; reject(e: Error): void };
  private handler: Handler | undefined;
  private phase: "preface" | "hello" | "open" | "over" = "preface";
  private rest: Uint8Array = new Uint8Array(0);
  private outgoing: Uint8Array[] = [];
  private scheduled = false;

  constructor(readonly server: string, dial: Dialer, private readonly hello: Fields) {
    this.welcome = new Promise((resolve, reject) => (this.settle = { resolve, reject }));
    this.welcome.catch(() => {}); // its caller sees it
    this.transport = dial(server, this);
  }

  /** Hands on what comes from now on. Call it as soon as the welcome is there. */
  listen(handler: Handler): void {
    this.handler = handler;
  }

  opened(): void {
    this.transport.send(join([clientPreface(), encodeControl("hello", this.hello, undefined, maxHandshakeFrame)]));
  }

  received(bytes: Uint8Array): void {
    this.heard = true;
    const plain = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength); // the slices of Node's Buffer are no copies
    let b = this.rest.length === 0 ? plain : join([this.rest, plain]);
    try {
      if (this.phase === "preface") {
        const p = parseServerPreface(b);
        if (p) {
          b = b.subarray(prefaceSize);
          this.phase = "hello"; // with no version that fits an error follows
        }
      }
      while (this.phase === "hello" || this.phase === "open") {
        const n = frameLength(b);
        if (n === 0 || n > b.length) break;
        this.frame(b.subarray(0, n));
        b = b.subarray(n);
      }
      this.rest = b.length === 0 ? b : b.slice();
    } catch (e) {
      if (!(e instanceof ProtocolError)) throw e;
      this.send(encodeControl("error", { code: e.code, text: "" }));
      this.flush();
      this.end(0, e.message);
    }
  }

  private frame(f: Uint8Array): void {
    if (this.phase === "open" && isStream(f)) return this.handler!.stream(parseStream(f));
    const m = isStream(f) ? undefined : parseControl(f);
    if (m?.name === "error") return this.end(m.fields.code as number, m.fields.text as string);
    if (this.phase === "open") return this.handler!.control(m!);
    if (m?.name !== "welcome") throw new ProtocolError(codes.unexpected, "the server says something else than welcome");
    this.phase = "open";
    const early: Array<() => void> = [];
    // Until listen is called, which happens in the same turn of the event loop or the next, what follows waits.
    this.handler = {
      control: (c) => early.push(() => this.handler!.control(c)),
      stream: (s) => early.push(() => this.handler!.stream({ ...s, payload: s.payload.slice() })),
      closed: (code, text) => early.push(() => this.handler!.closed(code, text)),
    };
    const listen = this.listen.bind(this);
    this.listen = (handler) => {
      this.listen = listen;
      listen(handler);
      for (const f of early) f();
    };
    this.settle.resolve((this.terms = m.fields));
  }

  closed(why: string): void {
    this.end(0, why);
  }

  private end(code: number, text: string): void {
    if (this.phase === "over") return;
    const was = this.phase;
    this.phase = "over";
    this.transport.close();
    if (was === "open") this.handler!.closed(code, text);
    else this.settle.reject(code ? new ProtocolError(code, text) : new Error(text));
  }

  /** Sends a frame, with others that are sent in the same turn of the event loop. */
  send(frame: Uint8Array): void {
    if (this.phase === "over") return;
    this.outgoing.push(frame);
    if (this.scheduled) return;
    this.scheduled = true;
    queueMicrotask(() => this.flush());
  }

  private flush(): void {
    this.scheduled = false;
    let size = 0;
    let batch: Uint8Array[] = [];
    for (const f of this.outgoing) {
      if (size > 0 && size + f.length > messageBytes) {
        this.transport.send(join(batch));
        [size, batch] = [0, []];
      }
      size += f.length;
      batch.push(f);
    }
    this.outgoing = [];
    if (size > 0) this.transport.send(join(batch));
  }

  /** Sends what is there, and closes; the handler is told why. */
  close(code = 0, why = "closed here"): void {
    this.flush();
    this.end(code, why);
  }
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1) return parts[0]!;
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}
