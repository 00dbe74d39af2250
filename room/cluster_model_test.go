package room

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/timedge/timedge/codec"
)

// modelNode is a node of a cluster: its part of the one room, and what its link to the relay brings.
type modelNode struct {
	*bench
	name   string
	link   *viewer // the seat of this node at the relay; nil: it has none
	synced bool    // as a mirror: what the relay had when the link began is here
	fed    map[uint16]*Publisher
	in     []*viewer
}

// modelCluster is nodes, one of them the relay, and a publisher that keeps what is not acknowledged.
type modelCluster struct {
	t     *rapid.T
	nodes []*modelNode
	relay *modelNode
	now   int64
	held  map[uint8][]modelPiece // not acknowledged
	sent  map[uint8][]modelPiece // all: what is acknowledged is kept for longer than a run takes
	next  map[uint8]uint64
	all   []*viewer
	name  map[*viewer]string
	moved map[*viewer]bool
	begun map[*viewed]int // how much of a script was there when the subscriber came
}

type modelPiece struct {
	raw []byte
	seq uint64
}

func (c *modelCluster) node(i int) *modelNode {
	n := &modelNode{bench: &bench{t: c.t, pool: &Pool{}, hold: &fakeHolder{}, now: c.now,
		broken: make(map[codec.Position]bool)}, name: fmt.Sprint("node", i)}
	n.table = NewTable(Config{Window: 8 << 20}, rand.Reader, n.pool)
	return n
}

// mirror makes a node mirror the room, if it does not, and gives it a seat at the relay.
func (c *modelCluster) mirror(n *modelNode) {
	if n == c.relay || n.link != nil {
		return
	}
	if n.room == nil {
		r, err := n.table.Mirror(&c.relay.room.State().RoomHead, c.now)
		if err != nil {
			c.t.Fatal(err)
		}
		r.Whole(0)
		n.room, n.loop, n.synced = r, &fakeLoop{room: r, pool: n.pool, now: c.now}, false
	}
	n.fed = make(map[uint16]*Publisher)
	have, _ := n.room.Positions()
	n.link = c.relay.newViewer()
	for _, h := range have {
		s := n.link.stream(h.StreamKey)
		s.expected, s.resumed = h.Last+1, true
	}
	n.link.tap = n.feed
	c.relay.join(n.link, Join{Link: n.name, Have: have})
}

// feed gives a mirror what its link brings.
func (n *modelNode) feed(frame []byte, typ byte) {
	if typ&codec.TypeStream != 0 {
		run, err := ScanRun(frame)
		if err != nil {
			n.t.Fatal(err)
		}
		if _, err := n.fed[run.Key.Pub].Push(n.hold, run, n.now); err != nil {
			n.t.Fatalf("%s: frame %d: %v", n.name, run.First, err)
		}
		return
	}
	m, _ := codec.ParseControl(frame)
	switch m := m.(type) {
	case *codec.Joined:
		p, err := n.room.Told(0, n.hold, m.Pub, m.Account, codec.Life{}, m.Mark)
		if err != nil {
			n.t.Fatal(err)
		}
		n.fed[m.Pub] = p
	case *codec.Gap:
		if err := n.fed[m.Pub].PushGap(n.hold, *m, n.now); err != nil {
			n.t.Fatal(err)
		}
	case *codec.Left:
		n.room.ToldLeft(0, m.Pub, m.Code, n.now)
	}
}

// unlink takes a node's link away.
func (n *modelNode) unlink() {
	if n.link != nil {
		n.link.q.Clear()
		for _, p := range n.fed {
			p.Detach(n.hold, n.now)
		}
		n.link = nil
	}
}

// work lets a node do what its loop and its link have to do, and its subscribers and itself acknowledge.
func (c *modelCluster) work(n *modelNode, bytes int) {
	if n.room == nil {
		return
	}
	if n.link != nil {
		c.relay.loop.drain()
		n.link.take(bytes)
		n.synced = n.synced || n.link.q.Empty()
	}
	n.loop.drain()
	for _, v := range n.in {
		v.take(bytes)
		for k, s := range v.streams {
			if err := n.room.Ack(v, k, s.expected-1, c.now); err != nil {
				c.t.Fatal(err)
			}
		}
	}
	if n.link != nil {
		for _, p := range n.fed {
			p.Acks(n.hold, func(k codec.StreamKey, seq uint64) {
				if err := c.relay.room.Ack(n.link, k, seq, c.now); err != nil {
					c.t.Fatal(err)
				}
			})
		}
	}
	if n == c.relay {
		n.pub.Acks(n.hold, func(k codec.StreamKey, seq uint64) {
			held := c.held[k.Dtype]
			for len(held) > 0 && held[0].seq <= seq {
				held = held[1:]
			}
			c.held[k.Dtype] = held
		})
	}
}

