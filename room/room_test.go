package room

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/timedge/timedge/codec"
)

func TestRegister(t *testing.T) {
	for _, c := range []struct {
		name string
		reg  codec.Register
		want error
	}{
		{"defaults", codec.Register{}, nil},
		{"all set", codec.Register{Policy: codec.PolicyLossless, IdleMillis: 1000, ExpireMillis: 1, QueueBytes: 64 << 10,
			QueueMillis: 10, MaxSubs: 1}, nil},
		{"largest", codec.Register{IdleMillis: 24 * 3600 * 1000, ExpireMillis: ^uint64(0), QueueBytes: 64 << 20,
			QueueMillis: 60_000, MaxSubs: 1 << 20}, nil},
		{"unknown policy", codec.Register{Policy: 4}, ErrOption},
		{"idle too short", codec.Register{IdleMillis: 999}, ErrOption},
		{"idle too long", codec.Register{IdleMillis: 24*3600*1000 + 1}, ErrOption},
		{"idle far too long", codec.Register{IdleMillis: ^uint64(0)}, ErrOption},
		{"queue too small", codec.Register{QueueBytes: 64<<10 - 1}, ErrOption},
		{"queue too large", codec.Register{QueueBytes: 64<<20 + 1}, ErrOption},
		{"queue far too large", codec.Register{QueueBytes: ^uint64(0)}, ErrOption},
		{"age too short", codec.Register{QueueMillis: 9}, ErrOption},
		{"age too long", codec.Register{QueueMillis: ^uint64(0)}, ErrOption},
		{"too many subscribers", codec.Register{MaxSubs: 1<<20 + 1}, ErrOption},
	} {
		t.Run(c.name, func(t *testing.T) {
			var pool Pool
			// one number, which is none: a second draw fails
			table := NewTable(Config{}, bytes.NewReader(make([]byte, 8)), &pool)
			_, err := table.Register("o", &c.reg, 0)
			if c.want == nil && err != nil && !errors.As(err, new(*Error)) {
				err = nil
			}
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if table.Len() != 0 {
				t.Errorf("%d rooms after a refusal", table.Len())
			}
		})
	}
}

func TestRegisterDrawsUntilANumberIsFree(t *testing.T) {
	var draws []byte
	for _, n := range []uint64{5, 5, 0, 5, 6} {
		draws = binary.BigEndian.AppendUint64(draws, n)
	}
	var pool Pool
	table := NewTable(Config{}, bytes.NewReader(draws), &pool)
	for _, want := range []codec.RoomID{5, 6} {
		r, err := table.Register("o", &codec.Register{}, 0)
		if err != nil || r.ID != want {
			t.Fatalf("room %v, %v; want %v", r, err, want)
		}
		if got, err := table.Get(want); got != r || err != nil {
			t.Fatal(err)
		}
	}
	if _, err := table.Register("o", &codec.Register{}, 0); err == nil {
		t.Fatal("a number out of nothing")
	}
	if table.Len() != 2 {
		t.Fatalf("%d rooms, want 2", table.Len())
	}
}

func TestRoomLimits(t *testing.T) {
	x := newBench(t, Config{MaxRooms: 3, MaxRoomsPerAccount: 2}, codec.Register{})
	register := func(owner string) error {
		_, err := x.table.Register(owner, &codec.Register{}, 0)
		return err
	}
	if err := register("owner"); err != nil {
		t.Fatal(err)
	}
	if err := register("owner"); !errors.Is(err, ErrRooms) {
		t.Fatalf("third room of two: %v", err)
	}
	if err := register("b"); err != nil {
		t.Fatal(err)
	}
	if err := register("c"); !errors.Is(err, ErrRooms) {
		t.Fatalf("fourth room of three: %v", err)
	}
	if err := x.table.Remove(x.room.ID, "owner"); err != nil {
		t.Fatal(err)
	}
	if err := register("owner"); err != nil {
		t.Fatalf("a removed room still counts: %v", err)
	}
}

