package engine

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/carry"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/node"
	"github.com/timedge/timedge/room"
)

// ClusterConfig makes the server a node of a cluster.
type ClusterConfig struct {
	Bind      string   // host:port for gossip and links; see node.Config
	Advertise string   // host or host:port that the others are told; empty: as Bind
	Join      []string // host:port of nodes to ask, for as long as this one runs; empty for the first node
	Keys      node.Keys
}

// cluster is this node's part in a cluster: a goroutine that owns a carry.Node, which decides, and does what follows
// (effects.go). Events come by a mailbox: views, links that come and go, requests for rooms that other nodes relay.
// Frames do not pass here.
type cluster struct {
	e      *Engine
	log    zerolog.Logger
	self   string
	member *node.Cluster
	draw   atomic.Pointer[func() (codec.RoomID, bool)] // a number whose relay is this node
	broken atomic.Uint64                               // links that this node dialed and lost

	takeovers histogram // how long rooms with clients here had no relay

	mu   sync.Mutex
	box  []func(now int64)
	wake chan struct{} // capacity 1
	stop chan struct{}
	done sync.WaitGroup

	// The goroutine's.
	node   *carry.Node
	ring   *node.Ring // that of draw
	links  map[carry.LinkID]*link
	askers map[carry.SessionID]*asker
	fails  map[string]string // why a member was not reached the last time, by name
}

const dialTimeout = time.Second

// startCluster joins. The server accepts no clients yet.
func (e *Engine) startCluster(cfg *ClusterConfig) error {
	c := &cluster{
		e: e, log: e.log, self: e.cfg.Node, wake: make(chan struct{}, 1), stop: make(chan struct{}),
		links: make(map[carry.LinkID]*link), askers: make(map[carry.SessionID]*asker), fails: make(map[string]string),
	}
	started := make(chan struct{}) // c.node is set
	views := func(v *node.View) {
		<-started
		c.decide(func(now int64) { c.node.View(v, now) })
	}
	links := func(conn *node.Link, p node.Peer) {
		<-started
		if err := c.enroll(conn, p, false); err != nil {
			c.log.Warn().Err(err).Str("peer", p.Name).Msg("cannot adopt a link")
		}
	}
	var err error
	c.member, err = node.Join(node.Config{
		Name: c.self, Bind: cfg.Bind, Advertise: cfg.Advertise, Join: cfg.Join, Keys: cfg.Keys,
		Log: e.log, OnView: views, OnLink: links,
		OnKeys: func() { c.decide(c.rekeyed) }, OnFail: func(err error) { e.failed <- err },
		Guard: func(f func()) bool { return e.try(inGossip, f) },
	})
	if err != nil {
		return err
	}
	c.node = carry.New(c.member.Self(), e.rooms, &e.pool, (*effects)(c))
	c.placed()
	e.cluster = c
	e.rooms.OnChange(func(r *room.Room, ended codec.Code) { c.decide(func(now int64) { c.node.Changed(r, ended, now) }) })
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

// Failed brings the reason why this node can never be a member of its cluster, if there is one: others hold another
// cluster key, or one runs under its name.
func (e *Engine) Failed() <-chan error { return e.failed }

// SetClusterKeys takes other cluster keys than before, at least one, and has links proved anew that need it: not all at
// once, and none before the other node takes this one's key.
func (e *Engine) SetClusterKeys(ks node.Keys) error { return e.cluster.member.SetKeys(ks) }

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

// decide hands the goroutine something to do. It never blocks. Any goroutine.
func (c *cluster) decide(f func(now int64)) {
	c.mu.Lock()
	c.box = append(c.box, f)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// waiting returns how many events wait for the goroutine. Any goroutine.
func (c *cluster) waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.box)
}

func (c *cluster) run() {
	defer c.done.Done()
	t := time.NewTimer(0)
	defer t.Stop()
	due := int64(0) // when t fires; 0: it does not
	for {
		select {
		case <-c.wake:
			c.mu.Lock()
			box := c.box
			c.box = nil
			c.mu.Unlock()
			for _, f := range box {
				c.e.try(inCluster, func() { f(c.e.now()) })
			}
		case <-t.C:
			due = 0
			c.e.try(inCluster, func() { c.node.Tick(c.e.now()) })
		case <-c.stop:
			return
		}
		c.e.try(inCluster, c.placed)
		if at := c.node.Due(); at != due {
			if due = at; at == 0 {
				t.Stop()
			} else {
				t.Reset(max(0, time.Duration(at-c.e.now())))
			}
		}
	}
}

