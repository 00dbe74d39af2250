package carry

import (
	"fmt"
	"slices"
	"testing"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/node"
	"github.com/timedge/timedge/room"
)

// seats is an outlet that takes nothing, seat a member of it.
type seats struct{}

func (seats) Post(b *room.Batch) { b.Release() }

type seat struct{}

func (*seat) Admit(*room.Replay) {}
func (*seat) Cut(codec.Code)     {}
func (*seat) Elsewhere([]uint64) {}
func (*seat) Acted(room.Outcome) {}

// A session in its account's inbox is answered when the inbox's relay knows that somebody may be there, also where a
// mirror is that an earlier session has left: who is told then that messages may be sent is not refused elsewhere.
func TestRelayKnowsOfWhoIsInAnInbox(t *testing.T) {
	d := newDesk(t)
	d.view(node.Level, "b")
	up := d.link(1, "b", 0, true)
	account := "alice"
	for i := 0; d.n.Core().Chain(codec.InboxOf(account))[0] != "b"; i++ {
		account = fmt.Sprint("alice", i)
	}
	id, settings := codec.InboxOf(account), codec.RoomSettings{MaxSubs: 10}
	enter := func(s SessionID, account string) {
		d.said = nil
		d.n.Ask(Ask{Session: s, Account: account, Req: uint32(s), At: d.now, M: &codec.Subscribe{Room: id}}, d.now)
		d.settle()
	}
	mirrored := func() {
		t.Helper()
		m := take[*codec.Mirror](up)
		if len(m) != 1 {
			t.Fatalf("the relay is asked %d times for the inbox", len(m))
		}
		if len(d.said) > 0 {
			t.Fatalf("%q before the relay knows", d.said)
		}
		head := codec.RoomHead{Room: id, Owner: account, Epoch: 1, Relay: "b", Birth: 2, RoomSettings: settings}
		up.hear(&codec.Mirrored{Req: m[0].Req, RoomHead: head})
		up.hear(&codec.OK{Req: m[0].Req})
	}
	here := func(s SessionID) {
		t.Helper()
		if len(d.said) != 1 || d.said[0] != fmt.Sprintf("%d: here", s) {
			t.Fatalf("answered %q", d.said)
		}
	}
	told := func(want ...uint64) {
		t.Helper()
		var got []uint64
		for _, m := range take[*codec.Tally](up) {
			got = append(got, m.Subscribers)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("the relay is told %v, want %v", got, want)
		}
	}
	sit := func() *room.Room {
		t.Helper()
		r, err := d.rooms.Get(id)
		if err == nil {
			err = r.Subscribe(seats{}, room.Join{Member: new(seat), Account: account}, d.now)
		}
		if err != nil {
			t.Fatal(err)
		}
		d.n.Seated(id, d.now)
		d.settle()
		return r
	}

	enter(10, account)
	mirrored()
	here(10)
	told() // nothing, as long as it is on the way to its seat: the relay takes it that it may be there
	r := sit()
	told(1)

	enter(11, account) // while another is there
	here(11)
	d.n.Seated(id, d.now) // and is gone at once
	d.settle()
	told()

	r.Unsubscribe(seats{}, nil, false, true, false, d.now)
	d.pass(upkeepEvery)
	told(1, 0)
	enter(12, account)
	mirrored()
	here(12)
	told()
	sit()
	told(1)

	enter(13, "mallory")
	if len(d.said) != 1 || d.said[0] != "13: room_unknown" {
		t.Errorf("a stranger is answered %q", d.said)
	}
	told()
}
