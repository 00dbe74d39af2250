package world

import (
	"encoding/binary"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/timedge/timedge/carry"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/node"
	"github.com/timedge/timedge/room"
)

// Config is what rooms are bounded by in a world: short times, so that a day of ten seconds sees all of them run out.
var Config = room.Config{
	Idle: time.Hour, Linger: 1500 * time.Millisecond, Stall: 2 * time.Second, SeatLag: time.Second,
	Settle: 2 * time.Second,
	Window: 128 << 10, QueueBytes: 128 << 10, QueueAge: time.Second, MaxPublishers: 24,
}

const (
	tickEvery  = 25 * time.Millisecond // acknowledgements are collected for so long
	sweepEvery = 100 * time.Millisecond
	loops      = 2
)

// Process is a node: a table of rooms, two event loops, and what decides.
type Process struct {
	w     *World
	name  string
	birth uint64
	since time.Duration
	skew  time.Duration // what its clock is ahead of the world's

	dead   bool
	frozen bool
	froze  time.Duration
	stuck  []func() // what waits for it to go on

	pool     room.Pool
	rooms    *room.Table
	loops    [loops]*loop
	sessions map[carry.SessionID]*session
	next     uint64 // sessions opened
	desk     mailbox
	node     *carry.Node
	tickAt   time.Duration // when the Node's next tick is to be; 0: none is
	draining bool
	level    uint8 // what others believe it understands on links
	knows    map[string]node.Member
}

// start begins a process under a name that no living one has.
func (w *World) start(name string, skew time.Duration, level uint8) *Process {
	w.births[name]++
	p := &Process{
		w: w, level: level, name: name, birth: mix(xxhash.Sum64String(name)+w.births[name]) | 1, skew: skew, since: w.now,
		sessions: make(map[carry.SessionID]*session),
	}
	cfg := Config
	cfg.Clustered, cfg.Draw = true, p.drawRoom
	p.rooms = room.NewTable(cfg, drawn{w}, &p.pool)
	p.rooms.OnChange(func(r *room.Room, ended codec.Code) { p.desk.post(func() { p.node.Changed(r, ended, p.clock()) }) })
	for i := range p.loops {
		p.loops[i] = newLoop(p)
	}
	p.desk = mailbox{w: w, host: p, slow: 400 * time.Microsecond, done: p.decided}
	p.knows = map[string]node.Member{name: p.member()}
	for _, other := range w.names { // who joins is told of all at once
		if q := w.nodes[other]; other != name && p.hears(q) {
			p.knows[other] = q.member()
		}
	}
	p.node = carry.New(p.member(), p.rooms, &p.pool, (*effects)(p))
	if w.nodes[name] == nil {
		w.names = append(w.names, name)
	}
	w.nodes[name] = p
	w.tell("%s starts", name)
	w.books.moves = append(w.books.moves, w.now)
	p.sweep()
	if v := w.view(p.knows); len(p.knows) > 1 {
		p.desk.post(func() { p.node.View(v, p.clock()) })
	}
	w.gossip(name, 5*time.Millisecond, 100*time.Millisecond)
	return p
}

// member returns the process as others see it: in one of five cases as one of the level before, to which nothing goes
// that came since.
func (p *Process) member() node.Member {
	level := uint8(node.Level)
	if p.birth%5 == 0 {
		level--
	}
	return node.Member{Name: p.name, Addr: p.name, Birth: p.birth, Draining: p.draining, Level: level}
}

// drawRoom draws a number whose relay is this process.
func (p *Process) drawRoom() (codec.RoomID, bool) {
	id, ok := p.node.Core().Ring().Draw(func() uint64 { return mix(uint64(p.w.draw(1 << 62))) }, p.name)
	return codec.RoomID(id), ok
}

// clock returns what the process takes for the time, in nanoseconds.
func (p *Process) clock() int64 { return int64(1_700_000_000*time.Second + p.w.now + p.skew) }

// run does something on the process: now, or when it goes on, or never. A nil Process is a client's machine, which
// always works.
func (p *Process) run(do func()) {
	switch {
	case p == nil:
		do()
	case p.dead:
	case p.frozen || len(p.stuck) > 0:
		p.stuck = append(p.stuck, do)
	default:
		do()
	}
}

func (p *Process) sweep() {
	p.rooms.Sweep(p.clock())
	p.pool.Tidy(4096)
	p.w.after(sweepEvery, func() { p.run(p.sweep) })
}

// kill ends a process without a word: its kernel closes what it had.
func (p *Process) kill() {
	p.w.tell("%s is killed", p.name)
	p.w.books.moves = append(p.w.books.moves, p.w.now)
	p.gone()
	for _, e := range append([]*socketEnd(nil), p.w.net.conns[p.name]...) {
		e.sever(time.Millisecond, 5*time.Millisecond)
	}
	delete(p.w.net.conns, p.name)
	p.w.gossip(p.name, 350*time.Millisecond, 700*time.Millisecond)
}

