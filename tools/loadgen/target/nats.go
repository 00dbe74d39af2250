package target

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/timedge/timedge/tools/loadgen/verify"
)

// nats speaks the NATS client protocol: a subject per room, core NATS (at most once), not verbose, no echo.
// https://docs.nats.io/reference/reference-protocols/nats-protocol
type nats struct{ subjects }

func (*nats) Name() string { return "nats" }
func (*nats) Caps() Caps   { return Caps{Rooms: true} }

func (s *nats) Publisher([]*Stream) Publisher { return &natsWire{subjects: s.subjects} }

func (s *nats) Subscriber(room int, t *verify.Tracker) Subscriber {
	return &natsWire{subjects: s.subjects, sub: string(s.append(nil, room)), t: t}
}

type natsWire struct {
	subjects
	sub   string // empty for a publisher
	t     *verify.Tracker
	ready bool
	trail int // bytes of the line end behind a payload still to come
}

const natsConnect = `CONNECT {"verbose":false,"pedantic":false,"tls_required":false,"lang":"go","version":"1","protocol":1,"echo":false}` + "\r\n"

func (w *natsWire) Open(dst []byte) []byte {
	dst = append(dst, natsConnect...)
	if w.sub != "" {
		dst = append(dst, "SUB "+w.sub+" 1\r\n"...)
	}
	return append(dst, "PING\r\n"...)
}

func (w *natsWire) Ready() bool            { return w.ready }
func (w *natsWire) Tick(out []byte) []byte { return out }

func (w *natsWire) Append(dst []byte, m *Message) ([]byte, bool) {
	dst = w.append(append(dst, "PUB "...), m.Stream.Room)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, int64(m.Size), 10)
	dst = plain(append(dst, "\r\n"...), m)
	return append(dst, "\r\n"...), true
}

func (w *natsWire) Scan(b, reply []byte) (n int, out []byte, err error) {
	for {
		if w.t != nil && w.t.Left() > 0 {
			n += w.t.Body(b[n:])
			if w.t.Left() > 0 {
				return n, reply, nil
			}
			w.trail = len("\r\n")
		}
		if w.trail > 0 {
			k := min(w.trail, len(b)-n)
			w.trail, n = w.trail-k, n+k
		}
		rest := b[n:]
		eol := bytes.IndexByte(rest, '\n')
		if eol < 0 {
			return n, reply, nil
		}
		line := bytes.TrimSuffix(rest[:eol], []byte("\r"))
		switch {
		case bytes.HasPrefix(line, []byte("MSG ")) && w.t != nil:
			size, ok := atoi(line[bytes.LastIndexByte(line, ' ')+1:])
			if !ok || size < verify.StampSize {
				return n, reply, fmt.Errorf("nats: %q", line)
			}
			if len(rest) < eol+1+verify.StampSize {
				return n, reply, nil
			}
			n += eol + 1
			plainFrame(w.t, b[n:n+verify.StampSize], size)
			continue
		case string(line) == "PING":
			reply = append(reply, "PONG\r\n"...)
		case string(line) == "PONG":
			w.ready = true
		case bytes.HasPrefix(line, []byte("-ERR")):
			return n, reply, fmt.Errorf("nats: %s", line)
		}
		n += eol + 1
	}
}

// atoi reads a decimal number without converting it to a string.
func atoi(b []byte) (n int, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' || n > 1<<30 {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, len(b) > 0
}
