// What a subscription says when it comes back, and what it makes of what it is told then.

import assert from "node:assert/strict";
import { test } from "node:test";
import { flagCont, flagMore } from "../src/codec.js";
import { codes, policies } from "../src/codes.js";
import { dial, formatRoom, type Client, type Subscription } from "../src/index.js";
import { Scripted, room, told, turn, type Peer } from "./scripted.js";

const lossless = policies.indexOf("lossless");
const live = policies.indexOf("live");

async function start(policy: number, window = 0): Promise<{ net: Scripted; client: Client; sub: Subscription; peer: Peer }> {
  const net = new Scripted();
  const dialing = dial({ servers: "one", account: "a", dialer: net.dialer, backoffMin: 1, backoffMax: 1 });
  const peer = await net.accept(0);
  peer.welcome();
  const client = await dialing;
  const subscribing = client.subscribe(formatRoom(room));
  await peer.subscribed(policy, window);
  return { net, client, peer, sub: await subscribing };
}

/** Breaks the connection, and returns the next one with what the client named in it, as pub/dtype/last. */
async function again(net: Scripted, peer: Peer, policy: number, window = 0): Promise<{ peer: Peer; have: string[]; resumes: boolean }> {
  peer.break();
  const next = await net.accept(net.peers.indexOf(peer) + 1);
  next.welcome();
  const m = await next.subscribed(policy, window);
  const have = (m.fields.have as Array<{ pub: number; dtype: number; last: number }>).map((p) => `${p.pub}/${p.dtype}/${p.last}`).sort();
  return { peer: next, have, resumes: m.ext?.has(6) ?? false };
}

test("publishers are named of whom nothing has come, whether the caller has heard of them or not", async () => {
  const { net, client, sub, peer } = await start(live);
  for (const [pub, account] of [[1, "alice"], [2, "bob"]] as const) peer.joined(pub, account);
  assert.deepEqual(await told(sub), ["joined alice", "joined bob"]);
  for (const [pub, account] of [[3, "carol"], [4, "dave"]] as const) peer.joined(pub, account);
  peer.frame(1, 7, 1, "a");
  peer.left(4, codes.left);
  const { have, resumes } = await again(net, peer, live);
  assert.deepEqual(have, ["1/7/1", "2/0/0", "3/0/0"]);
  assert.ok(resumes);
  await client.close({ goodbye: false });
});

test("who comes back names no more streams than a server takes, and gives up otherwise", async () => {
  const { net, client, sub, peer } = await start(live);
  for (let pub = 1; pub <= 5000; pub++) peer.joined(pub, "x");
  const { peer: next, have } = await again(net, peer, live);
  assert.equal(have.length, 4096);
  for (let pub = 1; pub <= 4097; pub++) next.frame(pub, 0, 1, "a");
  await told(sub);
  next.break();
  (await net.accept(2)).welcome();
  await assert.rejects(sub.next(), /too_slow/);
  await client.close({ goodbye: false });
});

test("what is told once more of a publisher that has left is no news; what had not come before is", async () => {
  const { net, client, sub, peer } = await start(lossless, 1 << 20);
  const pieces = ["a", "b"];
  peer.joined(1, "bob");
  for (const [i, text] of pieces.entries()) peer.frame(1, 0, i + 1, text);
  peer.left(1, codes.gone);
  assert.deepEqual(await told(sub), ["joined bob", "message 1-1 a", "message 2-2 b", "left bob"]);
  const { peer: next, have } = await again(net, peer, lossless, 1 << 20);
  assert.deepEqual(have, ["1/0/2"]);
  next.joined(1, "bob");
  next.frame(1, 0, 1, "a");
  next.frame(1, 0, 2, "b");
  next.send("gap", { room, pub: 1, dtype: 0, from: 3, to: 2 ** 48 - 1, reason: 3 });
  next.left(1, codes.gone);
  await turn();
  assert.deepEqual(await told(sub), ["resumed"]);
  assert.equal(next.acks.at(-1), "1/0/2");
  next.joined(1, "bob");
  next.frame(1, 0, 2, "b");
  next.frame(1, 0, 3, "c");
  next.frame(1, 0, 4, "d");
  next.left(1, codes.gone);
  await turn();
  assert.deepEqual(await told(sub), ["joined bob", "message 3-3 c", "message 4-4 d", "left bob"]);
  void sub.next().catch(() => {}); // the last one is consumed
  await turn();
  assert.deepEqual([next.acks.at(-1), next.asked.filter((m) => m.name === "error")], ["1/0/4", []]);
  await client.close({ goodbye: false });
});

test("a gap beyond what had come of a publisher that has left says that it is back", async () => {
  const { client, sub, peer } = await start(lossless, 1 << 20);
  const gap = (from: number, to: number): void => peer.send("gap", { room, pub: 1, dtype: 0, from, to, reason: 3 });
  const comes = async (...frames: (() => void)[]): Promise<string[]> => {
    peer.joined(1, "bob");
    for (const f of frames) f();
    peer.left(1, codes.gone);
    await turn();
    return told(sub);
  };
  const frame = (seq: number, text: string) => () => peer.frame(1, 0, seq, text);
  assert.deepEqual(await comes(frame(1, "a"), frame(2, "b"), frame(3, "c")), ["joined bob", "message 1-1 a", "message 2-2 b", "message 3-3 c", "left bob"]);
  assert.deepEqual(await comes(() => gap(1, 3), () => gap(4, 2 ** 48 - 1)), []);
  assert.deepEqual(await comes(() => gap(1, 5), frame(6, "d")), ["joined bob", "gap 4-5 expired", "message 6-6 d", "left bob"]);
  assert.deepEqual(await comes(() => gap(1, 4), frame(5, "x"), frame(6, "d"), frame(7, "e")), ["joined bob", "message 7-7 e", "left bob"]);
  assert.deepEqual(await comes(() => gap(1, 2), frame(8, "f"), () => gap(1, 4), frame(9, "g")), ["joined bob", "message 8-8 f", "message 9-9 g", "left bob"]);
  await client.close({ goodbye: false });
});

