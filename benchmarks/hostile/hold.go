package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/timedge/timedge/codec"
)

// Attacks that make the server hold much: each in many rooms, streams or sessions of one account. What they hold they
// hold until the attack ends.

// bad is a client that obeys nothing.
type bad struct {
	a   *attack
	c   net.Conn
	r   *bufio.Reader
	req uint32
}

var errEnded = errors.New("the attack, or the connection, is over")

// client connects and says hello; nil if that fails.
func (a *attack) client() *bad {
	c := a.dial()
	if c == nil {
		return nil
	}
	b := &bad{a: a, c: c, r: bufio.NewReaderSize(c, 64<<10)}
	if _, err := c.Write(a.hello(a.token)); err != nil {
		return nil
	}
	if _, err := b.r.Discard(codec.PrefaceSize); err != nil {
		return nil
	}
	if m, err := b.next(); err != nil || m.Type() != codec.TypeWelcome {
		a.drop(c)
		return nil
	}
	return b
}

// next reads until a control frame, and counts what the server refuses and why it closes.
func (b *bad) next() (codec.Control, error) {
	for {
		var head [codec.LengthSize]byte
		if _, err := io.ReadFull(b.r, head[:]); err != nil {
			return nil, err
		}
		frame := make([]byte, codec.LengthSize+int(head[0])<<8+int(head[1]))
		copy(frame, head[:])
		if _, err := io.ReadFull(b.r, frame[codec.LengthSize:]); err != nil {
			return nil, err
		}
		m, err := codec.ParseControl(frame)
		if err != nil {
			continue // a stream frame
		}
		switch m := m.(type) {
		case *codec.Error:
			b.a.count("closed: " + m.Code.String())
		case *codec.Refused:
			b.a.count("refused: " + m.Code.String())
		case *codec.PushRefused:
			b.a.count("push refused: " + m.Code.String())
		case *codec.Closed:
			b.a.count("ended: " + m.Code.String())
		}
		return m, nil
	}
}

// until sends a request and reads until an answer of the type T.
func until[T codec.Control](b *bad, m codec.Control) (answer T, err error) {
	if err := b.send(enc(m.Append(nil))); err != nil {
		return answer, err
	}
	for {
		m, err := b.next()
		if err != nil {
			return answer, err
		}
		if m, is := m.(T); is {
			return m, nil
		}
		if m.Type() == codec.TypeRefused {
			return answer, errEnded
		}
	}
}

// room registers a room and publishes into it.
func (b *bad) room(p codec.Policy) (id codec.RoomID, pub uint16, err error) {
	b.req++
	r, err := until[*codec.Registered](b, &codec.Register{Req: b.req, Policy: p, IdleMillis: 24 * 3600 * 1000})
	if err != nil {
		return 0, 0, err
	}
	b.req++
	m, err := until[*codec.Published](b, &codec.Publish{Req: b.req, Room: r.Room})
	if err != nil {
		return 0, 0, err
	}
	return r.Room, m.Pub, nil
}

func (b *bad) subscribe(id codec.RoomID) error {
	b.req++
	_, err := until[*codec.Subscribed](b, &codec.Subscribe{Req: b.req, Room: id})
	return err
}

func (b *bad) send(frames []byte) error {
	_, err := b.c.Write(frames)
	return err
}

// drain reads all that comes, until the connection ends.
func (b *bad) drain() {
	for {
		if _, err := b.next(); err != nil {
			return
		}
	}
}

// hold waits until the attack ends or the server closes.
func (b *bad) hold() {
	b.drain()
	b.a.drop(b.c)
}

func (a *attack) ended() bool {
	select {
	case <-a.stop:
		return true
	default:
		return false
	}
}

func frame(id codec.RoomID, pub uint16, dtype uint8, seq uint64, flags codec.Flags, size int) *codec.Stream {
	return &codec.Stream{Room: id, StreamKey: codec.StreamKey{Pub: pub, Dtype: dtype}, Seq: seq, Flags: flags,
		Payload: make([]byte, size)}
}

// tiny fills lossless rooms with frames of 20 bytes; their subscriber reads all and acknowledges next to nothing.
func (a *attack) tiny() {
	p, s := a.client(), a.client()
	if p == nil || s == nil {
		return
	}
	defer a.drop(s.c)
	type target struct {
		id  codec.RoomID
		pub uint16
		seq [2]uint64
	}
	var rooms []*target
	for range 8 {
		id, pub, err := p.room(codec.PolicyLossless)
		if err != nil || s.subscribe(id) != nil {
			a.drop(p.c)
			return
		}
		rooms = append(rooms, &target{id: id, pub: pub})
	}
	go p.drain()
	go s.drain()
	for sent, acked := 0, time.Now(); !a.ended(); {
		for _, r := range rooms {
			var b []byte
			for j := range 400 {
				r.seq[j%2]++
				b = enc(frame(r.id, r.pub, uint8(j%2), r.seq[j%2], 0, 0).Append(b))
			}
			if sent += len(b); sent > len(rooms)*7<<20 || p.send(b) != nil {
				a.drop(p.c)
				return
			}
		}
		if time.Since(acked) > time.Second {
			acked = time.Now()
			for _, r := range rooms {
				_ = s.send(enc((&codec.Ack{Room: r.id, StreamKey: codec.StreamKey{Pub: r.pub}, Seq: r.seq[0] / 100}).Append(nil)))
			}
		}
	}
	a.drop(p.c)
}

