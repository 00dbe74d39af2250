package client

import (
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/timedge/timedge/codec"
)

// producer makes the frames of one stream, as a server would send them.
type producer struct {
	key   codec.StreamKey
	next  uint64
	open  bool // a message goes on
	flags codec.Flags
	keyed bool
}

func (p *producer) frame(t *rapid.T) []byte {
	if rapid.IntRange(0, 9).Draw(t, "gap") == 0 {
		p.open = false
		g := codec.Gap{Room: room, StreamKey: p.key, From: p.next, To: p.next + uint64(rapid.IntRange(0, 5).Draw(t, "to")),
			Reason: codec.GapNewer}
		p.next = g.To + 1
		b, err := g.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	f := codec.Stream{Room: room, StreamKey: p.key, Seq: p.next}
	if !p.open {
		kinds := []codec.Flags{0, 0, 0, codec.FlagInit}
		if p.keyed {
			kinds = append(kinds, codec.FlagKey)
		}
		p.flags = rapid.SampledFrom(kinds).Draw(t, "kind")
	} else {
		f.Flags |= codec.FlagCont
	}
	f.Flags |= p.flags
	if p.open = rapid.IntRange(0, 3).Draw(t, "more") == 0; p.open {
		f.Flags |= codec.FlagMore
	}
	p.next++
	f.Payload = make([]byte, rapid.IntRange(0, 200).Draw(t, "size"))
	b, err := f.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestBufferLaws: whatever is dropped, nothing is missing without a gap, no message is cut or changed, a stream with
// key messages goes on at one of these, and the bounds hold. In a latest room a caller that has taken all has the
// newest, and no stream has its turn a third time while another's message waits that no init message came behind: twice
// it may, where a message that was broken off lies behind the one that waits.
func TestBufferLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clock := time.Unix(1, 0)
		policy := rapid.SampledFrom([]codec.Policy{codec.PolicyLive, codec.PolicyLatest}).Draw(t, "policy")
		s := &Subscription{room: room, ready: make(chan struct{}, 1), space: make(chan struct{}, 1),
			opened: make(chan struct{})}
		s.q = buffer{policy: policy, limit: 2000, hard: 8000, now: func() time.Time { return clock }}
		s.in = inbound{room: room, policy: policy, maxPayload: 1 << 20, dropped: new(atomic.Uint64),
			join: assembly{quota: &quota{limit: 1 << 30}, share: 1 << 30}}
		pubs := make([]*producer, rapid.IntRange(1, 4).Draw(t, "streams"))
		for i := range pubs {
			pubs[i] = &producer{key: codec.StreamKey{Pub: uint16(1 + i/2), Dtype: uint8(i)}, next: 1, keyed: i%2 == 0}
		}
		seen := make(map[codec.StreamKey]uint64)   // last number told
		newest := make(map[codec.StreamKey]uint64) // last number of a whole message
		gapped := make(map[codec.StreamKey]bool)   // a gap, and no message since
		turns := 1
		turn := make(map[codec.StreamKey][2]int) // its last two
		since := make(map[codec.StreamKey]int)   // the turn after which a message came that waits; 0: none does
		took := func(key codec.StreamKey, kind Kind) {
			turns++
			since[key] = 0
			if policy != codec.PolicyLatest || kind == Init {
				return
			}
			was := turn[key]
			for other, from := range since {
				if from != 0 && from < was[0] {
					t.Fatalf("%v has its turns %d and %d, %v has waited since %d", key, was, turns, other, from)
				}
			}
			turn[key] = [2]int{was[1], turns}
		}
		take := func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			for {
				ev, more, err := s.step()
				if err != nil {
					t.Fatal(err)
				}
				switch e := ev.(type) {
				case *Message:
					key := codec.StreamKey{Pub: e.Pub, Dtype: e.Dtype}
					if e.First != seen[key]+1 {
						t.Fatalf("%v: message %d-%d follows %d", key, e.First, e.Last, seen[key])
					}
					if policy == codec.PolicyLive && gapped[key] && e.Kind == Delta && int(key.Dtype)%2 == 0 && hadKey(s, key) {
						t.Fatalf("%v: goes on at %d, which is no key message", key, e.First)
					}
					if e.Kind != Init {
						gapped[key] = false
					}
					seen[key] = e.Last
					took(key, e.Kind)
					if newest[key] > e.Last {
						since[key] = turns
					}
					return true
				case *Gap:
					key := codec.StreamKey{Pub: e.Pub, Dtype: e.Dtype}
					if e.Interrupted != 0 && e.Interrupted != seen[key]+1 || e.Interrupted == 0 && e.From != seen[key]+1 {
						t.Fatalf("%v: gap %d-%d (interrupted %d) follows %d", key, e.From, e.To, e.Interrupted, seen[key])
					}
					gapped[key] = e.Reason == codec.GapSlow
					seen[key] = e.To
					return true
				}
				if !more {
					return false
				}
			}
		}
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				take()
			case 1:
				clock = clock.Add(bufferAge / 4)
			default:
				p := rapid.SampledFrom(pubs).Draw(t, "stream")
				was := *p
				b := p.frame(t)
				s.mu.Lock()
				out := s.q.offer(b)
				if s.q.bytes > s.q.hard+len(b) {
					t.Fatalf("holds %d bytes", s.q.bytes)
				}
				s.mu.Unlock()
				if out != taken {
					*p = was
					take()
					continue
				}
				switch {
				case !isStream(b):
				case p.flags&codec.FlagInit != 0:
					since[p.key] = 0
				case !p.open:
					newest[p.key] = p.next - 1
					if since[p.key] == 0 {
						since[p.key] = turns
					}
				}
			}
		}
		for take() {
		}
		for _, p := range pubs {
			if policy == codec.PolicyLatest && seen[p.key] < newest[p.key] {
				t.Errorf("%v: %d is the newest, %d came", p.key, newest[p.key], seen[p.key])
			}
		}
		for _, p := range pubs { // the end tells what was dropped last
			left, err := (&codec.Left{Room: room, Pub: p.key.Pub, Code: codec.CodeLeft}).Append(nil)
			if err != nil {
				t.Fatal(err)
			}
			s.mu.Lock()
			s.q.add(left)
			s.mu.Unlock()
			for take() {
			}
		}
		if s.q.bytes != 0 || s.q.dead != 0 {
			t.Errorf("%d bytes are left, %d of them dropped", s.q.bytes, s.q.dead)
		}
		for _, p := range pubs {
			if end := p.next - 1; seen[p.key] != end && !(p.open && seen[p.key] == p.next) {
				t.Errorf("%v: told up to %d of %d", p.key, seen[p.key], end)
			}
		}
	})
}

// hadKey reports whether the buffer knows that the stream has key messages.
func hadKey(s *Subscription, key codec.StreamKey) bool {
	w := s.q.streams[key]
	return w != nil && w.keyed
}
