//go:build linux

package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/timedge/timedge/codec"
)

// The tests of this file run a client against servers that keep the rules of PROTOCOL.md and break the connection
// whenever they like. The seed of a failing run is printed, and found again with -rapid.seed.

// modelServer is what all connections of a run share: the memory of the room.
type modelServer struct {
	mu     sync.Mutex
	rnd    *rand.Rand
	faults []string
	window int

	// Publishing: the streams as the room knows them.
	next    map[uint8]uint64
	open    map[uint8][]byte // a message of which pieces have come; nil if there is none
	begun   map[uint8]bool
	got     map[uint8][]string // messages taken, in order
	unacked map[uint8][]int    // sizes of the frames taken and not acknowledged
	breaks  int                // connections yet to break
	forget  bool               // now and then a publisher that comes back is a new one
	pub     uint16             // its number

	// Subscribing.
	streams map[uint8][]appender // all that there ever is, in order
	cut     bool                 // what take returned is the last that the connection sends
}

func newModel(seed uint64, breaks int) *modelServer {
	return &modelServer{
		rnd: rand.New(rand.NewPCG(seed, 0)), window: 4 * codec.MaxFrame, breaks: breaks, pub: 1,
		next: map[uint8]uint64{}, open: map[uint8][]byte{}, begun: map[uint8]bool{}, got: map[uint8][]string{},
		unacked: map[uint8][]int{}, streams: map[uint8][]appender{},
	}
}

func (m *modelServer) fault(format string, args ...any) {
	m.faults = append(m.faults, fmt.Sprintf(format, args...))
}

// dial is the client's dialer.
func (m *modelServer) dial(context.Context, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go m.serve(theirs)
	return ours, nil
}

// serve plays one connection. What it answers is written by a goroutine of its own, as a server's queue would.
func (m *modelServer) serve(conn net.Conn) {
	out := make(chan []byte, 1<<16)
	written := make(chan struct{})
	go func() {
		defer close(written)
		for b := range out {
			if _, err := conn.Write(b); err != nil {
				break
			}
		}
		conn.Close()
		for range out {
		}
	}()
	end := func() { close(out); <-written } // after all that is in out, unless conn is closed

	life := -1 // bytes to read before the connection breaks
	m.mu.Lock()
	if m.breaks > 0 {
		m.breaks--
		life = 200 + m.rnd.IntN(6*codec.MaxFrame)
	}
	m.mu.Unlock()

	var in []byte
	buf := make([]byte, 64<<10)
	greeted := false
	for {
		conn.SetReadDeadline(time.Now().Add(25 * time.Millisecond))
		n, err := conn.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			m.mu.Lock()
			if b := m.ackAll(); b != nil {
				out <- b
			}
			m.mu.Unlock()
			continue
		}
		if err == nil && life >= 0 {
			if life -= n; life < 0 {
				err = io.EOF // and what was read last is lost
			}
		}
		if err != nil {
			conn.Close()
			end()
			return
		}
		in = append(in, buf[:n]...)
		if !greeted {
			in, greeted = in[codec.PrefaceSize:], true
			out <- enc((&codec.Welcome{MaxPayload: 4 << 20}).Append(codec.AppendServerPreface(nil, 1)))
		}
		for {
			frame, typ, err := codec.Next(in, codec.MaxFrame)
			if err != nil {
				break
			}
			m.mu.Lock()
			b := m.take(frame, typ)
			cut := m.cut
			m.cut = false
			m.mu.Unlock()
			in = in[len(frame):]
			if b != nil {
				out <- b
			}
			if cut {
				end()
				return
			}
		}
	}
}

