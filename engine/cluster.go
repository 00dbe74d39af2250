package engine

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/node"
	"github.com/timedge/timedge/room"
)

// ClusterConfig makes the server a node of a cluster.
type ClusterConfig struct {
	Bind string   // host:port for gossip and links, as the other nodes reach it
	Join []string // nodes to ask first; empty for the first node
	Key  node.Key
}

// cluster is this node's part in a cluster. All decisions are made on one goroutine, which owns what is below the mailbox: there
// events go in (views, links that come and go, requests for rooms that other nodes relay), node.Core decides, and its actions change rooms,
// links and edges. Frames do not pass here.
type cluster struct {
	e      *Engine
	log    zerolog.Logger
	self   string
	member *node.Cluster
	draw   atomic.Pointer[func() (codec.RoomID, bool)] // a number whose relay is this node
	broken atomic.Uint64                               // links that this node dialed and lost
	filled sync.Map                                    // codec.RoomID of mirrors that do not hold yet what the relay has

	mu   sync.Mutex
	box  []func()
	wake chan struct{} // capacity 1
	stop chan struct{}
	done sync.WaitGroup

	core      *node.Core
	later     []func() // for when the core has returned
	peers     map[string]*peer
	strangers []*session // links of nodes that are not in the view yet
	edges     map[codec.RoomID]*edge
	calls     map[uint32]*call
	req       uint32
	ended     map[codec.RoomID]int64 // tombstones, and since when
	ticks     uint64
}

// peerID is a process.
type peerID struct {
	name  string
	birth uint64
}

// peer is another member.
type peer struct {
	peerID
	m        node.Member
	up       *session // the link that this node dialed; nil while there is none
	down     *session // the link that the other dialed
	gone     chan struct{}
	lost     chan struct{} // capacity 1: the link is down, dial again
	lastFail string
}

// call is a request on a link that waits for its answer.
type call struct {
	peer *peer
	done func(answer codec.Control) // nil: the link broke
}

// ask is a request for a room that another node relays.
type ask struct {
	by caller
	m  codec.Control
}

// ownReq marks the numbers of this file's requests on links; those without are the core's.
const ownReq = 1 << 31

const (
	clusterTick  = 100 * time.Millisecond
	dialTimeout  = time.Second
	dialAgainMin = time.Millisecond // a process that is killed closes its links first, and its port a moment later
	dialAgainMax = 500 * time.Millisecond
	// strangerFor is how long a link may wait for its node to be in the view: gossip and links come by different ways.
	strangerFor = 3 * time.Second
	// tombstoneFor is how long a room that ended is remembered, so that it does not come back.
	tombstoneFor = 10 * time.Minute
	// settleHold is how long a new relay acknowledges nothing, so that every edge has come back before anything is let go of.
	settleHold = 200 * time.Millisecond
	// digestTicks lie between two digests.
	digestTicks = 30
)

// startCluster joins. The server accepts no clients yet.
func (e *Engine) startCluster(cfg *ClusterConfig) error {
	c := &cluster{
		e: e, log: e.log, self: e.cfg.Node, wake: make(chan struct{}, 1), stop: make(chan struct{}),
		peers: make(map[string]*peer), edges: make(map[codec.RoomID]*edge), calls: make(map[uint32]*call), ended: make(map[codec.RoomID]int64),
	}
	started := make(chan struct{}) // c.core is set
	views := func(v *node.View) {
		<-started
		c.post(func() { c.view(v) })
	}
	links := func(conn net.Conn, p node.Peer) {
		<-started
		if err := c.enroll(conn, peerID{p.Name, p.Birth}, false); err != nil {
			c.log.Warn().Err(err).Str("peer", p.Name).Msg("cannot adopt a link")
		}
	}
	var err error
	c.member, err = node.Join(node.Config{Name: c.self, Bind: cfg.Bind, Join: cfg.Join, Key: cfg.Key, Log: e.log, OnView: views, OnLink: links})
	if err != nil {
		return err
	}
	c.core = node.NewCore(c.member.Self(), (*actions)(c))
	c.placed()
	e.cluster = c
	e.rooms.OnEnd(func(r *room.Room, code codec.Code) { c.post(func() { c.roomEnded(r, code, nil) }) })
	close(started)
	c.done.Add(1)
	go c.run()
	return nil
}

