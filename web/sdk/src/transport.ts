import { dispose } from "./memory.js";

/** What a transport tells. `closed` is the last that it tells, and comes in any case. */
export interface Receiver {
  opened(): void;
  /** Takes bytes, which are the transport's again when it returns. */
  received(bytes: Uint8Array): void;
  closed(why: string): void;
}

/** A connection that carries bytes in order both ways. */
export interface Transport {
  /** Sends bytes, which the transport may keep. */
  send(bytes: Uint8Array): void;
  close(): void;
}

/** Opens a connection to a server and returns at once; what comes of it the receiver is told. */
export type Dialer = (server: string, receiver: Receiver) => Transport;

/** The WebSocket subprotocol of timedge. */
export const subProtocol = "timedge.v1";

/** Connects by WebSocket, to ws://host/path or wss://host/path. It takes the platform's WebSocket, or the one that is given. */
export function webSocket(make: (url: string, protocol: string) => WebSocket = (url, protocol) => new WebSocket(url, protocol)): Dialer {
  return (server, receiver) => {
    const ws = make(server, subProtocol);
    ws.binaryType = "arraybuffer";
    let over = false;
    const end = (why: string): void => {
      if (over) return;
      over = true;
      receiver.closed(why);
    };
    ws.onopen = () => receiver.opened();
    ws.onmessage = (m) => {
      if (over || !(m.data instanceof ArrayBuffer)) return;
      receiver.received(new Uint8Array(m.data));
      dispose(m.data);
    };
    ws.onclose = (e) => end(e.reason || `WebSocket closed with ${e.code}`);
    ws.onerror = () => {}; // the browser does not say what; onclose follows
    return {
      send: (bytes) => {
        if (ws.readyState === ws.OPEN) ws.send(bytes as Uint8Array<ArrayBuffer>);
      },
      close: () => {
        end("closed here");
        ws.close();
      },
    };
  };
}
