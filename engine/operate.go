package engine

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/timedge/timedge/admin"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// What operators see of the node and do with it: most of admin.Server. Lists are gathered loop by loop, each of which
// stops for as long as it takes to copy its own: some 100 ns a session.

// Overview returns the node in figures; Version, UptimeMillis and ClockMillis are the caller's.
func (e *Engine) Overview() admin.Overview {
	state, reasons := e.state()
	o := admin.Overview{
		Node: e.cfg.Node, State: state, Reasons: reasons, Rooms: int64(e.rooms.Len()), MemoryBytes: e.pool.Held(), MemoryBound: e.live().MemoryBound,
		CutOff: e.rooms.Stats().CutOff.Load(), Takeovers: e.rooms.Stats().TakenOver.Load(),
	}
	for _, l := range e.loops {
		s := &l.stats
		o.Sessions += s.clients.Load()
		o.QueuedBytes += s.queued.Load()
		o.FramesIn += s.framesIn.Load()
		o.BytesIn += s.bytesIn.Load()
		o.Deliveries += s.deliveries.Load()
		o.BytesOut += s.bytesOut.Load()
		o.CutOff += s.cutOff.Load()
		for p := codec.PolicyLive; p.Valid(); p++ {
			o.Dropped += s.dropped[p].Load()
		}
	}
	for i := range e.faults.counts {
		o.Panics += e.faults.counts[i].Load()
	}
	return o
}

// state returns what the node is, and why it is not ready; it is if there are no reasons.
func (e *Engine) state() (state string, reasons []string) {
	reasons = []string{}
	add := func(s, reason string) {
		if state == "" {
			state = s
		}
		reasons = append(reasons, reason)
	}
	if e.parting.Load() {
		add("leaving", "draining: the server is shutting down")
	} else if e.leaving.Load() {
		add("draining", "draining: an operator has asked for it")
	}
	if n, most := e.conns.Load(), e.live().MaxConns; n >= int64(most) {
		add("over_limits", fmt.Sprintf("over limits: %d connections of %d", n, most))
	}
	return cmp.Or(state, "ready"), reasons
}

// Nodes returns the members of the cluster.
func (e *Engine) Nodes() []admin.Node {
	state, _ := e.state()
	if e.cluster == nil {
		n := e.rooms.Len()
		return []admin.Node{{Name: e.cfg.Node, Self: true, State: state, Relayed: &n}}
	}
	var all []NodeReport
	e.cluster.on(func() { all = e.cluster.node.Nodes() })
	nodes := make([]admin.Node, 0, len(all))
	for _, n := range all {
		m := admin.Node{Name: n.Name, Addr: n.Addr, Self: n.Self, State: "linked", Relayed: n.Relayed, Mirrored: n.Mirrored}
		switch {
		case n.Self:
			m.State = state
		case n.Draining:
			m.State = "draining"
		case !n.Linked:
			m.State = "out_of_reach"
		}
		nodes = append(nodes, m)
	}
	return nodes
}

// RoomList returns the rooms that this node relays, or has clients of.
func (e *Engine) RoomList() []admin.Room {
	var all []admin.Room
	now := e.now()
	e.rooms.Each(func(r *room.Room) bool {
		all = append(all, describe(r, now))
		return true
	})
	return all
}

func describe(r *room.Room, now int64) admin.Room {
	i := r.Info(now)
	role := "relay"
	if r.IsMirror() {
		role = "edge"
	}
	return admin.Room{
		ID: r.ID.String(), Owner: r.Owner, Policy: i.Policy.String(), Role: role, Subscribers: int64(i.Subscribers), Publishers: int64(i.Publishers),
		Frames: i.Frames, Bytes: i.Bytes, AgeMillis: int64(i.AgeMillis), IdleMillis: int64(i.IdleMillis),
	}
}

