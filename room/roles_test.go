package room

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
)

// A publisher that has left is forgotten after the linger time also if its room has moved meanwhile; one that is there
// stays as long as the relay does not say that it left.
func TestDemotedRoomForgetsWhoLeft(t *testing.T) {
	x := newBench(t, Config{}, codec.Register{})
	x.script(1, "1", "2")
	if err := x.pub.Unpublish(x.hold, x.now); err != nil {
		t.Fatal(err)
	}
	x.republish()
	there := x.pub.Num
	x.room.Demote(x.now)
	x.at(x.now + 11e9)
	if pubs := x.room.pubs; len(pubs) != 1 || pubs[0].Num != there {
		t.Errorf("the mirror has %d publishers", len(pubs))
	}
	if n := x.table.CacheBytes(); n != 0 {
		t.Errorf("%d bytes are kept of who has left", n)
	}
}

// A mirror does not end by itself, however long it is idle, and counts for nobody.
func TestDemotedRoomLives(t *testing.T) {
	x := newBench(t, Config{MaxRoomsPerAccount: 1}, codec.Register{ExpireMillis: 1000})
	x.room.Demote(x.now)
	x.at(x.now + 3600e9)
	if r, err := x.table.Get(x.room.ID); r != x.room || err != nil || x.table.Len() != 0 {
		t.Fatal(r, err, x.table.Len())
	}
	other, err := x.table.Register("owner", &codec.Register{}, x.now)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.table.Remove(other.ID, "owner"); err != nil || x.table.Len() != 0 {
		t.Fatal(err, x.table.Len())
	}
	if err := x.table.Remove(x.room.ID, "owner"); err != ErrNotRelay {
		t.Fatal(err)
	}
}

// An ended room takes nothing with it that came after it.
func TestRoomEndsBesideItsSuccessor(t *testing.T) {
	x := newBench(t, Config{MaxRoomsPerAccount: 1}, codec.Register{Policy: codec.PolicyLossless})
	st := x.room.State()
	old := x.room
	old.mu.Lock()
	old.end(codec.CodeRemoved) // ended, and not forgotten yet
	old.mu.Unlock()
	r, err := x.table.Restore(st, x.now)
	if err != nil || r == old {
		t.Fatal(r, err)
	}
	x.table.ended(old, codec.CodeRemoved)
	if got, err := x.table.Get(r.ID); got != r || err != nil {
		t.Fatal("the successor is gone", got, err)
	}
	if _, err := x.table.Register("owner", &codec.Register{}, x.now); err == nil {
		t.Fatal("the successor does not count")
	}
	if n := len(x.table.watched()); n != 1 {
		t.Errorf("%d rooms are watched", n)
	}
	x.table.End(r, codec.CodeRemoved)
	if n := len(x.table.watched()); x.table.Len() != 0 || n != 0 {
		t.Errorf("%d rooms, %d watched", x.table.Len(), n)
	}
}

// whoHolds lists the publishers of a room that have not left.
func whoHolds(r *Room) string {
	var s []string
	for _, p := range r.State().Publishers {
		s = append(s, fmt.Sprint(p.Num, " ", p.Account, "/", p.Instance))
	}
	slices.Sort(s)
	return strings.Join(s, ", ")
}

