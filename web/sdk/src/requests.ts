import { encodeControl, type Control, type Fields } from "./codec.js";
import { RefusedError, UnansweredError } from "./errors.js";

/**
 * What becomes of a request whose answer the connection does not outlive: it is sent again on the next one; it fails, as it must not be sent twice; or
 * it is settled, for it was a goodbye to what has ended with the connection, and fails for nobody to hear.
 */
export type Broke = "resend" | "fail" | "settle";

interface Request {
  name: string;
  fields: Fields;
  ext: ReadonlyMap<number, Uint8Array> | undefined;
  broke: Broke;
  sent: boolean; // on the connection in use
  resolve(m: Control): void;
  reject(e: Error): void;
}

/** Where requests go: the connection that there is. */
export interface Link {
  send(frame: Uint8Array): void;
}

/**
 * Requests numbers what a client asks and brings the answers together with it. There are two kinds. What a caller asks waits for its answer, on the
 * next connection too if it may be repeated. What a client asks anew on each connection by itself is forgotten with the connection.
 */
export class Requests {
  private readonly asked = new Map<number, Request>();
  private readonly expected = new Map<number, (m: Control) => void>();
  private last = 0;
  private leaving: (() => void) | undefined; // while a server is left: told when all is answered that must not be sent twice

  private number(): number {
    do this.last = (this.last + 1) >>> 0 || 1;
    while (this.asked.has(this.last) || this.expected.has(this.last));
    return this.last;
  }

  /** Asks on the link, or on the next one if there is none, or if this one is about to be left. */
  ask(
    link: Link | undefined, name: string, fields: Fields, broke: Broke, ext?: ReadonlyMap<number, Uint8Array>,
  ): Promise<Control> {
    const req = this.number();
    const frame = encodeControl(name, { ...fields, req }, ext); // throws for what does not fit
    const sent = link !== undefined && !(this.leaving && broke === "fail");
    return new Promise((resolve, reject) => {
      this.asked.set(req, { name, fields, ext, broke, sent, resolve, reject });
      if (sent) link.send(frame);
    });
  }

  /** Fulfilled when all is answered that must not be sent twice; what is asked of that kind from now on waits for the next link. */
  settled(): Promise<void> {
    return new Promise((resolve) => {
      this.leaving = resolve;
      this.check();
    });
  }

  private check(): void {
    for (const r of this.asked.values()) if (r.broke === "fail" && r.sent) return;
    this.leaving?.();
  }

  /** Asks on this link only; `answered` is told what comes. */
  expect(link: Link, name: string, fields: Fields, answered: (m: Control) => void, ext?: ReadonlyMap<number, Uint8Array>): void {
    const req = this.number();
    this.expected.set(req, answered);
    link.send(encodeControl(name, { ...fields, req }, ext));
  }

  /** Takes an answer. What was given up has none. */
  answer(m: Control): void {
    const req = m.fields.req as number;
    const expected = this.expected.get(req);
    if (expected) {
      this.expected.delete(req);
      return expected(m);
    }
    const r = this.asked.get(req);
    if (!r) return;
    this.asked.delete(req);
    this.check();
    if (m.name === "refused") r.reject(new RefusedError(m.fields.code as number, m.fields.text as string));
    else r.resolve(m);
  }

  /** The connection broke. */
  disconnected(): void {
    this.expected.clear();
    this.leaving = undefined;
    for (const [req, r] of this.asked) {
      if (r.broke === "resend" || !r.sent) {
        r.sent = false;
        continue;
      }
      this.asked.delete(req);
      r.reject(new UnansweredError());
    }
  }

  /** Sends on a new connection what waits for it, and again what may be. */
  resend(link: Link): void {
    for (const [req, r] of this.asked) {
      r.sent = true;
      link.send(encodeControl(r.name, { ...r.fields, req }, r.ext));
    }
  }

  /** Ends all. */
  close(why: Error): void {
    for (const r of this.asked.values()) r.reject(why);
    this.asked.clear();
  }
}
