//go:build linux

package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/timedge/timedge/codec"
)

// modelCluster is two nodes that carry one room, by the rules of PROTOCOL.md. One relays the room: its log is the order
// of all frames. What is acknowledged is on both; the rest is forgotten when the room moves without a hand-over, though
// a subscriber may have it already.
type modelCluster struct {
	mu     sync.Mutex
	rnd    *rand.Rand
	faults []string

	logs  map[uint8][]appender // by dtype, without holes: what the relay has
	acked map[uint8]uint64     // of this
	known bool                 // the relay has streams of the publisher: it is not new
	joins int                  // connections that published or subscribed
	conns map[*modelConn]bool

	breaks, moves, refusals int // yet to come

	again, early int // frames that came again, and frames that a subscriber had before the relay had them again
}

// modelConn is one connection with either node.
type modelConn struct {
	out        chan []byte
	kill       func() error // breaks the connection
	publishing bool
	refused    uint64           // frames, not yet told
	due        bool             // something is to be acknowledged
	have       map[uint8]uint64 // where the subscriber is; nil: it is none
}

const clusterWindow = 4 * codec.MaxFrame

func (m *modelCluster) dial(context.Context, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go m.serve(theirs)
	return ours, nil
}

func (m *modelCluster) serve(conn net.Conn) {
	c := &modelConn{out: make(chan []byte, 1<<16), kill: conn.Close}
	m.mu.Lock()
	m.conns[c] = true
	in, out := -1, -1 // bytes until the connection breaks, either way
	if m.breaks > 0 {
		m.breaks--
		in, out = 200+m.rnd.IntN(6*codec.MaxFrame), 100+m.rnd.IntN(6*codec.MaxFrame)
	}
	m.mu.Unlock()

	written := make(chan struct{})
	go func() {
		defer close(written)
		for b := range c.out {
			if out >= 0 && len(b) > out { // in the middle of a frame
				conn.Write(b[:out])
				conn.Close()
				break
			}
			if _, err := conn.Write(b); err != nil {
				break
			}
			if out >= 0 {
				out -= len(b)
			}
		}
		for range c.out {
		}
	}()
	tick := time.NewTicker(25 * time.Millisecond)
	over := make(chan struct{})
	ticked := make(chan struct{})
	go func() {
		defer close(ticked)
		for {
			select {
			case <-tick.C:
				m.mu.Lock()
				m.tick(c)
				m.mu.Unlock()
			case <-over:
				return
			}
		}
	}()
	m.read(conn, c, in)
	conn.Close()
	tick.Stop()
	close(over)
	<-ticked
	m.mu.Lock()
	delete(m.conns, c)
	m.mu.Unlock()
	close(c.out)
	<-written
}

// read takes what the client sends until the connection breaks, which loses what was read last.
func (m *modelCluster) read(conn io.Reader, c *modelConn, life int) {
	var in []byte
	buf := make([]byte, 64<<10)
	for greeted := false; ; {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		if life >= 0 {
			if life -= n; life < 0 {
				return
			}
		}
		in = append(in, buf[:n]...)
		m.mu.Lock()
		if !greeted {
			in, greeted = in[codec.PrefaceSize:], true
			c.out <- enc((&codec.Welcome{MaxPayload: 4 << 20, PingMillis: 1000}).Append(codec.AppendServerPreface(nil, 1)))
		}
		for {
			frame, typ, err := codec.Next(in, codec.MaxFrame)
			if err != nil {
				break
			}
			m.take(c, frame, typ)
			in = in[len(frame):]
		}
		m.mu.Unlock()
	}
}

func (m *modelCluster) fault(format string, args ...any) {
	m.faults = append(m.faults, fmt.Sprintf(format, args...))
}

func (c *modelConn) send(f appender) { c.out <- enc(f.Append(nil)) }

func (m *modelCluster) next(dtype uint8) uint64 {
	if log := m.logs[dtype]; len(log) > 0 {
		return last(log[len(log)-1]) + 1
	}
	return 1
}

