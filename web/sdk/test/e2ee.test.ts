import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { dial, everyone, RefusedError, type Client, type Event, type Message, type Subscription } from "../src/index.js";
import { encrypted, formatHash, formatLinkKey, Keys, looksSealed, Member, newLinkKey, nextKey, Opener, parseHash, parseLinkKey, RekeyError, SealError, Sealer } from "../src/e2ee/index.js";
import { hpkeOpen } from "../src/e2ee/member.js";
import { aes128, aes256, derive, encodeHeader, open, parseHeader, seal, type Bytes } from "../src/e2ee/sframe.js";
import { formatRoom, parseRoom } from "../src/room.js";
import { tcp } from "../src/tcp.js";
import { Proxy, serve, type TestServer } from "./server.js";

const root = new URL("../../../e2ee/testdata/", import.meta.url);
const load = (file: string): any => JSON.parse(readFileSync(new URL(file, root), "utf8"));
const unhex = (s: string): Bytes => Uint8Array.from(s.match(/../g) ?? [], (h) => parseInt(h, 16));
const hex = (b: Uint8Array): string => [...b].map((c) => c.toString(16).padStart(2, "0")).join("");
const text = (s: string): Bytes => new TextEncoder().encode(s);
const read = (b: Uint8Array): string => new TextDecoder().decode(b);
const kinds = ["delta", "key", "init"] as const;

test("the vectors of RFC 9605", async () => {
  const v = load("rfc9605.json");
  assert.ok(v.header.length > 100);
  for (const [kid, ctr, bytes] of v.header) {
    assert.equal(hex(encodeHeader(BigInt(kid), BigInt(ctr))), bytes);
    assert.deepEqual(parseHeader(unhex(bytes)), { kid: BigInt(kid), ctr: BigInt(ctr), size: bytes.length / 2 });
  }
  for (const s of v.sframe) {
    const k = await derive(s.cipher_suite === 4 ? aes128 : aes256, BigInt(s.kid), unhex(s.base_key));
    assert.equal(hex(k.salt), s.sframe_salt);
    const sealed = await seal(k, BigInt(s.kid), BigInt(s.ctr), unhex(s.metadata), unhex(s.pt));
    assert.equal(hex(sealed), s.ct);
    assert.equal(hex(await open(k, parseHeader(sealed)!, unhex(s.metadata), sealed)), s.pt);
  }
});

const b64 = (b: Uint8Array): string => Buffer.from(b).toString("base64url");

/** The private key of a pair, from its number and its point. */
async function pair(d: string, point: string): Promise<CryptoKeyPair> {
  const p = unhex(point);
  const jwk = { kty: "EC", crv: "P-256", d: b64(unhex(d)), x: b64(p.subarray(1, 33)), y: b64(p.subarray(33)), ext: true };
  const curve = { name: "ECDH", namedCurve: "P-256" };
  return {
    privateKey: await crypto.subtle.importKey("jwk", jwk, curve, true, ["deriveBits"]),
    publicKey: await crypto.subtle.importKey("raw", p, curve, true, []),
  };
}

test("the vector of RFC 9180", async () => {
  const v = load("rfc9180.json");
  const { privateKey } = await pair(v.private, v.public);
  assert.equal(hex(await hpkeOpen(privateKey, unhex(v.public), unhex(v.enc), unhex(v.info), unhex(v.aad), unhex(v.ct))), v.pt);
});

test("our own vectors, which Go runs too", async () => {
  const v = load("vectors.json");
  assert.ok(v.messages.length >= 7);
  const ends = new Map<string, { sealer: Sealer; opener: Opener }>();
  for (const m of v.messages) {
    const link = parseLinkKey(m.link)!;
    assert.equal(formatLinkKey(link), m.link);
    const room = parseRoom(m.room)!;
    if (!ends.has(m.session)) {
      const keys = new Keys(link);
      ends.set(m.session, { sealer: new Sealer(keys, room, m.account, BigInt(m.session)), opener: new Opener(keys, room) });
    }
    const { sealer, opener } = ends.get(m.session)!;
    const kind = kinds[m.kind as 0]!;
    assert.equal(hex(await sealer.seal(m.dtype, kind, unhex(m.plain))), m.sealed);
    const got = await opener.open({ type: "message", room: m.room, publisher: m.account, pub: 1, dtype: m.dtype, kind, first: 1, last: 1, payload: unhex(m.sealed) });
    assert.deepEqual([hex(got.plain), got.withheld], [m.plain, 0]);
    assert.ok(looksSealed(unhex(m.sealed)));
  }
  const member = await Member.of(await pair(v.rekey.private, v.rekey.public));
  assert.equal(formatLinkKey(await member.open(v.rekey.room, unhex(v.rekey.message))), v.rekey.link);
});

