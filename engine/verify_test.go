package engine_test

import (
	"fmt"

	"github.com/timedge/timedge/codec"
)

// verifier holds what a subscriber receives of one room against the one rule: the next thing on a stream is the frame
// expected, or a gap that begins there; and messages are whole.
type verifier struct {
	room    codec.RoomID
	streams map[codec.StreamKey]*seen
	joined  map[uint16]string
	left    map[uint16]codec.Code
	closed  codec.Code
}

// seen is what a verifier knows of a stream.
type seen struct {
	next    uint64 // expected
	open    bool   // the last frame's message goes on
	frames  int
	gaps    []codec.Gap
	payload int // bytes
}

func newVerifier(room codec.RoomID) *verifier {
	return &verifier{
		room: room, streams: make(map[codec.StreamKey]*seen), joined: make(map[uint16]string), left: make(map[uint16]codec.Code),
	}
}

func (v *verifier) stream(k codec.StreamKey) *seen {
	s := v.streams[k]
	if s == nil {
		s = &seen{next: 1}
		v.streams[k] = s
	}
	return s
}

// resume sets where a stream goes on, as a subscriber that names a position does.
func (v *verifier) resume(p codec.Position) { v.stream(p.StreamKey).next = p.Last + 1 }

// take checks one frame. Frames of other rooms and of the session are none of its business.
func (v *verifier) take(x any) error {
	switch m := x.(type) {
	case *codec.Joined:
		if m.Room == v.room {
			v.joined[m.Pub] = m.Account
			return v.alive("joined")
		}
	case *codec.Left:
		if m.Room == v.room {
			v.left[m.Pub] = m.Code
			return v.alive("left")
		}
	case *codec.Closed:
		if m.Room != v.room {
			return nil
		}
		err := v.alive("closed")
		v.closed = m.Code
		return err
	case *codec.Gap:
		if m.Room != v.room {
			return nil
		}
		s := v.stream(m.StreamKey)
		if m.From != s.next || m.To < m.From {
			return fmt.Errorf("stream %v: gap %d to %d, expected %d", m.StreamKey, m.From, m.To, s.next)
		}
		s.next, s.open = m.To+1, false
		s.gaps = append(s.gaps, *m)
		return v.known(m.Pub, "gap")
	case *codec.Stream:
		if m.Room != v.room {
			return nil
		}
		s := v.stream(m.StreamKey)
		if m.Seq != s.next {
			return fmt.Errorf("stream %v: frame %d, expected %d", m.StreamKey, m.Seq, s.next)
		}
		if m.Flags.Start() == s.open {
			return fmt.Errorf("stream %v: frame %d with flags %#x, message open: %v", m.StreamKey, m.Seq, m.Flags, s.open)
		}
		s.next, s.open = m.Seq+1, !m.Flags.End()
		s.frames++
		s.payload += len(m.Payload)
		return v.known(m.Pub, "frame")
	}
	return nil
}

func (v *verifier) alive(what string) error {
	if v.closed != 0 {
		return fmt.Errorf("%s after closed %v", what, v.closed)
	}
	return nil
}

func (v *verifier) known(pub uint16, what string) error {
	if v.joined[pub] == "" {
		return fmt.Errorf("%s of publisher %d, which has not joined", what, pub)
	}
	if code, ok := v.left[pub]; ok {
		return fmt.Errorf("%s of publisher %d, which has left (%v)", what, pub, code)
	}
	return v.alive(what)
}

// missed returns how many frames gaps with a reason stand for, over all streams.
func (v *verifier) missed(reason codec.GapReason) (n uint64) {
	for _, s := range v.streams {
		for _, g := range s.gaps {
			if g.Reason == reason {
				n += g.To - g.From + 1
			}
		}
	}
	return n
}

// until feeds frames from w to the verifier until one makes done true; it fails the test on a breach of the rule, and
// if the server closes.
func (v *verifier) until(w *wire, done func(x any) bool) {
	w.t.Helper()
	for {
		x := w.any()
		if x == nil {
			w.t.Fatal("connection closed too early")
		}
		if err := v.take(x); err != nil {
			w.t.Fatal(err)
		}
		if done(x) {
			return
		}
	}
}

// upTo feeds frames until a stream has come past seq.
func (v *verifier) upTo(w *wire, k codec.StreamKey, seq uint64) {
	w.t.Helper()
	s := v.stream(k)
	if s.next > seq {
		return
	}
	v.until(w, func(any) bool { return s.next > seq })
}
