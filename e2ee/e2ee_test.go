package e2ee

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/timedge/timedge/client"
)

// sealedMessage seals a message as a subscriber would receive it.
func sealedMessage(t rapid.TB, s *Sealer, dtype uint8, kind client.Kind, plain string) *client.Message {
	t.Helper()
	sealed, err := s.Seal(nil, dtype, kind, []byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	return &client.Message{Room: s.room, Publisher: s.account, Pub: 1, Dtype: dtype, Kind: kind, Payload: sealed}
}

func clone(m *client.Message) *client.Message {
	c := *m
	c.Payload = bytes.Clone(m.Payload)
	return &c
}

// TestTampered: a message opens as it was pushed, where it was pushed, and once. Anything else is refused, and what
// comes after it opens.
func TestTampered(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(m *client.Message)
		want   error
	}{
		{"a bit of the ciphertext", func(m *client.Message) { m.Payload[len(m.Payload)-20] ^= 1 }, ErrForged},
		{"a bit of the tag", func(m *client.Message) { m.Payload[len(m.Payload)-1] ^= 0x80 }, ErrForged},
		{"cut off", func(m *client.Message) { m.Payload = m.Payload[:len(m.Payload)-1] }, ErrForged},
		{"longer", func(m *client.Message) { m.Payload = append(m.Payload, 0) }, ErrForged},
		{"another counter", func(m *client.Message) { m.Payload[0] ^= 1 }, ErrForged},
		{"another session", func(m *client.Message) { m.Payload[4] ^= 1 }, ErrForged},
		{"another epoch", func(m *client.Message) { m.Payload[8] ^= 1 }, ErrNoKey},
		{"another dtype", func(m *client.Message) { m.Dtype++ }, ErrForged},
		{"another publisher", func(m *client.Message) { m.Publisher = "mallory" }, ErrForged},
		{"key for delta", func(m *client.Message) { m.Kind = client.Delta }, ErrForged},
		{"init for key", func(m *client.Message) { m.Kind = client.Init }, ErrForged},
		{"no bytes", func(m *client.Message) { m.Payload = nil }, ErrNotSealed},
		{"a header alone", func(m *client.Message) { m.Payload = m.Payload[:9] }, ErrNotSealed},
		{"a text", func(m *client.Message) { m.Payload = []byte(`{"type":"chat","text":"not sealed at"}`) }, ErrNotSealed},
		{"a plain sample", func(m *client.Message) { m.Payload = bytes.Repeat([]byte{1}, 100) }, ErrNotSealed},
	} {
		t.Run(test.name, func(t *testing.T) {
			keys := NewKeys(LinkKey{Secret: NewSecret()})
			s, o := keys.Sealer(1, "alice"), keys.Opener(1)
			good, next := sealedMessage(t, s, 65, client.Key, "a picture"), sealedMessage(t, s, 65, client.Delta, "the next")
			bad := clone(good)
			test.change(bad)
			if _, err := o.Open(bad); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			for _, m := range []*client.Message{good, next} {
				if withheld, err := o.Open(m); err != nil || withheld != 0 {
					t.Errorf("behind it: %d withheld, %v", withheld, err)
				}
			}
			if string(good.Payload) != "a picture" || string(next.Payload) != "the next" {
				t.Errorf("opened to %q, %q", good.Payload, next.Payload)
			}
		})
	}
}

// TestOtherRoom: what was sealed for one room does not open in another.
func TestOtherRoom(t *testing.T) {
	keys := NewKeys(LinkKey{Secret: NewSecret()})
	m := sealedMessage(t, keys.Sealer(1, "alice"), 0, client.Delta, "x")
	if _, err := keys.Opener(2).Open(m); !errors.Is(err, ErrForged) {
		t.Errorf("got %v", err)
	}
}

