package carry

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/node"
	"github.com/timedge/timedge/room"
)

// desk is a Node named a with what it does written down, and real Ports on its links whose other ends the test plays.
type desk struct {
	*testing.T
	n     *Node
	rooms *room.Table
	pool  room.Pool
	now   int64
	links map[LinkID]*wire
	hung  []LinkID
	dials []string
	said  []string // answers, by session
	gave  []gift
	back  []time.Duration // how long rooms had no relay
	did   []func()        // what is on its way between Ports and the Node, in order
}

type gift struct {
	a Ask
	o *room.Outbound
	t Ticket
}

// wire is the session of a link: what it was given to send is in sent.
type wire struct {
	d    *desk
	id   LinkID
	port *Port
	sent []codec.Control
	subs []room.Join
}

func newDesk(t *testing.T) *desk {
	d := &desk{T: t, now: int64(time.Hour), links: make(map[LinkID]*wire)}
	d.rooms = room.NewTable(room.Config{Clustered: true, Linger: 10 * time.Second}, nil, &d.pool)
	d.n = New(node.Member{Name: "a", Birth: 1, Level: node.Level}, d.rooms, &d.pool, (*does)(d))
	d.n.now = d.now
	return d
}

// view makes the nodes named members, of a level.
func (d *desk) view(level uint8, names ...string) {
	ms := []node.Member{{Name: "a", Birth: 1, Level: node.Level}}
	for i, name := range names {
		ms = append(ms, node.Member{Name: name, Birth: uint64(i + 2), Level: level})
	}
	d.n.View(node.NewView(ms), d.now)
	d.settle()
}

// link opens a link with a node that is the i-th of the view.
func (d *desk) link(l LinkID, name string, i int, dialed bool) *wire {
	w := &wire{d: d, id: l}
	w.port = NewPort(l, name, dialed, d.rooms, w)
	d.links[l] = w
	d.n.Linked(l, node.Peer{Name: name, Birth: uint64(i + 2)}, dialed, d.now)
	d.settle()
	return w
}

// elsewhere draws a room whose relay is a node.
func (d *desk) elsewhere(name string) codec.RoomID {
	id, ok := d.n.Core().Ring().Draw(rand.New(rand.NewPCG(1, 2)).Uint64, name)
	if !ok {
		d.Fatalf("%s relays no room", name)
	}
	return codec.RoomID(id)
}

// settle delivers all that is on its way.
func (d *desk) settle() {
	d.Helper()
	for len(d.did) > 0 {
		f := d.did[0]
		d.did = d.did[1:]
		f()
	}
	if err := d.n.Audit(); err != nil {
		d.Fatal(err)
	}
}

// pass lets time pass, tick by tick.
func (d *desk) pass(t time.Duration) {
	d.Helper()
	for end := d.now + int64(t); ; {
		due := d.n.Due()
		if due == 0 || due > end {
			d.now = end
			return
		}
		d.now = max(d.now, due)
		d.n.Tick(d.now)
		d.settle()
	}
}

// ask has a client of session s ask for something.
func (d *desk) ask(s SessionID, m codec.Control) {
	d.n.Ask(Ask{Session: s, Account: "alice", Instance: 7, Req: uint32(s), At: d.now, M: m}, d.now)
	d.settle()
}

// take returns what a link has sent of a type, and forgets all that it has sent.
func take[M codec.Control](w *wire) (ms []M) {
	for _, m := range w.sent {
		if m, is := m.(M); is {
			ms = append(ms, m)
		}
	}
	w.sent = nil
	return ms
}

// hear has a frame come by a link.
func (w *wire) hear(m codec.Control) {
	w.d.Helper()
	if err := w.port.Frame(m, w.d.now); err != nil {
		w.d.Fatal(err)
	}
	w.d.settle()
}

// published answers the publish request that was sent last.
func (w *wire) published(num uint16) {
	w.d.Helper()
	as := take[*codec.As](w)
	if len(as) != 1 {
		w.d.Fatalf("%d requests", len(as))
	}
	var p codec.Publish
	if err := p.Parse(as[0].Frame); err != nil {
		w.d.Fatal(err)
	}
	w.hear(&codec.Published{Req: p.Req, Room: p.Room, Pub: num, Window: 1 << 20})
}

// does is the desk as Effects.
type does desk