// take acts on one frame and returns what to answer.
func (m *modelServer) take(b []byte, typ byte) (out []byte) {
	if typ&codec.TypeStream != 0 {
		var f codec.Stream
		if err := codec.ParseStream(b, &f); err != nil {
			m.fault("%v", err)
			return nil
		}
		return m.push(&f)
	}
	c, err := codec.ParseControl(b)
	if err != nil {
		m.fault("%v", err)
		return nil
	}
	switch c := c.(type) {
	case *codec.Publish:
		if m.forget && m.rnd.IntN(2) == 0 {
			m.pub++
			clear(m.next)
			clear(m.begun)
		}
		p := &codec.Published{Req: c.Req, Room: c.Room, Pub: m.pub, Window: uint32(m.window)}
		for dtype, next := range m.next {
			p.Streams = append(p.Streams, codec.StreamNext{Dtype: dtype, Next: next})
		}
		clear(m.unacked) // of another connection
		for dtype := range m.next {
			m.unacked[dtype] = nil // what has arrived is acknowledged anew
		}
		return enc(p.Append(nil))
	case *codec.Gap:
		if c.Pub != m.pub {
			m.fault("gap of publisher %d, want %d", c.Pub, m.pub)
		}
		if c.From > m.expect(c.Dtype) {
			m.fault("gap %d-%d, next is %d", c.From, c.To, m.next[c.Dtype])
		}
		if c.To >= m.next[c.Dtype] {
			m.next[c.Dtype] = c.To + 1
			m.begun[c.Dtype] = false
		}
		return m.acks(c.Dtype, len(b))
	case *codec.Subscribe:
		return m.subscribe(c)
	}
	return nil
}

func (m *modelServer) expect(dtype uint8) uint64 {
	if m.next[dtype] == 0 {
		m.next[dtype] = 1
	}
	return m.next[dtype]
}

func (m *modelServer) push(f *codec.Stream) []byte {
	next := m.expect(f.Dtype)
	if f.Pub != m.pub {
		m.fault("frame of publisher %d, want %d", f.Pub, m.pub)
	}
	if f.Seq > next {
		m.fault("dtype %d: frame %d, next is %d", f.Dtype, f.Seq, next)
	}
	if f.Seq >= next {
		if f.Flags.Start() == m.begun[f.Dtype] {
			m.fault("dtype %d: frame %d: begins %v, while one has begun: %v", f.Dtype, f.Seq, f.Flags.Start(), m.begun[f.Dtype])
		}
		if f.Flags.Start() {
			m.open[f.Dtype] = nil
		}
		m.open[f.Dtype] = append(m.open[f.Dtype], f.Payload...)
		m.begun[f.Dtype] = !f.Flags.End()
		if f.Flags.End() {
			m.got[f.Dtype] = append(m.got[f.Dtype], digest(m.open[f.Dtype]))
		}
		m.next[f.Dtype] = f.Seq + 1
	}
	return m.acks(f.Dtype, codec.StreamHeaderSize+len(f.Payload))
}

// acks counts a frame and acknowledges now and then.
func (m *modelServer) acks(dtype uint8, size int) []byte {
	m.unacked[dtype] = append(m.unacked[dtype], size)
	sum := 0
	for _, sizes := range m.unacked {
		for _, n := range sizes {
			sum += n
		}
	}
	if sum > m.window {
		m.fault("%d bytes without acknowledgement, window %d", sum, m.window)
	}
	if sum < m.window/4 && m.rnd.IntN(4) > 0 {
		return nil
	}
	return m.ackAll()
}

func (m *modelServer) ackAll() (out []byte) {
	for d := range m.unacked {
		a := ack(d, m.next[d]-1)
		a.Pub = m.pub
		out = enc(a.Append(out))
		delete(m.unacked, d)
	}
	return out
}

// digest tells messages apart by dtype, index and size.
func digest(p []byte) string {
	if len(p) < 5 {
		return fmt.Sprintf("%d bytes", len(p))
	}
	return fmt.Sprintf("%d/%d %d bytes", p[0], binary.BigEndian.Uint32(p[1:]), len(p))
}

// Whatever breaks: the server gets every message whose Push succeeded, whole, in order and once, within the window; and
// nothing of those that were given up. If the server forgets the publisher, messages that were under way may come a
// second time under its new number, and one that was cut may be lost, which is told.
func TestModelPublisher(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		breaks := rapid.IntRange(0, 6).Draw(rt, "breaks")
		forget := rapid.Bool().Draw(rt, "forget")
		var faults []string
		bubble(t, func(t *testing.T) { faults = modelPublisher(seed, breaks, forget) })
		for _, f := range faults {
			rt.Error(f)
		}
	})
}

// modelSizes are sizes of messages: within a frame, within the window, above it.
var modelSizes = []int{0, 1, 100, 100, 1000, 40_000, 40_000, 2 * codec.MaxPiece, 3 * codec.MaxPiece, 6 * codec.MaxPiece}