// ClusterAddr returns where gossip and links listen; "" for a node on its own.
func (e *Engine) ClusterAddr() string {
	if e.cluster == nil {
		return ""
	}
	return e.cluster.member.Addr()
}

// drawRoom draws a room number whose relay is this node.
func (e *Engine) drawRoom() (codec.RoomID, bool) {
	if c := e.cluster; c != nil {
		return (*c.draw.Load())()
	}
	return randomRoom(), true
}

func randomRoom() codec.RoomID {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return codec.RoomID(binary.BigEndian.Uint64(b[:]))
}

// post hands the goroutine something to do. It never blocks. Any goroutine.
func (c *cluster) post(f func()) {
	c.mu.Lock()
	c.box = append(c.box, f)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *cluster) run() {
	defer c.done.Done()
	t := time.NewTicker(clusterTick)
	defer t.Stop()
	for {
		select {
		case <-c.wake:
			c.mu.Lock()
			box := c.box
			c.box = nil
			c.mu.Unlock()
			for _, f := range box {
				f()
				c.settle()
			}
		case <-t.C:
			c.tick()
			c.settle()
		case <-c.stop:
			return
		}
	}
}

// settle does what actions have left for when the core has returned.
func (c *cluster) settle() {
	for len(c.later) > 0 {
		fs := c.later
		c.later = nil
		for _, f := range fs {
			f()
		}
	}
}

// placed publishes the placement for those who draw room numbers.
func (c *cluster) placed() {
	r := c.core.Ring()
	draw := func() (codec.RoomID, bool) {
		id, ok := r.Draw(func() uint64 { return uint64(randomRoom()) }, c.self)
		return codec.RoomID(id), ok
	}
	c.draw.Store(&draw)
}

// view takes a new view of the cluster.
func (c *cluster) view(v *node.View) {
	for name, p := range c.peers {
		if m, ok := v.Find(name); !ok || m.Birth != p.birth {
			c.dismiss(p)
		}
	}
	var fresh []*peer
	for _, m := range v.Members {
		if m.Name == c.self {
			continue
		}
		if p := c.peers[m.Name]; p != nil {
			p.m = m
			continue
		}
		p := &peer{peerID: peerID{m.Name, m.Birth}, m: m, gone: make(chan struct{}), lost: make(chan struct{}, 1)}
		c.peers[m.Name] = p
		fresh = append(fresh, p)
	}
	c.core.SetView(v)
	for _, p := range fresh {
		c.core.Away(p.name, true) // until there is a link
		c.done.Add(1)
		go c.dial(p, p.m)
	}
	c.placed()
	waiting := c.strangers
	c.strangers = nil
	for _, s := range waiting {
		c.linkUp(s)
	}
	for _, e := range c.edges {
		clear(e.denied)
		c.drive(e)
	}
	c.log.Info().Int("members", len(v.Members)).Msg("the cluster has changed")
}

// dismiss ends what there is with a process that is a member no more.
func (c *cluster) dismiss(p *peer) {
	delete(c.peers, p.name)
	close(p.gone)
	for _, s := range []*session{p.up, p.down} {
		if s != nil {
			s.closeSoon()
		}
	}
	if p.up != nil {
		c.unlinked(p)
	}
	c.e.rooms.Vacate(p.name)
}

// closeSoon closes a session from another goroutine.
func (s *session) closeSoon() { s.loop.post(item{kind: itemDo, do: s.doom}) }

// answer takes the answer to a request, or to a state that the core has sent.
func (c *cluster) answer(from *session, req uint32, m codec.Control) {
	p := c.peers[from.link.peer.name]
	if p == nil || p.up != from {
		return
	}
	if req&ownReq == 0 {
		if _, ok := m.(*codec.OK); ok {
			c.core.Acked(p.name, req)
		}
		return
	}
	if call := c.calls[req]; call != nil {
		delete(c.calls, req)
		call.done(m)
	}
}