const one = formatRoom(1n);

/** What a subscriber gets of a message that alice seals. */
async function message(s: Sealer, payload: string, change: Partial<Message> = {}): Promise<Message> {
  const sealed = await s.seal(65, "key", text(payload));
  return { type: "message", room: one, publisher: "alice", pub: 1, dtype: 65, kind: "key", first: 1, last: 1, payload: sealed, ...change };
}

test("what was changed, moved or repeated does not open, and the next does", async () => {
  const flip = (at: number, bit: number) => (m: Message): Message => {
    const payload = m.payload.slice();
    payload[at < 0 ? payload.length + at : at]! ^= bit;
    return { ...m, payload };
  };
  const cases: Array<[string, (m: Message) => Message, string]> = [
    ["a bit of the ciphertext", flip(-20, 1), "forged"],
    ["a bit of the tag", flip(-1, 0x80), "forged"],
    ["another counter", flip(0, 1), "forged"],
    ["another session", flip(4, 1), "forged"],
    ["another epoch", flip(8, 1), "no_key"],
    ["cut off", (m) => ({ ...m, payload: m.payload.subarray(0, -1) }), "forged"],
    ["another dtype", (m) => ({ ...m, dtype: 66 }), "forged"],
    ["another publisher", (m) => ({ ...m, publisher: "mallory" }), "forged"],
    ["another kind", (m) => ({ ...m, kind: "delta" }), "forged"],
    ["a text", (m) => ({ ...m, payload: text(`{"type":"chat","text":"in plain, for all to read"}`) }), "not_sealed"],
    ["nothing", (m) => ({ ...m, payload: new Uint8Array() }), "not_sealed"],
  ];
  for (const [name, change, fault] of cases) {
    const keys = new Keys(newLinkKey());
    const [s, o] = [new Sealer(keys, 1n, "alice"), new Opener(keys, 1n)];
    const good = await message(s, "the first one");
    await assert.rejects(o.open(change(good)), (e) => e instanceof SealError && e.fault === fault, name);
    assert.equal(read((await o.open(good)).plain), "the first one", name);
    await assert.rejects(o.open(good), (e) => e instanceof SealError && e.fault === "replayed", name);
    assert.equal(read((await o.open(await message(s, "two"))).plain), "two", name);
  }
});

test("whatever comes is opened or refused: a header has one form, nothing opens but what was sealed, and what hands out secrets is read or not", async () => {
  const keys = new Keys({ secret: new Uint8Array(32), epoch: 0 });
  const good = await message(new Sealer(keys, 1n, "alice", 9n), "the first one");
  const member = await Member.create();
  const { message: handed } = await nextKey(keys, one, [member.publicKey]);
  const edited = (b: Uint8Array): fc.Arbitrary<Uint8Array> =>
    fc.tuple(fc.nat(b.length), fc.nat(40), fc.uint8Array({ maxLength: 40 })).map(([at, cut, put]) => Uint8Array.from([...b.subarray(0, at), ...put, ...b.subarray(at + cut)]));
  await fc.assert(fc.asyncProperty(fc.oneof(fc.uint8Array({ maxLength: 80 }), edited(good.payload), edited(handed)), async (b) => {
    const h = parseHeader(b);
    if (h) assert.deepEqual([...encodeHeader(h.kid, h.ctr)], [...b.subarray(0, h.size)]);
    looksSealed(b);
    const same = hex(b) === hex(good.payload);
    const opened = await new Opener(keys, 1n).open({ ...good, payload: b }).then(() => true, (e: unknown) => (assert.ok(e instanceof SealError, String(e)), false));
    assert.equal(opened, same);
    const taken = await member.open(one, b).then(() => true, (e: unknown) => (assert.ok(e instanceof RekeyError, String(e)), false));
    assert.equal(taken && !hex(b).startsWith(hex(handed)), false);
  }), { numRuns: 400 });
});

