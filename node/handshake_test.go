package node

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
)

var (
	alpha = Peer{"alpha", 1}
	beta  = Peer{"beta", 2}
)

// shake runs both sides over a pipe. wrap stands between the two, on the dialer's end.
func shake(t *testing.T, dialerKey, acceptorKey Key, dialer, acceptor, want Peer) (peer Peer, dialed, accepted error) {
	t.Helper()
	a, b := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		peer, accepted = Server(b, acceptorKey, acceptor)
		if accepted != nil {
			_ = b.Close() // as the caller does
		}
	}()
	if dialed = Client(a, dialerKey, dialer, want); dialed != nil {
		_ = a.Close()
	}
	<-done
	_ = a.Close()
	return peer, dialed, accepted
}

func TestHandshake(t *testing.T) {
	key, other := NewKey(), NewKey()
	longest := Peer{strings.Repeat("n", maxName), 1<<64 - 1}
	for _, c := range []struct {
		name                   string
		acceptorKey            Key
		dialer, acceptor, want Peer
		dialed, accepted       error
	}{
		{"same key", key, alpha, beta, beta, nil, nil},
		{"longest names", key, longest, Peer{strings.Repeat("m", maxName), 0}, Peer{strings.Repeat("m", maxName), 0}, nil, nil},
		{"shortest names", key, Peer{"a", 0}, Peer{"b", 0}, Peer{"b", 0}, nil, nil},
		{"other key", other, alpha, beta, beta, ErrStranger, ErrStranger},
		{"other name answers", key, alpha, Peer{"gamma", 2}, beta, ErrNotMember, ErrStranger},
		{"restarted node answers", key, alpha, Peer{"beta", 3}, beta, ErrNotMember, ErrStranger},
		{"no name", key, Peer{"", 1}, beta, beta, nil, ErrStranger},
		{"name too long", key, Peer{strings.Repeat("n", maxName+1), 1}, beta, beta, nil, ErrStranger},
		{"itself", key, alpha, alpha, alpha, io.EOF, ErrSelf},
	} {
		t.Run(c.name, func(t *testing.T) {
			peer, dialed, accepted := shake(t, key, c.acceptorKey, c.dialer, c.acceptor, c.want)
			if c.name != "name too long" && c.name != "no name" && !errors.Is(dialed, c.dialed) { // there it depends on when the pipe closes
				t.Errorf("dialer: %v, want %v", dialed, c.dialed)
			}
			if !errors.Is(accepted, c.accepted) {
				t.Errorf("acceptor: %v, want %v", accepted, c.accepted)
			}
			if accepted == nil && peer != c.dialer {
				t.Errorf("acceptor has %v, want %v", peer, c.dialer)
			}
			if accepted != nil && peer != (Peer{}) {
				t.Errorf("acceptor refuses and names %v", peer)
			}
		})
	}
}

// TestHandshakeVersion: nodes of different versions refuse each other, and both can say why.
func TestHandshakeVersion(t *testing.T) {
	key := NewKey()
	newer := append([]byte(LinkMagic), LinkVersion+1, 4, 'b', 'e', 't', 'a')
	t.Run("dialed by a newer one", func(t *testing.T) {
		a, b := net.Pipe()
		answer := make(chan []byte)
		go func() {
			_, _ = a.Write(newer[:helloHead]) // its hello goes on in a way that this version does not know
			got, _ := io.ReadAll(a)
			answer <- got
		}()
		_, err := Server(b, key, beta)
		_ = b.Close()
		if !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "2, this node 1") {
			t.Errorf("acceptor: %v", err)
		}
		if got := <-answer; len(got) != helloHead || got[len(LinkMagic)] != LinkVersion {
			t.Errorf("the newer node is told %q, want this one's version", got)
		}
	})
	t.Run("dialing a newer one", func(t *testing.T) {
		a, b := net.Pipe()
		defer a.Close()
		go func() {
			_, _, _ = readHello(b)
			_, _ = b.Write(newer)
			_ = b.Close()
		}()
		if err := Client(a, key, alpha, beta); !errors.Is(err, ErrVersion) {
			t.Errorf("dialer: %v", err)
		}
	})
}

