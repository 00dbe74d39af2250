package engine_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/internal/testcert"
)

// carried is a server that listens in every way, and how to reach it in each.
type carried struct {
	*engine.Engine
	pool  *x509.CertPool
	addrs map[string]string
}

// ways are all that a listener may speak below the protocol.
var ways = []string{"plain", "tls", "ws", "wss", "plain/proxy", "tls/proxy", "ws/proxy", "wss/proxy"}

func startCarried(t testing.TB, change ...func(*engine.Config)) *carried {
	t.Helper()
	cert := testcert.New(1)
	pool := testcert.Pool(cert)
	two := []string{"127.0.0.1:0", "127.0.0.1:0" + engine.ProxyOption}
	e := start(t, append([]func(*engine.Config){func(c *engine.Config) {
		c.Listen, c.ListenTLS, c.ListenWS, c.ListenWSS, c.ListenWeb, c.ListenWebTLS = two, two, two, two, two, two
		c.Pages = http.HandlerFunc(showPage)
		c.TLS = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}}
		c.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	}}, change...)...)
	k := &carried{Engine: e, pool: pool, addrs: make(map[string]string)}
	for i, a := range e.Addrs() {
		k.addrs[[]string{"plain", "plain/proxy", "tls", "tls/proxy", "ws", "ws/proxy", "wss", "wss/proxy",
			"web", "web/proxy", "webs", "webs/proxy"}[i]] = a.String()
	}
	return k
}

// visitor is the client that a balancer speaks for in tests.
var visitor = &net.TCPAddr{IP: net.IPv4(203, 0, 113, 7), Port: 4711}

// connect opens a connection in one of the ways, up to the protocol's first byte. mangle, if given, stands between
// the socket and all else.
func (k *carried) connect(t testing.TB, way string, mangle ...func(net.Conn) net.Conn) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", k.addrs[way])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	for _, m := range mangle {
		c = m(c)
	}
	kind, proxy := strings.CutSuffix(way, "/proxy")
	if proxy {
		h := proxyproto.HeaderProxyFromAddrs(byte(1+rand.IntN(2)), visitor, c.RemoteAddr())
		if _, err := h.WriteTo(c); err != nil {
			t.Fatal(err)
		}
	}
	if kind == "tls" || kind == "wss" || kind == "webs" {
		tc := tls.Client(c, &tls.Config{RootCAs: k.pool, ServerName: "127.0.0.1"})
		if err := tc.Handshake(); err != nil {
			t.Fatalf("%s: %v", way, err)
		}
		c = tc
	}
	if kind == "ws" || kind == "wss" {
		w, err := upgrade(c, "example.org", http.Header{"Sec-WebSocket-Protocol": {engine.SubProtocol}})
		if err != nil {
			t.Fatalf("%s: %v", way, err)
		}
		c = w
	}
	return c
}

// enter connects and says hello.
func (k *carried) enter(t testing.TB, way, account string, instance uint64, mangle ...func(net.Conn) net.Conn) *wire {
	t.Helper()
	w := &wire{t: t, c: k.connect(t, way, mangle...)}
	b := codec.AppendClientPreface(nil, codec.VersionMin, codec.VersionMax)
	w.write(enc((&codec.Hello{Account: account, Instance: instance}).Append(b)))
	w.preface()
	next[*codec.Welcome](w)
	return w
}

// wsConn is a client's side of a WebSocket, as bare as a test wants it.
type wsConn struct {
	net.Conn
	r      *bufio.Reader
	left   int                                // of the frame that is being read
	said   []wsFrame                          // control frames that have come
	frames func(b []byte) (out []byte, n int) // how to put bytes into frames; nil: one message a write
}

type wsFrame struct {
	op      byte
	payload string
}

const testKey = "dGhlIHNhbXBsZSBub25jZQ=="

// upgrade asks for WebSocket. On a refusal it returns the status as an error.
func upgrade(c net.Conn, host string, extra http.Header) (*wsConn, error) {
	req := "GET /stream HTTP/1.1\r\nHost: " + host + "\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: " + testKey + "\r\n"
	for k, vs := range extra {
		for _, v := range vs {
			req += k + ": " + v + "\r\n"
		}
	}
	if _, err := io.WriteString(c, req+"\r\n"); err != nil {
		return nil, err
	}
	w := &wsConn{Conn: c, r: bufio.NewReader(c)}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	resp, err := http.ReadResponse(w.r, nil)
	if err != nil {
		return nil, err
	}
	switch {
	case resp.StatusCode != http.StatusSwitchingProtocols:
		return nil, errors.New(resp.Status)
	case resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=":
		return nil, errors.New("the server does not prove that it speaks WebSocket")
	case resp.Header.Get("Sec-WebSocket-Protocol") != engine.SubProtocol || resp.Header.Get("Sec-WebSocket-Extensions") != "":
		return nil, fmt.Errorf("agreed on %q", resp.Header)
	}
	return w, nil
}

