package target

import (
	"encoding/binary"
	"fmt"

	"github.com/timedge/timedge/tools/loadgen/verify"
)

// mqtt speaks MQTT 3.1.1 with QoS 0: a topic per room.
// https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/mqtt-v3.1.1.html
type mqtt struct{ subjects }

func (*mqtt) Name() string { return "mosquitto" }
func (*mqtt) Caps() Caps   { return Caps{Rooms: true} }

func (s *mqtt) Publisher([]*Stream) Publisher { return &mqttWire{subjects: s.subjects} }

func (s *mqtt) Subscriber(room int, t *verify.Tracker) Subscriber {
	return &mqttWire{subjects: s.subjects, sub: string(s.append(nil, room)), t: t}
}

// The packet types used, with their fixed flags.
const (
	mqttConnect   = 0x10
	mqttConnack   = 0x20
	mqttPublish   = 0x30
	mqttSubscribe = 0x82
	mqttSuback    = 0x90
)

type mqttWire struct {
	subjects
	sub   string
	t     *verify.Tracker
	ready bool
}

func (w *mqttWire) Open(dst []byte) []byte {
	// CONNECT: protocol name and level 4, clean session, keep-alive off, no client identifier (the server draws one).
	dst = append(dst, mqttConnect, 12, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, 0)
	if w.sub == "" {
		return dst
	}
	dst = append(dst, mqttSubscribe, byte(2+2+len(w.sub)+1), 0, 1, 0, byte(len(w.sub)))
	return append(append(dst, w.sub...), 0)
}

func (w *mqttWire) Ready() bool            { return w.ready }
func (w *mqttWire) Tick(out []byte) []byte { return out }

func (w *mqttWire) Append(dst []byte, m *Message) ([]byte, bool) {
	var name [24]byte
	topic := w.append(name[:0], m.Stream.Room)
	dst = append(dst, mqttPublish)
	dst = binary.AppendUvarint(dst, uint64(2+len(topic)+m.Size)) // MQTT's remaining length has the same form
	dst = append(append(dst, 0, byte(len(topic))), topic...)
	return plain(dst, m), true
}

func (w *mqttWire) Scan(b, reply []byte) (n int, out []byte, err error) {
	for {
		if w.t != nil && w.t.Left() > 0 {
			n += w.t.Body(b[n:])
			if w.t.Left() > 0 {
				return n, reply, nil
			}
		}
		rest := b[n:]
		if len(rest) < 2 {
			return n, reply, nil
		}
		length, k := binary.Uvarint(rest[1:])
		if k == 0 {
			return n, reply, nil
		}
		if k < 0 || k > 4 {
			return n, reply, fmt.Errorf("mqtt: bad length")
		}
		head, size := 1+k, int(length)
		switch rest[0] & 0xf0 {
		case mqttPublish:
			if len(rest) < head+2 {
				return n, reply, nil
			}
			topic := 2 + int(binary.BigEndian.Uint16(rest[head:]))
			if size-topic < verify.StampSize || w.t == nil {
				return n, reply, fmt.Errorf("mqtt: message of %d bytes", size-topic)
			}
			if len(rest) < head+topic+verify.StampSize {
				return n, reply, nil
			}
			n += head + topic
			plainFrame(w.t, b[n:n+verify.StampSize], size-topic)
			continue
		case mqttConnack:
			if len(rest) < head+size {
				return n, reply, nil
			}
			if size != 2 || rest[head+1] != 0 {
				return n, reply, fmt.Errorf("mqtt: connection refused: % x", rest[:head+size])
			}
			w.ready = w.sub == ""
		case mqttSuback:
			if len(rest) < head+size {
				return n, reply, nil
			}
			if rest[head+size-1] == 0x80 {
				return n, reply, fmt.Errorf("mqtt: subscription refused")
			}
			w.ready = true
		default:
			return n, reply, fmt.Errorf("mqtt: unexpected packet 0x%02x", rest[0])
		}
		n += head + size
	}
}
