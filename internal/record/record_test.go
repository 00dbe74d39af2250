package record

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	weak "math/rand/v2"
	"net"
	"testing"

	"github.com/timedge/timedge/internal/testcert"
)

var serverConfig = &tls.Config{Certificates: []tls.Certificate{testcert.New(1)}}

// clientConfig is for a client that looks at no certificate.
func clientConfig() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}
}

// sockets returns both ends of a TCP connection, which the end of the test closes.
func sockets(t testing.TB) (near, far net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if near, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

// shakeHands returns both ends of a connection, neither of which has read anything behind the handshake.
func shakeHands(t testing.TB, server, client *tls.Config) (s, c *Stream) {
	t.Helper()
	near, far := sockets(t)
	done := make(chan error, 1)
	go func() {
		records, rest, _, err := Server(far, Config(server))
		s = NewStream(far, records, rest)
		done <- err
	}()
	records, rest, _, err := Client(near, client)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return s, NewStream(near, records, rest)
}

// pair is shakeHands without session tickets, so that nothing is on its way.
func pair(t testing.TB) (server, client *Conn) {
	t.Helper()
	cfg := serverConfig.Clone()
	cfg.SessionTicketsDisabled = true
	s, c := shakeHands(t, cfg, clientConfig())
	return s.Records, c.Records
}

// TestBothWays: what this layer sends crypto/tls takes, and the other way, by each suite and in pieces of any length,
// whether or not a session ticket, a client's certificate, or a second hello was in the handshake.
func TestBothWays(t *testing.T) {
	for _, c := range []struct {
		name           string
		server, client func(*tls.Config)
		resumed        bool
	}{
		{name: "as it is"},
		{name: "without tickets", server: func(c *tls.Config) { c.SessionTicketsDisabled = true }},
		{name: "with a client's certificate", server: func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert },
			client: func(c *tls.Config) { c.Certificates = serverConfig.Certificates }},
		{name: "with a second hello", server: func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP384} },
			client: func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP384} }},
		{name: "resumed", client: func(c *tls.Config) { c.ServerName, c.ClientSessionCache = "x", tls.NewLRUClientSessionCache(1) }, resumed: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			server, client := serverConfig.Clone(), clientConfig()
			if c.server != nil {
				c.server(server)
			}
			if c.client != nil {
				c.client(client)
			}
			shared := Config(server)
			for round := range 2 {
				near, far := sockets(t)
				done := make(chan error, 1)
				var s *Stream
				var state tls.ConnectionState
				go func() {
					records, rest, of, err := Server(far, shared)
					s, state = NewStream(far, records, rest), of
					done <- err
				}()
				peer := tls.Client(near, client)
				if err := peer.Handshake(); err != nil {
					t.Fatal(err)
				}
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				exchange(t, s, peer)
				if want := c.resumed && round == 1; state.DidResume != want {
					t.Errorf("round %d: resumed: %v, want %v", round, state.DidResume, want)
				}
				peer.Close()
			}
		})
	}
	for name, without := range map[string]bool{"as client": false, "as client, without tickets": true} {
		t.Run(name, func(t *testing.T) {
			near, far := sockets(t)
			cfg := serverConfig.Clone()
			cfg.SessionTicketsDisabled = without
			peer := tls.Server(far, cfg)
			done := make(chan error, 1)
			go func() { done <- peer.Handshake() }()
			records, rest, _, err := Client(near, clientConfig())
			if err = errors.Join(err, <-done); err != nil {
				t.Fatal(err)
			}
			exchange(t, NewStream(near, records, rest), peer)
		})
	}
}

