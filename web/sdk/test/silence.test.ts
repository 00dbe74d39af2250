// A server that says nothing any more is left, soon if it or the options say so, and when another one answers: that is connected to when five eighths of the
// silence are over. Time is the test's.

import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { codes, policies } from "../src/codes.js";
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
    assert.ok(took >= c.silence * 0.5 && took <= c.silence * 0.75, `left after ${took} ms of ${c.silence}`);
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

test("what was begun while the server is silent goes on when its time is over, and those who say nothing are asked again, five times at once at most", async () => {
  for (const servers of [["one"], ["one", "two"]]) {
    const { net, client, sub, peer, phases } = await start(servers, 20_000, 1000); // behind one address there may be several servers
    const took = await waited(net, 1, 2000);
    assert.ok(took >= 600 && took <= 750, `asked again after ${took} ms`);
    assert.ok(peer.open);
    await pass(450);
    assert.ok(!peer.open);
    for (let i = 0; i < 30; i++) {
      await pass(1000);
      assert.ok(net.peers.filter((p) => p.open).length <= 5 * servers.length);
    }
    assert.ok(net.peers.length > 1 + 2 * servers.length, String(net.peers.length));
    const next = net.peers.at(-1)!;
    next.welcome();
    await next.subscribed(policies.indexOf("live"));
    assert.deepEqual(await told(sub), ["resumed"]);
    assert.deepEqual(phases, ["connecting", "connected", "disconnected", "connecting", "connected"]);
    await client.close({ goodbye: false });
    assert.ok(net.peers.every((p) => !p.open));
  }
});

for (const c of [{ silence: 1000, step: 500 }, { silence: 60_000, step: 5000 }, { silence: 0, step: 5000 }]) {
  test(`a server that takes connections and says nothing has the next one asked beside it: silence ${c.silence}`, async () => {
    const { net, client, peer } = await start(["one", "two", "three"], 60_000, c.silence);
    peer.break();
    const frozen = await net.accept(1);
    const took = await waited(net, 2, 20_000);
    assert.ok(took >= c.step && took <= c.step + 10, `${took} ms`);
    const next = net.peers[2]!;
    assert.equal(new Set([peer.server, frozen.server, next.server]).size, 3);
    next.welcome();
    await next.subscribed(policies.indexOf("live"));
    assert.ok(!frozen.open && next.open);
    assert.equal(client.node, next.server);
    await client.close({ goodbye: false });
  });
}

for (const thaws of [false, true]) {
  test(`while one server says nothing the others, who refuse, are asked again and again: ${thaws ? "it answers" : "one of them answers"}`, async () => {
    const { net, client, peer } = await start(["one", "two", "three"], 20_000, 1000);
    const refusing = net.refuse = new Set(["one", "two", "three"]);
    const silent = ["one", "two", "three"].find((s) => s !== peer.server)!;
    refusing.delete(silent);
    peer.break();
    await pass(10_000);
    const tried = net.tried.slice(1);
    for (const s of ["one", "two", "three"]) assert.ok(tried.filter((t) => t === s).length >= 2, String(tried));
    assert.ok(tried.filter((s) => s === silent).length <= 5, String(tried));
    const frozen = net.peers[1]!;
    assert.equal(frozen.server, silent);
    if (thaws) frozen.welcome();
    else {
      refusing.clear();
      await waited(net, 2, 30_000);
      net.peers[2]!.welcome();
    }
    await turn();
    assert.equal(client.node, thaws ? silent : net.peers[2]!.server);
    assert.equal(frozen.open, thaws);
    await client.close({ goodbye: false });
  });
}

test("a hello that a server has heard too late is said again", async () => {
  const { net, client, peer, phases } = await start(["one"], 20_000, 1000);
  peer.break();
  await waited(net, 1, 30_000);
  net.peers[1]!.send("error", { code: codes.hello_timeout, text: "" });
  await waited(net, 2, 30_000);
  net.peers[2]!.welcome();
  await turn();
  assert.equal(phases.at(-1), "connected");
  await client.close({ goodbye: false });
});

test("a client that is closed gives up what it connects to", async () => {
  const { net, client, peer } = await start(["one", "two"], 20_000, 1000);
  peer.break();
  await waited(net, 2, 2000);
  assert.ok(net.peers[2]);
  await client.close({ goodbye: false });
  assert.ok(net.peers.every((p) => !p.open));
  await pass(20_000);
  assert.equal(net.peers.length, 3);
});

test("a page that was frozen itself has not listened", async () => {
  const { net, client, peer } = await start(["one", "two"], 20_000, 1000);
  await pass(400);
  now += 3_600_000; // no timer fires meanwhile
  await pass(70);
  assert.ok(peer.open);
  assert.equal(net.peers.length, 1);
  peer.send("pong", { echo: 0n });
  await pass(550);
  assert.equal(net.peers.length, 1);
  await client.close({ goodbye: false });
});
