package room

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/timedge/timedge/codec"
)

// mark is that of a client of the bench's room.
func (x *bench) mark(account string) uint64 { return codec.ClientMark(x.room.ID, account, 0) }

// moves are what a node tells of clients.
func (x *bench) moves(now codec.Presence, accounts ...string) (moves []codec.ClientMove) {
	for _, a := range accounts {
		moves = append(moves, codec.ClientMove{Mark: x.mark(a), Now: now})
	}
	return moves
}

const (
	here    = codec.PresenceHere
	awaited = codec.PresenceAwaited
	gone    = codec.PresenceGone
)

// relayOfTwo is a lossless room with the links of two nodes, to which four messages were sent. v is behind a and has
// acknowledged two; whoever is behind b has all.
func relayOfTwo(t *testing.T) (x *bench, a, b *viewer) {
	x = losslessBench(t)
	a, b = x.viewer(Join{Link: "a"}), x.viewer(Join{Link: "b"})
	x.room.Tally(a, 1, x.moves(here, "v"), x.now)
	x.room.Tally(b, 1, x.moves(here, "other"), x.now)
	x.script(1, "1", "2", "3", "4")
	x.loop.drain()
	x.ack(a, 2)
	x.ack(b, 4)
	x.wantAcked(2)
	a.take(1 << 30)
	b.take(1 << 30)
	return x, a, b
}

// told checks of which clients a node has heard that they are elsewhere.
func (x *bench) told(link *viewer, accounts ...string) {
	x.t.Helper()
	var want []uint64
	for _, a := range accounts {
		want = append(want, x.mark(a))
	}
	if !slices.Equal(link.elsewhere, want) {
		x.t.Fatalf("told of %v, want %v", link.elsewhere, want)
	}
	link.elsewhere = nil
}

// Who has come to another node, or to the relay, is not waited for at the one before as soon as that has noticed that
// the connection broke, or is gone: it is told, and gives the place up.
func TestWhoHasMovedOnIsNotWaitedFor(t *testing.T) {
	for _, c := range []struct {
		name string
		come func(x *bench, b *viewer)
	}{
		{"to another node", func(x *bench, b *viewer) { x.room.Tally(b, 2, x.moves(here, "v"), x.now) }},
		{"to the relay", func(x *bench, _ *viewer) {
			v := x.back(Join{Account: "v"}, 2)
			x.wantScript(v, 1, "3 4")
			x.ack(v, 4)
		}},
	} {
		for _, noticed := range []string{"before", "after", "never"} {
			t.Run(c.name+", which the first notices "+noticed, func(t *testing.T) {
				x, a, b := relayOfTwo(t)
				if noticed == "before" {
					x.room.Tally(a, 0, x.moves(awaited, "v"), x.now)
					x.told(a)
				}
				c.come(x, b)
				if noticed == "after" {
					x.told(a)
					x.room.Tally(a, 0, x.moves(awaited, "v"), x.now)
				}
				if noticed != "never" { // its mirror is empty: all that comes has arrived there
					x.told(a, "v")
					x.wantAcked(2)
					x.ack(a, 4)
					x.wantAcked(4)
				}
				x.told(a)
				x.told(b)
				x.loop.unsubscribe(a, true) // whatever it has said of v
				x.table.Vacate("a")
				x.wantAcked(4)
			})
		}
	}
}

// The clients of a node that is gone keep its place, those who were between two nodes then among them: until each has
// come elsewhere, or left, or the stall time is over. Others who come meanwhile do not count for them.
func TestPlaceOfANodeThatIsGone(t *testing.T) {
	for _, c := range []struct {
		name string
		last func(x *bench, b *viewer)
	}{
		{"they come", func(x *bench, b *viewer) { x.room.Tally(b, 3, x.moves(here, "w"), x.now) }},
		{"one does not", func(x *bench, _ *viewer) { x.at(x.now + 10e9 + 1) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			x, a, b := relayOfTwo(t)
			x.room.Tally(a, 1, x.moves(here, "w"), x.now)
			x.room.Tally(a, 1, x.moves(awaited, "v"), x.now)
			x.loop.unsubscribe(a, true)
			for range 2 {
				x.table.Vacate("a")
			}
			x.room.Tally(b, 2, x.moves(here, "new"), x.now)
			again := x.back(Join{Link: "a", New: true}, 4) // the node, restarted; one who has had everything asks there first
			again.stream(x.key(1)).expected = 3
			x.wantScript(again, 1, "3 4")
			x.room.Tally(again, 1, x.moves(here, "newer"), x.now)
			x.wantAcked(2)
			x.room.Tally(again, 2, x.moves(here, "v"), x.now)
			x.ack(again, 4)
			x.wantAcked(2)
			c.last(x, b)
			x.wantAcked(4)
		})
	}
}