// placed publishes the placement for those who draw room numbers.
func (c *cluster) placed() {
	r := c.node.Core().Ring()
	if r == c.ring {
		return
	}
	c.ring = r
	draw := func() (codec.RoomID, bool) {
		id, ok := r.Draw(func() uint64 { return uint64(randomRoom()) }, c.self)
		return codec.RoomID(id), ok
	}
	c.draw.Store(&draw)
}

// connect makes a link to a member. It blocks for about dialTimeout at most.
func (c *cluster) connect(m node.Member) error {
	err := errFault
	c.e.try(inHandshake, func() {
		var conn *node.Link
		if conn, err = c.member.Dial(m, dialTimeout); err == nil {
			err = c.enroll(conn, node.Peer{Name: m.Name, Birth: m.Birth}, true)
		}
	})
	return err
}

// dial opens a link to a member, once.
func (c *cluster) dial(m node.Member) {
	defer c.done.Done()
	err := c.connect(m)
	text := ""
	if err != nil {
		text = err.Error()
	}
	c.decide(func(now int64) {
		if text != c.fails[m.Name] && text != "" {
			c.log.Warn().Str("peer", m.Name).Err(err).Msg("no link to a node")
		}
		if c.fails[m.Name] = text; err == nil {
			delete(c.fails, m.Name)
		} else {
			c.node.Unreached(m, errors.Is(err, unix.ECONNREFUSED), now)
		}
	})
}

// enroll makes a session of an authenticated connection. It takes the connection over.
func (c *cluster) enroll(conn *node.Link, p node.Peer, dialed bool) error {
	e := c.e
	s := &session{id: e.nextID.Add(1)}
	k := &link{session: s, c: c, peer: p, dialed: dialed, proof: conn, heads: make(map[*member]codec.RoomHead)}
	k.port = carry.NewPort(k.linkID(), p.Name, dialed, e.rooms, k)
	s.role = k
	socket, err := conn.Socket()
	if err != nil {
		_ = conn.Close()
		return err
	}
	s.carrier = &carrier{tls: conn.Records}
	s.carrier.raw, s.carrier.early = conn.Rest()
	e.conns.Add(1)
	if err := e.hand(socket, s); err != nil {
		e.conns.Add(-1)
		return err
	}
	return nil
}

// on runs f on the goroutine and waits for it; false if that has ended.
func (c *cluster) on(f func()) bool {
	done := make(chan struct{})
	c.decide(func(int64) { defer close(done); f() })
	select {
	case <-done:
		return true
	case <-c.stop:
		return false
	}
}

// heirsFor is how long a leaving node waits for somebody to take its rooms. On a machine that is overloaded, members
// that are well count as dead for a moment.
const heirsFor = 5 * time.Second

// handOver gives all rooms that this node relays to others, and reports whether it could: not if there is nobody, or
// not in time. A node that has lost the others a while ago waits for them.
func (c *cluster) handOver(ctx context.Context) bool {
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	told := false
	for alone := int64(0); ; { // since when there is no heir; 0: there is one
		var left, heirs, fellows int
		if !c.on(func() { left, heirs, fellows = c.fellows() }) {
			return false
		}
		switch now := c.e.now(); {
		case heirs > 0 && !told:
			told, alone = true, 0
			if err := c.member.Drain(); err != nil {
				c.log.Warn().Err(err).Msg("the others may not know that this node leaves")
			}
			continue
		case told && left == 0:
			c.log.Info().Msg("all rooms are handed over")
			return true
		case heirs > 0:
			alone = 0
		case !told && (fellows == 0 || c.e.rooms.Len() == 0):
			return false
		case fellows == 0:
			c.log.Warn().Int("rooms", left).Msg("the other nodes leave, too: nobody is there to take the rooms")
			return false
		case alone == 0:
			alone = now
			c.log.Warn().Int("rooms", left).Dur("for", heirsFor).Msg("the other nodes are out of reach; waiting for one to take the rooms")
		case now-alone > int64(heirsFor):
			c.log.Warn().Int("rooms", left).Msg("no other node has come back to take the rooms")
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

// fellows counts the rooms that this node relays, the nodes that could take them now, and beside these those that
// could when they are within reach again. The goroutine's.
func (c *cluster) fellows() (relayed, heirs, fellows int) {
	core := c.node.Core()
	for _, m := range core.View().Members {
		switch {
		case m.Name == c.self || m.Draining:
		case core.Unreachable(m.Name):
			fellows++
		default:
			heirs++
		}
	}
	return core.Relayed(), heirs, fellows + c.member.Lost()
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
