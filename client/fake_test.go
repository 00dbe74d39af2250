package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/timedge/timedge/codec"
)

// TestMain fails if a goroutine is left; those that run before the tests are of a library of the real server.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m, goleak.IgnoreCurrent()) }

// fake is the servers' side of a test: each connection that the client opens is handed to the test, which plays the
// server frame by frame. It is used inside a synctest bubble, over pipes, so that time and order are the test's own.
type fake struct {
	t          *testing.T
	conns      chan *peer
	down       func(addr string) bool // which servers do not answer; nil: none
	ping       uint32                 // ping time in a welcome, ms
	maxPayload uint64                 // in a welcome

	mu    sync.Mutex
	tried []string    // addresses, in the order in which the client tried them
	at    []time.Time // and when
}

func newFake(t *testing.T) *fake {
	return &fake{t: t, conns: make(chan *peer), ping: 20_000, maxPayload: 4 << 20}
}

var errDown = errors.New("nobody listens")

func (f *fake) dial(ctx context.Context, addr string) (net.Conn, error) {
	f.mu.Lock()
	f.tried, f.at = append(f.tried, addr), append(f.at, time.Now())
	f.mu.Unlock()
	if f.down != nil && f.down(addr) {
		return nil, errDown
	}
	ours, theirs := net.Pipe()
	select {
	case f.conns <- &peer{t: f.t, conn: theirs, addr: addr}:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// tries returns the addresses that the client has tried until now.
func (f *fake) tries() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.tried)
}

// options are those of a client of f.
func (f *fake) options() Options {
	return Options{Servers: []string{"one"}, Account: "alice", Token: "secret", Dialer: f.dial}
}

// connect dials and plays the server's part in the handshake.
func (f *fake) connect(o Options) (*Client, *peer) {
	f.t.Helper()
	type result struct {
		c   *Client
		err error
	}
	done := make(chan result, 1)
	go func() {
		c, err := Dial(context.Background(), o)
		done <- result{c, err}
	}()
	p := f.accept()
	r := <-done
	if r.err != nil {
		f.t.Fatal(r.err)
	}
	f.t.Cleanup(func() { r.c.Close(context.Background()) })
	return r.c, p
}

// accept waits for the client's next connection and welcomes it.
func (f *fake) accept() *peer {
	f.t.Helper()
	p := <-f.conns
	p.hello = p.readHello()
	p.write(codec.AppendServerPreface(nil, 1))
	p.send(&codec.Welcome{Session: 1, Node: p.addr, MaxPayload: f.maxPayload, PingMillis: f.ping})
	return p
}

// peer is the server's end of one connection.
type peer struct {
	t     *testing.T
	conn  net.Conn
	addr  string
	in    []byte
	hello codec.Hello
}

func (p *peer) write(b []byte) {
	p.t.Helper()
	if _, err := p.conn.Write(b); err != nil {
		p.t.Fatalf("%s: write: %v", p.addr, err)
	}
}

type appender interface{ Append([]byte) ([]byte, error) }

func (p *peer) send(frames ...appender) {
	p.t.Helper()
	var b []byte
	for _, f := range frames {
		b = enc(f.Append(b))
	}
	p.write(b)
}

// fill reads once more from the client.
func (p *peer) fill() error {
	buf := make([]byte, 1<<20)
	n, err := p.conn.Read(buf)
	p.in = append(p.in, buf[:n]...)
	return err
}

func (p *peer) readHello() codec.Hello {
	p.t.Helper()
	if err := p.fill(); err != nil {
		p.t.Fatal(err)
	}
	pre, err := codec.ParsePreface(p.in)
	if err != nil || pre.A != codec.VersionMin || pre.B != codec.VersionMax {
		p.t.Fatalf("preface %v, %v", pre, err)
	}
	p.in = p.in[codec.PrefaceSize:]
	frame, _, err := codec.Next(p.in, codec.MaxHandshakeFrame) // in the same write
	if err != nil {
		p.t.Fatalf("hello: %v", err)
	}
	var h codec.Hello
	if err := h.Parse(frame); err != nil {
		p.t.Fatalf("hello: %v", err)
	}
	p.in = p.in[len(frame):]
	return h
}