func (d *does) Dial(m node.Member)           { d.dials = append(d.dials, m.Name) }
func (d *does) Hang(l LinkID)                { d.hung = append(d.hung, l) }
func (d *does) Note(Note)                    {}
func (d *does) Regained(after time.Duration) { d.back = append(d.back, after) }
func (d *does) Operate(l LinkID, req uint32, wish []byte) {
	d.n.do.Send(l, &codec.Report{Req: req, JSON: append([]byte("done: "), wish...)})
}
func (d *does) Send(l LinkID, m codec.Control) {
	if _, err := m.Append(nil); err != nil {
		d.Errorf("%T: %v", m, err)
	}
	d.did = append(d.did, func() { d.links[l].sent = append(d.links[l].sent, m) })
}
func (d *does) Tell(l LinkID, c Cmd) {
	d.did = append(d.did, func() { d.links[l].port.Do(c, d.now) })
}
func (d *does) Answer(a Ask, m codec.Control) {
	text := fmt.Sprintf("%d: %T", a.Session, m)
	if r, is := m.(*codec.Refused); is {
		text = fmt.Sprintf("%d: %v", a.Session, r.Code)
	}
	d.said = append(d.said, text)
}
func (d *does) Here(a Ask) {
	d.said = append(d.said, fmt.Sprintf("%d: here", a.Session))
}
func (d *does) Give(a Ask, o *room.Outbound, t Ticket) { d.gave = append(d.gave, gift{a, o, t}) }
func (d *does) Detached(o *room.Outbound) {
	d.did = append(d.did, func() { d.n.Detached(o, d.now) })
}
func (w *wire) Ask(a Ask) {
	w.d.did = append(w.d.did, func() { w.d.n.Ask(a, w.d.now) })
}
func (w *wire) Send(m codec.Control)                          { w.sent = append(w.sent, m) }
func (w *wire) Acks(*Publication)                             {}
func (w *wire) Await(*Publication)                            {}
func (w *wire) Numbered(*Publication)                         {}
func (w *wire) Refuse(a Ask, err error)                       { w.Send(&codec.Refused{Req: a.Req, Code: codeOf(err)}) }
func (w *wire) Performed(Ask, *room.Room, codec.Control)      {}
func (w *wire) PostCut(*Publication, room.Pusher, codec.Code) {}
func (w *wire) PostAcks(*Publication)                         {}
func (w *wire) PostCount(*Publication, codec.Count)           {}
func (w *wire) Forward(b *room.Batch, _, _ uint64)            {}
func (w *wire) Stray(codec.RoomID, uint16, codec.Code, int)   {}
func (w *wire) Resume()                                       {}
func (w *wire) Report(r Report) {
	w.d.did = append(w.d.did, func() { w.d.n.Report(w.id, r, w.d.now) })
}
func (w *wire) Admit(_ uint32, _ *room.Room, j room.Join, _ codec.RoomHead) (Member, error) {
	w.subs = append(w.subs, j)
	return &sub{}, nil
}

type sub struct{ left bool }

func (*sub) Ack(codec.StreamKey, uint64, int64)   {}
func (*sub) Tally(int, []codec.ClientMove, int64) {}
func (s *sub) Leave(bool)                         { s.left = true }

// holder is a session that holds an outbound.
type holder struct{ cut []codec.Code }

func (h *holder) Cut(_ room.Pusher, code codec.Code) { h.cut = append(h.cut, code) }
func (h *holder) AckNow(room.Pusher)                 {}
func (h *holder) Count(room.Pusher, codec.Count)     {}
func (h *holder) Peer() string                       { return "" }

// A client that hangs up before the relay has taken its publisher leaves none behind there.
func TestHungUpWhilePublishing(t *testing.T) {
	for _, when := range []string{"before the relay's answer", "before it is given"} {
		t.Run(when, func(t *testing.T) {
			d := newDesk(t)
			d.view(node.Level, "b")
			up := d.link(1, "b", 0, true)
			d.ask(10, &codec.Publish{Room: d.elsewhere("b")})
			if when == "before the relay's answer" {
				d.n.Left(10, d.now)
				d.settle()
				up.published(3)
			} else {
				up.published(3)
				d.n.Left(10, d.now)
				d.n.Given(d.gave[0].t, false, d.now)
				d.settle()
			}
			want := []*codec.Drop{{Room: d.elsewhere("b"), Pub: 3, Code: codec.CodeGone}}
			if got := take[*codec.Drop](up); !reflect.DeepEqual(got, want) {
				t.Errorf("told the relay %v", got)
			}
			if d.pass(11 * time.Second); len(d.n.edges) > 0 || len(d.n.ways) > 0 {
				t.Errorf("%d edges and %d outbounds are left", len(d.n.edges), len(d.n.ways))
			}
		})
	}
}

