// A server that asks to leave: the client connects to one that it names, or to another that it knows, while the first still works.

import assert from "node:assert/strict";
import { test } from "node:test";
import { codes, policies } from "../src/codes.js";
import { dial, formatRoom } from "../src/index.js";
import { sibling } from "../src/reconnect.js";
import { Scripted, room, told, turn } from "./scripted.js";

for (const c of [
  { name: "to a named server", addrs: ["other:1"], down: [], want: "other:1" },
  { name: "to any", addrs: [], down: [], want: "two:1" },
  { name: "to any when the named is out", addrs: ["other:1"], down: ["other:1"], want: "two:1" },
  { name: "to any when what is named is no address", addrs: ["ws://other:1/"], down: [], want: "two:1" },
]) {
  test(`go away: ${c.name}`, async () => {
    const net = new Scripted();
    const phases: string[] = [];
    net.refuse.add("two:1");
    const dialing = dial({
      servers: ["one:1", "two:1"], account: "a", dialer: net.dialer, backoffMin: 1, backoffMax: 1, onState: (s) => phases.push(s.phase),
    });
    const peer = await net.accept(0);
    peer.welcome();
    const client = await dialing;
    const subscribing = client.subscribe(formatRoom(room));
    await peer.subscribed(policies.indexOf("live"));
    const sub = await subscribing;
    const removed = client.remove(formatRoom(9n));
    await turn();
    const asked = peer.asked.find((m) => m.name === "remove")!;
    net.refuse = new Set(c.down);
    peer.send("go_away", { code: codes.going_away, within_millis: 40, addrs: c.addrs });
    const next = await net.accept(1);
    assert.equal(next.server, c.want);
    next.welcome();
    // The old connection still serves, and the answer to what must not be asked twice comes on it.
    assert.ok(peer.open);
    peer.joined(1, "bob");
    peer.frame(1, 7, 1, "x");
    peer.send("ok", { req: asked.fields.req });
    await removed;
    const resumed = await (async () => {
      while (!next.asked.some((m) => m.name === "subscribe")) await turn();
      return next.subscribed(policies.indexOf("live"));
    })();
    assert.deepEqual(resumed.fields.have, [{ pub: 1, dtype: 7, last: 1 }]);
    assert.ok(!next.asked.some((m) => m.name === "remove"));
    assert.ok(!peer.open);
    next.frame(1, 7, 2, "y");
    assert.deepEqual(await told(sub), ["joined bob", "message 1-1 x", "resumed", "message 2-2 y"]);
    assert.deepEqual(phases, ["connecting", "connected", "draining", "connected"]);
    await client.close({ goodbye: false });
  });
}

test("a server that is named is reached as the one that names it", () => {
  for (const [server, address, want] of [
    ["one:1", "two:2", "two:2"], ["tls://one:1", "two:2", "tls://two:2"], ["wss://one/live?x=1", "two:2", "wss://two:2/live?x=1"],
    ["ws://one:1", "[::1]:2", "ws://[::1]:2"], ["wss://one/", "ws://two:2", undefined], ["one:1", "two", undefined],
    ["wss://one/", "two:2/else", undefined], ["wss://one/", "me@two:2", undefined],
  ] as const) assert.equal(sibling(server, address), want, `${server} ${address}`);
});
