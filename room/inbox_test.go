package room

import (
	"crypto/rand"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
)

// newInboxBench is a bench whose room is alice's inbox, with bob accepted and nobody in it.
func newInboxBench(t *testing.T, policy codec.Policy) *bench {
	t.Helper()
	x := &bench{t: t, pool: &Pool{}, hold: &fakeHolder{}, now: 1e9, broken: make(map[codec.Position]bool)}
	x.table = NewTable(Config{}, rand.Reader, x.pool)
	var err error
	if x.room, err = x.table.NewInbox("alice", x.open(policy, "bob"), nil, x.now); err != nil {
		t.Fatal(err)
	}
	x.loop = &fakeLoop{room: x.room, pool: x.pool, now: x.now}
	t.Cleanup(x.end)
	return x
}

// open is alice's request for her inbox.
func (x *bench) open(policy codec.Policy, accept ...string) *codec.Inbox {
	return &codec.Inbox{Room: codec.InboxOf("alice"), Policy: policy, Accept: accept}
}

// send has an account publish.
func (x *bench) send(account string) error {
	p, _, err := x.room.Publish(x.hold, account, 1, false)
	if err == nil {
		x.pub = p
	}
	return err
}

var alice = Join{Account: "alice", Instance: 7}

func TestInboxAcceptsWhomItsListNames(t *testing.T) {
	x := newInboxBench(t, codec.PolicyLive)
	x.viewer(alice)
	check := func(what string, want map[string]error) {
		t.Helper()
		for account, err := range want {
			if got := x.send(account); !errors.Is(got, err) {
				t.Errorf("%s: %s: %v, want %v", what, account, got, err)
			}
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check("at first", map[string]error{"alice": nil, "bob": nil, "carol": ErrNotAccepted})
	do(x.room.Grant("alice", codec.Everyone))
	do(x.room.Revoke("alice", "dave", x.now))
	check("everybody but dave", map[string]error{"bob": nil, "carol": nil, "dave": ErrNotAccepted})

	// Opening again says nothing of those of whom something is said already.
	again := x.open(codec.PolicyLive, "dave", "erin")
	again.Block = []string{"bob", "frank"}
	do(x.table.Open(x.room, "alice", again, x.now))
	check("opened again", map[string]error{"bob": nil, "dave": ErrNotAccepted, "erin": nil, "frank": ErrNotAccepted})

	do(x.room.Revoke("alice", codec.Everyone, x.now))
	check("those named only", map[string]error{"bob": nil, "erin": nil, "carol": ErrNotAccepted})
	left := 0
	for _, p := range x.room.pubs {
		if p.who.account == "carol" && p.ended == codec.CodeRevoked {
			left++
		}
		if p.who.account == "bob" && p.ended != 0 {
			t.Error("bob was cut off with everybody")
		}
	}
	if left == 0 {
		t.Error("carol sends on")
	}
}

func TestInboxIsNoRoomToStrangers(t *testing.T) {
	x := newInboxBench(t, codec.PolicyLive)
	x.viewer(alice)
	v := x.newViewer()
	for what, err := range map[string]error{
		"subscribe": x.loop.subscribe(v, Join{Account: "bob", Instance: 1}),
		"grant":     x.room.Grant("bob", "mallory"),
		"grant 2":   x.room.Grant("bob", ""), // what is wrong besides must not tell that there is something
		"revoke":    x.room.Revoke("mallory", "bob", x.now),
		"remove":    x.table.Remove(x.room.ID, "bob"),
		"open":      x.table.Open(x.room, "bob", x.open(codec.PolicyLive), x.now),
	} {
		if !errors.Is(err, ErrNotAccepted) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := x.table.Remove(x.room.ID, "alice"); !errors.Is(err, ErrOption) {
		t.Errorf("removed by its owner: %v", err)
	}
	if _, err := x.table.NewInbox("mallory", x.open(codec.PolicyLive), nil, x.now); !errors.Is(err, ErrOption) {
		t.Errorf("made by a stranger: %v", err)
	}
	if n := x.table.Len(); n != 1 {
		t.Errorf("%d rooms", n)
	}
}

// Nobody is there: senders are refused, and those who send are told after half the stall time, before the places of who
// was there are given up. What was on its way has not arrived.
func TestInboxNobodyIsIn(t *testing.T) {
	for _, policy := range []codec.Policy{codec.PolicyLive, codec.PolicyLossless} {
		t.Run(policy.String(), func(t *testing.T) {
			x := newInboxBench(t, policy)
			if err := x.send("bob"); !errors.Is(err, ErrAway) {
				t.Fatalf("nobody is there: %v", err)
			}
			if err := x.send("carol"); !errors.Is(err, ErrNotAccepted) {
				t.Fatalf("a stranger while nobody is there: %v", err)
			}
			v := x.viewer(alice)
			if err := x.send("bob"); err != nil {
				t.Fatal(err)
			}
			x.loop.unsubscribe(v, true)
			x.script(0, "1k", "2")
			x.loop.drain()
			stall := int64(x.table.conf().Stall)
			x.at(x.now + stall/2)
			if len(x.hold.cuts) != 0 {
				t.Fatalf("cut off too soon: %v", x.hold.cuts)
			}
			if err := x.send("bob"); err != nil {
				t.Fatalf("who sends already is refused: %v", err)
			}
			x.at(x.now + int64(time.Second))
			if got := fmt.Sprint(x.hold.cuts); got != fmt.Sprint([]codec.Code{codec.CodeAway}) {
				t.Fatalf("cuts: %v", got)
			}
			x.at(x.now + 2*stall)
			x.pub.Acks(x.hold, func(_ codec.StreamKey, seq uint64) { t.Errorf("acknowledged up to %d", seq) })
			if err := x.send("bob"); !errors.Is(err, ErrAway) {
				t.Errorf("after that: %v", err)
			}
			// Who comes back gets nothing of it, and is told.
			v.reconnect(x.room)
			x.join(v, Join{Account: "alice", Instance: 7, Have: []codec.Position{{StreamKey: x.key(0)}}})
			v.take(1 << 20)
			if v.joined[x.pub.Num] {
				t.Error("the publisher seems to be there")
			}
			for k, s := range v.streams {
				for _, word := range s.script {
					if word == "1k" || word == "2" {
						t.Errorf("stream %v: %v", k, s.script)
					}
				}
			}
			if err := x.send("bob"); err != nil {
				t.Errorf("she is back: %v", err)
			}
		})
	}
}

// The only session is cut off because it stalls: what it has not consumed has not arrived, and who sends is told.
func TestInboxOnlySessionIsCutOff(t *testing.T) {
	x := newInboxBench(t, codec.PolicyLossless)
	v := x.viewer(alice)
	if err := x.send("bob"); err != nil {
		t.Fatal(err)
	}
	x.script(0, "1k", "2")
	x.loop.drain()
	stall := int64(x.table.conf().Stall)
	x.at(x.now + stall + 1)
	if got := fmt.Sprint(v.cuts); got != fmt.Sprint([]codec.Code{codec.CodeTooSlow}) {
		t.Fatalf("cuts: %v", got)
	}
	x.at(x.now + stall)
	if got := fmt.Sprint(x.hold.cuts); got != fmt.Sprint([]codec.Code{codec.CodeAway}) {
		t.Errorf("the sender was told %v", got)
	}
	x.pub.Acks(x.hold, func(_ codec.StreamKey, seq uint64) { t.Errorf("acknowledged up to %d", seq) })
	v.q.Clear()
}

// Who is away for a moment only misses nothing.
func TestInboxSomebodyComesBack(t *testing.T) {
	for _, policy := range []codec.Policy{codec.PolicyLive, codec.PolicyLossless} {
		t.Run(policy.String(), func(t *testing.T) {
			x := newInboxBench(t, policy)
			v := x.viewer(alice)
			if err := x.send("bob"); err != nil {
				t.Fatal(err)
			}
			x.script(0, "1k", "2")
			x.loop.drain()
			v.take(1 << 20)
			x.loop.unsubscribe(v, true)
			x.script(0, "3", "4")
			x.loop.drain()
			told := uint64(0)
			x.pub.Acks(x.hold, func(_ codec.StreamKey, seq uint64) { told = seq })
			if told > 2 {
				t.Errorf("acknowledged up to %d while nobody was there", told)
			}
			have := v.have()
			v.reconnect(x.room)
			x.join(v, Join{Account: "alice", Instance: 7, Have: have})
			if policy == codec.PolicyLossless {
				if err := x.room.Ack(v, x.key(0), 4, x.now); err != nil {
					t.Fatal(err)
				}
			}
			v.take(1 << 20)
			x.pub.Acks(x.hold, func(_ codec.StreamKey, seq uint64) { told = seq })
			if got := fmt.Sprint(v.stream(x.key(0)).script); told != 4 || got != "[1k 2 resumed 3 4]" {
				t.Errorf("acknowledged up to %d; she got %s", told, got)
			}
		})
	}
}

// The node of the only session dies, and the session comes back by another: its place was given up, and still it misses
// nothing.
func TestInboxSomebodyComesBackElsewhere(t *testing.T) {
	for _, policy := range []codec.Policy{codec.PolicyLive, codec.PolicyLossless} {
		t.Run(policy.String(), func(t *testing.T) {
			x := newInboxBench(t, policy)
			v := x.viewer(Join{Link: "n2"})
			x.room.Tally(v, 1, nil, x.now)
			if err := x.send("bob"); err != nil {
				t.Fatal(err)
			}
			x.script(0, "1k", "2")
			x.loop.drain()
			v.take(1 << 20)
			if err := x.room.Ack(v, x.key(0), 2, x.now); err != nil {
				t.Fatal(err)
			}
			x.loop.unsubscribe(v, true)
			x.table.Vacate("n2")
			x.script(0, "3", "4")
			x.loop.drain()
			have := v.have()
			v.reconnect(x.room)
			x.join(v, Join{Link: "n3", Have: have})
			v.take(1 << 20)
			told := uint64(0)
			x.pub.Acks(x.hold, func(_ codec.StreamKey, seq uint64) { told = seq })
			if got := fmt.Sprint(v.stream(x.key(0)).script); told != 2 || got != "[1k 2 resumed 3 4]" {
				t.Errorf("acknowledged up to %d; she got %s", told, got)
			}
		})
	}
}

func TestInboxIsIdleOnlyWhenNobodyIsIn(t *testing.T) {
	x := newInboxBench(t, codec.PolicyLive)
	v := x.viewer(alice)
	idle := int64(x.table.conf().Idle)
	x.at(x.now + 3*idle)
	if x.room.ended != 0 {
		t.Fatalf("ended while somebody was in: %v", x.room.ended)
	}
	x.loop.unsubscribe(v, false)
	x.at(x.now + idle)
	if x.room.ended != 0 {
		t.Fatal("ended before its time")
	}
	x.at(x.now + int64(time.Second))
	if x.room.ended != codec.CodeIdle {
		t.Errorf("ended with %v", x.room.ended)
	}
}

// A link counts as somebody who may be there until it has said how many are.
func TestInboxWithALink(t *testing.T) {
	x := newInboxBench(t, codec.PolicyLive)
	node := x.viewer(Join{Link: "n2"})
	if err := x.send("bob"); err != nil {
		t.Fatalf("a link that has not said anything yet: %v", err)
	}
	x.room.Tally(node, 0, nil, x.now)
	if err := x.send("bob"); err != nil {
		t.Fatalf("who sends already: %v", err)
	}
	if _, _, err := x.room.Publish(&fakeHolder{}, "bob", 2, false); !errors.Is(err, ErrAway) {
		t.Fatalf("nobody is behind the link: %v", err)
	}
	x.room.Tally(node, 2, nil, x.now)
	x.at(x.now + int64(time.Minute))
	if len(x.hold.cuts) != 0 {
		t.Errorf("cut off: %v", x.hold.cuts)
	}
	if n := x.room.Tallied(); n != 2 {
		t.Errorf("%d tallied", n)
	}
	x.loop.drain()
	x.loop.unsubscribe(node, false)
	node.q.Clear()
	if n := x.room.Tallied(); n != 0 {
		t.Errorf("%d tallied after the link has gone", n)
	}
}

func TestInboxOfAnotherPolicy(t *testing.T) {
	x := newInboxBench(t, codec.PolicyLive)
	v := x.viewer(alice)
	if err := x.table.Open(x.room, "alice", x.open(codec.PolicyLossless), x.now); !errors.Is(err, ErrOption) {
		t.Fatalf("somebody is in it: %v", err)
	}
	if err := x.send("bob"); err != nil {
		t.Fatal(err)
	}
	x.loop.unsubscribe(v, false)
	x.table.conf().Clustered = true // where whoever is first in the inbox's chain makes it
	if err := x.table.Open(x.room, "alice", x.open(codec.PolicyLossless), x.now); !errors.Is(err, ErrUnknown) {
		t.Fatalf("nobody is in it: %v", err)
	}
	if got := fmt.Sprint(x.hold.cuts); got != fmt.Sprint([]codec.Code{codec.CodeAway}) {
		t.Errorf("who sent was told %v", got)
	}
	r, err := x.table.NewInbox("alice", x.open(codec.PolicyLossless), x.room.State().Grants, x.now)
	if err != nil {
		t.Fatal(err)
	}
	if !r.takes("bob") || r.takes("carol") {
		t.Error("the list is another one")
	}
	x.table.conf().Clustered = false // a node that is alone makes it anew itself
	if err := x.table.Open(r, "alice", x.open(codec.PolicyLive), x.now); err != nil {
		t.Fatal(err)
	}
	r, err = x.table.Get(r.ID)
	if err != nil || r.Settings().Policy != codec.PolicyLive || !r.takes("bob") || r.takes("carol") {
		t.Error("the list is another one, or the policy")
	}
}

// The list merges as grants do, whoever relays the inbox.
func TestInboxListMerges(t *testing.T) {
	x := newInboxBench(t, codec.PolicyLive)
	x.viewer(alice)
	for _, account := range []string{codec.Everyone, "carol"} {
		if err := x.room.Grant("alice", account); err != nil {
			t.Fatal(err)
		}
	}
	st := x.room.State()
	other := NewTable(Config{}, rand.Reader, x.pool)
	r, err := other.Restore(st, x.now)
	if err != nil {
		t.Fatal(err)
	}
	defer other.EndAll(codec.CodeRemoved)
	if !r.IsInbox() || !r.takes("dave") || !r.takes("carol") {
		t.Error("the new relay takes others")
	}
	if err := r.Revoke("alice", codec.Everyone, x.now); err != nil {
		t.Fatal(err)
	}
	h := &fakeHolder{}
	if _, _, err := x.room.Publish(h, "dave", 3, false); err != nil {
		t.Fatal(err)
	}
	x.room.Merge(r.State(), x.now)
	if got := fmt.Sprint(h.cuts); got != fmt.Sprint([]codec.Code{codec.CodeRevoked}) {
		t.Errorf("dave was told %v", got)
	}
	if err := x.send("carol"); err != nil {
		t.Errorf("carol: %v", err)
	}
}

func TestInboxesAreRoomsOfTheirOwners(t *testing.T) {
	table := NewTable(Config{MaxRoomsPerAccount: 1, MaxGrants: 2}, rand.Reader, &Pool{})
	defer table.EndAll(codec.CodeRemoved)
	inbox := codec.InboxOf("alice")
	if _, err := table.NewInbox("alice", &codec.Inbox{Room: inbox, Policy: 9}, nil, 0); !errors.Is(err, ErrOption) {
		t.Errorf("unknown policy: %v", err)
	}
	m := &codec.Inbox{Room: inbox, Accept: []string{"a", "b", "c"}}
	if _, err := table.NewInbox("alice", m, nil, 0); !errors.Is(err, ErrManyGrants) {
		t.Errorf("too many names: %v", err)
	}
	m = &codec.Inbox{Room: inbox, Accept: []string{""}}
	if _, err := table.NewInbox("alice", m, nil, 0); !errors.Is(err, ErrAccount) {
		t.Errorf("no name: %v", err)
	}
	if _, err := table.NewInbox("alice", &codec.Inbox{Room: inbox}, nil, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := table.Register("alice", &codec.Register{}, 0); !errors.Is(err, ErrRooms) {
		t.Errorf("a second room: %v", err)
	}
	if _, err := table.NewInbox("alice", &codec.Inbox{Room: inbox}, nil, 0); err == nil {
		t.Error("made twice")
	}
	if table.Len() != 1 {
		t.Errorf("%d rooms", table.Len())
	}
}

// An inbox that nobody was in when its node ceased to be the relay is a mirror as any other: what comes to it has
// arrived there, or it would hold up the recipient's sessions on other nodes for ever.
func TestVacantInboxBecomesAMirror(t *testing.T) {
	x := newInboxBench(t, codec.PolicyLossless)
	v := x.viewer(alice)
	if err := x.send("bob"); err != nil {
		t.Fatal(err)
	}
	x.script(1, "1")
	x.loop.drain()
	v.take(1 << 30)
	x.ack(v, 1)
	x.loop.unsubscribe(v, false)
	x.room.Demote(x.now)
	p, err := x.room.Told(0, x.hold, x.pub.Num, "bob", codec.Life{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	x.pub = p
	x.script(1, "2")
	x.loop.drain()
	x.wantAcked(2)
}

// What the last session had when it left has arrived, also where its acknowledgement, or that of a node that nobody is
// behind, comes later; what comes afterwards has not.
func TestInboxIsLeftWithWhatHadArrived(t *testing.T) {
	acked := func(x *bench) (seq uint64) {
		x.pub.Acks(x.hold, func(_ codec.StreamKey, to uint64) { seq = max(seq, to) })
		return seq
	}
	for _, policy := range []codec.Policy{codec.PolicyLive, codec.PolicyLossless} {
		for _, where := range []string{"here", "elsewhere"} {
			t.Run(policy.String()+" "+where, func(t *testing.T) {
				x := newInboxBench(t, policy)
				idle := x.viewer(Join{Link: "n2"}) // mirrors it for nobody
				join := alice
				if where == "elsewhere" {
					join = Join{Link: "n3"}
				}
				v := x.viewer(join)
				x.room.Tally(idle, 0, nil, x.now)
				x.room.Tally(v, 1, nil, x.now)
				if err := x.send("bob"); err != nil {
					t.Fatal(err)
				}
				x.script(0, "1", "2", "3")
				x.loop.drain()
				v.take(1 << 20)
				ack := func(v *viewer, seq uint64) {
					t.Helper()
					if err := x.room.Ack(v, x.key(0), seq, x.now); err != nil {
						t.Fatal(err)
					}
				}
				want := uint64(2)
				if where == "elsewhere" {
					ack(v, 2)
					x.room.Tally(v, 0, nil, x.now)
					ack(v, 3) // of a node that nobody is behind any more
				} else {
					if policy == codec.PolicyLossless {
						ack(v, 2)
					} else {
						want = 3 // who reads a live inbox acknowledges nothing
					}
					x.loop.unsubscribe(v, false)
				}
				if got := acked(x); got != 0 {
					t.Errorf("acknowledged up to %d before the other node has it", got)
				}
				ack(idle, 3)
				if got := acked(x); got != want {
					t.Errorf("acknowledged up to %d, want %d", got, want)
				}
				x.script(0, "4")
				x.loop.drain()
				ack(idle, 4)
				if got := acked(x); got > want {
					t.Errorf("what nobody was there for is acknowledged up to %d", got)
				}
			})
		}
	}
}