// TestHandshakeReflection: a stranger that sends a node its own bytes back gets nowhere, in either role.
func TestHandshakeReflection(t *testing.T) {
	key := NewKey()
	t.Run("to the dialer", func(t *testing.T) {
		a, b := net.Pipe()
		defer a.Close()
		go func() {
			defer b.Close()
			hello := make([]byte, helloHead+len(alpha.Name)+birthSize+nonceSize)
			_, _ = io.ReadFull(b, hello)
			_, _ = b.Write(append(hello, make([]byte, proofSize)...))
		}()
		if err := Client(a, key, alpha, alpha); !errors.Is(err, ErrStranger) {
			t.Errorf("dialer: %v", err)
		}
	})
	t.Run("to the acceptor", func(t *testing.T) {
		a, b := net.Pipe()
		go func() {
			defer a.Close()
			_, _ = a.Write(appendHello(alpha))
			answer := make([]byte, helloHead+len(beta.Name)+birthSize+nonceSize+proofSize)
			_, _ = io.ReadFull(a, answer)
			_, _ = a.Write(answer[len(answer)-proofSize:])
		}()
		if _, err := Server(b, key, beta); !errors.Is(err, ErrStranger) {
			t.Errorf("acceptor: %v", err)
		}
	})
	t.Run("two acceptors played against each other", func(t *testing.T) {
		// The stranger sends each the other's hello, and hopes that one's proof serves it with the other.
		a1, b1 := net.Pipe()
		a2, b2 := net.Pipe()
		errs := make(chan error, 2)
		go func() { _, err := Server(b1, key, beta); _ = b1.Close(); errs <- err }()
		go func() { _, err := Server(b2, key, alpha); _ = b2.Close(); errs <- err }()
		_, _ = a1.Write(appendHello(alpha))
		hello1 := make([]byte, helloHead+len(beta.Name)+birthSize+nonceSize)
		_, _ = io.ReadFull(a1, hello1)
		_, _ = a2.Write(hello1)
		answer2 := make([]byte, helloHead+len(alpha.Name)+birthSize+nonceSize+proofSize)
		_, _ = io.ReadFull(a2, answer2)
		go func() { _, _ = io.Copy(io.Discard, a1) }()
		_, _ = a1.Write(answer2[len(answer2)-proofSize:])
		_ = a2.Close()
		for range 2 {
			if err := <-errs; !errors.Is(err, ErrStranger) {
				t.Errorf("acceptor: %v", err)
			}
		}
	})
}

// recorder keeps what passes.
type recorder struct {
	net.Conn
	sent, got bytes.Buffer
}

func (r *recorder) Write(b []byte) (int, error) { r.sent.Write(b); return r.Conn.Write(b) }
func (r *recorder) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.got.Write(b[:n])
	return n, err
}

// record returns what both sides of a good handshake sent.
func record(t *testing.T, key Key) (dialer, acceptor []byte) {
	t.Helper()
	a, b := net.Pipe()
	r := &recorder{Conn: a}
	errs := make(chan error, 1)
	go func() { _, err := Server(b, key, beta); errs <- err }()
	if err := errors.Join(Client(r, key, alpha, beta), <-errs); err != nil {
		t.Fatal(err)
	}
	return r.sent.Bytes(), r.got.Bytes()
}

// play writes bytes to one end of a pipe, reading what comes meanwhile, and closes it.
func play(c net.Conn, b []byte) {
	go func() { _, _ = io.Copy(io.Discard, c) }()
	go func() { _, _ = c.Write(b); _ = c.Close() }()
}