// clientFrame is a frame as clients send it.
func clientFrame(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = append(b, 0x80|126, byte(n>>8), byte(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	var mask [4]byte
	binary.BigEndian.PutUint32(mask[:], rand.Uint32())
	b = append(b, mask[:]...)
	for i, x := range payload {
		b = append(b, x^mask[i%4])
	}
	return b
}

func (w *wsConn) Write(b []byte) (int, error) {
	for at := 0; at < len(b); {
		out, n := clientFrame(0x82, b[at:]), len(b)-at
		if w.frames != nil {
			out, n = w.frames(b[at:])
		}
		if _, err := w.Conn.Write(out); err != nil {
			return at, err
		}
		at += n
	}
	return len(b), nil
}

// Read returns what is in binary messages. After a close frame comes the end.
func (w *wsConn) Read(b []byte) (int, error) {
	for w.left == 0 {
		var h [2]byte
		if _, err := io.ReadFull(w.r, h[:]); err != nil {
			return 0, err
		}
		n := int(h[1])
		if n == 126 {
			var l [2]byte
			if _, err := io.ReadFull(w.r, l[:]); err != nil {
				return 0, err
			}
			n = int(binary.BigEndian.Uint16(l[:]))
			if n < 126 {
				return 0, errors.New("a length in a form that is too long")
			}
		} else if n > 126 {
			return 0, fmt.Errorf("a server's frame begins with %x", h)
		}
		switch h[0] {
		case 0x82:
			if w.left = n; n > 16380 {
				return 0, fmt.Errorf("a message of %d bytes", n)
			}
		case 0x88, 0x89, 0x8a:
			p := make([]byte, n)
			if _, err := io.ReadFull(w.r, p); err != nil {
				return 0, err
			}
			w.said = append(w.said, wsFrame{h[0] & 15, string(p)})
			if h[0] == 0x88 {
				return 0, io.EOF
			}
		default:
			return 0, fmt.Errorf("a server's frame begins with %x", h)
		}
	}
	n, err := w.r.Read(b[:min(len(b), w.left)])
	w.left -= n
	return n, err
}

// inPieces puts what is written into fragments of random lengths with control frames between them, which is as bad as
// a legal client may be.
func inPieces(r *rand.Rand) func([]byte) ([]byte, int) {
	begun := false
	return func(b []byte) (out []byte, n int) {
		for r.IntN(3) == 0 {
			out = append(out, clientFrame([]byte{0x89, 0x8a}[r.IntN(2)], make([]byte, r.IntN(126)))...)
		}
		n = min(len(b), 1+r.IntN(1+r.IntN(2000)))
		first := byte(0x02)
		if begun {
			first = 0
		}
		if begun = r.IntN(2) == 0 && n < len(b); !begun {
			first |= 0x80
		}
		return append(out, clientFrame(first, b[:n])...), n
	}
}

// inCuts hands every write to the socket in pieces of random lengths.
type inCuts struct {
	net.Conn
	r *rand.Rand
}

func (c *inCuts) Write(b []byte) (int, error) {
	for at := 0; at < len(b); {
		n := min(len(b)-at, 1+c.r.IntN(1+c.r.IntN(len(b))))
		if _, err := c.Conn.Write(b[at : at+n]); err != nil {
			return at, err
		}
		at += n
	}
	return len(b), nil
}

// TestEveryWayCarriesTheSameBytes pushes by each way and reads by all others: every frame arrives, in order, byte for
// byte, whatever the sizes, the cuts of what is sent, and the fragments of messages.
func TestEveryWayCarriesTheSameBytes(t *testing.T) {
	k := startCarried(t)
	r := rand.New(rand.NewPCG(1, 2))
	var viewers []*wire
	for i, way := range ways {
		viewers = append(viewers, k.enter(t, way, "viewer", uint64(i+1)))
	}
	for i, way := range ways {
		t.Run(way, func(t *testing.T) {
			var seen []*wire
			pub := k.enter(t, way, "publisher", uint64(100+i), func(c net.Conn) net.Conn { return &inCuts{c, r} })
			if w, ok := pub.c.(*wsConn); ok {
				w.frames = inPieces(r)
			}
			room := pub.register(calm)
			p := pub.publish(room)
			for _, v := range viewers {
				v.t = t
				v.subscribe(room)
				seen = append(seen, v)
			}
			var want [][]byte
			var out []byte
			for seq := uint64(1); seq <= 300; seq++ {
				size := r.IntN(200)
				if r.IntN(20) == 0 {
					size = r.IntN(codec.MaxFrame - codec.StreamHeaderSize)
				}
				payload := make([]byte, size)
				for j := range payload {
					payload[j] = byte(r.Uint32())
				}
				want = append(want, payload)
				f := codec.Stream{Room: room, StreamKey: codec.StreamKey{Pub: p.Pub}, Seq: seq, Payload: payload}
				if out = enc(f.Append(out)); r.IntN(10) == 0 {
					pub.write(out)
					out = nil
				}
			}
			pub.write(out)
			for i, v := range seen {
				for seq, payload := range want {
					if f := next[*codec.Stream](v); f.Seq != uint64(seq+1) || !bytes.Equal(f.Payload, payload) {
						t.Fatalf("viewer by %s: frame %d with %d bytes, want %d with %d", ways[i], f.Seq, len(f.Payload), seq+1, len(payload))
					}
				}
			}
			for i, v := range seen {
				m := &codec.Unsubscribe{}
				m.Req, m.Room = v.nextReq(), room
				v.send(m)
				next[*codec.OK](v)
				_ = i
			}
		})
	}
}
