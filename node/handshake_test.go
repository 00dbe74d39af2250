package node

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
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

// pair returns both ends of a TCP connection, which the end of the test closes.
func pair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if a, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

// ends is what became of both sides of a handshake.
type ends struct {
	dialer, acceptor *Link
	peer             Peer
	dialed, accepted error
}

// shake runs both sides over a and b, and closes a side that refuses, as callers do.
func shake(a, b net.Conn, dialerKey, acceptorKey Key, dialer, acceptor, want Peer) (e ends) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if e.acceptor, e.peer, e.accepted = Server(b, Keys{acceptorKey}.Credentials(), acceptor); e.accepted != nil {
			_ = b.Close()
		}
	}()
	if e.dialer, e.dialed = Client(a, Keys{dialerKey}.Credentials(), dialer, want); e.dialed != nil {
		_ = a.Close()
	}
	<-done
	return e
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
		{"other name answers", key, alpha, Peer{"gamma", 2}, beta, ErrNotMember, ErrNotMember},
		{"restarted node answers", key, alpha, Peer{"beta", 3}, beta, ErrNotMember, ErrNotMember},
		{"no name", key, Peer{"", 1}, beta, beta, ErrStranger, ErrStranger},
		{"name too long", key, Peer{strings.Repeat("n", maxName+1), 1}, beta, beta, ErrStranger, ErrStranger},
		{"itself", key, alpha, alpha, alpha, ErrSelf, ErrSelf},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := pair(t)
			e := shake(a, b, key, c.acceptorKey, c.dialer, c.acceptor, c.want)
			if !errors.Is(e.dialed, c.dialed) || (e.dialer == nil) != (c.dialed != nil) {
				t.Errorf("dialer: %v, want %v", e.dialed, c.dialed)
			}
			if !errors.Is(e.accepted, c.accepted) || (e.acceptor == nil) != (c.accepted != nil) {
				t.Errorf("acceptor: %v, want %v", e.accepted, c.accepted)
			}
			if c.accepted == nil {
				if e.peer != c.dialer {
					t.Errorf("acceptor has %v, want %v", e.peer, c.dialer)
				}
			} else if e.peer != (Peer{}) {
				t.Errorf("acceptor refuses and names %v", e.peer)
			}
		})
	}
}

// TestHandshakeVersion: nodes of different versions refuse each other, and both can say why.
func TestHandshakeVersion(t *testing.T) {
	creds := Keys{NewKey()}.Credentials()
	newer := append([]byte(LinkMagic), LinkVersion+1)
	t.Run("dialed by a newer one", func(t *testing.T) {
		a, b := pair(t)
		if _, err := a.Write(newer); err != nil {
			t.Fatal(err)
		}
		_, _, err := Server(b, creds, beta)
		_ = b.Close()
		if !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "2, this node 1") {
			t.Errorf("acceptor: %v", err)
		}
		if got, err := io.ReadAll(a); err != nil || !bytes.Equal(got, appendPreface(nil)) {
			t.Errorf("the newer node is told %q, %v, want this one's version", got, err)
		}
	})
	t.Run("dialing a newer one", func(t *testing.T) {
		a, b := pair(t)
		if _, err := b.Write(newer); err != nil {
			t.Fatal(err)
		}
		if _, err := Client(a, creds, alpha, beta); !errors.Is(err, ErrVersion) {
			t.Errorf("dialer: %v", err)
		}
	})
}

// TestHandshakeReflection: two dialers led to each other see that the other did not accept.
func TestHandshakeReflection(t *testing.T) {
	creds := Keys{NewKey()}.Credentials()
	a1, b1 := pair(t)
	a2, b2 := pair(t)
	go func() { _, _ = io.Copy(b2, b1); _ = b2.Close() }()
	go func() { _, _ = io.Copy(b1, b2); _ = b1.Close() }()
	errs := make(chan error, 2)
	for c, who := range map[net.Conn][2]Peer{a1: {alpha, beta}, a2: {beta, alpha}} {
		go func() { _, err := Client(c, creds, who[0], who[1]); _ = c.Close(); errs <- err }()
	}
	for range 2 {
		if err := <-errs; !errors.Is(err, ErrStranger) {
			t.Errorf("dialer: %v", err)
		}
	}
}

