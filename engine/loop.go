package engine

import (
	"net"
	"os"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/carry"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// loop is one event loop: a gnet reactor's sessions, the members of rooms among them, and a mailbox.
type loop struct {
	eng     *Engine
	idx     int
	reactor gnet.EventLoop
	wakeFD  int // our end of the socket pair whose other end the reactor reads
	poller  int // the epoll instance of the reactor, or noPoller
	box     mailbox
	blocker *blocker
	stats   loopStats

	// Owned by the loop.
	now          int64 // ns, of the callback that runs
	unit         unit  // whom it is at work for
	sessions     []*session
	reading      *session   // whose bytes are looked at
	greeting     []*session // without a hello yet, oldest first
	closing      []*session // finished, oldest first
	turns        turns      // paused
	used         int        // steps of turns since the last drain
	hurried      []*session // refused something since the last tick because of their rate, or held
	expiring     bool       // more of these have had their time: itemExpire is in the mailbox
	outlets      map[*room.Room]*outlet
	touched      []*outlet  // outlets with batches to fan out in this drain
	dirty        []*session // sessions with queued bytes to be written in this drain
	settled      settled    // how far settle has come
	closes       int        // how many connections it may still close
	goesOn       bool       // the loop was woken to close more
	doomed       []*session // sessions to close when no list is being walked
	cuts         []*member  // members to cut off, likewise
	lagging      map[*session]struct{}
	blocked      map[uint64]*session
	acking       []acking
	refusing     []*session
	links        []*link                               // connections with other nodes
	linksAt      int64                                 // when these were looked at last
	spare        []item                                // the slice that the mailbox does not use
	iov          []unix.Iovec                          // scratch of writes
	heads        [][]byte                              // likewise
	gathers      [4]gathered                           // likewise: of each kind of carrier
	opened       []byte                                // likewise: what was decrypted of one read
	sealed       []byte                                // likewise: what TLS has encrypted
	words        []byte                                // likewise: of WebSocket control frames
	buffers      [][]byte                              // empty buffers for what sockets have not taken of carriers
	out          []byte                                // answers to the session that is being read
	answers      requestKind                           // what is answered, if anything
	flushes      sampler                               // of outlets
	unqueues     sampler                               // writes from queues
	ack          codec.Ack                             // scratch
	told         *carry.Publication                    // whose acknowledgements are being sent ...
	teller       *session                              // ... on its session ...
	tell         func(key codec.StreamKey, seq uint64) // ... by this
	queues       []*room.Queue                         // empty queues to use again
	identifiedAt int64
	identityDue  int64 // when the next token ends, or its session is to be warned
	pingedAt     int64
}

// drainRounds bounds how often one wake-up looks into the mailbox again, so that a loop that is posted to without end
// still reads its sockets.
const drainRounds = 4

// maxSpareItems bounds the empty list of items that a loop keeps for its mailbox.
const maxSpareItems = 1 << 14

// tidyBatches is how many batches that were let go of in one go a loop releases before it reads its sockets again.
const tidyBatches = 1024

var wakeByte = []byte{1}

// post hands an item to the loop. Any goroutine.
func (l *loop) post(it item) {
	if l.box.put(it, &l.eng.behind) {
		l.wake()
	}
}

// behindAt is how many items wait for a loop that is behind, about a millisecond's work. Until it has done them, all
// loops give sessions nothing but the least of a turn, so that what a loop has to do does not pile up, and with it what
// it has to do for everybody else.
const behindAt = 1024

// caughtUp tells that a loop has done what it was behind with: the others go on.
func (e *Engine) caughtUp(l *loop) {
	if e.behind.Add(-1) > 0 {
		return
	}
	for _, other := range e.loops {
		if other != l {
			other.wake()
		}
	}
}

// wake makes the reactor call drain. A byte on a socket pair allocates nothing, and comes in the next round of events,
// after all sockets that are readable now: what they bring goes out together. gnet's Execute takes half the time, but
// allocates twice and does not keep order under load (benchmarks: BenchmarkWake).
func (l *loop) wake() {
	l.stats.wakes.Add(1)
	for {
		_, err := unix.Write(l.wakeFD, wakeByte)
		if err != unix.EINTR {
			return // EAGAIN: the pair is full of wake-ups that are still to be read
		}
	}
}

// drain does what waits in the mailbox, then writes to every session that has something to send. Loop only.
func (l *loop) drain() {
	l.now, l.goesOn = l.eng.now(), false
	for range drainRounds {
		items := l.box.take(l.spare[:0])
		if len(items) == 0 {
			l.spare = items
			l.settle()
			l.takeTurns()
			if l.eng.pool.Tidy(tidyBatches) || !l.turns.none() && l.eng.behind.Load() == 0 {
				l.wake()
			}
			return
		}
		for at := 0; at < len(items); {
			at = l.handleFrom(items, at)
		}
		if len(items) >= behindAt {
			l.eng.caughtUp(l)
		}
		clear(items)
		l.spare = items
		if cap(items) > maxSpareItems {
			l.spare = nil // a burst must not pin its size
		}
		l.settle()
	}
	// More has come than one wake-up should do: read the sockets first, then go on.
	l.takeTurns()
	l.eng.pool.Tidy(tidyBatches)
	l.wake()
}

// handleFrom handles items from one on, and returns at which to go on: all are handled unless one panics.
func (l *loop) handleFrom(items []item, at int) (next int) {
	next = at
	defer l.rescue(inMailbox)
	for next < len(items) {
		it := &items[next]
		next++
		l.unit = unit{s: it.sess}
		if it.outlet != nil {
			l.unit.r = it.outlet.room
		}
		if it.member != nil {
			l.unit.s = it.member.s
		}
		l.handle(it)
	}
	return next
}

// settled is how far each of settle's four lists has been walked: after a panic it goes on behind who caused it.
type settled struct{ touched, cuts, dirty, doomed int }

// closesAtOnce is how many connections settle closes at most, each some ten microseconds' work: what ends thousands at
// a time, as a bound on memory does with an account's, holds up nobody else.
const closesAtOnce = 16

// settle fans out what was collected, writes what is queued, and closes who has to go, of these as many as may be
// closed at once. Loop only.
func (l *loop) settle() {
	l.closes = closesAtOnce
	for len(l.touched)+len(l.dirty)+len(l.cuts) > 0 || l.settled.doomed < len(l.doomed) && l.closes > 0 {
		l.fanOut()
		l.cutOff()
		l.writeOut()
		l.closeDoomed()
	}
	if len(l.doomed) > 0 && !l.goesOn {
		l.goesOn = true // once the sockets were read
		l.wake()
	}
}

func (l *loop) fanOut() {
	defer l.rescue(inFanOut)
	for at := &l.settled.touched; *at < len(l.touched); {
		o := l.touched[*at]
		*at++
		l.unit = unit{r: o.room}
		o.flush()
	}
	l.touched, l.settled.touched = l.touched[:0], 0
}

func (l *loop) cutOff() {
	defer l.rescue(inFanOut)
	for at := &l.settled.cuts; *at < len(l.cuts); {
		m := l.cuts[*at]
		*at++
		l.unit = unit{m.s, m.o.room}
		m.cut(cutPolicy)
	}
	l.cuts, l.settled.cuts = l.cuts[:0], 0
}

func (l *loop) writeOut() {
	defer l.rescue(inWrite)
	for at := &l.settled.dirty; *at < len(l.dirty); {
		s := l.dirty[*at]
		*at++
		s.dirty = false
		l.unit = unit{s: s}
		s.flush()
	}
	clear(l.dirty)
	l.dirty, l.settled.dirty = l.dirty[:0], 0
}

func (l *loop) closeDoomed() {
	defer l.rescue(inClose)
	for at := &l.settled.doomed; *at < len(l.doomed); {
		if l.closes--; l.closes < 0 {
			return
		}
		s := l.doomed[*at]
		l.doomed[*at] = nil
		*at++
		l.unit = unit{}
		if !s.closed {
			_ = l.reactor.Close(s.conn) // runs OnClose
		}
	}
	l.doomed, l.settled.doomed = l.doomed[:0], 0
}

func (l *loop) handle(it *item) {
	switch it.kind {
	case itemBatch:
		it.outlet.add(it.batch)
	case itemAdmit:
		it.outlet.flush()
		it.member.admit(it.replay)
	case itemLeave:
		it.outlet.flush()
		it.member.leave(uint32(it.id))
	case itemCut:
		it.outlet.flush()
		it.member.cut(it.code)
	case itemMute:
		it.outlet.flush()
		it.member.mute = uint16(it.id)
		it.outlet.room.Mute(it.member, it.member.mute)
	case itemPubCut:
		it.pub.Ended(it.of, it.code, l.now)
	case itemAck:
		it.sess.ackDue(it.pub)
	case itemPubCount:
		it.pub.SendCount(it.count)
	case itemWritable:
		if s := l.blocked[it.id]; s != nil {
			delete(l.blocked, it.id)
			s.blocked = false
			s.regained()
			s.recheck()
			s.mark()
		}
	case itemTick:
		l.tick()
	case itemRelieve:
		l.relieve(reliefStep(it.id))
	case itemExpire:
		l.expire()
	case itemSend:
		it.sess.queueBatch(it.batch)
	case itemDo:
		it.do()
	}
}

// sendAck sends one acknowledgement to who is being told.
func (l *loop) sendAck(key codec.StreamKey, seq uint64) {
	l.ack = codec.Ack{Room: l.told.Room, StreamKey: key, Seq: seq}
	l.teller.queueControl(&l.ack)
}

// queue returns an empty queue.
func (l *loop) queue() *room.Queue {
	if n := len(l.queues); n > 0 {
		q := l.queues[n-1]
		l.queues = l.queues[:n-1]
		return q
	}
	return room.NewQueue(&l.eng.pool, 0)
}

// maxSpareQueues bounds the empty queues that a loop keeps.
const maxSpareQueues = 256

func (l *loop) putQueue(q *room.Queue) {
	q.Own(nil)
	if len(l.queues) < maxSpareQueues {
		l.queues = append(l.queues, q)
	}
}

// connect gives the reactor with the fewest connections, which has none yet, the far end of the loop's socket pair.
func (l *loop) connect() error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	l.wakeFD = fds[0]
	c, err := fileConn(fds[1])
	if err != nil {
		return err
	}
	gc, err := l.eng.reactors.EnrollContext(c, l) // closes c
	if err != nil {
		return err
	}
	l.reactor = gc.EventLoop()
	if l.poller = pollerOf(gc.Fd()); l.poller == noPoller {
		l.eng.log.Warn().Int("loop", l.idx).Msg("the system does not tell which epoll instance is the loop's; " +
			"clients who send more than their share are read on, and hold up others for longer")
	}
	return nil
}

// fileConn makes a connection of a socket's descriptor, which it closes.
func fileConn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	return net.FileConn(f) // of a duplicate
}
