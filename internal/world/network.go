package world

import (
	"time"

	"github.com/cespare/xxhash/v2"
)

// network is all that lies between two processes, or a client and a process.
type network struct {
	part  map[string]int          // who is in the same part of a divided network; 0 unless said
	holes map[[2]string]int       // from, to: bytes vanish in this direction
	slow  map[[2]string]slowness  // of either direction
	conns map[string][]*socketEnd // open ends by node, in order of opening

	buffer int // how many bytes a connection takes before its reader has read any of them
}

type slowness struct {
	delay time.Duration // at most, each way
	rate  int           // bytes per millisecond
}

// swift is a network without trouble.
var swift = slowness{delay: 2 * time.Millisecond, rate: 1 << 20}

// socketBuffer is network.buffer unless a day says otherwise (the verb "sockets").
const socketBuffer = 192 << 10

// reader is who has one end of a connection.
type reader interface {
	readable(b []byte) // all that has come; the bytes are the network's again on return
	writable()         // there is room again
	broken()           // nothing comes any more
}

// socketEnd is one end of a connection: bytes in order both ways, each way with a delay of its own, until something
// breaks it.
type socketEnd struct {
	w      *World
	place  string   // where it is: a node's name, or a client's
	host   *Process // nil: a client's
	peer   *socketEnd
	reader reader

	out     []byte // written and not yet read at the other end
	flowing bool   // an event will carry some of it over
	full    bool   // the writer waits for room
	paused  bool   // the reader does not read
	closed  bool   // by its owner, or its owner knows of the end
	ended   bool   // nothing is taken from the owner any more: what is in out is the last
	ending  bool   // the other side will be told that this one has ended
}

// connect makes a connection between two places.
func (w *World) connect(a, b string, ha, hb *Process) (ea, eb *socketEnd) {
	ea = &socketEnd{w: w, place: a, host: ha}
	eb = &socketEnd{w: w, place: b, host: hb, peer: ea}
	ea.peer = eb
	for _, e := range []*socketEnd{ea, eb} {
		if e.host != nil {
			w.net.conns[e.place] = append(w.net.conns[e.place], e)
		}
	}
	return ea, eb
}

func (n *network) blocked(from, to string) bool {
	return n.part[from] != n.part[to] || n.holes[[2]string{from, to}] > 0
}

func (n *network) between(a, b string) slowness {
	if s, is := n.slow[[2]string{a, b}]; is {
		return s
	}
	return swift
}

// space returns how many bytes the connection takes at the moment.
func (e *socketEnd) space() int {
	if e.closed || e.ended {
		return 0
	}
	return max(0, e.w.net.buffer-len(e.out))
}

// write hands bytes over; no more than there is space for.
func (e *socketEnd) write(b []byte) {
	if len(b) == 0 || e.closed || e.ended {
		return
	}
	e.out = append(e.out, b...)
	e.flow()
}

// flow carries bytes over, a moment later.
func (e *socketEnd) flow() {
	if e.flowing || e.peer.paused || len(e.out) == 0 && !e.ending {
		return
	}
	e.flowing = true
	way := e.w.net.between(e.place, e.peer.place)
	e.w.after(e.w.between(20*time.Microsecond, way.delay), e.arrive)
}

// arrive is bytes that reach the other end. Whose process stands still has them wait in its kernel.
func (e *socketEnd) arrive() {
	p := e.peer
	if p.closed {
		e.flowing, e.out = false, nil
		return
	}
	// It is tried again: until that is healed, or one of them gives up.
	if e.host != nil && p.host != nil && e.w.net.blocked(e.place, p.place) {
		e.w.after(20*time.Millisecond, e.arrive)
		return
	}
	p.host.run(e.deliver)
}

func (e *socketEnd) deliver() {
	e.flowing = false
	p := e.peer
	if p.closed || p.paused {
		return
	}
	way := e.w.net.between(e.place, p.place)
	n := min(len(e.out), way.rate*int(way.delay/time.Millisecond+1))
	if n > 0 {
		b := e.out[:n:n]
		e.out = e.out[n:]
		if len(e.out) == 0 {
			e.out = nil
		}
		p.reader.readable(b)
		if e.full && !e.closed && len(e.out) <= e.w.net.buffer/2 {
			e.full = false
			e.host.run(e.reader.writable)
		}
	}
	if len(e.out) == 0 && e.ending && !p.closed {
		p.end()
		return
	}
	e.flow()
}

// end tells the owner that nothing comes any more.
func (e *socketEnd) end() {
	if e.closed {
		return
	}
	e.closed = true
	e.forget()
	if !e.ended { // what it had written is lost, and the other side hears of it
		e.finish()
	}
	e.reader.broken()
}

// finish lets the other side know, behind what was written, that no more comes.
func (e *socketEnd) finish() {
	e.ended, e.ending = true, true
	e.flow()
}

// close ends the connection at its owner's wish: what it has written still goes out.
func (e *socketEnd) close() {
	if e.closed {
		return
	}
	e.closed = true
	e.forget()
	if !e.ended {
		e.finish()
	}
}

func (e *socketEnd) forget() {
	conns := e.w.net.conns[e.place]
	for i, c := range conns {
		if c == e {
			e.w.net.conns[e.place] = append(conns[:i:i], conns[i+1:]...)
			return
		}
	}
}

// sever breaks a connection: of what is on its way a part arrives, cut at any byte, and each end notices by itself.
func (e *socketEnd) sever(low, high time.Duration) {
	for _, x := range [2]*socketEnd{e, e.peer} {
		if x.ended {
			continue
		}
		if len(x.out) > 0 {
			x.out = x.out[:x.w.draw(int64(len(x.out)+1))]
		}
		x.ended = true
	}
	for _, x := range [2]*socketEnd{e, e.peer} {
		if x.closed {
			continue
		}
		x.w.after(x.w.between(low, high), func() { x.host.run(x.end) })
	}
}

// pause stops or starts reading.
func (e *socketEnd) pause(is bool) {
	e.paused = is
	if !is {
		e.peer.flow()
	}
}

// framed cuts what was read into frames. It keeps the beginning of one that is not whole.
type framed struct{ rest []byte }

// read calls each for every whole frame. Each frame has a cause of its own: what comes with it, before or after, does
// not matter for what it leads to.
func (f *framed) read(w *World, b []byte, each func(frames []byte) (n int, err error)) error {
	if len(f.rest) > 0 {
		b = append(f.rest, b...)
	}
	for len(b) > 0 {
		var n int
		var err error
		w.under(mix(w.cause^xxhash.Sum64(b[:min(len(b), 48)])), func() { n, err = each(b) })
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
		b = b[n:]
	}
	f.rest = append([]byte(nil), b...)
	return nil
}