// got takes a room's state from another node.
func (c *cluster) got(from *session, m *codec.State) {
	if slices.Contains(c.strangers, from) { // it counts on an answer
		from.link.early = append(from.link.early, m)
		return
	}
	p := c.peers[from.link.peer.name]
	if p == nil || p.peerID != from.link.peer {
		return
	}
	if p.down != from { // an older link of it, whose last words these are
		return
	}
	c.core.Got(p.name, &m.RoomState, m.Flags, m.Req)
	c.bury(m.Room)
}

// bury notes when a room's tombstone came, to forget it in time.
func (c *cluster) bury(id codec.RoomID) {
	st := c.core.State(id)
	if st == nil || st.Ended == 0 { // or it lives again
		delete(c.ended, id)
	} else {
		if _, known := c.ended[id]; !known {
			c.ended[id] = c.e.now()
		}
	}
}

// registered makes the cluster know a room that a client has registered here.
func (c *cluster) registered(s *session, r *room.Room, answer *codec.Registered) {
	c.post(func() {
		ok := c.core.Create(r.State(), func(ok bool) {
			if ok {
				s.later(answer)
			} else {
				s.later(c.e.refusal(answer.Req, errMoved))
			}
		})
		if !ok {
			c.e.rooms.End(r, codec.CodeNodeLost)
			s.later(c.e.refusal(answer.Req, errMoved))
		}
	})
}

// performed makes the standbys know what a request has changed, and then answers.
func (c *cluster) performed(by caller, r *room.Room, m codec.Control, answer codec.Control) {
	if !alters(m) {
		by.s.reply(answer)
		return
	}
	done := func(ok bool) {
		if ok {
			by.s.loop.post(item{kind: itemDo, do: func() {
				by.s.reply(answer)
				if pub := by.s.published(by, r.ID); pub != nil {
					pub.answered()
				}
			}})
			return
		}
		c.later = append(c.later, func() { c.take(ask{by, m}) })
	}
	c.post(func() {
		if _, is := m.(*codec.Remove); is {
			c.roomEnded(r, codec.CodeRemoved, done)
			return
		}
		c.core.Changed(r.State(), done)
	})
}

// roomEnded makes the cluster know that a room that this node relays has ended.
func (c *cluster) roomEnded(r *room.Room, code codec.Code, done func(ok bool)) {
	if done == nil {
		if code == codec.CodeRemoved {
			return // whoever asked for it waits for an answer, and comes by itself
		}
		done = func(bool) {}
	}
	st := r.State()
	st.Ended = code
	c.core.Changed(st, done)
	c.bury(r.ID)
}

// handOver gives all rooms that this node relays to others, and reports whether it could: not if there is nobody, or not in time.
func (c *cluster) handOver(ctx context.Context) bool {
	others := false
	c.on(func() {
		for _, m := range c.core.View().Members {
			others = others || m.Name != c.self && !m.Draining && !c.core.Unreachable(m.Name)
		}
	})
	if !others {
		return false
	}
	if err := c.member.Drain(); err != nil {
		c.log.Warn().Err(err).Msg("the others may not know that this node leaves")
	}
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		left, heirs := 0, false
		if !c.on(func() {
			left = c.core.Relayed()
			for _, m := range c.core.View().Members {
				heirs = heirs || m.Name != c.self && !m.Draining
			}
		}) {
			return false
		}
		if left == 0 {
			c.log.Info().Msg("all rooms are handed over")
			return true
		}
		if !heirs {
			c.log.Warn().Int("rooms", left).Msg("the other nodes leave, too: nobody is there to take the rooms")
			return false
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			c.log.Warn().Int("rooms", left).Msg("not all rooms could be handed over in time")
			return false
		}
	}
}

// leave says goodbye to the cluster and ends the goroutine.
func (c *cluster) leave() {
	if err := c.member.Leave(); err != nil {
		c.log.Debug().Err(err).Msg("leaving the cluster")
	}
	close(c.stop)
	_ = c.member.Shutdown()
	c.done.Wait()
}
