package node

import (
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
)

// counter is what a Core does, counted.
type counter struct {
	events   int                  // all that it does
	promoted map[codec.RoomID]int // how much had been done when a room was taken over
}

func (n *counter) Promote(st *codec.RoomState) {
	n.events++
	n.promoted[st.Room] = n.events
}
func (n *counter) Demote(codec.RoomID, string)                       { n.events++ }
func (n *counter) Merge(*codec.RoomState)                            { n.events++ }
func (n *counter) SendState(string, *codec.RoomState, uint8, uint32) { n.events++ }
func (n *counter) SendChange(string, *codec.Change)                  { n.events++ }
func (n *counter) Decline(string, uint32)                            { n.events++ }
func (n *counter) Ack(string, uint32)                                { n.events++ }
func (n *counter) Attach(codec.RoomID, string)                       { n.events++ }

// TestReviewOfManyRooms: when a relay dies, the live rooms among very many are taken over after a number of events that
// depends on how many are live, not on how many there are; then the rest, in slices; and a room that somebody asks for
// meanwhile comes when it is asked for.
func TestReviewOfManyRooms(t *testing.T) {
	rooms, live := 1_000_000, 100
	if testing.Short() || raceEnabled {
		rooms = 50_000
	}
	a, b, d := Member{Name: "a", Birth: 1}, Member{Name: "b", Birth: 2}, Member{Name: "d", Birth: 3}
	did := &counter{promoted: make(map[codec.RoomID]int)}
	c := NewCore(a, did)
	c.SetView(NewView([]Member{a, b, d}))
	heirs, lively := 0, 0
	var last codec.RoomID // one that a is to take over, and that is reviewed late
	for i := range rooms {
		id := codec.RoomID(uint64(i)*0x9e3779b97f4a7c15 + 1)
		st := &codec.RoomState{RoomHead: codec.RoomHead{Room: id, Owner: "o", NextPub: 2, Epoch: 1, Relay: "b", Birth: 2, Version: 1}}
		chain := c.Chain(id)
		if chain[0] != "b" {
			continue
		}
		if heir := chain[1] == "a"; heir {
			if heirs++; last == 0 {
				last = id
			} else if lively < live {
				lively++
				st.Publishers = []codec.PublisherState{{Num: 1, Account: "p", Instance: uint64(i)}}
			}
		}
		c.Got("b", st, 0, uint32(i))
	}
	did.events = 0
	begun := time.Now()
	c.Down("b")
	first := time.Since(begun)
	if moved := len(did.promoted); moved < lively || moved > lively+reviewAtOnce {
		t.Errorf("%d rooms are taken over at once; %d are live", moved, lively)
	}
	if most := 3 * (lively + reviewAtOnce); did.events > most {
		t.Errorf("%d events until live rooms have moved, %d at most", did.events, most)
	}
	if !c.Pending() || did.promoted[last] != 0 {
		t.Fatal("nothing is left for later")
	}
	if c.Touch(last); did.promoted[last] == 0 {
		t.Error("a room that is asked for is not taken over")
	}
	var longest time.Duration
	for more := true; more; {
		at := time.Now()
		more = c.Step(256)
		longest = max(longest, time.Since(at))
	}
	if len(did.promoted) != heirs || c.Relayed() != heirs {
		t.Errorf("%d rooms are taken over, %d are relayed, of %d", len(did.promoted), c.Relayed(), heirs)
	}
	t.Logf("%d rooms, %d of them known here, %d to be taken over: the %d live ones after %v, all after %v, slices of %v at most",
		rooms, len(c.rooms), heirs, lively, first, time.Since(begun), longest)
}