// read returns the client's next frame: a codec.Control or a *codec.Stream.
func (p *peer) read() appender {
	p.t.Helper()
	for {
		frame, typ, err := codec.Next(p.in, codec.MaxFrame)
		if err == codec.ErrIncomplete {
			if err := p.fill(); err != nil {
				p.t.Fatalf("%s: read: %v", p.addr, err)
			}
			continue
		}
		if err != nil {
			p.t.Fatal(err)
		}
		p.in = p.in[len(frame):]
		if typ&codec.TypeStream != 0 {
			s := new(codec.Stream)
			if err := codec.ParseStream(frame, s); err != nil {
				p.t.Fatal(err)
			}
			s.Payload = append([]byte(nil), s.Payload...)
			return s
		}
		m, err := codec.ParseControl(append([]byte(nil), frame...))
		if err != nil {
			p.t.Fatal(err)
		}
		return m
	}
}

// want reads the next frame, which must be a T.
func want[T appender](p *peer) T {
	p.t.Helper()
	m := p.read()
	v, ok := m.(T)
	if !ok {
		p.t.Fatalf("%s: got %s, want a %T", p.addr, show(m), v)
	}
	return v
}

// quiet checks that the client has nothing to send.
func (p *peer) quiet() {
	p.t.Helper()
	if len(p.in) == 0 {
		p.conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		p.fill()
		p.conn.SetReadDeadline(time.Time{})
	}
	if len(p.in) > 0 {
		p.t.Fatalf("%s: unexpected %s", p.addr, show(p.read()))
	}
}

func (p *peer) close() { p.conn.Close() }

// show prints a frame as its fields, with the length of a payload in its place.
func show(m appender) string {
	if s, ok := m.(*codec.Stream); ok {
		return fmt.Sprintf("stream{pub %d dtype %d seq %d flags %d, %d bytes}", s.Pub, s.Dtype, s.Seq, s.Flags,
			len(s.Payload))
	}
	return fmt.Sprintf("%T%+v", m, m)
}

const room = codec.RoomID(7)

// published answers a publish.
func (p *peer) published(pub uint16, window uint32, streams ...codec.StreamNext) {
	p.t.Helper()
	m := want[*codec.Publish](p)
	p.send(&codec.Published{Req: m.Req, Room: m.Room, Pub: pub, Window: window, Streams: streams})
}

// subscribed answers a subscribe and returns it.
func (p *peer) subscribed(policy codec.Policy, window uint32) *codec.Subscribe {
	p.t.Helper()
	m := want[*codec.Subscribe](p)
	p.send(&codec.Subscribed{Req: m.Req, Room: m.Room, Policy: policy, Window: window})
	return m
}

// publish opens a publisher that the peer gives the number 1.
func publish(c *Client, p *peer, window uint32, o PublishOptions) *Publisher {
	p.t.Helper()
	pub, err := during(func() (*Publisher, error) { return c.Publish(context.Background(), room, o) },
		func() { p.published(1, window) })
	if err != nil {
		p.t.Fatal(err)
	}
	return pub
}

// subscribe opens a subscription.
func subscribe(c *Client, p *peer, policy codec.Policy, window uint32) *Subscription {
	p.t.Helper()
	s, err := during(func() (*Subscription, error) { return c.Subscribe(context.Background(), room, SubscribeOptions{}) },
		func() { p.subscribed(policy, window) })
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

// during runs f while play plays the server.
func during[T any](f func() (T, error), play func()) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	play()
	r := <-done
	return r.v, r.err
}

// background runs f; the channel gives its error.
func background(f func() error) <-chan error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	return done
}

func frame(seq uint64, flags codec.Flags, payload string) *codec.Stream {
	return &codec.Stream{Room: room, StreamKey: codec.StreamKey{Pub: 1, Dtype: 1}, Flags: flags, Seq: seq,
		Payload: []byte(payload)}
}

func gap(from, to uint64, reason codec.GapReason) *codec.Gap {
	return &codec.Gap{Room: room, StreamKey: codec.StreamKey{Pub: 1, Dtype: 1}, From: from, To: to, Reason: reason}
}

func ack(dtype uint8, seq uint64) *codec.Ack {
	return &codec.Ack{Room: room, StreamKey: codec.StreamKey{Pub: 1, Dtype: dtype}, Seq: seq}
}

func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// named runs the cases of a table, each in a bubble of its own.
func named[C any](t *testing.T, cases map[string]C, f func(t *testing.T, c C)) {
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { bubble(t, func(t *testing.T) { f(t, c) }) })
	}
}

// enc returns what an Append has written. A frame that does not fit is a fault of the test.
func enc(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
