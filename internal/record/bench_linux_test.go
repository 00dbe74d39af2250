package record

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/timedge/timedge/internal/clock"
	"github.com/timedge/timedge/internal/testcert"
)

// BenchmarkSeal seals a message for one connection after the other, as a room's fan-out does, beside crypto/tls. With
// one connection its keys are in the first-level cache, with a hundred they are not.
func BenchmarkSeal(b *testing.B) {
	for _, size := range []int{64, 256, 1 << 10, MaxData} {
		for _, conns := range []int{1, 100, 1000} {
			b.Run(fmt.Sprintf("layer=record/size=%d/conns=%d", size, conns), func(b *testing.B) {
				out := make([]*Conn, conns)
				for i := range out {
					out[i], _ = withSecret(b, suites[tls.TLS_AES_128_GCM_SHA256])
				}
				inner, dst := append(make([]byte, size), Data), make([]byte, 0, size+Overhead)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					out[i%conns].Seal(dst, inner)
				}
			})
			b.Run(fmt.Sprintf("layer=crypto-tls/size=%d/conns=%d", size, conns), func(b *testing.B) {
				out := make([]*tls.Conn, conns)
				for i := range out {
					out[i] = sealer(b)
				}
				plain := make([]byte, size)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if _, err := out[i%conns].Write(plain); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// sealer returns a connection of crypto/tls that has shaken hands and whose records nobody reads.
func sealer(b *testing.B) *tls.Conn {
	b.Helper()
	near, far := net.Pipe()
	deaf := &deafAfter{Conn: far}
	cfg := serverConfig.Clone()
	cfg.SessionTicketsDisabled, cfg.DynamicRecordSizingDisabled = true, true
	c := tls.Server(deaf, cfg)
	done := make(chan error, 1)
	go func() { done <- c.Handshake() }()
	if err := tls.Client(near, clientConfig()).Handshake(); err != nil {
		b.Fatal(err)
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	deaf.deaf = true
	b.Cleanup(func() { near.Close(); far.Close() })
	return c
}

// deafAfter takes what is written and sends it nowhere, once it is deaf.
type deafAfter struct {
	net.Conn
	deaf bool
}

func (d *deafAfter) Write(b []byte) (int, error) {
	if d.deaf {
		return len(b), nil
	}
	return d.Conn.Write(b)
}

// BenchmarkHandshake makes handshakes of a server over loopback, and the same by crypto/tls alone (layer=crypto-tls),
// which is the floor: the difference is what taking the keys out of it costs. cpu-ns/op is what they take of the thread
// of the server's side, the kernel's work included; ns/op has the client in it.
func BenchmarkHandshake(b *testing.B) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		b.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		key     crypto.Signer
		change  func(server, client *tls.Config)
		resumed bool
	}{
		{name: "key=P-256", key: ecKey},
		{name: "key=P-256/resumed", key: ecKey, resumed: true},
		{name: "key=P-256/exchange=X25519", key: ecKey,
			change: func(_, client *tls.Config) { client.CurvePreferences = []tls.CurveID{tls.X25519} }},
		{name: "key=P-256/ticket", key: ecKey,
			change: func(_, client *tls.Config) { client.ServerName, client.ClientSessionCache = "x", forgetful{} }},
		{name: "key=RSA-2048", key: rsaKey},
		{name: "key=RSA-2048/resumed", key: rsaKey, resumed: true},
	} {
		b.Run(c.name, func(b *testing.B) {
			server := &tls.Config{Certificates: []tls.Certificate{testcert.For(c.key, 1)}}
			client := clientConfig()
			if c.resumed {
				client.ServerName, client.ClientSessionCache = "x", tls.NewLRUClientSessionCache(1)
			}
			if c.change != nil {
				c.change(server, client)
			}
			b.Run("layer=record", func(b *testing.B) {
				cfg := Config(server)
				handshakes(b, client, c.resumed, func(sock net.Conn) (tls.ConnectionState, error) {
					_, _, s, err := Server(sock, cfg)
					return s, err
				})
			})
			b.Run("layer=crypto-tls", func(b *testing.B) {
				handshakes(b, client, c.resumed, func(sock net.Conn) (tls.ConnectionState, error) {
					bare := tls.Server(sock, server)
					err := bare.Handshake()
					return bare.ConnectionState(), err
				})
			})
		})
	}
}

// forgetful has a client ask for a session ticket and never use it. A client without a cache is given none.
type forgetful struct{}

func (forgetful) Get(string) (*tls.ClientSessionState, bool) { return nil, false }
func (forgetful) Put(string, *tls.ClientSessionState)        {}

// handshakes measures what serve takes for each connection of a client.
func handshakes(b *testing.B, client *tls.Config, resumed bool, serve func(net.Conn) (tls.ConnectionState, error)) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	b.ReportAllocs()
	once := func() (took time.Duration, did bool) {
		done := make(chan error, 1)
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			far, err := ln.Accept()
			if err == nil {
				defer far.Close()
				from := clock.Thread()
				var s tls.ConnectionState
				s, err = serve(far)
				took, did = clock.Thread()-from, s.DidResume
			}
			done <- err
		}()
		near, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		defer near.Close()
		c := tls.Client(near, client)
		if err := c.Handshake(); err != nil {
			b.Fatal(err)
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		_, _ = c.Read(make([]byte, 1)) // takes the ticket, until the server has closed
		return took, did
	}
	once()
	var all time.Duration
	for b.Loop() {
		took, did := once()
		if did != resumed {
			b.Fatalf("resumed: %v, want %v", did, resumed)
		}
		all += took
	}
	b.ReportMetric(float64(all.Nanoseconds())/float64(b.N), "cpu-ns/op")
}
