package engine

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/codec"
)

// TestUnsendable: an answer that does not fit its layout becomes a refusal, and the session goes on; without any other
// frame it ends. Nothing of what clients send leads there: the frames are made here.
func TestUnsendable(t *testing.T) {
	e, err := Start(Config{Listen: []string{"127.0.0.1:0"}, Loops: 1, Node: "test", Log: zerolog.Nop(), DrainSpread: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = e.Shutdown(ctx)
	}()
	conn, err := net.Dial("tcp", e.Addrs()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	hello, err := (&codec.Hello{Account: "alice", Instance: 1}).Append(codec.AppendClientPreface(nil, 1, 1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(hello); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, codec.PrefaceSize)); err != nil {
		t.Fatal(err)
	}
	read := func() codec.Control {
		t.Helper()
		head := make([]byte, codec.LengthSize)
		if _, err := io.ReadFull(conn, head); err != nil {
			t.Fatal(err)
		}
		frame := append(head, make([]byte, int(head[0])<<8|int(head[1]))...)
		if _, err := io.ReadFull(conn, frame[codec.LengthSize:]); err != nil {
			t.Fatal(err)
		}
		m, err := codec.ParseControl(frame)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	if m, ok := read().(*codec.Welcome); !ok {
		t.Fatalf("%T", m)
	}
	l := e.loops[0]
	do := func(f func(s *session)) {
		l.onLoop(func() {
			for _, s := range l.sessions {
				f(s)
			}
		})
	}
	long := &codec.Published{Req: 7, Room: 1, Pub: 1, Streams: []codec.StreamNext{{Dtype: 1, Next: codec.MaxSeq + 1}}}
	do(func(s *session) { s.reply(long) })
	if m, ok := read().(*codec.Refused); !ok || m.Req != 7 || m.Code != codec.CodeInternal {
		t.Errorf("the answer is %+v", m)
	}
	do(func(s *session) { s.loop.reading = s; s.reply(long); s.loop.reading = nil; s.endTurn(nil) }) // while the session is read
	if m, ok := read().(*codec.Refused); !ok || m.Req != 7 || m.Code != codec.CodeInternal {
		t.Errorf("the answer is %+v", m)
	}
	do(func(s *session) {
		s.queueControl(&codec.Gap{Room: 1, StreamKey: codec.StreamKey{Pub: 1}, From: 1, To: codec.MaxSeq + 1})
	})
	if m, ok := read().(*codec.Error); !ok || m.Code != codec.CodeInternal {
		t.Errorf("the last word is %+v", m)
	}
	if _, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the session goes on: %v", err)
	}
}