// A client publishes again while the session that it had before closes: whichever the Node hears of first, the
// publisher lives.
func TestPublishedAgainWhileTheOlderSessionCloses(t *testing.T) {
	for _, when := range []string{"before it asks", "before the relay's answer", "before it is given", "afterwards"} {
		t.Run(when, func(t *testing.T) {
			d := newDesk(t)
			d.view(node.Level, "b")
			up := d.link(1, "b", 0, true)
			d.ask(10, &codec.Publish{Room: d.elsewhere("b")})
			up.published(3)
			older, newer := &holder{}, &holder{}
			o := d.gave[0].o
			o.Hold(older)
			d.n.Given(d.gave[0].t, true, d.now)
			closes := func(now string) {
				if when == now {
					o.Detach(older, d.now)
					d.settle()
				}
			}
			closes("before it asks")
			d.ask(11, &codec.Publish{Room: d.elsewhere("b")})
			closes("before the relay's answer")
			up.published(3)
			closes("before it is given")
			if len(d.gave) != 2 || d.gave[1].o != o {
				t.Fatal("the newer session was given another outbound, or none")
			}
			o.Hold(newer)
			d.n.Given(d.gave[1].t, true, d.now)
			closes("afterwards")
			take[*codec.Drop](up)
			d.pass(time.Minute)
			if o.Over() || len(newer.cut) > 0 || len(take[*codec.Drop](up)) > 0 {
				t.Errorf("over: %v, told %v", o.Over(), newer.cut)
			}
			o.Detach(newer, d.now)
			d.settle()
			if d.pass(11 * time.Second); !o.Over() || len(d.n.edges) > 0 {
				t.Error("it outlives its last session")
			}
		})
	}
}

// Every request is answered once, whether or not there is a way; who has left is not.
func TestEveryAskIsAnswered(t *testing.T) {
	d := newDesk(t)
	d.view(node.Level, "b") // to which there is no link
	id := d.elsewhere("b")
	get := &codec.Stat{}
	get.Room = id
	for s, m := range []codec.Control{&codec.Publish{Room: id}, &codec.Subscribe{Room: id}, get, get} {
		d.ask(SessionID(10+s), m)
	}
	d.n.Left(13, d.now)
	d.pass(9 * time.Second)
	if len(d.said) > 0 {
		t.Errorf("after 9 s: %q", d.said)
	}
	d.pass(10 * time.Second)
	if want := []string{"10: moved", "11: moved", "12: moved"}; !slices.Equal(d.said, want) {
		t.Errorf("answered %q, want %q", d.said, want)
	}
	d.said = nil
	for range maxAsks + 1 {
		d.ask(20, get)
	}
	if want := []string{"20: overloaded"}; !slices.Equal(d.said, want) {
		t.Errorf("answered %q, want %q", d.said, want)
	}
}

// Only who mirrors a room is told that another node relays it now.
func TestDemotedTellsMembers(t *testing.T) {
	d := newDesk(t)
	d.view(node.Level, "b", "c")
	d.link(1, "b", 0, true)
	b, c := d.link(2, "b", 0, false), d.link(3, "c", 1, false)
	id := d.elsewhere("a")
	head := codec.RoomHead{Room: id, Owner: "alice", Epoch: 1, Relay: "gone", Birth: 99, NextPub: 1}
	st := &codec.RoomState{RoomHead: head}
	b.hear(&codec.State{Req: 1, RoomState: *st})
	if !d.n.Core().Relays(id) {
		t.Fatal("not taken over")
	}
	c.hear(&codec.Mirror{Req: 5, Room: id})
	if len(c.subs) != 1 {
		t.Fatal("not admitted")
	}
	b.sent, c.sent = nil, nil
	st.Epoch, st.Relay, st.Birth = 9, "b", 2
	b.hear(&codec.State{Req: 2, RoomState: *st})
	if got := take[*codec.Moved](b); len(got) != 0 {
		t.Errorf("who does not mirror it was told %v", got)
	}
	if got := take[*codec.Moved](c); len(got) != 1 || got[0].To != "b" {
		t.Errorf("who mirrors it was told %v", got)
	}
}