// At a takeover the state says who publishes, at a merge who publishes here; numbers of those who left are free to
// both.
func TestPublishersOfAState(t *testing.T) {
	was := newBench(t, Config{}, codec.Register{})
	x, told := mirrorOf(t, was)
	told(20, "carol")
	told(21, "carol")
	told(22, "dave")
	x.room.ToldLeft(0, 22, codec.CodeLeft, x.now)
	v := x.viewer(Join{Account: "v"})
	st := was.room.State()
	st.Publishers = append(st.Publishers, codec.PublisherState{Num: 20, Account: "erin", Instance: 2},
		codec.PublisherState{Num: 22, Account: "dave", Instance: 3})
	r, err := x.table.Restore(st, x.now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.table.Mirror(&st.RoomHead, x.now); !errors.Is(err, ErrRelayed) || errors.Is(err, ErrNotRelay) {
		t.Errorf("mirror of a room that is here: %v", err)
	}
	if got, want := whoHolds(r), "1 owner/1, 20 erin/2, 22 dave/3"; got != want {
		t.Errorf("taken over: %s, want %s", got, want)
	}
	if len(r.pubs) != 4 { // 21 has just left
		t.Errorf("%d publishers in all", len(r.pubs))
	}
	st = r.State()
	st.Publishers = []codec.PublisherState{{Num: 20, Account: "frank", Instance: 4},
		{Num: 30, Account: "erin", Instance: 2},
		{Num: 21, Account: "gina", Instance: 5}, {Num: 31, Account: "hank", Instance: 6}}
	r.Merge(st, x.now)
	if got, want := whoHolds(r), "1 owner/1, 20 erin/2, 21 gina/5, 22 dave/3, 31 hank/6"; got != want {
		t.Errorf("merged: %s, want %s", got, want)
	}
	x.loop.drain()
	v.take(1 << 30)
	for num, there := range map[uint16]bool{1: true, 20: true, 21: true, 22: true, 31: true} {
		if v.joined[num] != there {
			t.Errorf("a subscriber thinks of publisher %d: %v", num, v.joined[num])
		}
	}
	x.at(x.now + 11e9) // nobody of them came
	if got := whoHolds(r); got != "" {
		t.Errorf("for ever: %s", got)
	}
	v.take(1 << 30)
}

// A publisher that left is another when it is told of again: subscribers have forgotten its streams.
func TestToldAgainAfterLeft(t *testing.T) {
	x, told := mirrorOf(t, newBench(t, Config{}, codec.Register{}))
	v := x.viewer(Join{Account: "v"})
	x.script(1, "1", "2")
	x.wantScript(v, 1, "1 2")
	x.room.ToldLeft(0, x.pub.Num, codec.CodeGone, x.now)
	x.pub = told(x.pub.Num, "owner")
	x.loop.drain()
	v.take(1 << 30)
	v.streams = make(map[codec.StreamKey]*viewed)
	x.script(1, "1", "2", "3")
	x.wantScript(v, 1, "1 2 3")
	if len(v.lefts) != 1 || !v.joined[x.pub.Num] || len(x.room.pubs) != 1 {
		t.Error(v.lefts, v.joined, len(x.room.pubs))
	}
	x.pub = told(x.pub.Num, "owner") // the link has come back: nothing new
	x.script(1, "3", "4")
	x.wantScript(v, 1, "1 2 3 4")
}

// A log that keeps everything while a room settles does so within the bound on caches.
func TestSettlingLogIsBounded(t *testing.T) {
	const bound = 20_000
	for _, policy := range []codec.Policy{codec.PolicyLive, codec.PolicyLatest, codec.PolicyLossless} {
		x := restored(t, Config{CacheRoom: bound}, codec.Register{Policy: policy}, nil)
		v := x.viewer(Join{Account: "v"})
		for seq := uint64(1); seq <= 200; seq++ {
			x.push(x.message(nil, 1, seq, 0, 1, 1000))
			if seq == 5 && x.table.CacheBytes() < 5000 {
				t.Errorf("policy %v: %d bytes are kept while the room settles", policy, x.table.CacheBytes())
			}
			x.loop.drain()
			x.ack(v, seq)
		}
		if n := x.table.CacheBytes(); n > bound+3000 {
			t.Errorf("policy %v: %d bytes cached", policy, n)
		}
		v.take(1 << 30)
		x.at(x.now + 3e9)
		x.script(1, "201")
		x.loop.drain()
		x.ack(v, 201)
		if n := x.table.CacheBytes(); policy == codec.PolicyLossless && n != 0 {
			t.Errorf("policy %v: %d bytes cached of a settled room", policy, n)
		}
	}
}

// Grants merge as the states of the nodes do: account by account the higher version, of two alike the revocation.
func TestGrantsMerge(t *testing.T) {
	x := newBench(t, Config{MaxGrants: 2}, codec.Register{})
	for _, account := range []string{"zoe", "bob"} {
		if err := x.room.Grant("owner", account); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.room.Grant("owner", "third"); err == nil {
		t.Error("more grants than a room may have")
	}
	bob := &fakeHolder{}
	if _, _, err := x.room.Publish(bob, "bob", 2, false); err != nil {
		t.Fatal(err)
	}
	st := x.room.State()
	st.Publishers = nil
	st.Grants = []codec.GrantState{{Account: "al", Version: 1, Granted: true}, {Account: "bob", Version: 2},
		{Account: "ed", Version: 7}, {Account: "zoe", Version: 0}}
	x.room.Merge(st, x.now)
	want := "[{al 1 true} {bob 2 false} {ed 7 false} {zoe 1 true}]"
	if got := fmt.Sprint(x.room.State().Grants); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if fmt.Sprint(bob.cuts) != fmt.Sprint([]codec.Code{codec.CodeRevoked}) || whoHolds(x.room) != "1 owner/1" {
		t.Error("bob goes on", bob.cuts, whoHolds(x.room))
	}
	if err := x.room.Grant("owner", "al"); err != nil { // known, though the list is full
		t.Error(err)
	}
	if g := x.room.grants["al"]; g.version != 8 || x.room.granted != 2 {
		t.Errorf("granted again: %v; %d grants", g, x.room.granted)
	}
}

// A new relay gives no number that the old one gave.
func TestNumbersAfterATakeover(t *testing.T) {
	was := newBench(t, Config{}, codec.Register{})
	for birth := range uint64(50) {
		st := was.room.State()
		if st.NextPub != 2 {
			t.Fatalf("the lowest number never given is 2, not %d", st.NextPub)
		}
		st.Epoch, st.Birth = 2, birth
		x := otherNode(t, was)
		r, err := x.table.Restore(st, x.now)
		if err != nil {
			t.Fatal(err)
		}
		x.room, x.loop = r, &fakeLoop{room: r, pool: x.pool, now: x.now}
		p, _, err := r.Publish(x.hold, "owner", 2, false)
		if err != nil || p.Num < 2 || p.Num >= 2+maxJump {
			t.Fatalf("number %d, %v", p.Num, err)
		}
	}
}

// Who still pushes into a room that has moved is told that, not that it is superseded.
func TestPushIntoARoomThatMoved(t *testing.T) {
	x := newBench(t, Config{}, codec.Register{})
	x.script(1, "1")
	x.room.Demote(x.now)
	if fmt.Sprint(x.hold.cuts) != fmt.Sprint([]codec.Code{codec.CodeMoved}) {
		t.Error(x.hold.cuts)
	}
	if err := x.tryPush(x.message(nil, 1, 2, 0, 1, 8)); !errors.Is(err, ErrNotRelay) {
		t.Errorf("push: %v", err)
	}
	if err := x.pub.PushGap(x.hold, codec.Gap{StreamKey: x.key(1), From: 2, To: 2}, x.now); !errors.Is(err, ErrNotRelay) {
		t.Errorf("gap: %v", err)
	}
	if err := x.pub.Unpublish(x.hold, x.now); !errors.Is(err, ErrNotRelay) {
		t.Errorf("unpublish: %v", err)
	}
	if whoHolds(x.room) != "1 owner/1" {
		t.Error(whoHolds(x.room))
	}
	if !x.table.Forget(x.room) { // nobody subscribes here
		t.Fatal("the room is not forgotten")
	}
	if err := x.tryPush(x.message(nil, 1, 2, 0, 1, 8)); !errors.Is(err, ErrNotRelay) {
		t.Errorf("push, when it is forgotten: %v", err)
	}
}

// What a mirror says it has counts as acknowledged: it says no more than has arrived with those behind it.
func TestPositionsCountThoseBehind(t *testing.T) {
	x, _ := mirrorOf(t, newBench(t, Config{}, codec.Register{}))
	wantHave := func(seq uint64) {
		t.Helper()
		have, _ := x.room.Positions()
		if len(have) != 1 || have[0].Last != seq {
			t.Fatalf("it says that it has %v, of stream 1 frame %d has arrived", have, seq)
		}
	}
	x.script(1, "1", "2")
	x.loop.drain()
	wantHave(2)
	behind := x.viewer(Join{Link: "behind"})
	x.script(1, "3", "4")
	x.loop.drain()
	wantHave(2)
	x.ack(behind, 3)
	wantHave(3)
	x.at(x.now + int64(time.Second) + 1) // it lags, and is not waited for
	wantHave(4)
	x.ack(behind, 4)
	x.script(1, "5")
	x.loop.unsubscribe(behind, false)
	x.loop.drain()
	wantHave(5)
	behind.q.Clear()
}