func modelPublisher(seed uint64, breaks int, forget bool) []string {
	m := newModel(seed, breaks)
	m.forget = forget
	c, err := Dial(context.Background(), Options{Servers: []string{"one", "two"}, Dialer: m.dial})
	if err != nil {
		return []string{err.Error()}
	}
	defer c.Close(context.Background())
	ctx := context.Background()
	p, err := c.Publish(ctx, room, PublishOptions{})
	if err != nil {
		return []string{err.Error()}
	}
	want := make([][]string, 3)
	var lost atomic.Int32
	told := func(err error) bool {
		is := errors.Is(err, &ClosedError{Code: codec.CodeGone})
		if is {
			lost.Add(3) // one in each stream at most
		}
		return is
	}
	var all sync.WaitGroup
	for d := range uint8(3) {
		rnd := rand.New(rand.NewPCG(seed, uint64(d)+1))
		all.Go(func() {
			for i := range uint32(12) {
				payload := make([]byte, 5+modelSizes[rnd.IntN(len(modelSizes))])
				payload[0] = d
				binary.BigEndian.PutUint32(payload[1:], i)
				push, cancel := context.WithTimeout(ctx, time.Hour)
				if rnd.IntN(4) == 0 {
					cancel()
					push, cancel = context.WithTimeout(ctx, time.Duration(1+rnd.IntN(100))*time.Millisecond)
				}
				err := p.Push(push, d, Delta, payload)
				cancel()
				switch {
				case err == nil:
					want[d] = append(want[d], digest(payload))
				case told(err) || errors.Is(err, context.DeadlineExceeded):
				default:
					m.mu.Lock()
					m.fault("push: %v", err)
					m.mu.Unlock()
				}
				if rnd.IntN(10) == 0 {
					time.Sleep(time.Duration(rnd.IntN(200)) * time.Millisecond)
				}
			}
		})
	}
	all.Wait()
	for {
		err := p.Flush(ctx)
		if err == nil {
			break
		}
		if !told(err) {
			return []string{"flush: " + err.Error()}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if forget {
		missing := 0
		for d := range uint8(3) {
			for _, w := range want[d] {
				if !slices.Contains(m.got[d], w) {
					missing++
				}
			}
		}
		if missing > int(lost.Load()) {
			m.fault("%d messages are missing, %d told", missing, lost.Load())
		}
		return m.faults
	}
	for d := range uint8(3) {
		if fmt.Sprint(m.got[d]) != fmt.Sprint(want[d]) {
			m.fault("dtype %d: pushed %v\ngot %v", d, want[d], m.got[d])
		}
	}
	return m.faults
}

// subscribe answers with what comes after the positions, partly fallen out of the cache, up to the end of all streams.
// A server that is to break the connection sends a part of it.
func (m *modelServer) subscribe(c *codec.Subscribe) []byte {
	have := map[uint8]uint64{}
	for _, p := range c.Have {
		have[p.Dtype] = p.Last
	}
	out := enc((&codec.Subscribed{Req: c.Req, Room: c.Room}).Append(nil))
	out = enc((&codec.Joined{Room: room, Pub: 1, Account: "bob"}).Append(out))
	rest := map[uint8][]appender{}
	for d, frames := range m.streams {
		from := have[d]
		i := 0
		for i < len(frames) && last(frames[i]) <= from {
			i++
		}
		if from > 0 && m.rnd.IntN(3) == 0 { // not cached up to some later message
			to := from
			for i < len(frames) && (last(frames[i]) < from+uint64(m.rnd.IntN(5)) || !begins(frames, i)) {
				to = last(frames[i])
				i++
			}
			if to > from {
				g := gap(from+1, to, codec.GapExpired)
				g.Dtype = d
				out = enc(g.Append(out))
			}
		}
		rest[d] = frames[i:]
	}
	for len(rest) > 0 { // interleaved in any way
		for d, frames := range rest {
			if len(frames) == 0 {
				delete(rest, d)
				continue
			}
			out = enc(frames[0].Append(out))
			rest[d] = frames[1:]
		}
	}
	if m.breaks > 0 {
		m.breaks--
		m.cut = true
		return out[:m.rnd.IntN(len(out))]
	}
	return out
}

func last(f appender) uint64 {
	switch f := f.(type) {
	case *codec.Stream:
		return f.Seq
	case *codec.Gap:
		return f.To
	}
	panic("neither frame nor gap")
}

func begins(frames []appender, i int) bool {
	f, ok := frames[i].(*codec.Stream)
	return !ok || f.Flags.Start()
}

// Whatever breaks: what Next returns covers every number of every stream once, in order, by messages that are as they
// were sent, and gaps.
func TestModelSubscriber(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "seed")
		breaks := rapid.IntRange(0, 6).Draw(rt, "breaks")
		buffer := rapid.SampledFrom([]int{1, 3000, 1 << 20}).Draw(rt, "buffer")
		var faults []string
		bubble(t, func(t *testing.T) { faults = modelSubscriber(seed, breaks, buffer) })
		for _, f := range faults {
			rt.Error(f)
		}
	})
}

