package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/pires/go-proxyproto"
)

// FuzzProxyHeader: however the bytes of a PROXY header come, it is the same header or the same refusal, and what lies
// behind it is kept.
func FuzzProxyHeader(f *testing.F) {
	for _, seed := range []string{
		"PROXY TCP4 192.0.2.1 192.0.2.2 4711 7400\r\nTMDG", "PROXY TCP6 2001:db8::1 ::1 1 2\r\n", "PROXY UNKNOWN\r\nrest",
		"PROXY TCP4 192.0.2.1 192.0.2.2 70000 7400\r\n", "PROXY \n", "PROX", "GET / HTTP/1.1\r\n\r\n",
		"PROXY TCP4 " + strings.Repeat("1", 100) + "\r\n",
	} {
		f.Add([]byte(seed))
	}
	for _, v2 := range []struct {
		command, family byte
		body            string
	}{
		{0x21, 0x11, "\xc0\x00\x02\x01\xc0\x00\x02\x02\x12\x67\x1c\xe8"}, {0x20, 0, ""}, {0x21, 0x11, ""},
		{0x21, 0x21, strings.Repeat("x", 36)},
		{0x21, 0x31, strings.Repeat("/", 216)}, {0x21, 0x11, "\xc0\x00\x02\x01\xc0\x00\x02\x02\x12\x67\x1c\xe8\x04\xff\xff"},
	} {
		b := append([]byte(string(proxyproto.SIGV2)), v2.command, v2.family)
		b = binary.BigEndian.AppendUint16(b, uint16(len(v2.body)))
		f.Add(append(append(b, v2.body...), "TMDG"...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		read := func(r io.Reader) string {
			from, early, err := proxyHeader(r)
			if err != nil {
				return "refused: " + err.Error()
			}
			rest, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			if rest = append(early, rest...); !bytes.HasSuffix(b, rest) {
				t.Fatalf("%q is not what %q ends with", rest, b)
			}
			return fmt.Sprintf("%v, then %q", from, rest)
		}
		if whole, cut := read(bytes.NewReader(b)), read(iotest.OneByteReader(bytes.NewReader(b))); whole != cut {
			t.Errorf("at once: %s\nbyte by byte: %s", whole, cut)
		}
	})
}

// FuzzUpgrade: however the bytes of a request for WebSocket come, it has the same answer, which is 101 if and only if
// it is taken, and what lies behind it is kept.
func FuzzUpgrade(f *testing.F) {
	const good = "GET /stream HTTP/1.1\r\nHost: example.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
		"Sec-WebSocket-Protocol: " + SubProtocol + "\r\n"
	for _, seed := range []string{
		good + "\r\nTMDG", good + "Origin: http://example.org\r\n\r\n", good + "Origin: http://elsewhere\r\n\r\n",
		good + "X: " + strings.Repeat("x", 9000) + "\r\n\r\n",
		strings.Replace(good, SubProtocol, "other", 1) + "\r\n",
		strings.Replace(good, "13", "12", 1) + "\r\n",
		"POST / HTTP/1.1\r\n\r\n", "\r\n\r\n", "GET / HTTP/1.1\r\nHost\r\n\r\n", good,
	} {
		f.Add([]byte(seed))
	}
	e := new(Engine)
	f.Fuzz(func(t *testing.T, b []byte) {
		ask := func(r io.Reader) string {
			head, rest, err := readRequest(r, nil)
			if err != nil {
				return "no request: " + err.Error()
			}
			if !bytes.HasPrefix(b[len(head):], rest) {
				t.Fatalf("%q does not follow the request in %q", rest, b)
			}
			var answer bytes.Buffer
			err = e.upgrade(&answer, head)
			if taken := strings.HasPrefix(answer.String(), "HTTP/1.1 101 "); taken != (err == nil) {
				t.Fatalf("%v, and the answer is %q", err, &answer)
			}
			return fmt.Sprintf("%q is answered by %q", head, &answer)
		}
		if whole, cut := ask(bytes.NewReader(b)), ask(iotest.OneByteReader(bytes.NewReader(b))); whole != cut {
			t.Errorf("at once: %s\nbyte by byte: %s", whole, cut)
		}
	})
}
