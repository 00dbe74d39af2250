import { codeName, mayRetry, type CodeName } from "./codes.js";

/** The server's word on why something failed or ended. `code` is its name in codec/PROTOCOL.md, "Codes". */
export abstract class CodeError extends Error {
  readonly code: CodeName;
  /** Whether the same may succeed when it is tried again, later or with another server. */
  readonly retry: boolean;
  constructor(readonly number: number, what: string, text: string) {
    super(`${what}: ${codeName(number)}${text ? ` (${text})` : ""}`);
    this.code = codeName(number);
    this.retry = mayRetry(number);
    this.name = new.target.name;
  }
}

/** The server refused a request or a push; the connection goes on. */
export class RefusedError extends CodeError {
  constructor(number: number, text = "") {
    super(number, "refused", text);
  }
}

/** A subscription, or a publisher's part in a room, has ended. */
export class ClosedError extends CodeError {
  constructor(readonly room: string, number: number) {
    super(number, `room ${room} closed`, "");
  }
}

/** The server closed the connection, or did not open it, for a reason that no other attempt mends: the client has ended. */
export class ConnectionError extends CodeError {
  constructor(readonly server: string, number: number, text = "") {
    super(number, `server ${server}`, text);
  }
}

/** The client was closed by its caller. */
export class ClientClosedError extends Error {
  override name = "ClientClosedError";
  constructor() {
    super("the client is closed");
  }
}

/** The connection broke between a request and its answer, and the request is not one to be sent twice: it may have been carried out. */
export class UnansweredError extends Error {
  override name = "UnansweredError";
  constructor() {
    super("the connection broke before the answer came: the request may or may not have been carried out");
  }
}

/** The server broke the rule of streams: the next thing on a stream is the frame expected, or a gap that begins there. */
export class StreamError extends Error {
  override name = "StreamError";
  constructor(readonly room: string, readonly pub: number, readonly dtype: number, readonly expected: number, readonly got: number) {
    super(`room ${room} publisher ${pub} dtype ${dtype}: expected frame ${expected}, got ${got}`);
  }
}
