package engine

import (
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// What sessions take beside their buffers, in bytes: the struct, what gnet has of the connection, entries in lists and
// maps.
const (
	sessionCost = 1536
	tlsCost     = 8 << 10 // most of it what crypto/tls and the collector keep of the handshake
	memberCost  = 512     // with its part of an outlet

	// A connection in its handshakes: its goroutine with its stack, what libraries read and write by.
	shakeCost    = 24 << 10
	tlsShakeCost = 64 << 10
)

// strangers is the account of those that have not said hello. No account has that name.
const strangers = ""

// holdShake counts a connection that shakes hands, or is a browser's, until the function that it returns is called.
func (e *Engine) holdShake(t transport) (done func()) {
	n := shakeCost
	if t.tls {
		n = tlsShakeCost
	}
	share := e.pool.Share(strangers)
	share.Hold(n)
	return func() { share.Hold(-n) }
}

// enter counts a session that a loop has adopted. A node's links count for the node.
func (s *session) enter() {
	s.share = s.loop.eng.pool.Share(s.role.payer())
	s.share.Hold(s.cost())
}

func (s *session) cost() int {
	n := sessionCost + cap(s.partial())
	if s.carrier != nil && s.carrier.tls != nil {
		n += tlsCost
	}
	return n
}

// settleIn counts a session that has said hello for its account, if that may have another.
func (s *session) settleIn(account string) error {
	e := s.loop.eng
	share := e.pool.Share(account)
	switch {
	case share.Conns.Add(1) > int64(e.live().Limits.AccountConns):
		share.Conns.Add(-1)
		return &codec.ProtocolError{Code: codec.CodeTooManyConns, Text: "this account has as many connections as it may have"}
	case share.Over():
		share.Conns.Add(-1)
		return &codec.ProtocolError{Code: codec.CodeOverloaded, Text: room.ErrOverloaded.Text}
	}
	s.share.Hold(-s.cost())
	s.share = share
	s.share.Hold(s.cost())
	if c := s.carrier; c != nil {
		share.Hold(c.holds)
		e.pool.Share(strangers).Hold(-c.holds)
	}
	if s.q != nil {
		s.q.Own(share)
	}
	return nil
}

// greedy reports whether the session has to be cut off at once if it makes the server hold more: the bound on memory is
// passed, and its account holds too much, or most of all that there is.
func (s *session) greedy() bool {
	e := s.loop.eng
	bound := e.memoryBound()
	return e.pool.Held() > bound && s.role.client() && (s.share.Over() || s.share.Held() > bound/2)
}

// leave takes back what enter and settleIn counted, of a session that is closed.
func (s *session) leave() {
	e := s.loop.eng
	if s.share == nil { // it could not even be opened
		s.share = e.pool.Share(strangers)
		s.share.Hold(s.cost())
	}
	s.setPartial(nil)
	s.share.Hold(-s.cost())
	if s.share.Account != strangers && s.role.client() {
		s.share.Conns.Add(-1)
	}
	e.limits.addrs.leave(s.place)
	e.conns.Add(-1)
}

// Relief. While clients make the process hold more than its bound, those accounts that hold most have to give up
// something, a step further at each look at which they still hold too much. The caches of their rooms go first, at
// every look (room.Table.Balance).
type reliefStep int

const (
	reliefNone reliefStep = iota
	// what waits for their sessions, and in their rooms, is dropped as far as the rooms' policies let it
	reliefQueues
	reliefLossless // and the subscribers of their lossless rooms that owe acknowledgements are cut off
	reliefSessions // and their sessions are closed
	reliefRooms    // and their rooms end
)

// looksPerStep is how many looks a step of relief is given.
const looksPerStep = 4

// lookAt is which part of the bound on memory is in use before anybody has to give up anything: what comes between two
// looks must find room.
func lookAt(bound int64) int64 { return bound - bound/4 }

// balance keeps what the process holds below its bound. The ticker calls it.
func (e *Engine) balance() {
	most := e.memoryBound()
	bound := lookAt(most)
	if e.pool.Held() <= bound && e.rooms.CacheBytes() <= int64(e.rooms.Config().CacheAll) && !e.balancing {
		return
	}
	over := e.rooms.Balance(bound)
	e.balancing = len(over) > 0 || e.pool.Held() > bound
	if len(over) == 0 {
		e.relief, e.looks = reliefNone, 0
		return
	}
	// A step has some looks' time to show in what is held, as long as the bound is not passed. While there is some room
	// left nobody is closed: what is new is refused, and who pushes is slowed.
	last, looks := reliefLossless, looksPerStep
	if e.pool.Held() > most {
		last, looks = reliefRooms, 1
	}
	if e.looks++; e.relief < last && (e.relief == reliefNone || e.looks >= looks) {
		e.relief++
		e.looks = 0
	}
	if e.looks == 0 {
		e.log.Warn().Int64("held", e.pool.Held()).Str("account", over[0].Account).Int64("of_account", over[0].Held()).
			Int("step", int(e.relief)).Int("accounts",
			len(over)).Msg("memory bound reached; the largest accounts give up something")
	}
	step := e.relief
	for _, l := range e.loops {
		l.post(item{kind: itemRelieve, id: uint64(step)})
	}
	for _, s := range over {
		if step >= reliefLossless {
			e.rooms.Relieve(s)
		}
		if step >= reliefRooms && s.Over() {
			e.rooms.EndOf(s)
		}
	}
}

// relieve does a step with the sessions of accounts that hold too much. Loop only.
func (l *loop) relieve(step reliefStep) {
	l.stats.shed.Add(1)
	for _, s := range l.sessions {
		if s.closed || s.doomed || !s.role.client() {
			continue
		}
		over := s.share.Over()
		if s.q != nil {
			s.q.RelieveAll(over, step >= reliefLossless, l.now)
		}
		if over && step >= reliefSessions && !s.closing {
			l.stats.cutOff.Add(1)
			s.doom()
			s.unpause() // its turn to be closed may come late: what it takes most of is free now
			s.setPartial(nil)
			if s.q != nil {
				s.q.Clear()
			}
		}
	}
}