// TestHandshakeReplayAndTruncation plays what was recorded, whole and cut at every byte, to a node that holds the key.
func TestHandshakeReplayAndTruncation(t *testing.T) {
	key := NewKey()
	dialer, acceptor := record(t, key)
	for n := range len(dialer) + 1 {
		a, b := net.Pipe()
		play(a, dialer[:n])
		if peer, err := Server(b, key, beta); err == nil || peer != (Peer{}) {
			t.Fatalf("the first %d of %d bytes of a dialer were taken", n, len(dialer))
		} else if n == len(dialer) && !errors.Is(err, ErrStranger) {
			t.Errorf("replayed dialer: %v", err)
		}
		_ = b.Close()
	}
	for n := range len(acceptor) + 1 {
		a, b := net.Pipe()
		play(b, acceptor[:n])
		if err := Client(a, key, alpha, beta); err == nil {
			t.Fatalf("the first %d of %d bytes of an acceptor were taken", n, len(acceptor))
		} else if n == len(acceptor) && !errors.Is(err, ErrStranger) {
			t.Errorf("replayed acceptor: %v", err)
		}
		_ = a.Close()
	}
}

// TestHandshakeChanged flips each bit's byte of what a real dialer says, on its way: names, births and nonces are all under the proof.
func TestHandshakeChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // where the length is changed, both wait for more
		key := NewKey()
		for at := range helloHead + len(alpha.Name) + birthSize + nonceSize + proofSize {
			a, b := net.Pipe()
			errs := make(chan error, 1)
			go func() { errs <- Client(&flipper{Conn: a, at: at}, key, alpha, beta); _ = a.Close() }()
			if _, err := Server(b, key, beta); err == nil {
				t.Errorf("byte %d of the dialer was changed, and nobody noticed", at)
			}
			_ = b.Close()
			<-errs
		}
	})
}

type flipper struct {
	net.Conn
	at int
}

func (f *flipper) Write(b []byte) (int, error) {
	c := bytes.Clone(b)
	if f.at >= 0 && f.at < len(c) {
		c[f.at] ^= 1
	}
	f.at -= len(c)
	return f.Conn.Write(c)
}

// TestHandshakeSlow: a peer that says nothing, or stops in the middle, is given up.
func TestHandshakeSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, said := range map[string][]byte{"nothing": nil, "half a hello": appendHello(alpha)[:20], "no proof": appendHello(alpha)} {
			a, b := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, a) }()
			go func() { _, _ = a.Write(said) }()
			if _, err := Server(b, Key{}, beta); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
			_, _ = a.Close(), b.Close()
		}
		a, b := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, b) }()
		if err := Client(a, Key{}, alpha, beta); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("dialer: %v", err)
		}
		_, _ = a.Close(), b.Close()
	})
}

func TestKey(t *testing.T) {
	k := NewKey()
	if k == NewKey() || k == (Key{}) {
		t.Error("keys repeat")
	}
	for _, s := range []string{k.String(), " " + k.String() + "\r\n\n"} {
		if got, err := ParseKey(s); err != nil || got != k {
			t.Errorf("ParseKey(%q): %v", s, err)
		}
	}
	for name, s := range map[string]string{
		"empty": "", "no base64": "not a key",
		"31 bytes": k.String()[:40] + "AA==", "33 bytes": k.String()[:43] + "A" + k.String()[:4], "two keys": k.String() + k.String(),
	} {
		if got, err := ParseKey(s); !errors.Is(err, ErrKey) || got != (Key{}) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if a, b := k.derive("gossip", nil, 32), k.derive("link v1", nil, 32); bytes.Equal(a, b) || bytes.Equal(a, k[:]) {
		t.Error("two purposes share a key")
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(k.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadKey(path); err != nil || got != k {
		t.Errorf("ReadKey: %v", err)
	}
	if err := os.WriteFile(path, []byte("secret but no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKey(path); !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "secret") {
		t.Errorf("ReadKey of something else: %v", err)
	}
	if _, err := ReadKey(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("ReadKey of nothing: %v", err)
	}
}