// freeze has a process stand still. Its clock runs on, or stands still, too.
func (p *Process) freeze() {
	p.w.tell("%s stands still", p.name)
	p.frozen, p.froze = true, p.w.now
	p.w.stoodStill(p)
}

// thaw has it go on. What has come meanwhile is handled in the order in which it came.
func (p *Process) thaw(clockStood bool) {
	p.w.tell("%s goes on", p.name)
	if clockStood {
		p.skew -= p.w.now - p.froze
	}
	p.frozen = false
	p.catchUp()
	p.w.gossip(p.name, 5*time.Millisecond, 300*time.Millisecond)
}

// catchUp does what has waited, one after the other; what comes meanwhile waits behind it.
func (p *Process) catchUp() {
	if len(p.stuck) == 0 {
		return
	}
	p.w.after(p.w.between(0, 50*time.Microsecond), func() {
		if p.dead || p.frozen || len(p.stuck) == 0 {
			return
		}
		do := p.stuck[0]
		if p.stuck = p.stuck[1:]; len(p.stuck) == 0 {
			p.stuck = nil
		}
		do()
		p.catchUp()
	})
}

// leave has a process hand its rooms over and go, as on SIGTERM.
func (p *Process) leave() {
	if p.draining {
		return
	}
	p.w.tell("%s leaves", p.name)
	p.w.books.moves = append(p.w.books.moves, p.w.now)
	p.draining = true
	p.knows[p.name] = p.member()
	v := p.w.view(p.knows)
	p.desk.post(func() { p.node.View(v, p.clock()) })
	p.w.gossip(p.name, 5*time.Millisecond, 50*time.Millisecond)
	p.handOver(p.w.now + 3*time.Second)
}

// handOver waits until others have the rooms, then sends the clients away, and a moment later goes.
func (p *Process) handOver(until time.Duration) {
	p.w.after(10*time.Millisecond, func() {
		p.run(func() {
			if p.node.Core().Relayed() > 0 && p.w.now < until {
				p.handOver(until)
				return
			}
			for _, id := range sortedKeys(p.sessions) {
				if s := p.sessions[id]; s.port == nil {
					p.on(id, func(s *session) { s.Send(&codec.GoAway{Code: codec.CodeGoingAway, WithinMillis: 500}) })
				}
			}
			p.w.after(700*time.Millisecond, func() { p.run(p.exit) })
		})
	})
}

// gone notes the end of a process.
func (p *Process) gone() {
	p.dead, p.stuck = true, nil
	p.w.extinct()
}

// extinct notes that nothing is left of any room, if there is no node: but for such as are leaving, which have handed
// over all they had, and such as have just begun, which have not been given anything yet.
func (w *World) extinct() {
	const settled = 500 * time.Millisecond
	for _, name := range w.names {
		if p := w.nodes[name]; !p.dead && !p.draining && w.now-p.since > settled {
			return
		}
	}
	w.books.extinct = true
}

// exit is the end of a process that has left.
func (p *Process) exit() {
	p.w.tell("%s has left", p.name)
	p.w.books.moves = append(p.w.books.moves, p.w.now)
	p.gone()
	for _, e := range append([]*socketEnd(nil), p.w.net.conns[p.name]...) {
		e.close()
	}
	delete(p.w.net.conns, p.name)
	p.w.gossip(p.name, 5*time.Millisecond, 50*time.Millisecond)
}

// drawn is a source of random bytes.
type drawn struct{ w *World }

func (d drawn) Read(b []byte) (int, error) {
	var word [8]byte
	for i := range b {
		if i%8 == 0 {
			binary.LittleEndian.PutUint64(word[:], uint64(d.w.draw(1<<62)))
		}
		b[i] = word[i%8]
	}
	return len(b), nil
}

// frame encodes a control frame and holds it to the protocol: it fits, it parses, and what is parsed is what was meant.
func (w *World) frame(dst []byte, m codec.Control) []byte {
	at := len(dst)
	dst, err := m.Append(dst)
	if err != nil {
		w.fail("I10", "%T cannot be encoded: %v", m, err)
		return dst[:at]
	}
	w.legal(dst[at:])
	return dst
}

// legal checks a control frame, of a client or of a link, however it was made.
func (w *World) legal(b []byte) codec.Control {
	if len(b) > codec.MaxFrame {
		w.fail("I10", "a frame of %d bytes", len(b))
		return nil
	}
	frame, typ, err := codec.Next(b, codec.MaxFrame)
	if err != nil || len(frame) != len(b) {
		w.fail("I10", "%d bytes are no frame: %v", len(b), err)
		return nil
	}
	m := codec.NewLink(typ)
	if m == nil {
		m = codec.NewControl(typ)
	}
	if m == nil {
		w.fail("I10", "a frame of type %#x", typ)
		return nil
	}
	if err := m.Parse(frame); err != nil {
		w.fail("I10", "%T does not parse: %v", m, err)
		return nil
	}
	if again, err := m.Append(nil); err != nil || string(again) != string(frame) {
		w.fail("I10", "%T is another frame when parsed and encoded again", m)
	}
	return m
}