func (m *modelCluster) take(c *modelConn, b []byte, typ byte) {
	if typ&codec.TypeStream != 0 {
		f := new(codec.Stream)
		if err := codec.ParseStream(bytes.Clone(b), f); err != nil {
			m.fault("%v", err)
			return
		}
		m.push(c, f.Dtype, f.Seq, f.Seq, f)
		return
	}
	f, err := codec.ParseControl(b)
	if err != nil {
		m.fault("%v", err)
		return
	}
	switch f := f.(type) {
	case *codec.Gap:
		m.push(c, f.Dtype, f.From, f.To, f)
	case *codec.Publish:
		if m.refuse(c, f.Req) {
			return
		}
		c.publishing, c.due = true, true
		p := &codec.Published{Req: f.Req, Room: f.Room, Pub: 1, Window: clusterWindow}
		for dtype := range m.logs {
			if m.known {
				p.Streams = append(p.Streams, codec.StreamNext{Dtype: dtype, Next: m.next(dtype)})
			}
		}
		c.send(p)
	case *codec.Subscribe:
		if m.refuse(c, f.Req) {
			return
		}
		c.send(&codec.Subscribed{Req: f.Req, Room: f.Room})
		c.send(&codec.Joined{Room: room, Pub: 1, Account: "bob"})
		c.have = map[uint8]uint64{}
		for _, h := range f.Have {
			c.have[h.Dtype] = h.Last
		}
		for dtype, log := range m.logs {
			for _, f := range log {
				m.pass(c, dtype, f)
			}
		}
	case *codec.Ping:
		c.send(&codec.Pong{Echo: f.Echo})
	}
}

// refuse says no for now, now and then, but not to those who come for the first time.
func (m *modelCluster) refuse(c *modelConn, req uint32) bool {
	if m.joins++; m.joins <= 2 || m.refusals == 0 || m.rnd.IntN(2) == 0 {
		return false
	}
	m.refusals--
	code := codec.CodeMoved
	if m.rnd.IntN(2) == 0 {
		code = codec.CodeOverloaded
	}
	c.send(&codec.Refused{Req: req, Code: code})
	return true
}

// push takes a frame or a gap of the publisher.
func (m *modelCluster) push(c *modelConn, dtype uint8, from, to uint64, f appender) {
	if !c.publishing {
		if c.refused++; m.rnd.IntN(4) == 0 {
			m.tick(c)
		}
		return
	}
	switch next := m.next(dtype); {
	case from > next:
		m.fault("dtype %d: frame %d, next is %d", dtype, from, next)
		return
	case to < next:
		m.again++
		for _, had := range m.logs[dtype] {
			if last(had) == to && !bytes.Equal(enc(had.Append(nil)), enc(f.Append(nil))) {
				m.fault("dtype %d: frame %d is another one when it comes again", dtype, to)
			}
		}
	default:
		m.logs[dtype], m.known = append(m.logs[dtype], f), true
		for sub := range m.conns {
			if sub.have[dtype] >= to {
				m.early++
			}
			m.pass(sub, dtype, f)
		}
	}
	c.due = true
	if m.unacked() > clusterWindow {
		m.fault("%d bytes without acknowledgement", m.unacked())
	}
	if m.unacked() > clusterWindow/4 || m.rnd.IntN(8) == 0 {
		m.tick(c)
	}
	if m.moves > 0 && m.rnd.IntN(8) == 0 {
		m.moves--
		m.move(c)
	}
}

func (m *modelCluster) unacked() (sum int) {
	for dtype, log := range m.logs {
		for _, f := range log {
			if last(f) > m.acked[dtype] {
				sum += len(enc(f.Append(nil)))
			}
		}
	}
	return sum
}

// move has the other node relay the room from now on: with all that there is, or, after the death of the one that did,
// with what both have. Who was connected with the dead one has to come to the other, too.
func (m *modelCluster) move(c *modelConn) {
	if m.rnd.IntN(3) > 0 {
		m.known = false
		for other := range m.conns {
			if m.rnd.IntN(2) == 0 {
				other.publishing, other.have = false, nil
				other.kill()
			}
		}
		for dtype, log := range m.logs {
			for len(log) > 0 && last(log[len(log)-1]) > m.acked[dtype] {
				log = log[:len(log)-1]
			}
			m.logs[dtype] = log
		}
	}
	c.publishing = false
	c.send(moved)
}

// pass gives a frame to a subscriber who has not got it.
func (m *modelCluster) pass(c *modelConn, dtype uint8, f appender) {
	if c.have != nil && last(f) > c.have[dtype] {
		c.have[dtype] = last(f)
		c.send(f)
	}
}

// tick tells what is to be told: refusals, and acknowledgements, which may get lost.
func (m *modelCluster) tick(c *modelConn) {
	if c.refused > 0 {
		c.send(&codec.PushRefused{Room: room, Pub: 1, Code: codec.CodeNotPublishing, Frames: c.refused})
		c.refused = 0
	}
	if !c.publishing || !c.due {
		return
	}
	c.due = false
	for dtype := range m.logs {
		m.acked[dtype] = m.next(dtype) - 1
		c.send(ack(dtype, m.acked[dtype]))
	}
}

