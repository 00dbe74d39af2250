package engine_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

// garbled is a socket on which one byte of what a client sends arrives changed, and all of it in pieces.
type garbled struct {
	net.Conn
	at     int // of the byte, from the first; it is counted down
	change byte
	r      *rand.Rand
}

func (g *garbled) Write(b []byte) (n int, err error) {
	b = bytes.Clone(b)
	if g.at >= 0 && g.at < len(b) {
		b[g.at] ^= g.change
	}
	g.at -= len(b)
	for n < len(b) && err == nil {
		k := min(1+g.r.IntN(200), len(b)-n)
		_, err = g.Conn.Write(b[n : n+k])
		n += k
	}
	return n, err
}

// FuzzStack changes one byte of what a client sends, wherever that is: in a PROXY header, a TLS handshake, a request for
// WebSocket, a record, a message, or a frame. The client is welcomed as if nothing had been, or told the end; the server
// meets no fault, and goes on serving others.
func FuzzStack(f *testing.F) {
	for i := range ways {
		f.Add(byte(i), uint16(0), byte(0), uint64(i), []byte(nil))
		f.Add(byte(i), uint16(40*i), byte(1), uint64(i), []byte{0x82, 0x80})
		f.Add(byte(i), uint16(30), byte(0x80), uint64(i), []byte("GET / HTTP/1.1\r\n\r\n"))
	}
	// What is changed may have the server wait for more, so that one gives up soon. On a busy machine that may meet a
	// good client, too.
	quick := startCarried(f, func(c *engine.Config) { c.HelloTimeout = 500 * time.Millisecond })
	patient := startCarried(f, func(c *engine.Config) { c.HelloTimeout = patience })
	f.Fuzz(func(t *testing.T, way byte, at uint16, change byte, seed uint64, behind []byte) {
		name := ways[int(way)%len(ways)]
		k := quick
		if change == 0 {
			k = patient
		}
		welcome := visit(t, k, name, &garbled{at: int(at), change: change, r: rand.New(rand.NewPCG(seed, 1))}, behind)
		if change == 0 && !welcome {
			t.Fatalf("%s: not welcomed, though nothing was changed", name)
		}
		if panics := k.Panics(); panics > 0 {
			t.Fatalf("%s: %d faults", name, panics)
		}
		good := func() bool { return visit(t, k, "plain", &garbled{at: -1, r: rand.New(rand.NewPCG(seed, 2))}, nil) }
		for try := 0; !good(); try++ {
			if try == 60 {
				t.Fatal("another client is not welcomed")
			}
		}
	})
}

// visit connects through g, says hello and what is behind, and reports whether the server welcomes it.
func visit(t *testing.T, k *carried, way string, g *garbled, behind []byte) (welcome bool) {
	var err error
	if g.Conn, err = net.Dial("tcp", k.addrs[way]); err != nil {
		t.Fatal(err)
	}
	defer g.Conn.Close()
	_ = g.SetDeadline(time.Now().Add(patience))
	var c net.Conn = g
	kind, proxy := strings.CutSuffix(way, "/proxy")
	if proxy {
		h := proxyproto.HeaderProxyFromAddrs(byte(1+g.r.IntN(2)), visitor, g.RemoteAddr())
		if _, err := h.WriteTo(c); err != nil {
			return false
		}
	}
	if kind == "tls" || kind == "wss" {
		over := tls.Client(c, &tls.Config{RootCAs: k.pool, ServerName: "127.0.0.1"})
		if err := over.Handshake(); err != nil {
			return false
		}
		c = over
	}
	if kind == "ws" || kind == "wss" {
		w, err := upgrade(c, "example.org", http.Header{"Sec-WebSocket-Protocol": {engine.SubProtocol}})
		if err != nil {
			return false
		}
		c = w
	}
	hello := &codec.Hello{Account: "fuzz", Instance: 1}
	_, _ = c.Write(append(enc(hello.Append(codec.AppendClientPreface(nil, codec.VersionMin, codec.VersionMax))), behind...))
	// The welcome comes behind the preface; whatever else is said, at the end of all there is an end.
	r := bufio.NewReader(c)
	head := make([]byte, len(codec.AppendServerPreface(nil, 1))+codec.LengthSize+1)
	if _, err := io.ReadFull(r, head); err != nil {
		return false
	}
	return head[len(head)-1] == byte(codec.TypeWelcome)
}
