// A server that says nothing any more is left, soon if it or the options say so, and when another one answers: that is connected to when three quarters of the
// silence are over. Time is the test's.

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { policies } from "../src/codes.js";
import { dial, formatRoom, type Client, type Subscription } from "../src/index.js";
import { Scripted, room, told, turn, type Peer } from "./scripted.js";

let now = 0;
mock.timers.enable({ apis: ["setInterval", "setTimeout"] });
mock.method(performance, "now", () => now);

/** Lets time go by. */
async function pass(ms: number): Promise<void> {
  for (const end = now + ms; now < end; ) {
    const step = Math.min(5, end - now);
    now += step;
    mock.timers.tick(step);
    await turn();
  }
}

async function start(servers: string[], ping: number, silence?: number): Promise<{ net: Scripted; client: Client; sub: Subscription; peer: Peer; phases: string[] }> {
  const net = new Scripted();
  const phases: string[] = [];
  const dialing = dial({ servers, account: "a", dialer: net.dialer, onState: (s) => phases.push(s.phase), ...(silence ? { silence } : {}) });
  const peer = await net.accept(0);
  peer.welcome(ping);
  const client = await dialing;
  const subscribing = client.subscribe(formatRoom(room));
  await peer.subscribed(policies.indexOf("live"));
  return { net, client, peer, phases, sub: await subscribing };
}

/** Waits for the n-th connection, and returns how long that took. */
async function waited(net: Scripted, n: number, atMost: number): Promise<number> {
  const since = now;
  while (!net.peers[n] && now - since < atMost) await pass(5);
  return now - since;
}

for (const c of [
  { ping: 400, option: 0, silence: 800 },
  { ping: 20_000, option: 0, silence: 40_000 },
  { ping: 20_000, option: 1000, silence: 1000 },
  { ping: 0, option: 1000, silence: 1000 },
  { ping: 0, option: 0, silence: 120_000 },
  { ping: 4_000_000_000, option: 0, silence: 120_000 },
  { ping: 100, option: 1000, silence: 200 },
]) {
  test(`ping time ${c.ping} ms, option ${c.option}`, async () => {
    const { net, client, sub, peer, phases } = await start(["one", "two"], c.ping, c.option);
    for (let i = 0; i < 20; i++) { // not while it says anything
      await pass(c.silence / 2);
      peer.send("pong", { echo: 0n });
    }
    assert.equal(net.peers.length, 1);
    const took = await waited(net, 1, 2 * c.silence);
    assert.ok(took >= (c.silence * 11) / 16 && took <= (c.silence * 7) / 8, `left after ${took} ms of ${c.silence}`);
    const next = net.peers[1]!;
    assert.notEqual(next.server, peer.server);
    next.welcome(c.ping);
    await next.subscribed(policies.indexOf("live"));
    next.joined(1, "bob");
    assert.deepEqual(await told(sub), ["resumed", "joined bob"]);
    assert.deepEqual(phases, ["connecting", "connected", "disconnected", "connecting", "connected"]);
    assert.equal(client.node, next.server);
    assert.ok(!peer.open);
    assert.ok(peer.asked.some((m) => m.name === "ping"));
    await client.close({ goodbye: false });
  });
}

test("a server that says something while another is being connected to is kept, and the other let go", async () => {
  const { net, client, sub, peer } = await start(["one", "two"], 20_000, 1000);
  await waited(net, 1, 2000);
  peer.send("pong", { echo: 0n });
  net.peers[1]!.welcome();
  await turn();
  assert.ok(peer.open && !net.peers[1]!.open);
  peer.joined(1, "bob");
  assert.deepEqual(await told(sub), ["joined bob"]);
  assert.equal(client.node, peer.server);
  await waited(net, 2, 2000); // and when it is silent again, another is tried again
  assert.equal(net.peers.length, 3);
  await client.close({ goodbye: false });
  assert.ok(net.peers.every((p) => !p.open));
});

test("where no other answers, all of the silence is waited for", async () => {
  const { net, client, peer } = await start(["one", "two"], 20_000, 1000);
  await waited(net, 1, 2000);
  assert.ok(peer.open);
  await pass(300);
  assert.ok(!peer.open); // the other has said nothing, either
  await client.close({ goodbye: false });
  assert.ok(net.peers.every((p) => !p.open));
});

test("where there is no other, all of the silence is waited for", async () => {
  const { net, client, peer } = await start(["one"], 20_000, 1000);
  await pass(900);
  assert.ok(peer.open);
  const took = await waited(net, 1, 2000);
  assert.ok(took <= 200, `${took} ms`);
  assert.ok(!peer.open);
  await client.close({ goodbye: false });
});

test("a page that was frozen itself has not listened", async () => {
  const { net, client, peer } = await start(["one", "two"], 20_000, 1000);
  await pass(400);
  now += 3_600_000; // no timer fires meanwhile
  await pass(100);
  assert.ok(peer.open);
  assert.equal(net.peers.length, 1);
  peer.send("pong", { echo: 0n });
  await pass(700);
  assert.equal(net.peers.length, 1);
  await client.close({ goodbye: false });
});
