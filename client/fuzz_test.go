package client

import (
	"testing"

	"github.com/timedge/timedge/codec"
)

// FuzzServer gives a client whatever a server may send: nothing makes it panic or loop, and it takes whole frames only.
func FuzzServer(f *testing.F) {
	all := func(frames ...appender) (b []byte) {
		for _, m := range frames {
			b = enc(m.Append(b))
		}
		return b
	}
	published := &codec.Published{Req: 1, Room: room, Pub: 1, Window: codec.MaxFrame}
	subscribed := &codec.Subscribed{Req: 2, Room: room}
	lossless := &codec.Subscribed{Req: 2, Room: room, Policy: codec.PolicyLossless, Window: 100}
	joined := &codec.Joined{Room: room, Pub: 1, Account: "bob"}
	left := &codec.Left{Room: room, Pub: 1, Code: codec.CodeLeft}
	f.Add(all(published, ack(1, 1), subscribed, frame(1, 0, "a")))
	f.Add(all(lossless, joined, gap(1, 3, codec.GapJoined), frame(4, codec.FlagMore, "a"), frame(5, codec.FlagCont, "b"),
		left))
	f.Add(all(&codec.Published{Req: 1, Room: room, Pub: 1, Window: codec.MaxFrame,
		Streams: []codec.StreamNext{{Dtype: 1, Next: 9}}},
		&codec.PushRefused{Room: room, Pub: 1, Code: codec.CodeBadPieces},
		&codec.Published{Req: 3, Room: room, Pub: 1, Window: 1 << 20}))
	f.Add(all(subscribed, &codec.Count{Room: room}, &codec.Closed{Room: room, Code: codec.CodeIdle}, frame(1, 0, "")))
	f.Add(all(&codec.Ping{Echo: 1}, &codec.Pong{}, &codec.GoAway{Addrs: []string{"x"}}, &codec.GoAway{},
		&codec.Refused{Req: 1, Code: codec.CodeNotGranted}, &codec.Refused{Req: 2, Code: codec.CodeOverloaded},
		&codec.Error{Code: codec.CodeSilent}))
	f.Add(all(frame(9, codec.FlagCont, "x"), &codec.Hello{}))
	f.Add([]byte{0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := Options{}.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		c := &Client{opts: o, requests: map[uint32]*request{}, pubs: map[codec.RoomID]*Publisher{},
			subs: map[codec.RoomID]*Subscription{}}
		l := &link{
			c: c, wake: make(chan struct{}, 1), broken: make(chan struct{}), away: make(chan codec.GoAway, 1),
			subs: map[codec.RoomID]*Subscription{},
		}
		c.link = l
		p := c.newPublisher(room, "", PublishOptions{Counts: true})
		s := c.newSubscription(room, SubscribeOptions{}, nil)
		p.stream(1)

		used, err := l.dispatch(b)
		if used > len(b) {
			t.Fatalf("took %d of %d bytes", used, len(b))
		}
		if _, _, next := codec.Next(b[used:], codec.MaxFrame); err == nil && next != codec.ErrIncomplete {
			t.Fatalf("left a frame: %v", next)
		}
		if p.live {
			p.streams[1].push(0, []byte("x"))
			c.enqueue(p.streams[1])
		}
		l.gather()
		l.written()
		for range len(b) + 1 { // every call takes a frame, or tells of a fault before one
			s.mu.Lock()
			_, more, _ := s.step()
			s.mu.Unlock()
			if !more {
				return
			}
			if s.err != nil {
				return
			}
		}
		t.Fatal("no end of events")
	})
}
