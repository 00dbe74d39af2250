package node

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// copies are the standbys of one relay, which answer only when the test says so, and count what they are sent.
type copies struct {
	open    map[string][]uint32 // requests without an answer
	state   map[string]*codec.RoomState
	entries int
	most    int // that one had to answer at once
}

func (s *copies) Promote(*codec.RoomState)    {}
func (s *copies) Demote(codec.RoomID, string) {}
func (s *copies) Merge(*codec.RoomState)      {}
func (s *copies) Ack(string, uint32)          {}
func (s *copies) Attach(codec.RoomID, string) {}
func (s *copies) Decline(string, uint32)      {}
func (s *copies) asked(to string, req uint32, n int) {
	s.open[to] = append(s.open[to], req)
	s.entries += n
	s.most = max(s.most, len(s.open[to]))
}
func (s *copies) SendState(to string, st *codec.RoomState, _ uint8, req uint32) {
	s.state[to] = st
	s.asked(to, req, len(st.Grants)+len(st.Publishers))
}
func (s *copies) SendChange(to string, ch *codec.Change) {
	st := *s.state[to]
	if st.Version != ch.From {
		panic(fmt.Sprintf("a change from %d to who has %d", ch.From, st.Version))
	}
	st.Grants, st.Version = setGrants(st.Grants, ch.Grants), ch.Version
	s.state[to] = &st
	s.asked(to, ch.Req, len(ch.Grants)+len(ch.Came)+len(ch.Left))
}

// Many changes cost their standbys what has changed, however long the lists are, and no standby has more than one to
// answer.
func TestChangesCostWhatChanges(t *testing.T) {
	const grants = 4000
	for level := range uint8(Level + 1) {
		t.Run(fmt.Sprint("level=", level), func(t *testing.T) {
			me := Member{Name: "a", Birth: 1, Level: Level}
			s := &copies{open: map[string][]uint32{}, state: map[string]*codec.RoomState{}}
			c := NewCore(me, s)
			ms := []Member{me}
			for i, name := range []string{"b", "c", "d"} {
				ms = append(ms, Member{Name: name, Birth: uint64(i + 2), Level: level})
			}
			c.SetView(NewView(ms))
			n, ok := c.Ring().Draw(rand.New(rand.NewPCG(1, 2)).Uint64, "a")
			if !ok {
				t.Fatal("no room")
			}
			id, done := codec.RoomID(n), 0
			answered := func(ok bool) {
				if ok {
					done++
				}
			}
			c.Create(&codec.RoomState{RoomHead: codec.RoomHead{Room: id, Owner: "alice"}}, answered)
			answer := func() {
				for _, name := range []string{"b", "c", "d"} {
					reqs := s.open[name]
					s.open[name] = nil
					for _, req := range reqs {
						c.Acked(name, req)
					}
				}
			}
			for i := range grants {
				g := codec.GrantState{Account: fmt.Sprintf("account%05d", i*7919%grants), Version: uint64(i + 1), Granted: true}
				c.Change(id, room.Delta{Grants: []codec.GrantState{g}}, answered)
				if i%8 == 7 {
					answer()
				}
			}
			for range 3 {
				answer()
			}
			if done != grants+1 {
				t.Errorf("%d of %d answered", done, grants+1)
			}
			for name, st := range s.state {
				if !equal(st, c.State(id)) {
					t.Errorf("%s has %d grants, version %d", name, len(st.Grants), st.Version)
				}
			}
			if s.most > 1 {
				t.Errorf("%d at once for one standby to answer", s.most)
			}
			if level >= LevelChanges && s.entries > 3*grants+3*8 {
				t.Errorf("%d entries sent for %d grants", s.entries, grants)
			}
			t.Logf("%d entries sent", s.entries)
		})
	}
}