func TestOwnersOperations(t *testing.T) {
	long := strings.Repeat("x", codec.MaxAccount+1)
	for _, c := range []struct {
		name string
		do   func(x *bench) error
		want error
	}{
		{"remove", func(x *bench) error { return x.table.Remove(x.room.ID, "owner") }, nil},
		{"remove by a stranger", func(x *bench) error { return x.table.Remove(x.room.ID, "eve") }, ErrNotOwner},
		{"remove of no room", func(x *bench) error { return x.table.Remove(x.room.ID+1, "owner") }, ErrUnknown},
		{"remove of no number", func(x *bench) error { return x.table.Remove(0, "owner") }, ErrMalformed},
		{"grant", func(x *bench) error { return x.room.Grant("owner", "bob") }, nil},
		{"grant by a stranger", func(x *bench) error { return x.room.Grant("eve", "eve") }, ErrNotOwner},
		{"grant by one granted", func(x *bench) error {
			_ = x.room.Grant("owner", "bob")
			return x.room.Grant("bob", "eve")
		}, ErrNotOwner},
		{"grant to nobody", func(x *bench) error { return x.room.Grant("owner", "") }, ErrAccount},
		{"grant to a name too long", func(x *bench) error { return x.room.Grant("owner", long) }, ErrAccount},
		{"grant again", func(x *bench) error {
			_ = x.room.Grant("owner", "a")
			_ = x.room.Grant("owner", "b")
			return x.room.Grant("owner", "a")
		}, nil},
		{"too many grants", func(x *bench) error {
			_ = x.room.Grant("owner", "a")
			_ = x.room.Grant("owner", "b")
			return x.room.Grant("owner", "c")
		}, ErrManyGrants},
		{"revoke", func(x *bench) error { return x.room.Revoke("owner", "bob", 0) }, nil},
		{"revoke by a stranger", func(x *bench) error { return x.room.Revoke("eve", "bob", 0) }, ErrNotOwner},
		{"revoke of the owner", func(x *bench) error { return x.room.Revoke("owner", "owner", 0) }, ErrOption},
		{"revoke of nobody", func(x *bench) error { return x.room.Revoke("owner", "", 0) }, ErrAccount},
		{"grant in a room that ended", func(x *bench) error {
			x.table.EndAll(codec.CodeRemoved)
			return x.room.Grant("owner", "bob")
		}, ErrUnknown},
		{"revoke in a room that ended", func(x *bench) error {
			x.table.EndAll(codec.CodeRemoved)
			return x.room.Revoke("owner", "bob", 0)
		}, ErrUnknown},
		{"publish in a room that ended", func(x *bench) error {
			x.table.EndAll(codec.CodeRemoved)
			_, _, err := x.room.Publish(x.hold, "owner", 1, false)
			return err
		}, ErrUnknown},
		{"publish by a stranger", func(x *bench) error {
			_, _, err := x.room.Publish(&fakeHolder{}, "eve", 1, false)
			return err
		}, ErrNotGranted},
		{"publish after a grant", func(x *bench) error {
			_ = x.room.Grant("owner", "bob")
			_, _, err := x.room.Publish(&fakeHolder{}, "bob", 1, false)
			return err
		}, nil},
		{"publish after a revoke", func(x *bench) error {
			_ = x.room.Grant("owner", "bob")
			_ = x.room.Revoke("owner", "bob", 0)
			_, _, err := x.room.Publish(&fakeHolder{}, "bob", 1, false)
			return err
		}, ErrNotGranted},
		{"too many publishers", func(x *bench) error {
			_, _, _ = x.room.Publish(&fakeHolder{}, "owner", 2, false)
			_, _, err := x.room.Publish(&fakeHolder{}, "owner", 3, false)
			return err
		}, ErrPublishers},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newBench(t, Config{MaxPublishers: 2, MaxGrants: 2}, codec.Register{})
			if err := c.do(x); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestRoomsEnd(t *testing.T) {
	for _, c := range []struct {
		name string
		reg  codec.Register
		do   func(x *bench)
		want codec.Code
	}{
		{"removed", codec.Register{}, func(x *bench) { _ = x.table.Remove(x.room.ID, "owner"); x.loop.drain() },
			codec.CodeRemoved},
		{"idle", codec.Register{IdleMillis: 2000}, func(x *bench) { x.at(x.now + 2e9 + 1) }, codec.CodeIdle},
		{"not idle yet", codec.Register{IdleMillis: 2000}, func(x *bench) { x.at(x.now + 2e9) }, 0},
		{"a push keeps it", codec.Register{IdleMillis: 2000}, func(x *bench) {
			x.at(x.now + 1e9)
			x.script(1, "2")
			x.at(x.now + 2e9)
		}, 0},
		{"a refused push does not", codec.Register{IdleMillis: 2000}, func(x *bench) {
			x.at(x.now + 1e9)
			_ = x.tryPush(x.message(nil, 1, 9, 0, 1, 8))
			x.at(x.now + 2e9)
		}, codec.CodeIdle},
		{"occupied", codec.Register{IdleMillis: 2000, Keep: codec.Keep{Occupied: true}},
			func(x *bench) { x.at(x.now + 9e9) }, 0},
		{"occupied, and expired", codec.Register{ExpireMillis: 3000, Keep: codec.Keep{Occupied: true}},
			func(x *bench) { x.at(x.now + 3e9 + 1) }, codec.CodeExpired},
		{"expired", codec.Register{ExpireMillis: 3000}, func(x *bench) { x.at(x.now + 3e9 + 1) }, codec.CodeExpired},
		{"not expired yet", codec.Register{ExpireMillis: 3000}, func(x *bench) { x.at(x.now + 3e9) }, 0},
		{"going away", codec.Register{}, func(x *bench) { x.table.EndAll(codec.CodeGoingAway); x.loop.drain() },
			codec.CodeGoingAway},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newBench(t, Config{}, c.reg)
			x.script(1, "1k")
			v := x.viewer(Join{})
			c.do(x)
			v.take(1 << 30)
			if v.closed != c.want {
				t.Fatalf("closed with %v, want %v", v.closed, c.want)
			}
			_, err := x.table.Get(x.room.ID)
			if known := err == nil; known != (c.want == 0) {
				t.Fatalf("the room is known: %v", known)
			}
			if c.want != 0 && fmt.Sprint(x.hold.cuts) != fmt.Sprint([]codec.Code{c.want}) {
				t.Fatalf("the publisher is told %v", x.hold.cuts)
			}
			if s := v.stream(x.key(1)).script; s[0] != "1k" {
				t.Fatalf("what came before was not delivered: %v", s)
			}
		})
	}
}