// TestOrder drops, repeats and swaps messages of a session as a server might. Each opens at most once, in the order in
// which they were sealed, and what is kept back is told unless the server said so itself.
func TestOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keys := NewKeys(LinkKey{Secret: Secret{1}})
		s, o := keys.Sealer(1, "alice"), keys.Opener(1)
		const n = 12
		var all []*client.Message
		for i := range n {
			all = append(all, sealedMessage(t, s, 0, client.Delta, fmt.Sprint(i)))
		}
		next, pending := 0, false // pending: a gap was told since the last one that opened
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, n-1), 1, 30).Draw(t, "order") {
			if rapid.Bool().Draw(t, "told") {
				o.Gap(&client.Gap{Pub: 1})
				pending = true
			}
			m := clone(all[i])
			withheld, err := o.Open(m)
			switch {
			case i < next:
				if !errors.Is(err, ErrReplayed) {
					t.Fatalf("message %d again, %d expected: %v", i, next, err)
				}
			case err != nil:
				t.Fatalf("message %d, %d expected: %v", i, next, err)
			default:
				want := uint64(i - next)
				if pending {
					want = 0
				}
				if withheld != want {
					t.Fatalf("message %d, %d expected: %d withheld, want %d", i, next, withheld, want)
				}
				if string(m.Payload) != fmt.Sprint(i) {
					t.Fatalf("message %d opens to %q", i, m.Payload)
				}
				next, pending = i+1, false
			}
		}
	})
}

// TestWithheld: of messages that the server keeps back the next one tells, unless a gap did.
func TestWithheld(t *testing.T) {
	for _, test := range []struct {
		name string
		gap  *client.Gap
		want uint64
	}{
		{"in silence", nil, 2},
		{"told", &client.Gap{Pub: 1, Dtype: 3}, 0},
		{"told of another stream", &client.Gap{Pub: 1, Dtype: 4}, 2},
		{"told of another publisher", &client.Gap{Pub: 2, Dtype: 3}, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			keys := NewKeys(LinkKey{Secret: NewSecret()})
			s, o := keys.Sealer(1, "alice"), keys.Opener(1)
			var all []*client.Message
			for range 5 {
				all = append(all, sealedMessage(t, s, 3, client.Delta, "x"))
			}
			if n, err := o.Open(all[0]); n != 0 || err != nil {
				t.Fatal(n, err)
			}
			if test.gap != nil {
				o.Gap(test.gap)
			}
			if n, err := o.Open(all[3]); n != test.want || err != nil {
				t.Errorf("%d withheld, %v, want %d", n, err, test.want)
			}
			if n, err := o.Open(all[4]); n != 0 || err != nil {
				t.Errorf("then %d withheld, %v", n, err)
			}
		})
	}
}