// Room returns a room with what this node and, in a cluster, all others know of it.
func (e *Engine) Room(ctx context.Context, id codec.RoomID) (admin.RoomDetail, error) {
	d := admin.RoomDetail{
		Room: admin.Room{ID: id.String()}, Nodes: []admin.RoomNode{}, Streams: []admin.Stream{}, Readers: []admin.Subscriber{}, Writers: []admin.Publisher{},
	}
	known := false
	if r, err := e.rooms.Get(id); err == nil {
		known = true
		d.Room = describe(r, e.now())
		for _, s := range r.Streams() {
			d.Streams = append(d.Streams, admin.Stream{
				Publisher: s.Pub, Account: s.Account, Dtype: s.Dtype, Next: s.Next, LogBytes: s.LogBytes, Arrived: s.Arrived, WaitsFor: s.WaitsFor,
			})
		}
		d.Readers = e.readers(r)
		if e.cluster == nil {
			d.Relay = e.cfg.Node
			r.Publishers(func(num uint16, account string, h room.Holder) bool {
				p := admin.Publisher{Num: num, Account: account}
				if h != nil {
					p.Node = e.cfg.Node
				}
				d.Writers = append(d.Writers, p)
				return true
			})
			d.Nodes = append(d.Nodes, admin.RoomNode{Node: e.cfg.Node, Role: "relay", Subscribers: int(d.Subscribers), Publishers: len(d.Writers)})
		}
	}
	if e.cluster != nil {
		ctx, cancel := context.WithTimeout(ctx, inspectTimeout)
		defer cancel()
		rep := e.cluster.inspect(ctx, id)
		known = known || rep.Known && rep.Ended == "" // of one that has ended the nodes keep a tombstone
		d.Relay, d.Epoch, d.Chain = rep.Relay, rep.Epoch, rep.Chain
		d.Owner, d.Policy = cmp.Or(d.Owner, rep.Owner), cmp.Or(d.Policy, rep.Policy)
		for _, n := range rep.Nodes {
			d.Nodes = append(d.Nodes, admin.RoomNode(n))
		}
		for _, p := range rep.Publishers {
			d.Writers = append(d.Writers, admin.Publisher(p))
		}
		if d.Role == "" {
			d.Role = "none"
		}
	}
	if !known {
		return d, fmt.Errorf("room %v: %w", id, admin.ErrNotFound)
	}
	return d, nil
}

// readers returns the sessions of this node that subscribe to a room, the most behind first.
func (e *Engine) readers(r *room.Room) []admin.Subscriber {
	all := []admin.Subscriber{}
	for _, l := range e.loops {
		l.onLoop(func() {
			o := l.outlets[r]
			if o == nil {
				return
			}
			for _, m := range o.members {
				n, ms := m.s.lag()
				all = append(all, admin.Subscriber{
					Session: m.s.id, Account: m.s.account(), Addr: m.s.peerAddr().String(), LagBytes: n, LagMillis: ms,
					NotTaking: m.s.blocked, OfOtherNode: !m.s.role.client(),
				})
			}
		})
	}
	slices.SortFunc(all, func(a, b admin.Subscriber) int {
		return cmp.Or(cmp.Compare(b.LagMillis, a.LagMillis), cmp.Compare(b.LagBytes, a.LagBytes), cmp.Compare(a.Session, b.Session))
	})
	return all
}

// lag returns what waits for the session's socket, and the age of the oldest of it in ms. Loop only.
func (s *session) lag() (bytes int, ms int64) {
	if s.q == nil || s.q.Empty() {
		return 0, 0
	}
	return s.q.Bytes(), max(0, s.loop.eng.now()-s.q.OldestAt()) / int64(time.Millisecond)
}

// Sessions returns the clients' sessions of this node.
func (e *Engine) Sessions() []admin.Session {
	var all []admin.Session
	for _, l := range e.loops {
		l.onLoop(func() {
			for _, s := range l.sessions {
				if s.role.client() && s.phase == phaseOpen {
					all = append(all, s.describe())
				}
			}
		})
	}
	return all
}

// describe is the session for people. Loop only.
func (s *session) describe() admin.Session {
	d := admin.Session{
		ID: s.id, Account: s.account(), Addr: s.peerAddr().String(), Transport: s.transport(), Subscriptions: len(s.members()),
		AgeMillis: max(0, s.loop.eng.now()-s.openedAt) / int64(time.Millisecond),
	}
	if ps := s.pushing(); ps != nil {
		d.Publications = ps.part.Len()
	}
	d.LagBytes, d.LagMillis = s.lag()
	return d
}

