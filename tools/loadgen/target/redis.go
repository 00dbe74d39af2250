package target

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/timedge/timedge/tools/loadgen/verify"
)

// redis speaks RESP2: a channel per room, pipelined PUBLISH with the replies switched off.
// https://redis.io/docs/latest/develop/reference/protocol-spec/
type redis struct{ subjects }

func (*redis) Name() string { return "redis" }
func (*redis) Caps() Caps   { return Caps{Rooms: true} }

func (s *redis) Publisher([]*Stream) Publisher { return &redisWire{subjects: s.subjects} }

func (s *redis) Subscriber(room int, t *verify.Tracker) Subscriber {
	return &redisWire{subjects: s.subjects, sub: string(s.append(nil, room)), t: t}
}

type redisWire struct {
	subjects
	sub   string
	t     *verify.Tracker
	ready bool
	trail int
}

func (w *redisWire) Open(dst []byte) []byte {
	if w.sub == "" {
		return append(dst, "PING\r\nCLIENT REPLY OFF\r\n"...)
	}
	return fmt.Appendf(dst, "*2\r\n$9\r\nSUBSCRIBE\r\n$%d\r\n%s\r\n", len(w.sub), w.sub)
}

func (w *redisWire) Ready() bool            { return w.ready }
func (w *redisWire) Tick(out []byte) []byte { return out }

func (w *redisWire) Append(dst []byte, m *Message) ([]byte, bool) {
	var name [24]byte
	room := w.append(name[:0], m.Stream.Room)
	dst = append(dst, "*3\r\n$7\r\nPUBLISH\r\n$"...)
	dst = strconv.AppendInt(dst, int64(len(room)), 10)
	dst = append(append(append(dst, "\r\n"...), room...), "\r\n$"...)
	dst = strconv.AppendInt(dst, int64(m.Size), 10)
	dst = plain(append(dst, "\r\n"...), m)
	return append(dst, "\r\n"...), true
}

var redisMessage = []byte("*3\r\n$7\r\nmessage\r\n$")

func (w *redisWire) Scan(b, reply []byte) (n int, out []byte, err error) {
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
		if len(rest) == 0 {
			return n, reply, nil
		}
		if rest[0] == '-' {
			return n, reply, fmt.Errorf("redis: %.80s", rest)
		}
		if w.t == nil {
			// A publisher hears +PONG and then nothing more.
			w.ready = w.ready || bytes.Contains(rest, []byte("+PONG\r\n"))
			return n + len(rest), reply, nil
		}
		if !w.ready {
			// *3 $9 subscribe $n channel :1, in six lines
			end := []byte(w.sub + "\r\n:1\r\n")
			i := bytes.Index(rest, end)
			if i < 0 {
				return n, reply, nil
			}
			w.ready = true
			n += i + len(end)
			continue
		}
		k, size, err := redisHead(rest)
		if k == 0 {
			return n, reply, err
		}
		n += k
		plainFrame(w.t, b[n:n+verify.StampSize], size)
	}
}

// redisHead reads what stands before a message's payload: its length in bytes and the payload's. It returns 0 if b does
// not hold all of it and the stamp behind it yet.
func redisHead(b []byte) (n, size int, err error) {
	if len(b) < len(redisMessage) {
		return 0, 0, nil
	}
	if !bytes.HasPrefix(b, redisMessage) {
		return 0, 0, fmt.Errorf("redis: not a message: %.40q", b)
	}
	n = len(redisMessage)
	name, k := redisLength(b[n:])
	if k == 0 {
		return 0, 0, nil
	}
	n += k + name + len("\r\n$")
	if n >= len(b) {
		return 0, 0, nil
	}
	size, k = redisLength(b[n:])
	if k == 0 || len(b) < n+k+verify.StampSize {
		return 0, 0, nil
	}
	if size < verify.StampSize {
		return 0, 0, fmt.Errorf("redis: message of %d bytes", size)
	}
	return n + k, size, nil
}

// redisLength reads a number and the line end behind it; n is 0 if it is not whole.
func redisLength(b []byte) (v, n int) {
	eol := bytes.IndexByte(b, '\n')
	if eol < 1 {
		return 0, 0
	}
	v, _ = atoi(b[:eol-1])
	return v, eol + 1
}