test("the rest of a message whose publisher left in its middle comes without a word when it is back", async () => {
  const { client, sub, peer } = await start(lossless, 1 << 20);
  peer.joined(1, "bob");
  peer.frame(1, 0, 1, "a");
  peer.frame(1, 0, 2, "b", flagMore);
  peer.left(1, codes.gone);
  peer.joined(1, "bob");
  peer.frame(1, 0, 2, "b", flagMore);
  peer.frame(1, 0, 3, "b", flagCont);
  peer.frame(1, 0, 4, "c");
  assert.deepEqual(await told(sub), ["joined bob", "message 1-1 a", "left bob", "joined bob", "message 4-4 c"]);
  await client.close({ goodbye: false });
});

test("the publishers that left last are remembered, and no more than some", async () => {
  const { net, client, sub, peer } = await start(lossless, 1 << 20);
  for (let pub = 1; pub <= 70; pub++) {
    peer.joined(pub, "x");
    peer.frame(pub, 0, 1, "a");
    peer.left(pub, codes.gone);
  }
  await told(sub);
  const { have } = await again(net, peer, lossless, 1 << 20);
  assert.deepEqual(have, Array.from({ length: 64 }, (_, i) => `${i + 7}/0/1`).sort());
  await client.close({ goodbye: false });
});

// In a lossless room a position is an acknowledgement, too: only what the caller has had may be one.
test("what waits for the caller of a lossless room is not named, and comes again", async () => {
  const { net, client, sub, peer } = await start(lossless, 1 << 20);
  peer.joined(1, "bob");
  for (let i = 1; i <= 3; i++) peer.frame(1, 0, i, `m${i}`);
  peer.frame(1, 1, 1, "x");
  peer.joined(2, "carol");
  peer.frame(1, 0, 4, "begins", flagMore);
  peer.left(1, codes.left);
  const [first, second] = [await sub.next(), await sub.next()];
  assert.deepEqual([first?.type, second?.type], ["joined", "message"]);
  let { peer: next, have } = await again(net, peer, lossless, 1 << 20);
  assert.deepEqual(have, ["1/0/1"]); // the message that the caller has; bob's leaving is still to be told
  next.joined(1, "bob");
  next.joined(2, "carol");
  for (let i = 2; i <= 3; i++) next.frame(1, 0, i, `m${i}`);
  next.frame(1, 1, 1, "x");
  next.left(1, codes.left);
  assert.deepEqual(await told(sub), ["resumed", "joined bob", "joined carol", "message 2-2 m2", "message 3-3 m3", "message 1-1 x", "left bob"]);
  ({ peer: next, have } = await again(net, next, lossless, 1 << 20));
  assert.deepEqual(have, ["1/0/3", "1/1/1", "2/0/0"]);
  await client.close({ goodbye: false });
});

test("a caller that takes nothing over many connections holds what one window has", async () => {
  const window = 1 << 20;
  let { net, client, sub, peer } = await start(lossless, window);
  for (let round = 0; round < 20; round++) {
    peer.joined(1, "bob");
    for (let i = 1; i <= 16; i++) peer.frame(1, 0, i, "x".repeat(60_000));
    ({ peer } = await again(net, peer, lossless, window));
  }
  assert.ok(sub.pending < 25, `${sub.pending} events wait`);
  await client.close({ goodbye: false });
});

test("pieces of a message that is larger than the window are acknowledged as they come, once all before them is consumed", async () => {
  let { net, client, sub, peer } = await start(lossless, 80_000);
  peer.joined(1, "bob");
  peer.frame(1, 0, 1, "first");
  for (let i = 2; i <= 4; i++) peer.frame(1, 0, i, "x".repeat(20_000), i === 2 ? flagMore : flagMore | flagCont);
  await turn();
  assert.deepEqual(peer.acks, []);
  await sub.next();
  await sub.next();
  const rest = sub.next(); // the first message is consumed
  await turn();
  assert.equal(peer.acks.at(-1), "1/0/4");
  peer.frame(1, 0, 5, "x".repeat(20_000), flagMore | flagCont);
  await turn();
  assert.equal(peer.acks.at(-1), "1/0/5");
  peer.frame(1, 0, 6, "end", flagCont);
  const e = await rest;
  assert.ok(e?.type === "message" && e.first === 2 && e.payload.length === 80_003);
  // Where the server has been told of pieces it does not send them again: the message stays.
  const end = sub.next();
  await turn();
  peer.frame(1, 0, 7, "x", flagMore);
  peer.send("joined", { room, pub: 1, account: "bob" });
  assert.equal((await end)?.type, "joined");
  for (let i = 8; i <= 11; i++) peer.frame(1, 0, i, "x".repeat(20_000), i === 11 ? flagCont : flagMore | flagCont);
  peer.frame(1, 0, 12, "behind");
  peer.left(1, codes.left);
  let have;
  ({ peer, have } = await again(net, peer, lossless, 80_000));
  assert.deepEqual(have, ["1/0/11"]);
  peer.frame(1, 0, 12, "behind");
  peer.left(1, codes.left);
  assert.deepEqual((await told(sub)).map((line) => line.replace(/x+$/, "x")), ["message 7-11 x", "resumed", "message 12-12 behind", "left bob"]);
  await client.close({ goodbye: false });
});