// A node that names nobody, of v0.3.0, keeps its place when it is gone, if it served somebody.
func TestPlaceOfANodeThatNamesNobody(t *testing.T) {
	for _, subs := range []int{0, 1} {
		x := losslessBench(t)
		old := x.viewer(Join{Link: "old"})
		x.room.Tally(old, subs, nil, x.now)
		x.script(1, "1", "2")
		x.loop.drain()
		old.take(1 << 30)
		x.ack(old, 1)
		x.loop.unsubscribe(old, true)
		x.table.Vacate("old")
		x.wantAcked(2 - uint64(subs))
		x.at(x.now + 10e9 + 1)
		x.wantAcked(2)
	}
}

// A mirror tells who has come, gone and lost the connection since it told last, or all who are there; and gives up the
// places of those who are elsewhere, but for who is connected.
func TestMirrorTellsOfItsClients(t *testing.T) {
	x, _ := mirrorOf(t, losslessBench(t))
	want := func(all bool, want ...codec.ClientMove) {
		t.Helper()
		slices.SortFunc(want, func(a, b codec.ClientMove) int {
			if a.Mark < b.Mark {
				return -1
			}
			return 1
		})
		if got := x.room.Moves(all); !slices.Equal(got, want) {
			t.Fatalf("told %v, want %v", got, want)
		}
	}
	v, w := x.viewer(Join{Account: "v"}), x.viewer(Join{Account: "w"})
	node := x.viewer(Join{Link: "by way of this one"})
	x.room.Tally(node, 1, x.moves(here, "far"), x.now)
	want(false, x.moves(here, "v", "w", "far")...)
	want(false)
	x.loop.unsubscribe(v, true)
	x.loop.unsubscribe(w, false)
	x.room.Tally(node, 0, x.moves(awaited, "far"), x.now)
	want(false, append(x.moves(awaited, "v", "far"), x.moves(gone, "w")...)...)
	want(true, x.moves(awaited, "v", "far")...)
	v.reconnect(x.room)
	x.join(v, Join{Account: "v"})
	x.loop.unsubscribe(v, true)
	v.reconnect(x.room)
	x.join(v, Join{Account: "v"})
	want(false, x.moves(here, "v")...) // it may have been elsewhere meanwhile

	x.script(1, "1", "2")
	x.loop.drain()
	x.ack(node, 2)
	x.wantAcked(0)
	x.room.Elsewhere(0, []uint64{x.mark("v"), x.mark("far")})
	x.told(node, "far")
	want(false, x.moves(gone, "far")...)
	x.wantAcked(0) // it is connected here
	x.loop.unsubscribe(v, true)
	x.room.Elsewhere(0, []uint64{x.mark("v")})
	x.wantAcked(2)
	want(false, x.moves(gone, "v")...)
	want(true)
	v.q.Clear()
	w.q.Clear()
	node.take(1 << 30)
}

// A node behind whose broken link nobody is missed holds nobody up: all have gone elsewhere, or none was there.
func TestBrokenLinkBehindWhichNobodyIs(t *testing.T) {
	for name, leave := range map[string]func(x *bench, a, b *viewer){
		"who was there has left":     func(x *bench, a, _ *viewer) { x.room.Tally(a, 0, x.moves(gone, "v"), x.now) },
		"who was there is elsewhere": func(x *bench, _, b *viewer) { x.room.Tally(b, 2, x.moves(here, "v"), x.now) },
		"who was there is at a third": func(x *bench, a, _ *viewer) {
			x.viewer(Join{Account: "v"})
			x.room.Tally(a, 0, nil, x.now)
		},
	} {
		t.Run(name, func(t *testing.T) {
			x, a, b := relayOfTwo(t)
			leave(x, a, b)
			x.loop.unsubscribe(a, true)
			for _, s := range x.room.seats.seats {
				if s.node == "a" {
					t.Errorf("%v has a seat still", s)
				}
			}
			for _, v := range x.loop.members {
				v.take(1 << 30)
			}
		})
	}
}

// A relay that becomes a mirror serves nobody behind the links that it has sent away, and says so.
func TestDemotedRelayServesItsOwn(t *testing.T) {
	x, a, b := relayOfTwo(t)
	own := x.viewer(Join{Account: "own"})
	x.room.Demote(x.now)
	if n := x.room.Subscribers(); n != 1 {
		t.Errorf("%d subscribers, want its own alone", n)
	}
	if moves := x.room.Moves(true); !slices.Equal(moves, x.moves(here, "own")) {
		t.Errorf("it tells of %v", moves)
	}
	x.loop.drain()
	if n := x.room.Subscribers(); n != 1 || len(a.cuts) != 1 || len(b.cuts) != 1 {
		t.Errorf("%d subscribers when the links are gone; cuts %v and %v", n, a.cuts, b.cuts)
	}
	own.take(1 << 30)
	a.take(1 << 30)
	b.take(1 << 30)
}