func TestCountsAreCoalesced(t *testing.T) {
	x := newBench(t, Config{}, codec.Register{})
	x.at(x.now)
	h := &fakeHolder{}
	p, _, err := x.room.Publish(h, "owner", 2, true)
	if err != nil {
		t.Fatal(err)
	}
	v := x.viewer(Join{Counts: true})
	quiet := x.viewer(Join{})
	for range 5 {
		passer := x.viewer(Join{})
		x.loop.unsubscribe(passer, false)
		passer.q.Clear()
	}
	x.at(x.now)
	x.at(x.now)
	v.take(1 << 30)
	quiet.take(1 << 30)
	want := fmt.Sprint([]codec.Count{{Room: x.room.ID, Subscribers: 2, Publishers: 2}})
	if got := fmt.Sprint(v.told); got != want {
		t.Errorf("subscriber is told %s, want %s", got, want)
	}
	if got := fmt.Sprint(h.counts); got != want {
		t.Errorf("publisher is told %s, want %s", got, want)
	}
	if len(quiet.told) != 0 || len(x.hold.counts) != 0 {
		t.Error("those who did not ask are told")
	}
	p.Detach(h, x.now)
	x.loop.unsubscribe(v, false)
	if x.room.watchers != 0 {
		t.Errorf("%d watchers left", x.room.watchers)
	}
}

func TestInfo(t *testing.T) {
	x := newBench(t, Config{}, codec.Register{Policy: codec.PolicyLatest})
	x.viewer(Join{})
	x.script(1, "1", "2")
	got := x.room.Info(x.now + 5e6)
	want := codec.Info{Room: x.room.ID, Policy: codec.PolicyLatest, Owner: "owner", Subscribers: 1, Publishers: 1,
		Frames: 2, Bytes: 240, AgeMillis: 5, IdleMillis: 5}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if early := x.room.Info(0); early.AgeMillis != 0 || early.IdleMillis != 0 {
		t.Errorf("a clock that runs behind makes %+v", early)
	}
}

func TestErrors(t *testing.T) {
	err := error(ErrOption.With("too much"))
	if !errors.Is(err, ErrOption) || errors.Is(err, ErrFull) || err.Error() != "room: too much" {
		t.Error(err)
	}
}

// A room that its subscribers keep ends when they have been gone for the idle time, also those that another node had.
func TestOccupiedEnds(t *testing.T) {
	reg := codec.Register{IdleMillis: 2000, Keep: codec.Keep{Occupied: true}}
	for _, c := range []struct {
		name string
		come func(x *bench) (leave func())
	}{
		{"never there", func(*bench) func() { return func() {} }},
		{"here", func(x *bench) func() {
			v := x.viewer(Join{})
			return func() { x.loop.unsubscribe(v, false); v.q.Clear() }
		}},
		{"at another node", func(x *bench) func() {
			link := x.viewer(Join{Link: "n2"})
			x.room.Tally(link, 3, nil, x.now)
			return func() { x.room.Tally(link, 0, nil, x.now) }
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newBench(t, Config{}, reg)
			alive := func(want bool) {
				t.Helper()
				if _, err := x.table.Get(x.room.ID); (err == nil) != want {
					t.Fatalf("the room is there: %v", err == nil)
				}
			}
			leave := c.come(x)
			if c.name != "never there" {
				x.at(x.now + 9e9)
				alive(true)
			}
			leave()
			x.at(x.now + 2e9)
			alive(true)
			x.at(x.now + 1)
			alive(false)
			for _, m := range x.loop.members {
				m.take(1 << 30)
			}
		})
	}
}