// Whatever breaks, moves and is refused: every message whose Push succeeded comes to the subscriber once, whole and in
// order, and nothing is missing but what the publisher gave up.
func TestModelCluster(t *testing.T) {
	again, early := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		m := &modelCluster{
			rnd:  rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0)),
			logs: map[uint8][]appender{}, acked: map[uint8]uint64{}, conns: map[*modelConn]bool{}, known: true,
			breaks:   rapid.IntRange(0, 8).Draw(rt, "breaks"),
			moves:    rapid.IntRange(0, 6).Draw(rt, "moves"),
			refusals: rapid.IntRange(0, 4).Draw(rt, "refusals"),
		}
		bubble(t, func(t *testing.T) { runCluster(m) })
		for _, f := range m.faults {
			rt.Error(f)
		}
		again, early = again+m.again, early+m.early
	})
	t.Logf("%d frames came again, %d came to a subscriber before the relay had them again", again, early)
	if !t.Failed() && (again == 0 || early == 0) {
		t.Errorf("%d frames came again, %d before the relay had them: the model is too kind", again, early)
	}
}

func runCluster(m *modelCluster) {
	fail := func(format string, args ...any) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.fault(format, args...)
	}
	o := Options{Servers: []string{"one", "two"}, Dialer: m.dial}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	bob, err := Dial(ctx, o)
	if err != nil {
		fail("%v", err)
		return
	}
	defer bob.Close(context.Background())
	alice, err := Dial(ctx, o)
	if err != nil {
		fail("%v", err)
		return
	}
	defer alice.Close(context.Background())
	pub, err := bob.Publish(ctx, room, PublishOptions{})
	if err != nil {
		fail("publish: %v", err)
		return
	}
	sub, err := alice.Subscribe(ctx, room, SubscribeOptions{})
	if err != nil {
		fail("subscribe: %v", err)
		return
	}

	m.mu.Lock()
	seed := m.rnd.Uint64()
	m.mu.Unlock()
	want := make([][]string, 3)
	var pushes sync.WaitGroup
	for d := range uint8(3) {
		rnd := rand.New(rand.NewPCG(seed, uint64(d)))
		pushes.Go(func() {
			for i := range uint32(14) {
				payload := make([]byte, 5+modelSizes[rnd.IntN(len(modelSizes))])
				payload[0] = d
				binary.BigEndian.PutUint32(payload[1:], i)
				push, cancel := context.WithTimeout(ctx, time.Hour)
				if rnd.IntN(6) == 0 {
					cancel()
					push, cancel = context.WithTimeout(ctx, time.Duration(1+rnd.IntN(100))*time.Millisecond)
				}
				err := pub.Push(push, d, Delta, payload)
				cancel()
				if err == nil {
					want[d] = append(want[d], digest(payload))
				} else if push.Err() == nil {
					fail("push: %v", err)
				}
				if rnd.IntN(4) == 0 {
					time.Sleep(time.Duration(rnd.IntN(200)) * time.Millisecond)
				}
			}
			if err := pub.Push(ctx, d, Delta, []byte("end")); err != nil {
				fail("push: %v", err)
			}
			want[d] = append(want[d], digest([]byte("end")))
		})
	}
	pushes.Go(func() {
		for range 3 {
			if err := pub.Flush(ctx); err != nil {
				fail("flush: %v", err)
			}
			time.Sleep(100 * time.Millisecond)
		}
	})

	got, next := make([][]string, 3), []uint64{1, 1, 1}
	for open := 3; open > 0; {
		ev, err := sub.Next(ctx)
		if err != nil {
			fail("next: %v; got %v", err, next)
			break
		}
		switch ev := ev.(type) {
		case *Message:
			if ev.First != next[ev.Dtype] {
				fail("dtype %d: message %d-%d, want %d", ev.Dtype, ev.First, ev.Last, next[ev.Dtype])
			}
			next[ev.Dtype] = ev.Last + 1
			got[ev.Dtype] = append(got[ev.Dtype], digest(ev.Payload))
			if string(ev.Payload) == "end" {
				open--
			}
		case *Gap:
			if ev.Reason != codec.GapPublisher {
				fail("dtype %d: gap %d-%d %v", ev.Dtype, ev.From, ev.To, ev.Reason)
			}
			next[ev.Dtype] = ev.To + 1
		}
	}
	pushes.Wait()
	if err := pub.Flush(ctx); err != nil {
		fail("flush: %v", err)
	}
	for d := range want {
		if fmt.Sprint(got[d]) != fmt.Sprint(want[d]) {
			fail("dtype %d: pushed %v\ngot %v", d, want[d], got[d])
		}
	}
}
