package engine

import (
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// Turns. Between two looks at its sockets, a round, a loop spends turnSteps on what it was sent; beyond that, whoever
// has no session that waits has leastSteps. A session that has more is paused: what is left waits for another turn, and its
// socket is not read (heed), so that TCP slows whoever sends more than there is time for.

// turnSteps is how many frames, runs of stream frames counting as one, are handled in a round; a request counts as
// requestSteps, which is about what it costs. Once that is used up an account still has leastSteps, enough for who
// sends little, unless it has sessions that wait already: how many connections somebody has makes a round no longer.
const (
	turnSteps      = 256
	leastSteps     = 32
	requestSteps   = 8
	subscribeSteps = 16 // and an unsubscribe
	pingSteps      = 2

	// What a request takes beside that (owe). docs/limits.md has the table.
	tokenSteps   = 64  // to check a signature
	namesPerStep = 2   // names of an inbox request
	perStep      = 4   // parts of a replay in a step; a position of a subscribe is one
	crowdPerStep = 128 // subscribers of a lossless room in a step of an acknowledgement, a subscribe or an unsubscribe
	knownPerStep = 64  // publishers of a room in a step of a publish or an unpublish; one in a step of a subscribe
)

// turns are the paused sessions of a loop. Accounts take turns, and the sessions of an account in their order. Each
// link counts as an account, and stands for all clients of a node: every other turn is a link's, while any waits.
type turns struct {
	lines  map[*room.Share]*line
	byRole [2]fifo[*line] // of links, of clients
	last   int            // whose turn was the last
	spare  []*line        // empty ones to use again
}

// line is an account's sessions that wait.
type line struct {
	share *room.Share
	fifo[*session]
}

// waits reports whether sessions of an account wait.
func (t *turns) waits(account *room.Share) bool { return t.lines[account] != nil }

// none reports whether nobody waits.
func (t *turns) none() bool { return len(t.lines) == 0 }

// add puts a session behind the others of its account.
func (t *turns) add(s *session) {
	q := t.lines[s.share]
	if q == nil {
		if n := len(t.spare); n > 0 {
			q, t.spare = t.spare[n-1], t.spare[:n-1]
		} else {
			q = new(line)
		}
		if t.lines == nil {
			t.lines = make(map[*room.Share]*line)
		}
		q.share = s.share
		t.lines[s.share] = q
		t.byRole[roleIndex(s)].push(q)
	}
	q.push(s)
}

func roleIndex(s *session) int {
	if s.role.client() {
		return 1
	}
	return 0
}

// next takes the session off whose turn it is. There is one.
func (t *turns) next() *session {
	if other := 1 - t.last; !t.byRole[other].empty() {
		t.last = other
	}
	accounts := &t.byRole[t.last]
	q := accounts.pop()
	s := q.pop()
	if !q.empty() {
		accounts.push(q)
		return s
	}
	delete(t.lines, q.share)
	q.share = nil
	if len(t.spare) < maxSpareLines {
		t.spare = append(t.spare, q)
	}
	return s
}

// maxSpareLines bounds the empty lines that a loop keeps.
const maxSpareLines = 64

// fifo is a queue whose memory is used again.
type fifo[T any] struct {
	items []T
	head  int
}

func (f *fifo[T]) empty() bool { return f.head == len(f.items) }

func (f *fifo[T]) push(x T) {
	if len(f.items) == cap(f.items) && f.head > len(f.items)/2 {
		n := copy(f.items, f.items[f.head:])
		clear(f.items[n:])
		f.items, f.head = f.items[:n], 0
	}
	f.items = append(f.items, x)
}

// pop returns the first. There is one.
func (f *fifo[T]) pop() T {
	var none T
	x := f.items[f.head]
	f.items[f.head] = none
	if f.head++; f.head == len(f.items) {
		f.items, f.head = f.items[:0], 0
	}
	return x
}

// least returns how many steps the session has in any case when it is read.
func (s *session) least() int {
	if s.loop.turns.waits(s.share) {
		return 0
	}
	return leastSteps
}

// hasTurn reports whether the session may do anything now.
func (s *session) hasTurn() bool { return s.stepsLeft(s.least()) > 0 }

// stepsLeft returns how many steps the session has in this round, at least so many.
func (s *session) stepsLeft(least int) int {
	if s.loop.eng.behind.Load() > 0 {
		return least
	}
	return max(least, turnSteps-s.loop.used)
}

// pause ends the session's turn with b left to handle, if there is any.
func (s *session) pause(b []byte) bool {
	s.paused = len(b) > 0
	return s.paused
}

// unpause returns what waits for the session's next turn.
func (s *session) unpause() (b []byte) {
	if s.paused {
		b, s.paused, s.held = s.partial(), false, false
		s.setPartial(nil)
	}
	return b
}

// await puts a paused session behind those whose turn comes before its own; if it is held, the next tick does.
func (l *loop) await(s *session) {
	if !s.held {
		l.turns.add(s)
		l.eng.hot(l) // while somebody waits the bounds on memory are looked at often
		l.wake()
	}
}

// owe counts steps that a request has taken beside those of stepsOf, which only show when it is handled: they belong to
// this round, and are taken from the session's turns to come, and from its rate of requests.
func (s *session) owe(steps int) error {
	s.loop.used += steps
	if !s.role.client() {
		return nil
	}
	s.debt += int32(min(steps, 1<<20))
	return s.spend(int64(steps) * costRequest / requestSteps)
}

// repay takes what the session owes from the steps that are left of its turn.
func (s *session) repay(left int) int {
	n := max(0, min(int(s.debt), left))
	s.debt -= int32(n)
	return n
}

// resume gives the session another turn with what waits.
func (s *session) resume() error {
	b := s.unpause()
	rest, err := s.steps(b, leastSteps)
	if s.paused {
		s.setPartial(rest) // as it is, for it may be long
	} else {
		s.retain(rest)
	}
	return err
}

// nextTurn handles what waits, as far as a turn goes. Loop only.
func (s *session) nextTurn() {
	s.loop.reading = s
	err := s.resume()
	s.loop.reading = nil
	s.endTurn(err)
}

// endTurn ends a session's turn with the answers to what it sent, or with the reason for which it is closed. Loop only.
func (s *session) endTurn(err error) {
	if err != nil {
		s.failErr(err)
	} else {
		s.sendOut()
	}
	s.loop.out = s.loop.out[:0]
}

// takeTurns gives sessions whose last turn was over another one. All together have as much as one: then the sockets are
// read, so that clients who send very much hold up others by about a millisecond, however many they are. They have
// nothing while a loop is behind: what they send would only make it wait longer.
func (l *loop) takeTurns() {
	for l.used = 0; !l.turns.none() && l.used < turnSteps && l.eng.behind.Load() == 0; {
		if s := l.turns.next(); s.paused && !s.doomed {
			l.takeTurn(s)
			l.settle()
		}
	}
}

// takeTurn gives a paused session a turn, which a panic ends.
func (l *loop) takeTurn(s *session) {
	l.unit = unit{s: s}
	defer l.rescue(inRead)
	if s.nextTurn(); s.paused {
		if !s.held {
			l.turns.add(s)
		}
		return
	}
	s.over()
	s.heed()
}

// stepsOf returns what the frame that b starts with counts in a turn.
func stepsOf(b []byte) int {
	if len(b) <= codec.LengthSize || isStream(b) {
		return 1
	}
	switch b[codec.LengthSize] {
	case codec.TypePong, codec.TypeAck, codec.TypeGap:
		return 1
	case codec.TypePing:
		return pingSteps
	case codec.TypeSubscribe, codec.TypeUnsubscribe:
		return subscribeSteps
	}
	return requestSteps
}
