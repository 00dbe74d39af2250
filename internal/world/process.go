package world

import (
	"encoding/binary"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// Config is what rooms are bounded by in a world: short times, so that a day of ten seconds sees all of them run out.
var Config = room.Config{
	Idle: time.Hour, Linger: 1500 * time.Millisecond, Stall: 2 * time.Second, SeatLag: time.Second, Settle: 2 * time.Second,
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
	skew  time.Duration // what its clock is ahead of the world's

	dead   bool
	frozen bool
	froze  time.Duration
	stuck  []func() // what waits for it to go on

	pool  room.Pool
	rooms *room.Table
	loops [loops]*loop
	next  uint64 // sessions opened
}

// start begins a process under a name that no living one has.
func (w *World) start(name string, skew time.Duration) *Process {
	w.made++
	p := &Process{w: w, name: name, birth: uint64(w.now) + 1, skew: skew}
	cfg := Config
	p.rooms = room.NewTable(cfg, drawn{w}, &p.pool)
	for i := range p.loops {
		p.loops[i] = newLoop(p)
	}
	if w.nodes[name] == nil {
		w.names = append(w.names, name)
	}
	w.nodes[name] = p
	w.tell("%s starts", name)
	p.sweep()
	return p
}

// clock returns what the process takes for the time, in nanoseconds.
func (p *Process) clock() int64 { return int64(1_700_000_000*time.Second + p.w.now + p.skew) }

// run does something on the process: now, or when it goes on, or never. A nil Process is a client's machine, which always works.
func (p *Process) run(do func()) {
	switch {
	case p == nil:
		do()
	case p.dead:
	case p.frozen:
		p.stuck = append(p.stuck, do)
	default:
		do()
	}
}

func (p *Process) sweep() {
	p.rooms.Sweep(p.clock())
	p.w.after(sweepEvery, func() { p.run(p.sweep) })
}

// kill ends a process without a word: its kernel closes what it had.
func (p *Process) kill() {
	p.w.tell("%s is killed", p.name)
	p.dead = true
	p.stuck = nil
	for _, e := range append([]*socketEnd(nil), p.w.net.conns[p.name]...) {
		e.sever(time.Millisecond, 5*time.Millisecond)
	}
	delete(p.w.net.conns, p.name)
}

// freeze has a process stand still. Its clock runs on, or stands still, too.
func (p *Process) freeze() {
	p.w.tell("%s stands still", p.name)
	p.frozen, p.froze = true, p.w.now
}

// thaw has it go on. What has come meanwhile is handled in the order in which it came.
func (p *Process) thaw(clockStood bool) {
	p.w.tell("%s goes on", p.name)
	if clockStood {
		p.skew -= p.w.now - p.froze
	}
	p.frozen = false
	stuck := p.stuck
	p.stuck = nil
	at := time.Duration(0)
	for _, do := range stuck {
		at += p.w.between(0, 50*time.Microsecond)
		p.w.after(at, func() { p.run(do) })
	}
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