// TestHandshakeCertificateAlone: the certificate that every stranger can have of an acceptor is worth nothing without
// its key, nor is none.
func TestHandshakeCertificateAlone(t *testing.T) {
	creds := Keys{NewKey()}.Credentials()
	_, other, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	var seen [][]byte
	for _, c := range []struct {
		name  string
		certs func() []tls.Certificate
	}{
		{"no certificate", func() []tls.Certificate { return nil }},
		{"the acceptor's certificate", func() []tls.Certificate { return []tls.Certificate{{Certificate: seen, PrivateKey: other}} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := pair(t)
			done := make(chan error, 1)
			go func() {
				_, peer, err := Server(b, creds, beta)
				if peer != (Peer{}) {
					t.Errorf("acceptor names %v", peer)
				}
				_ = b.Close()
				done <- err
			}()
			_, _ = a.Write(appendPreface(nil))
			if err := readPreface(a); err != nil {
				t.Fatal(err)
			}
			stranger := tls.Client(a, &tls.Config{
				InsecureSkipVerify: true, Certificates: c.certs(),
				VerifyConnection: func(s tls.ConnectionState) error { seen = [][]byte{s.PeerCertificates[0].Raw}; return nil },
			})
			_, _ = stranger.Write(beta.append(alpha.append(nil)))
			if said, err := io.ReadAll(stranger); err == nil || len(said) > 0 {
				t.Errorf("the stranger is told %q, %v", said, err)
			}
			if err := <-done; !errors.Is(err, ErrStranger) {
				t.Errorf("acceptor: %v", err)
			}
		})
	}
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

// TestTappedLink: who listens on the wire reads the magic and the version, and nothing that nodes or clients said.
func TestTappedLink(t *testing.T) {
	key := NewKey()
	a, b := pair(t)
	tap := &recorder{Conn: a}
	e := shake(tap, b, key, key, alpha, beta, beta)
	if err := errors.Join(e.dialed, e.accepted); err != nil {
		t.Fatal(err)
	}
	secrets := []string{"alpha", "beta", "the account's name", strings.Repeat("payload ", 4096)}
	said := strings.Join(secrets, "")
	go func() { _, _ = io.Copy(e.acceptor, e.acceptor) }()
	go func() { _, _ = io.WriteString(e.dialer, said) }()
	echo := make([]byte, len(said))
	if _, err := io.ReadFull(e.dialer, echo); err != nil || string(echo) != said {
		t.Fatalf("the link does not carry what was said: %v", err)
	}
	for name, wire := range map[string][]byte{"dialer": tap.sent.Bytes(), "acceptor": tap.got.Bytes()} {
		if len(wire) < len(said) || !bytes.HasPrefix(wire, appendPreface(nil)) {
			t.Errorf("the %s sent %d bytes that begin with %q", name, len(wire), wire[:min(len(wire), prefaceSize)])
		}
		for _, s := range append(secrets[:3:3], "payload", key.String(), string(key[:])) {
			if bytes.Contains(wire, []byte(s)) {
				t.Errorf("%q can be read from what the %s sent", s, name)
			}
		}
	}
	if s := e.dialer.state; s.Version != tls.VersionTLS13 || s.DidResume {
		t.Errorf("link has %s, resumed: %v", tls.VersionName(s.Version), s.DidResume)
	}
}

// play writes bytes to one end of a connection, reading what comes meanwhile, and closes its sending side.
func play(c net.Conn, b []byte) {
	go func() { _, _ = io.Copy(io.Discard, c) }()
	go func() { _, _ = c.Write(b); _ = c.(*net.TCPConn).CloseWrite() }()
}

// TestHandshakeReplayAndTruncation plays what was recorded, whole and cut, to a node that holds the key.
func TestHandshakeReplayAndTruncation(t *testing.T) {
	key := NewKey()
	creds := Keys{key}.Credentials()
	a, b := pair(t)
	tap := &recorder{Conn: a}
	e := shake(tap, b, key, key, alpha, beta, beta)
	if err := errors.Join(e.dialed, e.accepted); err != nil {
		t.Fatal(err)
	}
	step := 7
	if testing.Short() || raceEnabled {
		step = 101
	}
	cuts := func(n int) (at []int) {
		for i := 0; i < n; i += step {
			at = append(at, i)
		}
		return append(at, n)
	}
	dialer, acceptor := tap.sent.Bytes(), tap.got.Bytes()
	for _, n := range cuts(len(dialer)) {
		a, b := pair(t)
		play(a, dialer[:n])
		if _, peer, err := Server(b, creds, beta); err == nil || peer != (Peer{}) {
			t.Fatalf("the first %d of %d bytes of a dialer were taken", n, len(dialer))
		} else if n == len(dialer) && !errors.Is(err, ErrStranger) {
			t.Errorf("replayed dialer: %v", err)
		}
		_, _ = a.Close(), b.Close()
	}
	for _, n := range cuts(len(acceptor)) {
		a, b := pair(t)
		play(b, acceptor[:n])
		if _, err := Client(a, creds, alpha, beta); err == nil {
			t.Fatalf("the first %d of %d bytes of an acceptor were taken", n, len(acceptor))
		} else if n == len(acceptor) && !errors.Is(err, ErrStranger) {
			t.Errorf("replayed acceptor: %v", err)
		}
		_, _ = a.Close(), b.Close()
	}
}

// TestHandshakeChanged changes a byte of what a real dialer says, on its way, each in turn. A few bytes of record
// headers have no meaning; with any other the acceptor refuses, and in no case does it take the dialer for somebody
// else.
func TestHandshakeChanged(t *testing.T) {
	key := NewKey()
	creds := Keys{key}.Credentials()
	a, b := pair(t)
	tap := &recorder{Conn: a}
	if e := shake(tap, b, key, key, alpha, beta, beta); e.dialed != nil {
		t.Fatal(e.dialed)
	}
	length, step, passed := tap.sent.Len(), 1, 0
	if testing.Short() || raceEnabled {
		step = 53
	}
	synctest.Test(t, func(t *testing.T) { // where a length is changed, both wait for more
		for at := 0; at < length; at += step {
			a, b := net.Pipe()
			errs := make(chan error, 1)
			go func() { _, err := Client(&flipper{Conn: a, at: at}, creds, alpha, beta); _ = a.Close(); errs <- err }()
			_, peer, err := Server(b, creds, beta)
			if err == nil {
				passed++
			}
			if err == nil && peer != alpha || err != nil && peer != (Peer{}) {
				t.Errorf("byte %d of the dialer was changed, and the acceptor has %v, %v", at, peer, err)
			}
			_ = b.Close()
			<-errs
		}
	})
	if passed > 8 {
		t.Errorf("%d bytes of %d could be changed", passed, length)
	}
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
	creds := Keys{NewKey()}.Credentials()
	synctest.Test(t, func(t *testing.T) {
		said := append(appendPreface(nil), 0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc) // the beginning of a ClientHello
		for name, n := range map[string]int{"nothing": 0, "half a preface": 3, "a preface": prefaceSize, "half a ClientHello": len(said)} {
			a, b := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, a) }()
			go func() { _, _ = a.Write(said[:n]) }()
			if _, _, err := Server(b, creds, beta); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: %v", name, err)
			}
			_, _ = a.Close(), b.Close()
			x, y := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, y) }()
			go func() { _, _ = y.Write(said[:min(n, prefaceSize)]) }()
			if _, err := Client(x, creds, alpha, beta); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s, dialer: %v", name, err)
			}
			_, _ = x.Close(), y.Close()
		}
	})
}

