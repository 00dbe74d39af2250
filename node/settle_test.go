package node

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/timedge/timedge/codec"
)

// sends is what a core sends, and nothing else of what it does.
type sends map[string]uint32 // the epoch last sent, by node

func (s sends) SendState(to string, st *codec.RoomState, _ uint8, _ uint32) { s[to] = st.Epoch }
func (sends) Promote(*codec.RoomState)                                      {}
func (sends) Demote(codec.RoomID, string)                                   {}
func (sends) Merge(*codec.RoomState)                                        {}
func (sends) Ack(string, uint32)                                            {}
func (sends) SendChange(string, *codec.Change)                              {}
func (sends) Decline(string, uint32)                                        {}
func (sends) Attach(codec.RoomID, string)                                   {}

// TestReturnsToForgetfulRelay: two nodes give copies back to the process that wrote them, which has forgotten the room
// since. The second copy is of a newer reign than the first. Both must hear of the reign that came after, or they would
// wait for an answer for ever.
func TestReturnsToForgetfulRelay(t *testing.T) {
	members := []Member{{Name: "a", Birth: 1}}
	for i := range 8 {
		members = append(members, Member{Name: fmt.Sprintf("n%d", i), Birth: uint64(i + 2)})
	}
	did := sends{}
	c := NewCore(members[0], did)
	c.SetView(NewView(members))
	id, ok := c.Ring().Draw(rand.New(rand.NewPCG(1, 0)).Uint64, "n0")
	if !ok {
		t.Fatal("no room has n0 as its relay")
	}
	state := func(epoch uint32, writer Member) *codec.RoomState {
		return &codec.RoomState{RoomHead: codec.RoomHead{
			Room: codec.RoomID(id), Epoch: epoch, Version: uint64(epoch), Relay: writer.Name, Birth: writer.Birth, Owner: "alice", NextPub: 1}}
	}
	c.Got("n6", state(3, members[0]), codec.StateReturn, 1)
	c.Got("n7", state(5, members[0]), codec.StateReturn, 1)
	if did["n0"] != 5 {
		t.Fatalf("the first in the chain was sent epoch %d", did["n0"])
	}
	c.Got("n0", state(6, members[1]), 0, 1)
	for _, name := range []string{"n6", "n7"} {
		if did[name] != 6 {
			t.Errorf("%s was last sent epoch %d, not 6", name, did[name])
		}
	}
}

// merges counts what a core merges.
type merges struct {
	sends
	n int
}

func (m *merges) Merge(*codec.RoomState) { m.n++ }

// TestMeetsAnotherRelay: the edges of a relay of a lower reign come over, which the engine must hear of even if that
// relay's state says nothing new; a copy of such a state, in the hands of another, means no edges.
func TestMeetsAnotherRelay(t *testing.T) {
	me, other, third := Member{Name: "me", Birth: 1}, Member{Name: "a", Birth: 2}, Member{Name: "b", Birth: 3}
	did := &merges{sends: sends{}}
	c := NewCore(me, did)
	c.SetView(NewView([]Member{me, other, third}))
	st := codec.RoomState{RoomHead: codec.RoomHead{Room: 7, Owner: "alice", NextPub: 1}}
	if !c.Create(&st, func(bool) {}) {
		t.Fatal("the number is taken")
	}
	st.Epoch, st.Version, st.Relay, st.Birth = 1, 1, other.Name, other.Birth // of two with one epoch the name decides
	c.Got(third.Name, &st, 0, 1)
	if did.n != 0 {
		t.Error("merged with a copy that says nothing")
	}
	c.Got(other.Name, &st, 0, 2)
	if did.n != 1 || !c.Relays(7) {
		t.Errorf("%d merges; relays: %v", did.n, c.Relays(7))
	}
}