test("messages open at most once, in their order, and what is kept back is told", async () => {
  await fc.assert(fc.asyncProperty(fc.array(fc.tuple(fc.nat(7), fc.boolean()), { minLength: 1, maxLength: 16 }), async (steps) => {
    const keys = new Keys({ secret: new Uint8Array(32), epoch: 0 });
    const [s, o] = [new Sealer(keys, 1n, "alice"), new Opener(keys, 1n)];
    const all = await Promise.all(Array.from({ length: 8 }, (_, i) => message(s, String(i))));
    let [next, told] = [0, false];
    for (const [i, gap] of steps) {
      if (gap) {
        o.gap({ type: "gap", room: one, publisher: "alice", pub: 1, dtype: 65, from: 1, to: 1, reason: "slow", interrupted: 0 });
        told = true;
      }
      if (i < next) {
        await assert.rejects(o.open(all[i]!), (e) => e instanceof SealError && e.fault === "replayed");
        continue;
      }
      const got = await o.open(all[i]!);
      assert.deepEqual([read(got.plain), got.withheld], [String(i), told ? 0 : i - next]);
      [next, told] = [i + 1, false];
    }
  }), { numRuns: 30 });
});

test("a page that is loaded anew, and each account, seals with keys of its own", async () => {
  const keys = new Keys(newLinkKey());
  const seen = new Set<string>();
  for (const account of ["alice", "bob"]) {
    for (let load = 0; load < 20; load++) {
      const s = new Sealer(keys, 1n, account);
      for (const dtype of [1, 2]) seen.add(hex(await s.seal(dtype, "delta", text("the same every time"))).slice(18)); // behind key and counter
    }
  }
  assert.equal(seen.size, 80);
});

test("whoever is removed reads no further", async () => {
  const link = newLinkKey();
  const [owner, alice, bob] = [new Keys(link), new Keys(link), new Keys(link)];
  const [a, b] = [await Member.create(), await Member.create()];
  const { next, message: handed } = await nextKey(owner, one, [new Uint8Array(65), a.publicKey]);
  await assert.rejects(b.open(one, handed), (e) => e instanceof RekeyError && e.fault === "removed");
  await assert.rejects(a.open(formatRoom(2n), handed), (e) => e instanceof RekeyError && e.fault === "malformed");
  await assert.rejects(a.open(one, handed.subarray(1)), (e) => e instanceof RekeyError && e.fault === "malformed");
  const taken = await a.open(one, handed);
  assert.deepEqual(taken, next);
  const sealer = new Sealer(alice, 1n, "alice");
  const before = await message(sealer, "before");
  for (const k of [owner, alice]) k.rotate(taken);
  assert.throws(() => owner.rotate(taken), RangeError);
  const after = await message(sealer, "after");
  await assert.rejects(new Opener(bob, 1n).open(after), (e) => e instanceof SealError && e.fault === "no_key");
  const o = new Opener(owner, 1n);
  assert.deepEqual([read((await o.open(before)).plain), read((await o.open(after)).plain)], ["before", "after"]);
  owner.forget();
  await assert.rejects(o.open(await message(new Sealer(bob, 1n, "bob"), "from outside", { publisher: "bob" })), (e) => e instanceof SealError && e.fault === "no_key");
});

test("links", () => {
  const key = newLinkKey();
  for (const k of [key, { ...key, epoch: 1 }, { ...key, epoch: 2 ** 32 - 1 }]) {
    assert.deepEqual(parseLinkKey(formatLinkKey(k)), k);
    assert.deepEqual(parseHash(formatHash({ room: one, key: k })), { room: one, key: k });
  }
  assert.deepEqual(parseHash(one), { room: one });
  const t = formatLinkKey(key);
  for (const bad of ["", t.slice(1), `${t}A`, `${t}.0`, `${t}.`, `${t}.01`, `${t}.4294967296`, `${t.slice(0, 42)}B`, `${t.slice(0, 42)}=`]) {
    assert.equal(parseLinkKey(bad), undefined, bad);
    assert.equal(parseHash(`${one}&key=${bad}`), undefined, "a damaged key is not taken for none");
  }
  assert.equal(parseHash(`x&key=${t}`), undefined);
});

