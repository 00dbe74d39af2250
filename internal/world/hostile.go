package world

import (
	"time"

	"github.com/timedge/timedge/codec"
)

// hostile is a client that keeps to the letter of the protocol and to nothing else: long lists, the highest numbers,
// streams and grants without end, requests whose answers it does not wait for. It has a room of its own, since no other
// would take what it pushes. Nobody else may notice it, and it leaves nothing behind.
type hostile struct {
	client
	own codec.RoomID // its own room; 0: not registered yet
	num uint16       // its publisher's number there
}

// pranks are what it does, one after the other.
var pranks = []func(h *hostile){
	(*hostile).longHave, (*hostile).manyGrants, (*hostile).manyStreams, (*hostile).lastNumber, (*hostile).manyRequests,
	(*hostile).strangeAcks, (*hostile).hangUpMidway,
}

func abuse(w *World, a *Action) {
	h, _ := w.clients[a.Args[0]].(*hostile)
	if h == nil {
		h = &hostile{}
		h.client = newClient(a.Args[0], w.roomOf(a.Args[1]))
		h.rude = true
		w.enlist(&h.client, h)
	}
	h.gone = 0
	h.dial(a.Args[2])
}

func (h *hostile) ready()                       {}
func (h *hostile) lost()                        { h.num = 0 }
func (h *hostile) stream(*codec.Stream, []byte) {}
func (h *hostile) control(codec.Control)        {}

// opened registers a room, publishes there, and begins.
func (h *hostile) opened() {
	publish := func() {
		h.tries(&codec.Publish{Room: h.own}, func(m codec.Control) {
			if p, is := m.(*codec.Published); is {
				h.num = p.Pub
			}
		})
		h.prank()
	}
	if h.own != 0 {
		publish()
		return
	}
	h.tries(&codec.Register{Policy: codec.PolicyLossless}, func(m codec.Control) {
		if r, is := m.(*codec.Registered); is {
			h.own = r.Room
		}
		publish()
	})
}

// tries asks for something, and takes any answer.
func (h *hostile) tries(m codec.Control, then func(codec.Control)) {
	h.ask(m, func(answer codec.Control) {
		if answer != nil && then != nil {
			then(answer)
		}
	})
}

func (h *hostile) prank() {
	this := h.dials
	h.w.after(h.w.between(300*time.Millisecond, 2500*time.Millisecond), func() {
		if h.dials != this || !h.open || h.w.quiet {
			return
		}
		pranks[h.w.draw(int64(len(pranks)))](h)
		h.prank()
	})
}

// longHave resumes with as many positions as fit into a frame, of publishers that there are and that there are not, up
// to the highest number.
func (h *hostile) longHave() {
	m := &codec.Subscribe{Room: h.room.id}
	for i := range 3000 {
		m.Have = append(m.Have, codec.Position{
			StreamKey: codec.StreamKey{Pub: uint16(1 + i%2500), Dtype: uint8(i % 7)}, Last: codec.MaxSeq - uint64(i%3),
		})
	}
	h.tries(m, nil)
}

// manyGrants lets some hundred accounts push into its room, and takes half of that back.
func (h *hostile) manyGrants() {
	if h.own == 0 {
		return
	}
	for i := range 30 {
		g, v := &codec.Grant{}, &codec.Revoke{}
		account := "friend" + string(rune('a'+i%26)) + string(rune('a'+i/26))
		g.Room, g.Account, v.Room, v.Account = h.own, account, h.own, account
		h.tries(g, nil)
		if i%2 == 0 {
			h.tries(v, nil)
		}
	}
}

// manyStreams pushes into all 256 streams that there are.
func (h *hostile) manyStreams() {
	for dtype := range 256 {
		h.push(uint8(dtype), 1)
	}
}

// lastNumber gives up all frames that there could ever be.
func (h *hostile) lastNumber() {
	if h.num != 0 {
		h.gap(h.own, codec.StreamKey{Pub: h.num, Dtype: 3}, codec.MaxSeq)
		h.push(4, codec.MaxSeq)
	}
}

// manyRequests asks for more than it may at once of a room that may be elsewhere.
func (h *hostile) manyRequests() {
	for range 100 {
		h.tries(stat(h.room.id), nil)
	}
	h.tries(&codec.Publish{Room: h.room.id}, nil) // which it may not
}

// strangeAcks acknowledges what it was never sent, and pushes under numbers that are not its own.
func (h *hostile) strangeAcks() {
	h.send(&codec.Ack{Room: h.room.id, StreamKey: codec.StreamKey{Pub: 1, Dtype: 1}, Seq: codec.MaxSeq})
	h.gap(h.room.id, codec.StreamKey{Pub: 1, Dtype: 1}, 1<<20)
}

func (h *hostile) gap(id codec.RoomID, key codec.StreamKey, to uint64) {
	h.send(&codec.Gap{Room: id, StreamKey: key, From: 1, To: to, Reason: codec.GapPublisher})
}

// hangUpMidway asks to publish and is gone before the answer, and back a moment later.
func (h *hostile) hangUpMidway() {
	h.tries(&codec.Publish{Room: h.own}, nil)
	h.elsewhere(0, 50*time.Millisecond)
}

func (h *hostile) push(dtype uint8, seq uint64) {
	if h.num == 0 || h.end == nil {
		return
	}
	key := codec.StreamKey{Pub: h.num, Dtype: dtype}
	f := codec.Stream{Room: h.own, StreamKey: key, Seq: seq, Payload: h.w.payload(100)}
	h.w.scratch, _ = f.Append(h.w.scratch[:0])
	if len(h.w.scratch) <= h.end.space() {
		h.end.write(h.w.scratch)
	}
}

func stat(id codec.RoomID) *codec.Stat {
	m := &codec.Stat{}
	m.Room = id
	return m
}