// TestStrangerIsBounded: of a peer that has not proved the key no more is read than a handshake has, whatever it
// announces.
func TestStrangerIsBounded(t *testing.T) {
	a, b := pair(t)
	// Records of a ClientHello that says it is 65,532 bytes long.
	record := append([]byte{0x16, 3, 1, 0x40, 0}, make([]byte, 1<<14)...)
	copy(record[5:], []byte{1, 0, 0xff, 0xfc})
	play(a, append(appendPreface(nil), bytes.Repeat(record, 4)...))
	tap := &recorder{Conn: b}
	if _, _, err := Server(tap, Keys{NewKey()}.Credentials(), beta); !errors.Is(err, ErrStranger) {
		t.Errorf("acceptor: %v", err)
	}
	if n := tap.got.Len(); n > prefaceSize+strangerBytes {
		t.Errorf("%d bytes of a stranger were read", n)
	}
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
	if got, err := ReadKeys(path); err != nil || len(got) != 1 || got[0] != k {
		t.Errorf("ReadKeys: %v", err)
	}
	if err := os.WriteFile(path, []byte("secret but no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKeys(path); !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "secret") {
		t.Errorf("ReadKeys of something else: %v", err)
	}
	if _, err := ReadKeys(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("ReadKeys of nothing: %v", err)
	}
}