// When very many rooms go to another node at once, each link is told once of each room that it mirrors and of no other,
// and what it is told goes together, as do the states' answers.
func TestMovedOncePerRoomAndLink(t *testing.T) {
	const rooms = 300 // every third is mirrored
	d := newDesk(t)
	d.view(node.Level, "b", "c", "e")
	d.link(1, "b", 0, true)
	b, c, e := d.link(2, "b", 0, false), d.link(3, "c", 1, false), d.link(4, "e", 2, false)
	rng := rand.New(rand.NewPCG(3, 4))
	var states, newer []codec.Control
	for len(states) < rooms {
		id, ok := d.n.Core().Ring().Draw(rng.Uint64, "a")
		if !ok {
			t.Fatal("no room is this node's")
		}
		k := len(states)
		st := codec.RoomState{RoomHead: codec.RoomHead{
			Room: codec.RoomID(id), Owner: "alice", Epoch: 1, Relay: "gone", Birth: 99, NextPub: 1,
		}}
		states = append(states, &codec.State{Req: uint32(k + 1), RoomState: st})
		st.Epoch, st.Relay, st.Birth = 9, "b", 2
		newer = append(newer, &codec.State{Req: uint32(rooms + k + 1), RoomState: st})
	}
	for _, m := range codec.Packed(states) {
		b.hear(m)
	}
	for k, m := range states {
		if k%3 == 0 {
			c.hear(&codec.Mirror{Req: uint32(k + 1), Room: m.(*codec.State).Room})
		}
	}
	if len(c.subs) != rooms/3 {
		t.Fatalf("%d rooms are mirrored", len(c.subs))
	}
	b.sent, c.sent, e.sent = nil, nil, nil
	packs := codec.Packed(newer)
	for _, m := range packs {
		b.hear(m)
	}
	if n := len(take[*codec.Moved](e)); n != 0 {
		t.Errorf("who mirrors nothing was told of %d rooms", n)
	}
	if len(b.sent) > 2*len(packs) {
		t.Errorf("%d frames answer %d", len(b.sent), len(packs))
	}
	if len(c.sent) > len(packs) {
		t.Errorf("%d frames tell of rooms that have moved by %d", len(c.sent), len(packs))
	}
	told := make(map[codec.RoomID]int)
	note := func(m codec.Control) error {
		told[m.(*codec.Moved).Room]++
		return nil
	}
	for _, m := range c.sent {
		if pack, is := m.(*codec.Pack); !is {
			_ = note(m)
		} else if err := pack.Each(note); err != nil {
			t.Fatal(err)
		}
	}
	for k, m := range states {
		want := 0
		if k%3 == 0 {
			want = 1
		}
		if id := m.(*codec.State).Room; told[id] != want {
			t.Errorf("room %d: told %d times, want %d", k, told[id], want)
		}
	}
}

// An edge does not attach to an older reign than it has heard of, and tells who it asks of that.
func TestOlderReignsAreNotTaken(t *testing.T) {
	d := newDesk(t)
	d.view(node.Level, "b")
	up := d.link(1, "b", 0, true)
	id := d.elsewhere("b")
	d.ask(10, &codec.Subscribe{Room: id})
	mirrored := func(epoch uint32) {
		t.Helper()
		m := take[*codec.Mirror](up)
		if len(m) != 1 {
			t.Fatalf("%d requests for a mirror", len(m))
		}
		if want := (codec.Reign{Epoch: 5, Relay: "c", Birth: 9}); epoch < 5 && m[0].Reign != want {
			t.Errorf("it says it knows of %v", m[0].Reign)
		}
		head := codec.RoomHead{Room: id, Owner: "alice", Epoch: epoch, Relay: "c", Birth: 9}
		up.hear(&codec.Mirrored{Req: m[0].Req, RoomHead: head})
	}
	mirrored(5)
	up.hear(&codec.Moved{Room: id})
	d.pass(time.Second)
	mirrored(4)
	if e := d.n.edges[id]; e.phase != away || e.reign.Epoch != 5 {
		t.Errorf("phase %d, reign %v", e.phase, e.reign)
	}
}
