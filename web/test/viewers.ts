// What a viewer costs the server, with the SDK over WebSocket and over plain TCP: part of `make drill-browser`. Linux only.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { dial, webSocket, type Client, type Dialer } from "../sdk/src/index.js";
import { tcp } from "../sdk/src/tcp.js";
import { serve } from "../sdk/test/server.js";

const viewers = Number(process.env.VIEWERS ?? 100);
const seconds = 20;
/** A broadcast of 400 kbit/s: pictures and sound each second, and their sizes, bytes. */
const pictures = { dtype: 65, each: 1000 / 30, bytes: 1600 };
const sounds = { dtype: 66, each: 20, bytes: 240 };

/** Processor time of a process, s: proc(5), in the usual hundredths. */
function spent(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

async function measure(name: string, dialer: Dialer, at: "tcp" | "ws"): Promise<number> {
  const server = await serve("--idle", "1h");
  const clients: Client[] = [];
  try {
    const sender = await dial({ servers: server.tcp, account: "sender", dialer: tcp() });
    clients.push(sender);
    const room = await sender.register();
    const publisher = await sender.publish(room);
    let got = 0;
    for (let i = 0; i < viewers; i++) {
      const c = await dial({ servers: server[at], account: `viewer${i}`, dialer });
      clients.push(c);
      const subscription = await c.subscribe(room);
      void (async () => {
        for await (const e of subscription) if (e.type === "message") got++;
      })().catch(() => {}); // the client is closed
    }
    let pushed = 0;
    const timers = [pictures, sounds].map((s) => setInterval(() => void publisher.push(s.dtype, pushed++ % 60 === 0 ? "key" : "delta", new Uint8Array(s.bytes)), s.each));
    await new Promise((resolve) => setTimeout(resolve, 2000));
    const [cpu, before] = [spent(server.pid), got];
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    const [used, deliveries] = [spent(server.pid) - cpu, got - before];
    for (const t of timers) clearInterval(t);
    assert.ok(deliveries > 0);
    console.log(`figures: ${viewers} viewers ${name}: ${((used * 1e6) / deliveries).toFixed(1)} µs of the server's processor for a message, ${((used * 100) / seconds / viewers).toFixed(3)} % of a processor for a viewer`);
    return used / deliveries;
  } finally {
    await Promise.all(clients.map((c) => c.close()));
    await server.stop();
  }
}

test("what a viewer costs the server", { timeout: 200_000 }, async () => {
  const plain = await measure("by TCP", tcp(), "tcp");
  const socket = await measure("by WebSocket", webSocket(), "ws");
  console.log(`figures: WebSocket costs the server ${(socket / plain).toFixed(2)} times what TCP does`);
});
