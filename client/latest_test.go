package client

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/timedge/timedge/codec"
)

// On one client with several subscriptions in latest rooms, each with several streams, a caller that takes one message
// of every round, or none until the end, gets the newest there is, of each stream in turn, and every number it misses
// is told by a gap, and counted.
func TestSlowConsumersOfLatest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const rounds, streams = 300, 3
		f := newFake(t)
		o := f.options()
		payload := strings.Repeat("x", 100)
		o.ReceiveBuffer = 10 * (codec.StreamHeaderSize + len(payload))
		c, p := f.connect(o)
		rooms := []codec.RoomID{room, room + 1, room + 2} // read to the end each round, by one message, not at all
		var subs []*Subscription
		for _, id := range rooms {
			s, err := during(func() (*Subscription, error) { return c.Subscribe(t.Context(), id, SubscribeOptions{}) },
				func() { p.subscribed(codec.PolicyLatest, 0) })
			if err != nil {
				t.Fatal(err)
			}
			p.send(&codec.Joined{Room: id, Pub: 1, Account: "bob"})
			subs = append(subs, s)
		}
		next := make(map[string]uint64) // by room and stream
		missed := uint64(0)
		take := func(i int) (m *Message) {
			ev, err := subs[i].Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var dtype uint8
			var from, to uint64
			switch e := ev.(type) {
			case *Message:
				m, dtype, from, to = e, e.Dtype, e.First, e.Last
			case *Gap:
				dtype, from, to = e.Dtype, e.From, e.To
				missed += to - from + 1
			default:
				return nil
			}
			name := fmt.Sprint(i, "/", dtype)
			if from != next[name]+1 {
				t.Fatalf("room and stream %s: %d after %d", name, from, next[name])
			}
			next[name] = to
			return m
		}
		message := func(i int) (m *Message) {
			for m == nil {
				m = take(i)
			}
			return m
		}
		for round := range uint64(rounds) {
			for dtype := range uint8(streams) {
				for _, id := range rooms {
					p.send(&codec.Stream{
						Room: id, StreamKey: codec.StreamKey{Pub: 1, Dtype: dtype}, Seq: round + 1, Payload: []byte(payload),
					})
				}
			}
			synctest.Wait()
			for range streams {
				if m := message(0); m.First != round+1 {
					t.Fatalf("room 0, stream %d: message %d in round %d", m.Dtype, m.First, round+1)
				}
			}
			if m := message(1); m.First != round+1 || uint64(m.Dtype) != round%streams {
				t.Fatalf("room 1: message %d of stream %d in round %d", m.First, m.Dtype, round+1)
			}
		}
		for range streams {
			if m := message(2); m.First != rounds {
				t.Fatalf("room 2, stream %d: message %d after %d rounds", m.Dtype, m.First, rounds)
			}
		}
		if n := subs[0].Pending(); n > codec.StreamHeaderSize+len(payload) {
			t.Errorf("%d bytes wait though all was read", n)
		}
		if n := c.Stats().Dropped; n != missed {
			t.Errorf("%d frames count as dropped, %d were missed", n, missed)
		}
	})
}