// exchange sends pieces of many sizes both ways at once, and compares.
func exchange(t *testing.T, a, b net.Conn) {
	t.Helper()
	r := weak.New(weak.NewPCG(1, 2))
	said := make([]byte, 300_000)
	for i := range said {
		said[i] = byte(r.Uint32())
	}
	done := make(chan error, 4)
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		seed := r.Uint64()
		go func() {
			r := weak.New(weak.NewPCG(seed, 0))
			for left := said; len(left) > 0; {
				n := min(len(left), 1+r.IntN(1+r.IntN(40_000)))
				if _, err := way[0].Write(left[:n]); err != nil {
					done <- err
					return
				}
				left = left[n:]
			}
			done <- nil
		}()
		go func() {
			got := make([]byte, len(said))
			_, err := io.ReadFull(way[1], got)
			if err == nil && !bytes.Equal(got, said) {
				err = errors.New("something else came out than went in")
			}
			done <- err
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// TestEverySuite seals and opens with each, new keys in between. crypto/tls lets nobody choose one, so the secrets are
// the test's.
func TestEverySuite(t *testing.T) {
	for id, with := range suites {
		t.Run(tls.CipherSuiteName(id), func(t *testing.T) {
			a, b := withSecret(t, with)
			for i := range 20 {
				said := bytes.Repeat([]byte{byte(i)}, i*800)
				wire := a.Seal(nil, append(bytes.Clone(said), Data))
				if want := len(said) + Overhead; len(wire) != want {
					t.Fatalf("a record of %d bytes has %d, want %d", len(said), len(wire), want)
				}
				if i%3 == 0 {
					wire = a.update(wire)
				}
				if got := openAll(t, b, wire); !bytes.Equal(got, said) {
					t.Fatalf("%d bytes came out, want %d", len(got), len(said))
				}
			}
		})
	}
}

// withSecret returns the ends of a direction.
func withSecret(t testing.TB, with *suite) (out, in *Conn) {
	t.Helper()
	secret := make([]byte, with.hash().Size())
	out, in = &Conn{}, &Conn{}
	if err := errors.Join(out.out.use(with, secret), in.in.use(with, secret), out.in.use(with, secret), in.out.use(with, secret)); err != nil {
		t.Fatal(err)
	}
	return out, in
}

func openAll(t *testing.T, c *Conn, b []byte) (got []byte) {
	t.Helper()
	for len(b) > 0 {
		var err error
		if got, b, err = c.Open(got, b); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

// TestVectors holds the key schedule to RFC 8448, section 3: the traffic secret of the server's protocol, and its key.
func TestVectors(t *testing.T) {
	secret := []byte{0xa1, 0x1a, 0xf9, 0xf0, 0x55, 0x31, 0xf8, 0x56, 0xad, 0x47, 0x11, 0x6b, 0x45, 0xa9, 0x50, 0x32, 0x82, 0x04, 0xb4, 0xf4,
		0x4b, 0xfb, 0x6b, 0x3a, 0x4b, 0x4f, 0x1f, 0x3f, 0xcb, 0x63, 0x16, 0x43}
	key := []byte{0x9f, 0x02, 0x28, 0x3b, 0x6c, 0x9c, 0x07, 0xef, 0xc2, 0x6b, 0xb9, 0xf2, 0xac, 0x92, 0xe3, 0x56}
	iv := []byte{0xcf, 0x78, 0x2b, 0x88, 0xdd, 0x83, 0x54, 0x9a, 0xad, 0xf1, 0xe9, 0x84}
	s := suites[tls.TLS_AES_128_GCM_SHA256]
	if got := s.expand(secret, "key", 16); !bytes.Equal(got, key) {
		t.Errorf("key %x, want %x", got, key)
	}
	if got := s.expand(secret, "iv", nonceBytes); !bytes.Equal(got, iv) {
		t.Errorf("iv %x, want %x", got, iv)
	}
}

// TestKeysChange: who is asked for new keys gives them before it says anything else, once, however often it was asked;
// and after so many records it does that by itself.
func TestKeysChange(t *testing.T) {
	s, c := pair(t)
	for range 3 {
		wire := c.append(nil, handshake, append(keyUpdate[:], 1)...)
		c.out.roll()
		openAll(t, s, wire)
	}
	if got := openAll(t, c, s.Append(nil, []byte("new keys"))); string(got) != "new keys" {
		t.Fatalf("%q", got)
	}
	if s.out.seq != 1 || len(s.Answer(nil)) != 0 {
		t.Errorf("%d records by the new key; %d bytes of answer to what is answered", s.out.seq, len(s.Answer(nil)))
	}
	s.out.seq, c.in.seq = rekeyAfter, rekeyAfter
	if got := openAll(t, c, s.Seal(nil, append([]byte("again"), Data))); string(got) != "again" {
		t.Fatalf("%q", got)
	}
	if s.out.seq != 1 {
		t.Errorf("%d records by the key after", s.out.seq)
	}
}

// TestWhatEndsAConnection: each record that may not be has its alert, which the peer can read, once; and nothing is opened
// afterwards.
func TestWhatEndsAConnection(t *testing.T) {
	flip := func(b []byte, i int) []byte { b[(len(b)+i)%len(b)] ^= 1; return b }
	for _, c := range []struct {
		name string
		wire func(c *Conn) []byte
		want error
	}{
		{"the tag is wrong", func(c *Conn) []byte { return flip(c.Append(nil, []byte("x")), -1) }, &Alert{Code: badRecordMAC}},
		{"the text is wrong", func(c *Conn) []byte { return flip(c.Append(nil, []byte("x")), HeadBytes) }, &Alert{Code: badRecordMAC}},
		{"the version is another than was sealed", func(c *Conn) []byte { return flip(c.Append(nil, []byte("x")), 2) }, &Alert{Code: badRecordMAC}},
		{"a record twice", func(c *Conn) []byte { b := c.Append(nil, []byte("x")); return append(b, b...) }, &Alert{Code: badRecordMAC}},
		{"a record is missing", func(c *Conn) []byte { c.Append(nil, []byte("x")); return c.Append(nil, []byte("y")) }, &Alert{Code: badRecordMAC}},
		{"no tag", func(*Conn) []byte { return []byte{23, 3, 3, 0, 3, 1, 2, 3} }, &Alert{Code: badRecordMAC}},
		{"nothing", func(*Conn) []byte { return []byte{23, 3, 3, 0, 0} }, &Alert{Code: badRecordMAC}},
		{"too long to be sealed", func(*Conn) []byte { return []byte{23, 3, 3, 0x41, 1} }, &Alert{Code: recordOverflow}},
		{"more than a record carries", func(c *Conn) []byte { return c.append(nil, data, make([]byte, MaxData+1)...) }, &Alert{Code: recordOverflow}},
		{"padding beyond that", func(c *Conn) []byte { return c.append(nil, 0, append([]byte("x\x17"), make([]byte, MaxData)...)...) },
			&Alert{Code: recordOverflow}},
		{"nothing but padding", func(c *Conn) []byte { return c.append(nil, 0, 0, 0) }, &Alert{Code: unexpectedMessage}},
		{"unknown content", func(c *Conn) []byte { return c.append(nil, 99, 'x') }, &Alert{Code: unexpectedMessage}},
		{"change_cipher_spec after the handshake", func(*Conn) []byte { return []byte{20, 3, 3, 0, 1, 1} }, &Alert{Code: unexpectedMessage}},
		{"an alert in the clear", func(*Conn) []byte { return []byte{21, 3, 3, 0, 2, 1, 0} }, &Alert{Code: unexpectedMessage}},
		{"a hello in the clear", func(*Conn) []byte { return []byte{22, 3, 1, 0, 1, 1} }, &Alert{Code: unexpectedMessage}},
		{"another message of the handshake", func(c *Conn) []byte { return c.append(nil, handshake, 1, 0, 0, 0) }, &Alert{Code: unexpectedMessage}},
		{"half a key update", func(c *Conn) []byte { return c.append(nil, handshake, 24, 0, 0) }, &Alert{Code: unexpectedMessage}},
		{"two key updates in a record", func(c *Conn) []byte { return c.append(nil, handshake, 24, 0, 0, 1, 0, 24, 0, 0, 1, 0) },
			&Alert{Code: unexpectedMessage}},
		{"a key update that asks for something else", func(c *Conn) []byte { return c.append(nil, handshake, 24, 0, 0, 1, 2) }, &Alert{Code: decodeError}},
		{"a ticket of a client's", func(c *Conn) []byte { return c.append(nil, handshake, newSessionTicket, 0, 0, 1, 0) },
			&Alert{Code: unexpectedMessage}},
		{"half an alert", func(c *Conn) []byte { return c.append(nil, alert, 1) }, &Alert{Code: decodeError}},
		{"an alert of the peer's", func(c *Conn) []byte { return c.append(nil, alert, 2, 40) }, &Alert{40, true}},
		{"close_notify", func(c *Conn) []byte { return c.Close(nil) }, io.EOF},
		{"user_canceled and close_notify", func(c *Conn) []byte { return c.Close(c.append(nil, alert, 1, userCanceled)) }, io.EOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, peer := pair(t)
			var err error
			for wire := c.wire(peer); len(wire) > 0 && err == nil; {
				_, wire, err = s.Open(nil, wire)
			}
			if want, is := c.want.(*Alert); is {
				if got, is := err.(*Alert); !is || *got != *want {
					t.Fatalf("%v, want %v", err, want)
				}
			} else if err != c.want {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if _, rest, again := s.Open(nil, peer.append(nil, data, 'x')); again == nil || len(rest) > 0 {
				t.Error("something was opened after the end")
			}
			answer := s.Answer(nil)
			want, is := c.want.(*Alert)
			if !is || want.Remote {
				if len(answer) > 0 {
					t.Errorf("%d bytes were answered", len(answer))
				}
				return
			}
			var told *Alert
			if _, _, err := peer.Open(nil, answer); !errors.As(err, &told) || !told.Remote || told.Code != want.Code {
				t.Errorf("the peer is told %v", err)
			}
			if len(s.Answer(nil))+len(s.Close(nil)) > 0 {
				t.Error("more was said after the alert")
			}
		})
	}
}

// TestOlderVersionsAreRefused: a handshake for TLS 1.2 gives no connection.
func TestOlderVersionsAreRefused(t *testing.T) {
	near, far := sockets(t)
	done := make(chan error, 1)
	go func() {
		_, _, _, err := Server(far, Config(serverConfig))
		done <- err
	}()
	_ = tls.Client(near, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}).Handshake()
	if err := <-done; err == nil {
		t.Error("TLS 1.2 was taken")
	}
}

// TestKeyLogGoesOn: a configuration's own key log is written as before.
func TestKeyLogGoesOn(t *testing.T) {
	var log bytes.Buffer
	cfg := serverConfig.Clone()
	cfg.KeyLogWriter = &log
	shakeHands(t, cfg, clientConfig())
	if !bytes.Contains(log.Bytes(), []byte("SERVER_TRAFFIC_SECRET_0 ")) {
		t.Errorf("the log has %q", log.Bytes())
	}
}

// TestInputMayBeCutAnywhere: 300 times records are opened from pieces of any length.
func TestInputMayBeCutAnywhere(t *testing.T) {
	s, c := pair(t)
	r := weak.New(weak.NewPCG(3, 4))
	for range 300 {
		var want, wire, got []byte
		for range 1 + r.IntN(5) {
			said := bytes.Repeat([]byte{byte(r.Uint32())}, r.IntN(1+r.IntN(40_000)))
			want = append(want, said...)
			wire = c.Append(wire, said)
			if r.IntN(5) == 0 {
				wire = c.update(wire)
			}
		}
		for len(wire) > 0 {
			n := 1 + r.IntN(min(len(wire), 1+r.IntN(20_000)))
			got = append(got, openAll(t, s, wire[:n])...)
			wire = wire[n:]
		}
		if !bytes.Equal(got, want) || s.Cut() {
			t.Fatalf("%d bytes came out, want %d; cut: %v", len(got), len(want), s.Cut())
		}
	}
}

// TestNothingIsAllocated on the way of a record, cut or not.
func TestNothingIsAllocated(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	s, c := pair(t)
	inner := append(make([]byte, MaxData), Data)
	wire, out := make([]byte, 0, 20_000), make([]byte, 0, 20_000)
	n := testing.AllocsPerRun(100, func() {
		wire = c.Seal(wire[:0], inner)
		for _, b := range [][]byte{wire[:7], wire[7:9000], wire[9000:]} {
			if _, _, err := s.Open(out, b); err != nil {
				t.Fatal(err)
			}
		}
	})
	if n >= 2 { // the pool's pointer, and what the collector may take from it
		t.Errorf("%.0f allocations", n)
	}
}

// FuzzOpen: whatever comes, in pieces of any length, either is what was sealed or ends the connection.
func FuzzOpen(f *testing.F) {
	f.Add([]byte{}, uint16(0), byte(0), uint64(1))
	f.Add([]byte{23, 3, 3, 0, 17, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17}, uint16(0), byte(0), uint64(2))
	f.Add(bytes.Repeat([]byte("x"), 50_000), uint16(30_000), byte(1), uint64(3))
	f.Add([]byte{24, 0, 0, 1, 1}, uint16(0), byte(0), uint64(4))
	with := suites[tls.TLS_AES_128_GCM_SHA256]
	f.Fuzz(func(t *testing.T, b []byte, at uint16, change byte, seed uint64) {
		out, in := withSecret(t, with)
		r := weak.New(weak.NewPCG(seed, 1))
		wire, want := bytes.Clone(b), []byte(nil)
		switch r.IntN(3) {
		case 1: // sealed, and perhaps changed
			wire, want = out.Append(nil, b), b
		case 2: // sealed as something else
			wire = out.append(nil, content(r.Uint32()), b[:min(len(b), MaxData)]...)
		}
		if len(wire) > 0 {
			wire[int(at)%len(wire)] ^= change
		}
		var got []byte
		var err error
		for rest := wire; len(rest) > 0 && err == nil; {
			n := 1 + r.IntN(len(rest))
			piece := rest[:n]
			for rest = rest[n:]; len(piece) > 0 && err == nil; {
				got, piece, err = in.Open(got, piece)
			}
		}
		if want != nil && !bytes.HasPrefix(want, got) {
			t.Fatal("something else came out than went in")
		}
		if want != nil && change == 0 && (err != nil || len(got) != len(want)) {
			t.Fatalf("%d bytes of %d, then %v", len(got), len(want), err)
		}
		in.Answer(nil)
		in.Close(nil)
		in.Release()
	})
}

func BenchmarkOpen(b *testing.B) {
	s, c := withSecret(b, suites[tls.TLS_AES_128_GCM_SHA256])
	wire, out := s.Append(nil, make([]byte, MaxData)), make([]byte, 0, MaxData+Overhead)
	b.SetBytes(MaxData)
	b.ReportAllocs()
	for b.Loop() {
		c.in.seq = 0
		if _, _, err := c.Open(out, wire); err != nil {
			b.Fatal(err)
		}
	}
}
