package engine_test

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

// start runs a server on a free port of the loopback interface for the length of a test.
func start(t testing.TB, change ...func(*engine.Config)) *engine.Engine {
	t.Helper()
	cfg := engine.Config{Listen: []string{"127.0.0.1:0"}, Loops: 2, Node: "test", Log: zerolog.Nop(), DrainSpread: time.Millisecond}
	for _, f := range change {
		f(&cfg)
	}
	e, err := engine.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if e.Leaving() { // the test has shut it down
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := e.Shutdown(ctx); err != nil && ctx.Err() == nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return e
}

// wire is a client that speaks bare frames, for what an SDK would not let one do.
type wire struct {
	t     testing.TB
	c     net.Conn
	buf   []byte // read and not yet looked at
	chunk []byte // what one read may bring
	req   uint32
}

// patience is how long a test waits for something that must come; it bounds a hanging test and asserts nothing.
const patience = time.Minute

func dial(t testing.TB, e *engine.Engine) *wire {
	t.Helper()
	c, err := net.Dial("tcp", e.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &wire{t: t, c: c}
}

// login dials and says hello.
func login(t testing.TB, e *engine.Engine, account string, instance uint64) *wire {
	t.Helper()
	w := dial(t, e)
	b := codec.AppendClientPreface(nil, codec.VersionMin, codec.VersionMax)
	w.write(enc((&codec.Hello{Account: account, Instance: instance}).Append(b)))
	w.preface()
	next[*codec.Welcome](w)
	return w
}

func (w *wire) write(b []byte) {
	w.t.Helper()
	if _, err := w.c.Write(b); err != nil {
		w.t.Fatalf("write: %v", err)
	}
}

func (w *wire) send(c codec.Control) { w.t.Helper(); w.write(enc(c.Append(nil))) }

func (w *wire) fill() error {
	_ = w.c.SetReadDeadline(time.Now().Add(patience))
	if w.chunk == nil {
		w.chunk = make([]byte, 64<<10)
	}
	n, err := w.c.Read(w.chunk)
	w.buf = append(w.buf, w.chunk[:n]...)
	return err
}

func (w *wire) preface() codec.Preface {
	w.t.Helper()
	for len(w.buf) < codec.PrefaceSize {
		if err := w.fill(); err != nil {
			w.t.Fatalf("preface: %v", err)
		}
	}
	p, err := codec.ParsePreface(w.buf)
	if err != nil {
		w.t.Fatal(err)
	}
	w.buf = w.buf[codec.PrefaceSize:]
	return p
}

// frame returns the next frame, valid until the next call; io.EOF when the server has closed.
func (w *wire) frame() (b []byte, typ byte, err error) {
	for {
		b, typ, err := codec.Next(w.buf, codec.MaxFrame)
		if err == nil {
			w.buf = w.buf[len(b):]
			return b, typ, nil
		}
		if err != codec.ErrIncomplete {
			w.t.Fatalf("bad frame from the server: %v", err)
		}
		if err := w.fill(); err != nil {
			return nil, 0, err
		}
	}
}

// any returns the next frame as a codec.Control or *codec.Stream; nil when the server has closed.
func (w *wire) any() any {
	w.t.Helper()
	b, typ, err := w.frame()
	if err == io.EOF || err != nil && !isTimeout(err) {
		return nil
	}
	if err != nil {
		w.t.Fatalf("waited in vain: %v", err)
	}
	if typ&codec.TypeStream != 0 {
		var s codec.Stream
		if err := codec.ParseStream(b, &s); err != nil {
			w.t.Fatal(err)
		}
		s.Payload = append([]byte(nil), s.Payload...)
		return &s
	}
	c, err := codec.ParseControl(append([]byte(nil), b...))
	if err != nil {
		w.t.Fatalf("frame %#x: %v", typ, err)
	}
	return c
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}

// next waits for the next frame of type T; other frames before it are dropped.
func next[T any](w *wire) T {
	w.t.Helper()
	for {
		x := w.any()
		if x == nil {
			var zero T
			w.t.Fatalf("connection closed while waiting for %T", zero)
		}
		if v, ok := x.(T); ok {
			return v
		}
		if r, ok := x.(*codec.Refused); ok {
			var zero T
			w.t.Fatalf("refused while waiting for %T: %v %s", zero, r.Code, r.Text)
		}
	}
}

func (w *wire) nextReq() uint32 { w.req++; return w.req }

func (w *wire) register(m codec.Register) codec.RoomID {
	w.t.Helper()
	m.Req = w.nextReq()
	w.send(&m)
	return next[*codec.Registered](w).Room
}

// publish asks until it is answered: as long as the room is on its way to another node it is refused.
func (w *wire) publish(room codec.RoomID) *codec.Published {
	w.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		w.send(&codec.Publish{Req: w.nextReq(), Room: room})
		for answered := false; !answered; {
			switch x := w.any().(type) {
			case nil:
				w.t.Fatal("connection closed while publishing")
			case *codec.Published:
				return x
			case *codec.Refused:
				if x.Code != codec.CodeMoved || time.Now().After(deadline) {
					w.t.Fatalf("refused to publish: %v %s", x.Code, x.Text)
				}
				answered = true
			}
		}
	}
}

func (w *wire) subscribe(room codec.RoomID, have ...codec.Position) {
	w.t.Helper()
	w.send(&codec.Subscribe{Req: w.nextReq(), Room: room, Have: have})
	next[*codec.Subscribed](w)
}

// enc returns what an Append has written. A frame that does not fit is a fault of the test.
func enc(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
