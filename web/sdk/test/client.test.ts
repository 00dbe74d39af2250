import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { inboxOf } from "../src/client.js";
import { Client, ClosedError, RefusedError, dial, everyone, formatRoom, webSocket, type Event, type Message, type Subscription } from "../src/index.js";
import { tcp } from "../src/tcp.js";
import { Proxy, serve, type TestServer } from "./server.js";

let server: TestServer;
const clients: Client[] = [];
before(async () => (server = await serve("--idle", "1h")));
after(async () => {
  await Promise.all(clients.map((c) => c.close()));
  await server.stop();
});

async function connect(account: string, at = server.tcp, silence?: number): Promise<Client> {
  const c = await dial({ servers: at, account, dialer: tcp(), backoffMin: 5, backoffMax: 50, ...(silence ? { silence } : {}) });
  clients.push(c);
  return c;
}

async function nextMessage(s: Subscription): Promise<Message> {
  for (;;) {
    const e: Event | undefined = await s.next();
    assert.ok(e, "the subscription has ended");
    if (e.type === "fault") throw e.error;
    if (e.type === "message") return e;
  }
}

const text = (s: string): Uint8Array => new TextEncoder().encode(s);
const read = (b: Uint8Array): string => new TextDecoder().decode(b);

test("a stream, from one to another", async () => {
  const [alice, bob] = [await connect("alice"), await connect("bob")];
  const room = await alice.register();
  const sub = await bob.subscribe(room, { counts: true });
  const pub = await alice.publish(room);
  await pub.push(7, "init", text("head"));
  await pub.push(7, "key", text("one"));
  await pub.push(7, "delta", text("two"));
  const got = [await nextMessage(sub), await nextMessage(sub), await nextMessage(sub)];
  assert.deepEqual(got.map((m) => [m.publisher, m.dtype, m.kind, m.first, read(m.payload)]), [
    ["alice", 7, "init", 1, "head"], ["alice", 7, "key", 2, "one"], ["alice", 7, "delta", 3, "two"],
  ]);
  await pub.flush();
  const info = await bob.stat(room);
  assert.equal(info.owner, "alice");
  assert.equal(info.subscribers, 1);
  const late = await (await connect("carol")).subscribe(room);
  assert.deepEqual([read((await nextMessage(late)).payload), read((await nextMessage(late)).payload)], ["head", "one"]);
  await alice.remove(room);
  await assert.rejects(async () => { for await (const _ of sub); }, (e) => e instanceof ClosedError && e.code === "removed");
});

test("who joins a chat late gets what was said last", async () => {
  const alice = await connect("alice");
  const room = await alice.register({ history: { bytes: 50 }, idleUnlessOccupied: true });
  const pub = await alice.publish(room);
  for (const line of ["one", "two", "three"]) await pub.push(0, "delta", text(line));
  await pub.flush();
  const late = await (await connect("carol")).subscribe(room);
  assert.deepEqual([read((await nextMessage(late)).payload), read((await nextMessage(late)).payload)], ["two", "three"]);
  await assert.rejects(alice.register({ policy: "latest", history: { age: 1000 } }), (e) => e instanceof RefusedError && e.code === "bad_option");
  await alice.remove(room);
});

test("a subscription that is drained hands over what was on its way, and one that is closed does not", async () => {
  const [alice, bob] = [await connect("alice"), await connect("bob")];
  const room = await alice.register();
  const sub = await bob.subscribe(room);
  const pub = await alice.publish(room);
  for (let i = 0; i < 100; i++) await pub.push(0, "key", text(String(i)));
  await pub.flush(); // all of it is on its way
  const draining = sub.drain();
  const got: string[] = [];
  for await (const e of sub) if (e.type === "message") got.push(read(e.payload));
  assert.deepEqual(got, Array.from({ length: 100 }, (_, i) => String(i)));
  await draining;
  const again = await bob.subscribe(room); // the room can be had again
  await nextMessage(again);
  await again.close();
  assert.equal(await again.next(), undefined);
  await alice.remove(room);
});