func modelSubscriber(seed uint64, breaks, buffer int) []string {
	m := newModel(seed, breaks)
	ends := m.compose()
	c, err := Dial(context.Background(), Options{Servers: []string{"one", "two"}, Dialer: m.dial, ReceiveBuffer: buffer})
	if err != nil {
		return []string{err.Error()}
	}
	defer c.Close(context.Background())
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	s, err := c.Subscribe(ctx, room, SubscribeOptions{})
	if err != nil {
		return []string{err.Error()}
	}
	var faults []string
	next := map[uint8]uint64{}
	for d := range ends {
		next[d] = 1
	}
	for len(ends) > 0 {
		ev, err := s.Next(ctx)
		if err != nil {
			return append(faults, fmt.Sprintf("next: %v; still expected up to %v, from %v", err, ends, next))
		}
		switch ev := ev.(type) {
		case *Message:
			if ev.First != next[ev.Dtype] {
				faults = append(faults, fmt.Sprintf("dtype %d: message %d-%d, want %d", ev.Dtype, ev.First, ev.Last,
					next[ev.Dtype]))
			}
			if !bytes.Equal(ev.Payload, m.message(ev.Dtype, ev.First, ev.Last)) || ev.Publisher != "bob" {
				faults = append(faults, fmt.Sprintf("dtype %d: message %d-%d is not what was sent", ev.Dtype, ev.First, ev.Last))
			}
			next[ev.Dtype] = ev.Last + 1
		case *Gap:
			from := ev.From
			if ev.Interrupted != 0 {
				from = ev.Interrupted
			}
			if from != next[ev.Dtype] {
				faults = append(faults, fmt.Sprintf("dtype %d: gap %d-%d, from %d, want %d", ev.Dtype, ev.From, ev.To, from,
					next[ev.Dtype]))
			}
			next[ev.Dtype] = ev.To + 1
		}
		for d, end := range ends {
			if next[d] == end+1 {
				delete(ends, d)
			}
		}
	}
	return faults
}

// compose makes up the streams and returns the last number of each.
func (m *modelServer) compose() map[uint8]uint64 {
	ends := map[uint8]uint64{}
	for d := range uint8(3) {
		seq := uint64(1)
		for range 20 + m.rnd.IntN(20) {
			if m.rnd.IntN(5) == 0 {
				to := seq + uint64(m.rnd.IntN(10))
				g := gap(seq, to, codec.GapSlow)
				g.Dtype = d
				m.streams[d] = append(m.streams[d], g)
				seq = to + 1
				continue
			}
			n := 1 + m.rnd.IntN(4)
			for i := range n {
				var flags codec.Flags
				if i > 0 {
					flags |= codec.FlagCont
				}
				if i < n-1 {
					flags |= codec.FlagMore
				}
				f := frame(seq, flags, string(bytes.Repeat([]byte{d, byte(seq)}, m.rnd.IntN(500))))
				f.Dtype = d
				m.streams[d] = append(m.streams[d], f)
				seq++
			}
		}
		ends[d] = seq - 1
	}
	return ends
}

// message joins the frames first to last of a stream.
func (m *modelServer) message(dtype uint8, first, last uint64) (p []byte) {
	for _, f := range m.streams[dtype] {
		if f, ok := f.(*codec.Stream); ok && f.Seq >= first && f.Seq <= last {
			p = append(p, f.Payload...)
		}
	}
	return p
}