// push pushes a message, each piece in a batch of its own.
func (c *modelCluster) push(d uint8, flags codec.Flags, pieces int) {
	raw := c.relay.message(nil, d, c.next[d], flags, pieces, 50)
	size := len(raw) / pieces
	for i := range pieces {
		piece := modelPiece{raw[i*size : (i+1)*size], c.next[d]}
		c.held[d], c.sent[d] = append(c.held[d], piece), append(c.sent[d], piece)
		c.next[d]++
		c.relay.push(raw[i*size : (i+1)*size])
	}
}

// publish is the publisher coming to the relay, with all that it has kept.
func (c *modelCluster) publish() {
	n := c.relay
	n.hold = &fakeHolder{}
	n.republish()
	for d := range uint8(3) {
		for _, f := range c.sent[d] {
			n.push(f.raw)
		}
	}
}

// relayBy makes another node the relay. The old one dies, or becomes a mirror.
func (c *modelCluster) relayBy(n *modelNode, dies bool) {
	old := c.relay
	st := old.room.State()
	st.Epoch++
	r, err := n.table.Restore(st, c.now)
	if err != nil {
		c.t.Fatal(err)
	}
	if n.loop == nil {
		n.room, n.loop = r, &fakeLoop{room: r, pool: n.pool, now: c.now}
	}
	if dies {
		c.lose(old)
	} else {
		old.room.Demote(c.now)
		old.synced = true
		old.loop.drain()
	}
	for _, m := range c.nodes {
		m.unlink()
	}
	c.relay = n
	r.Hold(c.now + int64(time.Hour))
	c.publish()
}

// lose empties a node; its subscribers are away.
func (c *modelCluster) lose(n *modelNode) {
	if n.loop != nil {
		n.loop.drain()
		for _, v := range n.loop.members {
			v.member = false
			v.q.Clear()
		}
		n.loop.members, n.in = nil, nil
	} else {
		n.loop = &fakeLoop{}
	}
	n.end()
	was := n.name
	*n = *c.node(0)
	n.name = was
}

// enter makes a subscriber come to a node, for the first time or back.
func (c *modelCluster) enter(n *modelNode, v *viewer) {
	if n != c.relay && !(n.room != nil && n.synced) {
		return
	}
	j := Join{Account: c.name[v]}
	if v == nil {
		v = n.newViewer()
		v.fail = c.t.Fatalf
		c.all = append(c.all, v)
		c.name[v] = fmt.Sprint("v", len(c.all))
		j.Account = c.name[v]
	} else {
		v.reconnect(n.room)
		j.Have = v.have()
		c.moved[v] = true
	}
	n.in = append(n.in, v)
	n.join(v, j)
	v.take(1 << 30)
	for _, s := range v.streams {
		c.begun[s] = len(s.script)
	}
}

// TestClusterModel moves a room among three nodes, with nodes that die and nodes that hand over, while frames are on
// their way everywhere and subscribers come and change nodes. Each gets every frame once, in order, or is told that it
// does not; who stays where it is loses nothing.
func TestClusterModel(t *testing.T) { rapid.Check(t, clusterModel) }

