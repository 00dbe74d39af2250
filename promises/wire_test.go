package promises

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// wire is a client that speaks bare frames, for what the SDK hides or does not let one do.
type wire struct {
	t   testing.TB
	c   net.Conn
	buf []byte
	req uint32
}

// login connects and says hello.
func login(t testing.TB, addr, account string) *wire {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	w := &wire{t: t, c: c}
	b := codec.AppendClientPreface(nil, codec.VersionMin, codec.VersionMax)
	w.write(enc((&codec.Hello{Account: account, Instance: uint64(time.Now().UnixNano())}).Append(b)))
	preface := make([]byte, codec.PrefaceSize)
	if _, err := io.ReadFull(c, preface); err != nil {
		t.Fatal(err)
	}
	if _, ok := w.any().(*codec.Welcome); !ok {
		t.Fatal("no welcome")
	}
	return w
}

func (w *wire) write(b []byte) {
	w.t.Helper()
	if _, err := w.c.Write(b); err != nil {
		w.t.Fatal(err)
	}
}

// any returns the next frame, a *codec.Stream or a codec.Control. It is valid until the next call.
func (w *wire) any() any {
	w.t.Helper()
	x, err := w.next()
	if err != nil {
		w.t.Fatal(err)
	}
	return x
}

func (w *wire) next() (any, error) {
	for {
		b, typ, err := codec.Next(w.buf, codec.MaxFrame)
		if err == codec.ErrIncomplete {
			if err := w.fill(); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		w.buf = w.buf[len(b):]
		if typ&codec.TypeStream == 0 {
			return codec.ParseControl(b)
		}
		var s codec.Stream
		err = codec.ParseStream(b, &s)
		return &s, err
	}
}

func (w *wire) fill() error {
	w.buf = append(make([]byte, 0, len(w.buf)+128<<10), w.buf...)
	_ = w.c.SetReadDeadline(time.Now().Add(patience))
	n, err := w.c.Read(w.buf[len(w.buf):cap(w.buf)])
	w.buf = w.buf[:len(w.buf)+n]
	return err
}

// subscribe asks for a room and returns the server's refusal, as the SDK would.
func (w *wire) subscribe(room codec.RoomID) error {
	w.t.Helper()
	w.req++
	w.write(enc((&codec.Subscribe{Req: w.req, Room: room}).Append(nil)))
	switch m := w.any().(type) {
	case *codec.Subscribed: // before anything of the room
		return nil
	case *codec.Refused:
		return &client.RefusedError{Code: m.Code, Text: m.Text}
	default:
		return fmt.Errorf("subscribe is answered by %+v", m)
	}
}

// enc returns what an Append has written. A frame that does not fit is a fault of the test.
func enc(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