// counted checks that each stream's count of its slowest seats is what looking at all of them gives. Where it says that
// more stand there than do, nothing arrives any more.
func (x *bench) counted() {
	x.t.Helper()
	if x.room.seats == nil {
		return
	}
	for _, p := range x.room.pubs {
		for _, st := range p.streams {
			if low, n := x.room.seats.lowest(st); st.atLow > 0 && (low != st.low || n != st.atLow) {
				x.t.Fatalf("stream %v: %d seats are said to stand at %d; %d do, at %d", st.key, st.atLow, st.low, n, low)
			}
		}
	}
}

// An inbox has come to this node, and what is sent to it waits for its owner, who comes at last, and has it.
func TestInboxWhoseOwnerComesLate(t *testing.T) {
	for _, j := range []Join{{Account: "alice"}, {Link: "n2"}} {
		x := newInboxBench(t, codec.PolicyLossless)
		if err := x.send("bob"); !errors.Is(err, ErrAway) {
			t.Fatal(err)
		}
		first := x.viewer(Join{Account: "alice"})
		if err := x.send("bob"); err != nil {
			t.Fatal(err)
		}
		x.loop.unsubscribe(first, false)
		x.script(1, "1", "2", "3")
		x.wantAcked(0)
		v := x.viewer(j)
		if j.Link != "" {
			x.room.Tally(v, 1, nil, x.now)
		}
		x.counted()
		v.take(1 << 30)
		x.ack(v, 3)
		x.wantAcked(3)
		x.script(1, "4")
		x.loop.drain()
		x.ack(v, 4)
		x.wantAcked(4)
		v.take(1 << 30)
		first.q.Clear()
	}
}

// TestPresenceModel lets clients wander between a relay and two nodes, which notice late that they are gone, and
// nodes go and come back. Who has not left has a place; while it subscribes anywhere none is kept for it; and none
// for nobody.
func TestPresenceModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		x := openBench(rt, Config{Window: 1 << 20}, codec.Register{Policy: codec.PolicyLossless})
		links := map[string]*viewer{}  // that are there
		at := map[string]*viewer{}     // by which link, or as which subscriber of the relay, each client has come last
		was := map[[2]string]*viewer{} // by which link a client has ever come to a node
		clients, nodes := []string{"v", "w", "u"}, []string{"a", "b"}
		unsubscribe := func(v *viewer, gone bool) {
			x.loop.unsubscribe(v, gone)
			v.q.Clear()
		}
		for range rapid.IntRange(5, 60).Draw(rt, "steps") {
			name, node := rapid.SampledFrom(clients).Draw(rt, "who"), rapid.SampledFrom(nodes).Draw(rt, "node")
			link, last := links[node], at[name]
			local := last != nil && last.member && last != links["a"] && last != links["b"]
			switch rapid.IntRange(0, 6).Draw(rt, "step") {
			case 0, 1: // it comes to the relay; a connection that it has there breaks
				if local {
					unsubscribe(last, true)
				}
				at[name] = x.newViewer()
				x.join(at[name], Join{Account: name, Resumes: true})
			case 2, 3: // it comes to a node
				if local {
					unsubscribe(last, true)
				}
				if link == nil {
					link = x.viewer(Join{Link: node})
					links[node] = link
					x.room.Tally(link, 0, nil, x.now)
				}
				at[name], was[[2]string{name, node}] = link, link
				x.room.Tally(link, 1, x.moves(here, name), x.now)
			case 4: // a node where it is or was notices that the connection broke
				if link != nil && was[[2]string{name, node}] == link && last != nil {
					x.room.Tally(link, 1, x.moves(awaited, name), x.now)
				}
			case 5: // it leaves where it is
				if local {
					unsubscribe(last, false)
					delete(at, name)
				} else if last != nil && last == link {
					x.room.Tally(link, 0, x.moves(gone, name), x.now)
					delete(at, name)
				}
				for _, other := range links { // who has awaited it elsewhere gives up in time
					if at[name] == nil {
						x.room.Tally(other, 0, x.moves(gone, name), x.now)
					}
				}
			case 6: // a node goes
				if link != nil {
					unsubscribe(link, true)
					x.table.Vacate(node)
					delete(links, node)
				}
			}
			x.loop.drain()
			x.counted()
			for _, name := range clients {
				var says []codec.Presence // of each place
				if l := x.room.seats; l != nil {
					for _, s := range l.byMark[x.mark(name)] {
						if s.member != nil {
							says = append(says, here)
						} else {
							says = append(says, awaited)
						}
					}
					for _, s := range l.nodes {
						if now := s.says(x.mark(name)); now != gone {
							says = append(says, now)
						}
						if s.orphan && len(s.clients) == 0 {
							rt.Fatal("a place is kept for nobody")
						}
					}
				}
				if (at[name] != nil) != (len(says) > 0) || slices.Contains(says, here) && slices.Contains(says, awaited) {
					rt.Fatalf("%s, which has left: %v, has the places %v", name, at[name] == nil, says)
				}
			}
		}
		for _, v := range x.loop.members {
			v.take(1 << 30)
		}
		x.end()
	})
}
