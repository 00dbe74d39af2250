//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/e2ee"
)

// tap is a way to a server that records all that goes through, in both directions.
type tap struct {
	net.Listener
	mu   sync.Mutex
	seen bytes.Buffer
}

func (t *tap) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seen.Write(b)
}

// listen forwards connections to addr until the test ends.
func listen(t *testing.T, addr string) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := &tap{Listener: l}
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	all.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", addr)
			if err != nil {
				near.Close()
				continue
			}
			for from, to := range map[net.Conn]net.Conn{near: far, far: near} {
				all.Go(func() {
					_, _ = io.Copy(to, io.TeeReader(from, x))
					near.Close()
					far.Close()
				})
			}
		}
	})
	return x
}

// windows are how many bytes in a row are looked for.
const windows = 8

// leak returns where the first bytes of plain lie that were recorded; -1 if none were. The plain bytes are random, so
// that none come by chance.
func (t *tap) leak(plain []byte) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	seen := make(map[[windows]byte]bool)
	for b := t.seen.Bytes(); len(b) >= windows; b = b[1:] {
		seen[[windows]byte(b)] = true
	}
	for i := range len(plain) - windows {
		if seen[[windows]byte(plain[i:])] {
			return i
		}
	}
	return -1
}

// TestServerReadsNothing records all that reaches a server and all that leaves it while a file goes through, encrypted
// and not: in the one case no eight bytes of the file are there, in the other they are.
func TestServerReadsNothing(t *testing.T) {
	t.Parallel()
	plain := make([]byte, 300<<10)
	rand.NewChaCha8([32]byte{7}).Read(plain)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, plain, 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t)
	for _, sealed := range []bool{true, false} {
		x := listen(t, s.addr)
		env := []string{"TIMEDGE_SERVER=" + x.Addr().String()}
		if sealed {
			env = append(env, "TIMEDGE_E2EE="+e2ee.LinkKey{Secret: e2ee.NewSecret()}.Text())
		}
		push, err := start(env, nil, "push", "--wait", "1", file)
		if err != nil {
			t.Fatal(err)
		}
		sub, err := start(env, nil, "sub", roomLine(t, push))
		if err != nil {
			t.Fatal(err)
		}
		got, status := sub.end()
		expect(t, "the subscriber", sub, status, exitOK)
		_, status = push.end()
		expect(t, "the publisher", push, status, exitOK)
		if !bytes.Equal(got, plain) {
			t.Errorf("%d bytes that are not those %d of the file", len(got), len(plain))
		}
		if at := x.leak(plain); (at < 0) != sealed {
			t.Errorf("encrypted: %v; bytes of the file are on the way from byte %d on", sealed, at)
		}
	}
}

// TestServerChangesNothing has somebody who can do all that a server can, but has no key, push again, changed and not,
// what somebody else has sealed, in that one's name. None of it is taken, and each is told; what is sealed opens.
func TestServerChangesNothing(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s := serve(t)
	dial := func(account string) *client.Client {
		c, err := client.Dial(ctx, client.Options{Servers: []string{s.addr}, Account: account})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close(context.Background()) })
		return c
	}
	keys := e2ee.NewKeys(e2ee.LinkKey{Secret: e2ee.NewSecret()})
	alice, server, viewer := dial("alice"), dial("alice"), dial("viewer")
	room, err := alice.Register(ctx, client.RoomOptions{Policy: client.PolicyLossless})
	if err != nil {
		t.Fatal(err)
	}
	tapped, err := server.Subscribe(ctx, room, client.SubscribeOptions{NoEcho: true})
	if err != nil {
		t.Fatal(err)
	}
	sub, err := viewer.Subscribe(ctx, room, client.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	plain, err := alice.Publish(ctx, room, client.PublishOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pub := keys.Publisher(plain, "alice")
	forged, err := server.Publish(ctx, room, client.PublishOptions{})
	if err != nil {
		t.Fatal(err)
	}

	push := func(kind client.Kind, text string) *client.Message {
		t.Helper()
		if err := pub.Push(ctx, 1, kind, []byte(text)); err != nil {
			t.Fatal(err)
		}
		return nextMessage(t, tapped)
	}
	opener := keys.Opener(room)
	take := func(want string, wantErr error) {
		t.Helper()
		m := nextMessage(t, sub)
		if _, err := opener.Open(m); !errors.Is(err, wantErr) || err == nil && string(m.Payload) != want {
			t.Errorf("got %q, %v, want %q, %v", m.Payload, err, want, wantErr)
		}
	}
	m := push(client.Key, "one")
	take("one", nil)
	changed := bytes.Clone(m.Payload)
	changed[len(changed)-1] ^= 1
	for _, f := range []struct {
		dtype   uint8
		kind    client.Kind
		payload []byte
		want    error
	}{
		{1, client.Key, m.Payload, e2ee.ErrReplayed},
		{1, client.Delta, changed, e2ee.ErrReplayed},
		{2, client.Key, m.Payload, e2ee.ErrForged},
		{2, client.Key, []byte("not sealed at all, and as long as that would be"), e2ee.ErrNotSealed},
	} {
		if err := forged.Push(ctx, f.dtype, f.kind, f.payload); err != nil {
			t.Fatal(err)
		}
		take("", f.want)
	}
	push(client.Delta, "two")
	take("two", nil)
}

func nextMessage(t *testing.T, s *client.Subscription) *client.Message {
	t.Helper()
	for {
		e, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if m, ok := e.(*client.Message); ok {
			return m
		}
	}
}