func (s *session) transport() string {
	switch c := s.carrier; {
	case c == nil:
		return "tcp"
	case c.ws != nil && c.tls != nil:
		return "wss"
	case c.ws != nil:
		return "ws"
	}
	return "tls"
}

// onSession calls f on the loop of a client's session, and reports whether there is one of that number.
func (e *Engine) onSession(id uint64, f func(*session)) (found bool) {
	for _, l := range e.loops {
		l.onLoop(func() {
			for _, s := range l.sessions {
				if s.id == id && s.role.client() && !s.gone() {
					found = true
					f(s)
					l.settle()
					return
				}
			}
		})
		if found {
			break
		}
	}
	return found
}

// Session returns one session with its rooms.
func (e *Engine) Session(id uint64) (d admin.SessionDetail, err error) {
	found := e.onSession(id, func(s *session) {
		d.Session, d.SubscribesTo = s.describe(), []string{}
		for _, m := range s.members() {
			d.SubscribesTo = append(d.SubscribesTo, m.o.room.ID.String())
		}
	})
	if !found {
		return d, fmt.Errorf("session %d: %w", id, admin.ErrNotFound)
	}
	return d, nil
}

// CutSession ends a client's session. The client is told to go elsewhere, and may come back.
func (e *Engine) CutSession(id uint64, by string) error {
	account := ""
	if !e.onSession(id, func(s *session) {
		account = s.account()
		s.fail(codec.CodeGoingAway, "an operator has ended this session")
		s.loop.out = s.loop.out[:0]
	}) {
		return fmt.Errorf("session %d: %w", id, admin.ErrNotFound)
	}
	e.Operator("session_cut", by).Uint64("conn_id", id).Str("account", account).Send()
	return nil
}

// ConnectAs opens a connection to the engine from within the process for who may be any account without a token: an
// operator, at from, who does what a room's owner may. What it asks goes the way of any client's requests.
func (e *Engine) ConnectAs(from netip.AddrPort) (net.Conn, error) { return e.connect(from, true) }

// OwnerOf returns the account that owns a room, wherever that is.
func (e *Engine) OwnerOf(ctx context.Context, id codec.RoomID) (string, error) {
	d, err := e.Room(ctx, id)
	if err != nil {
		return "", err
	}
	return d.Owner, nil
}

// Drain hands this node's rooms to the others and sends its clients away, spread over DrainSpread, as Shutdown does;
// the node stays, not ready, until Undrain or Shutdown. It returns when that has begun. A node that is alone, or whose
// fellows all leave, too, cannot.
func (e *Engine) Drain(by string) error {
	switch {
	case e.cluster == nil:
		return fmt.Errorf("%w: a node on its own has nobody to hand its rooms to", admin.ErrRefused)
	case e.cluster.others() == 0:
		return fmt.Errorf("%w: there is no other node to hand rooms to", admin.ErrRefused)
	case !e.leaving.CompareAndSwap(false, true):
		return fmt.Errorf("%w: the node drains already", admin.ErrRefused)
	}
	e.Operator("drain", by).Send()
	e.log.Info().Str("operator", by).Msg("draining until an operator says otherwise")
	ctx, cancel := context.WithCancel(e.ending)
	e.drained.Store(&cancel)
	e.sending.Go(func() {
		if e.cluster.handOver(ctx) {
			e.draining.Store(true)
			_ = e.sendAway(ctx, false)
		}
	})
	return nil
}

// Undrain takes a Drain back: the node is ready again, and its share of the rooms comes back.
func (e *Engine) Undrain(by string) error {
	cancel := e.drained.Swap(nil)
	if cancel == nil || e.shutting.Load() {
		return fmt.Errorf("%w: the node does not drain at an operator's wish", admin.ErrRefused)
	}
	(*cancel)()
	e.sending.Wait()
	e.draining.Store(false)
	e.leaving.Store(false)
	if err := e.cluster.member.Undrain(); err != nil {
		e.log.Warn().Err(err).Msg("the others may not know yet that this node stays")
	}
	e.Operator("undrain", by).Send()
	e.log.Info().Str("operator", by).Msg("draining no more")
	return nil
}

// others returns how many nodes could take rooms over.
func (c *cluster) others() (n int) {
	c.on(func() { _, n, _ = c.fellows() })
	return n
}