func clusterModel(rt *rapid.T) {
	policy := rapid.SampledFrom([]codec.Policy{codec.PolicyLive, codec.PolicyLossless}).Draw(rt, "policy")
	c := &modelCluster{t: rt, now: 1e9, held: make(map[uint8][]modelPiece), sent: make(map[uint8][]modelPiece),
		next: map[uint8]uint64{1: 1, 2: 1}, name: make(map[*viewer]string), moved: make(map[*viewer]bool),
		begun: make(map[*viewed]int)}
	first := openBench(rt, Config{Window: 8 << 20},
		codec.Register{Policy: policy, QueueBytes: 64 << 20, QueueMillis: 60_000})
	c.nodes = []*modelNode{{bench: first, name: "node0", synced: true}, c.node(1), c.node(2)}
	c.relay = c.nodes[0]
	pick := func() *modelNode { return c.nodes[rapid.IntRange(0, 2).Draw(rt, "node")] }
	for range rapid.IntRange(5, 80).Draw(rt, "steps") {
		c.now += int64(time.Millisecond)
		for _, n := range c.nodes {
			if n.now = c.now; n.loop != nil {
				n.loop.now = c.now
			}
		}
		switch op := rapid.IntRange(0, 19).Draw(rt, "op"); {
		case op < 6:
			c.push(uint8(rapid.IntRange(1, 2).Draw(rt, "dtype")),
				rapid.SampledFrom([]codec.Flags{0, 0, codec.FlagKey}).Draw(rt, "flags"),
				rapid.IntRange(1, 3).Draw(rt, "pieces"))
		case op < 8:
			c.mirror(pick())
		case op < 13:
			c.work(pick(), rapid.IntRange(0, 2000).Draw(rt, "bytes"))
		case op < 15:
			c.enter(pick(), nil)
		case op == 15: // from one node to another
			if n := pick(); len(n.in) > 0 && n.in[0].member {
				v := n.in[0]
				n.in = n.in[1:]
				n.loop.unsubscribe(v, true)
				v.q.Clear()
			}
		case op == 16:
			for _, v := range c.all {
				if !v.member {
					c.enter(pick(), v)
					break
				}
			}
		case op == 17: // a link breaks
			if n := pick(); n.link != nil {
				c.relay.loop.drain()
				c.relay.loop.unsubscribe(n.link, true)
				n.unlink()
			}
		default:
			if n := pick(); n != c.relay && (n.room == nil || n.synced) {
				c.relayBy(n, op == 18)
				for _, m := range c.nodes {
					if m.room != nil {
						c.mirror(m)
					}
				}
				n.room.Unhold()
			} else if n != c.relay && op == 18 {
				if n.link != nil {
					c.relay.loop.drain()
					c.relay.loop.unsubscribe(n.link, true)
					n.unlink()
				}
				c.lose(n)
			}
		}
	}
	c.finish()
}

// finish lets everything arrive and checks who got what.
func (c *modelCluster) finish() {
	for _, n := range c.nodes {
		c.mirror(n)
	}
	for d := uint8(1); d <= 2; d++ { // a relay that began without frames knows of none that nobody sends
		c.push(d, codec.FlagKey, 1)
	}
	for range 8 {
		for _, n := range c.nodes {
			c.work(n, 1<<30)
		}
	}
	for _, v := range c.all {
		if !v.member {
			c.enter(c.relay, v)
		}
	}
	c.now += int64(11 * time.Second) // seats of who is away are given up
	for range 8 {
		for _, n := range c.nodes {
			c.work(n, 1<<30)
			n.at(c.now)
			for _, v := range n.in {
				v.q.Tell(&v.Sub, c.now)
			}
		}
	}
	for _, v := range c.all {
		for d := uint8(1); d <= 2; d++ {
			next := c.next[d]
			s := v.stream(c.relay.key(d))
			if next > 1 && s.expected != next {
				c.t.Fatalf("%s: stream %d ends at %d of %d: %v", c.name[v], d, s.expected-1, next-1, s.script)
			}
			live := s.script[c.begun[s]:]
			for i, w := range live { // a new relay may know nothing of what came before it joined
				first := i == 0 && strings.HasPrefix(w, "1-")
				if strings.Contains(w, "lost") && !first && !c.moved[v] {
					c.t.Fatalf("%s: stream %d: %v", c.name[v], d, s.script)
				}
			}
		}
	}
	for d := uint8(1); d <= 2; d++ {
		held := c.held[d]
		if len(held) > 0 {
			c.t.Fatalf("stream %d: frame %d is not acknowledged", d, held[0].seq)
		}
	}
	if p := c.relay.pub; p.pushed.Load() != p.done.Load() {
		c.t.Fatalf("%d bytes pushed, %d arrived", p.pushed.Load(), p.done.Load())
	}
	for _, n := range c.nodes {
		n.unlink()
	}
	for _, n := range c.nodes {
		c.lose(n)
	}
}