// caches fills rooms with groups, of which then nothing more comes.
func (a *attack) caches() {
	p := a.client()
	if p == nil {
		return
	}
	var rooms []codec.RoomID
	var pubs []uint16
	for range 10 {
		id, pub, err := p.room(codec.PolicyLive)
		if err != nil {
			a.drop(p.c)
			return
		}
		rooms, pubs = append(rooms, id), append(pubs, pub)
	}
	go p.drain()
	for i, id := range rooms {
		for dtype := range 15 {
			for seq := uint64(1); seq <= 64; seq++ {
				flags := codec.Flags(0)
				if seq == 1 {
					flags = codec.FlagKey
				}
				if p.send(enc(frame(id, pubs[i], uint8(dtype), seq, flags, 65_500).Append(nil))) != nil || a.ended() {
					a.drop(p.c)
					return
				}
			}
		}
	}
	p.hold()
}

// partials takes connections of one account until there are no more, and fills each with the beginning of a frame.
func (a *attack) partials() {
	p := a.client()
	if p == nil {
		time.Sleep(100 * time.Millisecond) // its pace
		return
	}
	b := make([]byte, 60_000)
	b[0], b[1], b[2] = 0xf0, 0, codec.TypeSubscribe
	if p.send(b) == nil {
		p.hold()
	}
}

// streams makes as many streams as it gets, of one frame each.
func (a *attack) streams() {
	p := a.client()
	if p == nil {
		return
	}
	for !a.ended() {
		id, pub, err := p.room(codec.PolicyLive)
		if err != nil {
			time.Sleep(10 * time.Millisecond) // its pace
			break
		}
		var b []byte
		for dtype := range 256 {
			b = enc(frame(id, pub, uint8(dtype), 1, codec.FlagKey, 10).Append(b))
		}
		if p.send(b) != nil {
			break
		}
	}
	p.hold()
}

// grants fills the lists of rooms with long names.
func (a *attack) grants() {
	p := a.client()
	if p == nil {
		return
	}
	defer a.drop(p.c)
	for !a.ended() {
		id, _, err := p.room(codec.PolicyLive)
		if err != nil {
			time.Sleep(10 * time.Millisecond) // its pace
			return
		}
		for i := range 16 << 10 / 64 {
			var b []byte
			for j := range 64 {
				m := &codec.Grant{}
				m.Req, m.Room, m.Account = uint32(64*i+j), id, fmt.Sprintf("%0100d", 64*i+j)
				b = enc(m.Append(b))
			}
			if p.send(b) != nil {
				return
			}
			for range 64 {
				if _, err := p.next(); err != nil {
					return
				}
			}
		}
	}
}

// pieces pushes without end, into rooms of many streams each, messages of which no last piece comes, those of every
// other stream as init messages.
func (a *attack) pieces() {
	p := a.client()
	if p == nil {
		return
	}
	type target struct {
		id  codec.RoomID
		pub uint16
		seq uint64
	}
	var rooms []*target
	for range 4 {
		id, pub, err := p.room(codec.PolicyLive)
		if err != nil {
			a.drop(p.c)
			return
		}
		rooms = append(rooms, &target{id: id, pub: pub})
	}
	go p.drain()
	for !a.ended() {
		for _, r := range rooms {
			r.seq++
			for dtype := range 64 {
				flags := codec.FlagMore | codec.FlagKey
				if dtype%2 == 1 {
					flags = codec.FlagMore | codec.FlagInit
				}
				if r.seq > 1 {
					flags |= codec.FlagCont
				}
				if p.send(enc(frame(r.id, r.pub, uint8(dtype), r.seq, flags, 60_000).Append(nil))) != nil || a.ended() {
					a.drop(p.c)
					return
				}
			}
		}
	}
	a.drop(p.c)
}

// halves begins the handshake of TLS and goes no further, on as many connections as there may be. It is for -over tls.
func (a *attack) halves() {
	c, err := dialer.Dial("tcp", a.addr)
	if err != nil {
		a.count("not connected")
		time.Sleep(10 * time.Millisecond) // its pace
		return
	}
	a.mu.Lock()
	a.conns[c] = struct{}{}
	a.mu.Unlock()
	defer a.drop(c)
	hello := make([]byte, 1000) // of a record of 16 KiB
	copy(hello, []byte{22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3})
	if _, err := c.Write(hello); err == nil && !a.ended() {
		_, _ = io.Copy(io.Discard, c)
	}
}