test("refusals have codes", async () => {
  const [alice, bob] = [await connect("alice"), await connect("bob")];
  await assert.rejects(alice.subscribe("NGhMpCbk2wQ"), (e) => e instanceof RefusedError && e.code === "room_unknown");
  const room = await alice.register();
  await assert.rejects(bob.publish(room), (e) => e instanceof RefusedError && e.code === "not_granted" && !e.retry);
  await alice.grant(room, "bob");
  const pub = await bob.publish(room);
  await alice.revoke(room, "bob");
  await assert.rejects(async () => { for (;;) { await pub.push(0, "delta", text("x")); await pub.flush(); } }, (e) => e instanceof ClosedError && e.code === "revoked");
  await assert.rejects(alice.subscribe("no room"), TypeError);
});

test("large payloads travel in pieces, beside small ones", async () => {
  const [alice, bob] = [await connect("alice"), await connect("bob")];
  const room = await alice.register();
  const sub = await bob.subscribe(room);
  const pub = await alice.publish(room);
  const large = new Uint8Array(9_000_000).map((_, i) => i % 251);
  const pushes = [pub.push(1, "key", large)];
  for (let i = 0; i < 20; i++) pushes.push(pub.push(2, "delta", text(String(i))));
  await Promise.all(pushes);
  let [small, at] = [0, -1];
  for (let whole = false; !whole || small < 20; ) {
    const m = await nextMessage(sub);
    if (m.dtype === 2) assert.equal(read(m.payload), String(small++));
    else {
      whole = true;
      at = small;
      assert.deepEqual(Buffer.compare(m.payload, large), 0);
    }
  }
  assert.ok(at > 0, "the small ones waited for the large one");
  await pub.close();
});

test("a message larger than the window of a lossless room arrives", async () => {
  const [alice, bob] = [await connect("alice"), await connect("bob")];
  const room = await alice.register({ policy: "lossless" });
  const sub = await bob.subscribe(room);
  const pub = await alice.publish(room);
  const large = new Uint8Array(9_000_000).map((_, i) => i % 251);
  assert.ok(pub.windowSize < large.length, `a window of ${pub.windowSize} bytes`);
  const arrived = pub.push(1, "delta", large).then(() => pub.flush());
  assert.equal(Buffer.compare((await nextMessage(sub)).payload, large), 0);
  const end = sub.next(); // tells that it was consumed
  await arrived;
  await sub.close();
  assert.equal(await end, undefined);
});

test("a lossless room waits for its slowest reader, and nobody for who has left", async () => {
  const [alice, bob, carol] = [await connect("alice"), await connect("bob"), await connect("carol")];
  const room = await alice.register({ policy: "lossless" });
  const [slow, leaver] = [await bob.subscribe(room), await carol.subscribe(room)];
  const pub = await alice.publish(room);
  const payload = new Uint8Array(60_000);
  let pushed = 0;
  const all = (async () => {
    for (let i = 0; i < 200; i++) {
      await pub.push(0, "delta", payload);
      pushed++;
    }
    await pub.flush();
  })();
  await nextMessage(leaver);
  await leaver.close();
  assert.ok(pushed < 150, `${pushed} of 200 messages of 60 kB in a window of 4 MiB`);
  for (let i = 0; i < 200; i++) assert.equal((await nextMessage(slow)).last, i + 1);
  const end = slow.next(); // tells that the last one was consumed
  await all;
  await slow.close();
  assert.equal(await end, undefined);
});

test("from account to account", async () => {
  const [alice, bob] = [await connect("alice"), await connect("bob")];
  assert.deepEqual(["alice", "bob", "名"].map((a) => formatRoom(inboxOf(a))), ["35EGCyihobj", "LpwkCHvJvgf", "XeBmgJ4X7y9"]); // of PROTOCOL.md
  await assert.rejects(alice.sendTo("bob", 1, text("too early")), (e) => e instanceof RefusedError && e.code === "not_accepted");
  const inbox = await bob.inbox({ accept: ["alice"] });
  await alice.sendTo("bob", 1, text("hello"));
  const m = await nextMessage(inbox);
  assert.deepEqual([m.publisher, read(m.payload)], ["alice", "hello"]);
  const carol = await connect("carol");
  await assert.rejects(carol.sendTo("bob", 1, text("x")), (e) => e instanceof RefusedError && e.code === "not_accepted");
  await bob.accept(everyone);
  await bob.block("alice");
  await carol.sendTo("bob", 1, text("from carol"));
  assert.equal((await nextMessage(inbox)).publisher, "carol");
  await assert.rejects(async () => { for (;;) await alice.sendTo("bob", 1, text("blocked")); }, (e) => e instanceof ClosedError || e instanceof RefusedError);
  await inbox.close();
});

