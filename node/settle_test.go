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
func (sends) Attach(codec.RoomID, string)                                   {}

// TestReturnsToForgetfulRelay: two nodes give copies back to the process that wrote them, which has forgotten the room since. The second copy
// is of a newer reign than the first. Both must hear of the reign that came after, or they would wait for an answer for ever.
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
