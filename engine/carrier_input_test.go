package engine

import (
	"bytes"
	"crypto/tls"
	weak "math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/internal/record"
	"github.com/timedge/timedge/internal/testcert"
)

// below is what a test's client has below TLS: the socket, and after the handshake a buffer.
type below struct {
	net.Conn
	kept bool
	out  []byte
}

func (b *below) Write(p []byte) (int, error) {
	if b.kept {
		b.out = append(b.out, p...)
		return len(p), nil
	}
	return b.Conn.Write(p)
}

// stack is a session's carrier and the client's side of it, with nothing between them: the test moves the bytes.
type stack struct {
	s      *session
	client *tls.Conn
	sent   *below
}

var testCertificate = testcert.New(1)

// newStack shakes hands for WebSocket within TLS.
func newStack(t testing.TB) *stack {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	near, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close() })
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	e := &Engine{log: zerolog.Nop(), gate: newGate(1, nil), cfg: Config{TLS: record.Config(&tls.Config{Certificates: []tls.Certificate{testCertificate}})}}
	e.lives.Store(&e.cfg)
	e.limits.init(&Limits{})
	k := &stack{s: &session{role: client{}, loop: &loop{eng: e}, carrier: &carrier{}}, sent: &below{Conn: near}}
	raw, err := far.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) { k.s.fd = int32(fd) })
	done := make(chan error, 1)
	go func() {
		_, err := e.handshakes(far.(*net.TCPConn), transport{tls: true, webSocket: true}, k.s, time.Now().Add(time.Minute))
		done <- err
	}()
	k.client = tls.Client(k.sent, &tls.Config{InsecureSkipVerify: true, DynamicRecordSizingDisabled: true})
	request := "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: " + SubProtocol + "\r\n\r\n"
	if _, err := k.client.Write([]byte(request)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	k.sent.kept = true
	return k
}

// TestTLSInputMayBeCutAnywhere: 300 times something is sent by WebSocket within TLS and read in pieces of any length:
// the same comes out. The connection goes on all the while, so that whatever one read leaves behind is there at the
// next.
func TestTLSInputMayBeCutAnywhere(t *testing.T) {
	k := newStack(t)
	r := weak.New(weak.NewPCG(5, 6))
	for range 300 {
		var want []byte
		k.sent.out = k.sent.out[:0]
		for range 1 + r.IntN(4) {
			payload := make([]byte, r.IntN(1+r.IntN(50_000)))
			for i := range payload {
				payload[i] = byte(r.Uint32())
			}
			want = append(want, payload...)
			f := maskedFrame(fin|byte(opBinary), payload, r.Uint32())
			if r.IntN(3) == 0 {
				f = append(f, maskedFrame(fin|byte(opPong), payload[:min(len(payload), maxControl)], r.Uint32())...)
			}
			for len(f) > 0 { // records that end anywhere
				n := 1 + r.IntN(len(f))
				if _, err := k.client.Write(f[:n]); err != nil {
					t.Fatal(err)
				}
				f = f[n:]
			}
		}
		var got []byte
		for sent := k.sent.out; len(sent) > 0; {
			n := 1 + r.IntN(min(len(sent), 1+r.IntN(40_000)))
			out, err := k.s.carrier.open(k.s, bytes.Clone(sent[:n]))
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, out...)
			sent = sent[n:]
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("%d bytes came out, want %d", len(got), len(want))
		}
	}
}

// FuzzCarriers changes one byte of what a client has sealed, cuts it, or leaves it as it is: what comes out is what
// went in, up to where the connection is broken off, and nothing else.
func FuzzCarriers(f *testing.F) {
	f.Add([]byte("hello"), uint16(0), byte(0), uint64(1))
	f.Add([]byte("hello"), uint16(7), byte(1), uint64(2))
	f.Add(bytes.Repeat([]byte("long"), 9000), uint16(20_000), byte(0x80), uint64(3))
	f.Fuzz(func(t *testing.T, payload []byte, at uint16, change byte, seed uint64) {
		k := newStack(t)
		if _, err := k.client.Write(maskedFrame(fin|byte(opBinary), payload, uint32(seed))); err != nil {
			t.Fatal(err)
		}
		if err := k.client.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		sent := k.sent.out
		sent[int(at)%len(sent)] ^= change
		r := weak.New(weak.NewPCG(seed, 2))
		var got []byte
		var err error
		for len(sent) > 0 && err == nil {
			n := 1 + r.IntN(min(len(sent), 1+r.IntN(5000)))
			var out []byte
			out, err = k.s.carrier.open(k.s, sent[:n:n])
			got = append(got, out...)
			sent = sent[n:]
		}
		if !bytes.HasPrefix(payload, got) {
			t.Fatal("something else came out than went in")
		}
		if change == 0 && (len(got) != len(payload) || err != errPeerEnds) {
			t.Fatalf("%d bytes of %d, then %v", len(got), len(payload), err)
		}
		if change != 0 && err == errPeerEnds && len(got) == len(payload) {
			t.Fatal("a changed byte was not noticed")
		}
	})
}