test("an inbox is opened again when its connection breaks", async () => {
  const proxy = await Proxy.open(server.tcp);
  const [dora, erik] = [await connect("dora"), await connect("erik", proxy.addr)];
  const inbox = await erik.inbox({ accept: ["dora"] });
  await dora.sendTo("erik", 1, text("one"));
  assert.equal(read((await nextMessage(inbox)).payload), "one");
  proxy.cutAll();
  for (let e: Event | undefined; e?.type !== "resumed"; ) e = await inbox.next();
  await dora.sendTo("erik", 1, text("two"));
  assert.equal(read((await nextMessage(inbox)).payload), "two");
  await Promise.all([erik.close(), inbox.next().catch(() => {})]);
  await proxy.close();
});

test("everybody who has the number may push into a room that is granted to everyone", async () => {
  const [alice, bob] = [await connect("alice"), await connect("bob")];
  const room = await alice.register();
  const sub = await alice.subscribe(room);
  await alice.grant(room, everyone);
  await (await bob.publish(room)).push(1, "key", text("hello"));
  assert.equal((await nextMessage(sub)).publisher, "bob");
  await alice.revoke(room, everyone);
  await assert.rejects((await connect("carol")).publish(room), (e) => e instanceof RefusedError && e.code === "not_granted");
});

// Every message of every stream arrives once, in order, however often the connections of both sides break.
for (const policy of ["live", "lossless"] as const) {
  test(`breaking connections lose nothing: ${policy}`, async () => {
    const after = (): number => 20_000 + Math.floor(Math.random() * 400_000);
    const [pubProxy, subProxy] = [await Proxy.open(server.tcp, after), await Proxy.open(server.tcp, after)];
    const [alice, bob] = [await connect("alice", pubProxy.addr), await connect("bob", subProxy.addr)];
    const room = await alice.register({ policy });
    const sub = await bob.subscribe(room);
    const pub = await alice.publish(room);
    const perStream = 120;
    const pushing = Promise.all([0, 1, 2].map(async (dtype) => {
      for (let i = 0; i < perStream; i++) {
        const payload = new Uint8Array(dtype === 2 ? 100_000 : 2_000);
        new DataView(payload.buffer).setUint32(0, i);
        await pub.push(dtype, i === 0 ? "key" : "delta", payload); // one group, which a live room keeps whole
      }
    })).then(() => pub.flush());
    const next = [0, 0, 0];
    while (next.some((n) => n < perStream)) {
      const e = await sub.next();
      assert.ok(e && e.type !== "fault", String(e && "error" in e ? e.error : "ended"));
      if (e.type === "gap") assert.fail(`gap ${e.from} to ${e.to} of ${e.dtype}: ${e.reason}`);
      if (e.type === "message") assert.equal(new DataView(e.payload.buffer).getUint32(0), next[e.dtype]!++);
    }
    const end = sub.next();
    await pushing;
    await Promise.all([sub.close(), end]);
    assert.ok(pubProxy.cuts > 5 && subProxy.cuts > 5, `${pubProxy.cuts} and ${subProxy.cuts} cuts`);
    await Promise.all([alice.close(), bob.close()]);
    await Promise.all([pubProxy.close(), subProxy.close()]);
  });
}

test("by WebSocket", { skip: typeof WebSocket === "undefined" }, async () => {
  const c = await dial({ servers: server.ws, account: "page", dialer: webSocket() });
  clients.push(c);
  const room = await c.register();
  const sub = await c.subscribe(room);
  const pub = await c.publish(room);
  for (let i = 0; i < 2000; i++) await pub.push(0, "delta", text(`message ${i}`));
  for (let i = 0; i < 2000; i++) assert.equal(read((await nextMessage(sub)).payload), `message ${i}`);
});