// Over a server

let server: TestServer;
const clients: Client[] = [];
before(async () => (server = await serve("--idle", "1h")));
after(async () => {
  await Promise.all(clients.map((c) => c.close()));
  await server.stop();
});

async function connect(account: string, at = server.tcp): Promise<Client> {
  const c = await dial({ servers: at, account, dialer: tcp(), backoffMin: 5, backoffMax: 50 });
  clients.push(c);
  return c;
}

async function take(s: Subscription, type: "message" | "gap"): Promise<Event> {
  for (;;) {
    const e = await s.next();
    assert.ok(e, "the subscription has ended");
    if (e.type === type) return e;
  }
}

test("clients that seal and open, over connections that break", async () => {
  const cutAfter = (() => {
    let n = 0;
    return () => 20_000 + 7919 * n++;
  })();
  const proxy = await Proxy.open(server.tcp, cutAfter);
  const link = newLinkKey();
  const alice = encrypted(await connect("alice", proxy.addr), new Keys(link));
  const bob = encrypted(await connect("bob", proxy.addr), new Keys(link), { onFault: (_, fault) => assert.fail(fault) });
  const room = await alice.register({ policy: "lossless" });
  const sub = await bob.subscribe(room);
  const pub = await alice.publish(room);
  const n = 400;
  const sending = (async () => {
    for (let i = 0; i < n; i++) void pub.push(i % 2, "delta", text(`${i} ${"x".repeat(i % 2 === 0 ? 700 : 10)}`)); // long and short ones beside each other
    await pub.flush();
  })();
  const got: number[] = [];
  for await (const e of sub) {
    if (e.type === "gap") assert.fail(`a gap: ${e.reason}`);
    if (e.type !== "message") continue;
    got.push(parseInt(read(e.payload)));
    if (got.length === n) break;
  }
  await sub.close();
  await sending;
  for (const half of [0, 1]) assert.deepEqual(got.filter((i) => i % 2 === half), Array.from({ length: n / 2 }, (_, i) => 2 * i + half));
  assert.ok(proxy.cuts > 2, `${proxy.cuts} cuts`);
  assert.equal(pub.room, room);
  assert.ok(pub.windowSize > 0);
  await assert.rejects(pub.push(0, "delta", new Uint8Array(bob.maxPayload)), (e) => e instanceof RefusedError && e.code === "payload_size");
  await pub.close();
  await alice.remove(room);
  await proxy.close();
});

test("what somebody pushes who has no key is told by a gap", async () => {
  const link = newLinkKey();
  const [alice, eve, bob] = [await connect("alice"), await connect("eve"), await connect("bob")];
  const room = await alice.register();
  await alice.grant(room, everyone);
  const faults: string[] = [];
  const sub = await encrypted(bob, new Keys(link), { onFault: (m, fault) => faults.push(`${m.publisher} ${fault}`) }).subscribe(room);
  const raw = await eve.subscribe(room, { noEcho: true });
  const [good, bad] = [await encrypted(alice, new Keys(link)).publish(room), await eve.publish(room)];
  await good.push(1, "key", text("one"));
  const sealed = (await take(raw, "message")) as Message;
  assert.ok(looksSealed(sealed.payload) && !read(sealed.payload).includes("one"));
  assert.equal(read(((await take(sub, "message")) as Message).payload), "one");
  await bad.push(1, "key", sealed.payload);
  await bad.push(1, "key", text("a message that nobody has sealed"));
  for (let i = 1; i <= 2; i++) {
    const g = await take(sub, "gap");
    assert.ok(g.type === "gap" && g.reason === "refused" && g.publisher === "eve" && g.from === i && g.to === i);
  }
  await good.push(1, "delta", text("two"));
  assert.equal(read(((await take(sub, "message")) as Message).payload), "two");
  assert.deepEqual(faults, ["eve forged", "eve not_sealed"]);
  await alice.remove(room);
});