// TestNonces: no two messages of all sessions, accounts, streams and epochs of a room are sealed with one key and
// nonce. What is random is drawn by the sealers themselves, as after reloads.
func TestNonces(t *testing.T) {
	type use struct {
		salt  [nonceSize]byte // of the key, which is as random
		nonce [nonceSize]byte
	}
	seen := make(map[use]string)
	keys := NewKeys(LinkKey{Secret: NewSecret()})
	for epoch := range uint64(3) {
		for _, account := range []string{"alice", "bob"} {
			for load := range 20 {
				s := keys.Sealer(1, account)
				for i := range 50 {
					dtype := uint8(i % 3)
					m := sealedMessage(t, s, dtype, client.Delta, "the same every time")
					_, ctr, _, _ := parseHeader(m.Payload)
					st := s.streams[dtype]
					is := fmt.Sprint(epoch, account, load, i)
					u := use{st.key.salt, st.key.nonce(ctr)}
					if was, ok := seen[u]; ok {
						t.Fatalf("%s is sealed as %s was", is, was)
					}
					seen[u] = is
				}
			}
		}
		if err := keys.Rotate(LinkKey{NewSecret(), epoch + 1}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRotation removes bob: those who stay go on, under a secret that bob has not, and what alice had on its way when
// the others took it up still opens.
func TestRotation(t *testing.T) {
	const room = client.RoomID(9)
	link := LinkKey{Secret: NewSecret()}
	type person struct {
		*Keys
		*Member
		sealer *Sealer
		opener *Opener
	}
	join := func(account string) person {
		k := NewKeys(link)
		m, err := NewMember()
		if err != nil {
			t.Fatal(err)
		}
		return person{k, m, k.Sealer(room, account), k.Opener(room)}
	}
	owner, alice, bob := join("owner"), join("alice"), join("bob")
	before := sealedMessage(t, alice.sealer, 0, client.Delta, "before")

	next, message, err := owner.Next(room, [][]byte{{4, 1}, alice.Public(), owner.Public()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bob.Member.Open(room, message); !errors.Is(err, ErrRemoved) {
		t.Errorf("the one removed: %v", err)
	}
	if _, err := alice.Member.Open(room+1, message); !errors.Is(err, ErrRekey) {
		t.Errorf("in another room: %v", err)
	}
	taken, err := alice.Member.Open(room, message)
	if err != nil || taken != next {
		t.Fatalf("the one who stays: %v", err)
	}
	for _, p := range []person{owner, alice} {
		if err := p.Rotate(taken); err != nil {
			t.Fatal(err)
		}
		if err := p.Rotate(taken); !errors.Is(err, ErrEpoch) {
			t.Errorf("twice: %v", err)
		}
	}
	after := sealedMessage(t, alice.sealer, 0, client.Delta, "after")
	if _, err := bob.opener.Open(clone(after)); !errors.Is(err, ErrNoKey) {
		t.Errorf("the one removed reads on: %v", err)
	}
	for _, m := range []*client.Message{before, after} {
		if _, err := owner.opener.Open(m); err != nil {
			t.Errorf("the owner: %v", err)
		}
	}
	owner.Forget()
	late := sealedMessage(t, bob.sealer, 0, client.Delta, "from outside")
	if _, err := owner.opener.Open(late); !errors.Is(err, ErrNoKey) {
		t.Errorf("the one removed is heard: %v", err)
	}
	if owner.Epoch() != 1 {
		t.Errorf("the epoch is %d", owner.Epoch())
	}
}

// TestSessionsBounded: an opener follows so many sessions, and forgets those heard of longest ago.
func TestSessionsBounded(t *testing.T) {
	keys := NewKeys(LinkKey{Secret: NewSecret()})
	o := keys.Opener(1)
	first := keys.Sealer(1, "alice")
	for i := range maxSessions + 100 {
		s := first
		if i%100 != 0 { // she is heard of all the time
			s = keys.Sealer(1, "alice")
		}
		if _, err := o.Open(sealedMessage(t, s, 0, client.Delta, "x")); err != nil {
			t.Fatal(i, err)
		}
	}
	if len(o.opened) != maxSessions {
		t.Errorf("%d sessions are followed", len(o.opened))
	}
	again := sealedMessage(t, keys.sealer(1, "alice", first.session), 0, client.Delta, "x")
	if _, err := o.Open(again); !errors.Is(err, ErrReplayed) {
		t.Errorf("a counter that was: %v", err)
	}
}

func TestLinkKey(t *testing.T) {
	good := LinkKey{Secret: Secret{0xff, 0xfe, 1}}
	for _, k := range []LinkKey{good, {good.Secret, 1}, {good.Secret, 1<<32 - 1}} {
		if got, err := ParseLinkKey(k.Text()); err != nil || got != k {
			t.Errorf("%s: %v", k.Text(), err)
		}
	}
	text := good.Text()
	for _, bad := range []string{
		"", text[:42], text + "A", text + ".0", text + ".", text + ".01", text + ".4294967296", text + ".-1", text + ".1_0",
		text[:42] + "B" /* bits that stand for nothing */, text[:42] + "=", strings.Replace(text, "_", "/", 1),
		" " + text[1:], text[:20] + "\n" + text[20:],
	} {
		if _, err := ParseLinkKey(bad); !errors.Is(err, ErrLinkKey) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	said := fmt.Sprintf("%v %+v %#v %s", good, good, good, good.Secret)
	if strings.Contains(said, "255") || strings.Contains(said, "ff") {
		t.Errorf("a key is printed: %s", said)
	}
}
