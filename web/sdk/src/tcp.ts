// Plain TCP and TLS, for Node: server names are host:port and tls://host:port.

import { connect as connectTCP, type Socket } from "node:net";
import { connect as connectTLS, type ConnectionOptions } from "node:tls";
import type { Dialer } from "./transport.js";

/** Connects by TCP, or by TLS where the server's name begins with tls://. */
export function tcp(tls: ConnectionOptions = {}): Dialer {
  return (server, receiver) => {
    const secure = server.startsWith("tls://");
    const { hostname, port } = new URL(secure ? server.replace("tls:", "http:") : `http://${server}`);
    const host = hostname.replace(/^\[|\]$/g, "");
    let socket: Socket;
    if (secure) {
      socket = connectTLS({ host, port: Number(port), servername: host, minVersion: "TLSv1.3", ...tls }, () => receiver.opened());
    } else {
      socket = connectTCP({ host, port: Number(port), noDelay: true }, () => receiver.opened());
    }
    let why = "the server closed the connection";
    let over = false;
    socket.on("data", (b) => {
      if (!over) receiver.received(b);
    });
    socket.on("error", (e) => (why = e.message));
    socket.on("close", () => {
      if (!over) receiver.closed(why);
      over = true;
    });
    return {
      send: (bytes) => void socket.write(bytes),
      close: () => {
        if (!over) receiver.closed("closed here");
        over = true;
        socket.destroy();
      },
    };
  };
}
