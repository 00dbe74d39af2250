package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/timedge/timedge/codec"
)

// describeEvent writes an event in one line.
func describeEvent(ev Event, err error) string {
	switch ev := ev.(type) {
	case *Message:
		kind := ""
		if ev.Kind != Delta {
			kind = " " + ev.Kind.String()
		}
		payload := string(ev.Payload)
		if len(payload) > 20 {
			payload = fmt.Sprint(len(payload), " bytes")
		}
		return strings.TrimSpace(fmt.Sprintf("message %d-%d%s %s", ev.First, ev.Last, kind, payload))
	case *Gap:
		s := fmt.Sprintf("gap %d-%d %v", ev.From, ev.To, ev.Reason)
		if ev.Interrupted != 0 {
			s += fmt.Sprint(" interrupted ", ev.Interrupted)
		}
		return s
	case *Joined:
		return "joined " + ev.Account
	case *Left:
		return fmt.Sprintf("left %s %v", ev.Account, ev.Code)
	case *Count:
		return fmt.Sprintf("count %d %d", ev.Subscribers, ev.Publishers)
	case *Resumed:
		return "resumed"
	}
	var fault *StreamError
	if errors.As(err, &fault) {
		return fmt.Sprintf("fault %d not %d: %s", fault.Got, fault.Expected, fault.Text)
	}
	var closed *ClosedError
	if errors.As(err, &closed) {
		return fmt.Sprintf("closed %v", closed.Code)
	}
	return fmt.Sprint(err)
}

func wantEvents(t *testing.T, s *Subscription, want ...string) {
	t.Helper()
	for i, w := range want {
		ev, err := s.Next(t.Context())
		if got := describeEvent(ev, err); got != w {
			t.Fatalf("event %d: %s, want %s", i, got, w)
		}
	}
}

// What a subscriber is told, frame by frame.
func TestEvents(t *testing.T) {
	const more, cont, key, init = codec.FlagMore, codec.FlagCont, codec.FlagKey, codec.FlagInit
	joined := &codec.Joined{Room: room, Pub: 1, Account: "bob"}
	left := &codec.Left{Room: room, Pub: 1, Code: codec.CodeGone}
	closed := &codec.Closed{Room: room, Code: codec.CodeIdle}
	other := func(seq uint64, flags codec.Flags, payload string) *codec.Stream {
		f := frame(seq, flags, payload)
		f.Dtype = 2
		return f
	}
	big := strings.Repeat("x", codec.MaxPiece)
	named(t, map[string]struct {
		frames []appender
		events []string
	}{
		"messages in order": {
			[]appender{joined, frame(1, init, "h"), frame(2, key, "k"), frame(3, 0, ""), closed},
			[]string{"joined bob", "message 1-1 init h", "message 2-2 key k", "message 3-3", "closed idle", "closed idle"},
		},
		"pieces are joined": {
			[]appender{frame(1, key|more, "a"), frame(2, key|more|cont, "b"), frame(3, key|cont, "c"), frame(4, 0, "d")},
			[]string{"message 1-3 key abc", "message 4-4 d"},
		},
		"pieces of two streams": {
			[]appender{frame(1, more, "a"), other(1, more, "x"), frame(2, cont, "b"), other(2, cont, "y")},
			[]string{"message 1-2 ab", "message 1-2 xy"},
		},
		"late join": {
			[]appender{frame(1, init, "h"), gap(2, 699, codec.GapJoined), frame(700, key, "k")},
			[]string{"message 1-1 init h", "gap 2-699 joined", "message 700-700 key k"},
		},
		"a gap in a message": {
			[]appender{frame(1, more, "a"), frame(2, more|cont, "b"), gap(3, 9, codec.GapSlow), frame(10, 0, "c")},
			[]string{"gap 3-9 slow interrupted 1", "message 10-10 c"},
		},
		"gaps in a row": {
			[]appender{gap(1, 4, codec.GapJoined), gap(5, 5, codec.GapPublisher), frame(6, 0, "a")},
			[]string{"gap 1-4 joined", "gap 5-5 publisher", "message 6-6 a"},
		},
		"an unknown reason": {
			[]appender{gap(1, 4, 77)},
			[]string{"gap 1-4 gap_77"},
		},
		"a publisher leaves": {
			[]appender{joined, frame(1, more, "a"), left, joined, frame(1, 0, "b")},
			[]string{"joined bob", "gap 2-2 publisher interrupted 1", "left bob gone", "joined bob", "message 1-1 b"},
		},
		"a room ends in a message": {
			[]appender{joined, frame(1, more, "a"), closed},
			[]string{"joined bob", "gap 2-2 publisher interrupted 1", "closed idle", "closed idle"},
		},
		"counts, not asked for": {
			[]appender{&codec.Count{Room: room, Subscribers: 3, Publishers: 1}, closed},
			[]string{"closed idle"},
		},
		"another room's frames": {
			[]appender{&codec.Stream{Room: 8, StreamKey: codec.StreamKey{Pub: 1}, Seq: 9}, frame(1, 0, "a")},
			[]string{"message 1-1 a"},
		},

		"fault: frames missing": {
			[]appender{frame(1, 0, "a"), frame(3, 0, "c"), frame(4, 0, "d")},
			[]string{"message 1-1 a", "fault 3 not 2: frames missing without a gap", "message 3-3 c", "message 4-4 d"},
		},
		"fault: missing in a message": {
			[]appender{frame(1, more, "a"), frame(3, cont, "c"), frame(4, 0, "d")},
			[]string{"fault 3 not 2: frames missing without a gap", "message 4-4 d"},
		},
		"fault: a frame twice": {
			[]appender{frame(1, 0, "a"), frame(1, 0, "a"), frame(2, 0, "b")},
			[]string{"message 1-1 a", "fault 1 not 2: a frame that was there already", "message 2-2 b"},
		},
		"fault: the first is not 1": {
			[]appender{frame(7, 0, "a")},
			[]string{"fault 7 not 1: frames missing without a gap", "message 7-7 a"},
		},
		"fault: a gap too late": {
			[]appender{frame(1, 0, "a"), gap(5, 6, codec.GapSlow), frame(7, 0, "b")},
			[]string{"message 1-1 a", "fault 5 not 2: a gap that does not begin at the frame expected", "gap 5-6 slow",
				"message 7-7 b"},
		},
		"fault: a gap too early": {
			[]appender{gap(1, 5, codec.GapJoined), gap(4, 8, codec.GapSlow), frame(9, 0, "b")},
			[]string{"gap 1-5 joined", "fault 4 not 6: a gap that does not begin at the frame expected", "message 9-9 b"},
		},
		"fault: a message not begun": {
			[]appender{frame(1, cont|more, "a"), frame(2, cont, "b"), frame(3, 0, "c")},
			[]string{"fault 1 not 1: a message that does not begin", "message 3-3 c"},
		},
		"fault: a message not ended": {
			[]appender{frame(1, more, "a"), frame(2, 0, "b")},
			[]string{"fault 2 not 2: a message that does not end", "message 2-2 b"},
		},
		"fault: a message much too big": {
			append(pieces(66, big), frame(67, 0, "end")),
			[]string{"fault 65 not 65: a message above the largest size", "message 67-67 end"},
		},
	}, func(t *testing.T, c struct {
		frames []appender
		events []string
	}) {
		f := newFake(t)
		o := f.options()
		o.ReceiveBuffer = 8 << 20
		cl, p := f.connect(o)
		s := subscribe(cl, p, codec.PolicyLive, 0)
		p.send(c.frames...)
		wantEvents(t, s, c.events...)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if ev, err := s.Next(ctx); !errors.Is(err, context.DeadlineExceeded) &&
			!strings.HasPrefix(c.events[len(c.events)-1], "closed") {
			t.Errorf("then %s", describeEvent(ev, err))
		}
	})
}

// pieces makes one message of n frames.
func pieces(n int, payload string) []appender {
	var out []appender
	for i := 1; i <= n; i++ {
		flags := codec.FlagMore | codec.FlagCont
		if i == 1 {
			flags = codec.FlagMore
		}
		if i == n {
			flags = codec.FlagCont
		}
		out = append(out, frame(uint64(i), flags, payload))
	}
	return out
}

func TestSubscribeOptions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		var sent *codec.Subscribe
		s, err := during(func() (*Subscription, error) {
			return c.Subscribe(t.Context(), room, SubscribeOptions{NoEcho: true, Counts: true})
		}, func() { sent = p.subscribed(codec.PolicyLatest, 0) })
		if err != nil || sent.Flags != codec.SubNoEcho|codec.SubCount || len(sent.Have) != 0 ||
			s.Policy() != codec.PolicyLatest || s.Room() != room {
			t.Errorf("%+v, %v", sent, err)
		}
		p.send(&codec.Count{Room: room, Subscribers: 3, Publishers: 1})
		wantEvents(t, s, "count 3 1")
		_, err = c.Subscribe(t.Context(), room, SubscribeOptions{})
		if !errors.Is(err, &RefusedError{Code: codec.CodeSubscribed}) {
			t.Errorf("a second subscription: %v", err)
		}
	})
}

func TestSubscribeRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		_, err := during(func() (*Subscription, error) { return c.Subscribe(t.Context(), room, SubscribeOptions{}) },
			func() { p.send(&codec.Refused{Req: want[*codec.Subscribe](p).Req, Code: codec.CodeRoomUnknown}) })
		if !errors.Is(err, &RefusedError{Code: codec.CodeRoomUnknown}) {
			t.Error(err)
		}
		subscribe(c, p, codec.PolicyLive, 0) // the refused one is not in the way
	})
}

// After a reconnection streams go on after the last frame received, whether the caller has taken it or not.
func TestResume(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		s := subscribe(c, p, codec.PolicyLive, 0)
		two := frame(1, 0, "z")
		two.Dtype = 2
		gone := frame(1, 0, "g")
		gone.Pub = 3
		p.send(&codec.Joined{Room: room, Pub: 1, Account: "bob"}, gap(1, 4, codec.GapJoined), frame(5, 0, "a"),
			frame(6, codec.FlagMore, "b"))
		wantEvents(t, s, "joined bob", "gap 1-4 joined", "message 5-5 a")
		p.send(gone, frame(7, codec.FlagMore|codec.FlagCont, "c"), two, &codec.Left{Room: room, Pub: 3, Code: codec.CodeLeft})
		synctest.Wait()
		p.close()

		p = f.accept()
		m := p.subscribed(codec.PolicyLive, 0)
		want := []codec.Position{{StreamKey: codec.StreamKey{Pub: 1, Dtype: 1}, Last: 7},
			{StreamKey: codec.StreamKey{Pub: 1, Dtype: 2}, Last: 1}}
		if fmt.Sprint(m.Have) != fmt.Sprint(want) {
			t.Errorf("has %v, want %v", m.Have, want)
		}
		p.send(&codec.Joined{Room: room, Pub: 1, Account: "bob"}, frame(8, codec.FlagCont, "d"),
			frame(9, codec.FlagMore, "e"))
		wantEvents(t, s, "message 1-1 g", "message 1-1 z", "left  left", "resumed", "joined bob", "message 6-8 bcd")

		// This time the server no longer has what is missing.
		p.close()
		p = f.accept()
		if m := p.subscribed(codec.PolicyLive, 0); m.Have[0].Last != 9 {
			t.Errorf("has %v", m.Have)
		}
		p.send(gap(10, 20, codec.GapExpired), frame(21, 0, "f"))
		wantEvents(t, s, "resumed", "gap 10-20 expired interrupted 9", "message 21-21 f")
	})
}

// In a lossless room a position is an acknowledgement: what the caller has not taken is asked for again.
func TestResumeLossless(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		s := subscribe(c, p, codec.PolicyLossless, codec.MaxFrame)
		p.send(frame(1, 0, "a"), frame(2, codec.FlagMore, "b"), frame(3, codec.FlagCont, "c"), frame(4, 0, "d"))
		ev, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p.close()
		p = f.accept()
		if m := p.subscribed(codec.PolicyLossless, codec.MaxFrame); len(m.Have) != 1 || m.Have[0].Last != 1 {
			t.Errorf("has %v, want 1", m.Have)
		}
		p.send(frame(2, codec.FlagMore, "b"))
		synctest.Wait()
		if payload := string(ev.(*Message).Payload); payload != "a" { // still the caller's
			t.Errorf("payload %q", payload)
		}
		go p.send(frame(3, codec.FlagCont, "c"), frame(4, 0, "d"))
		wantEvents(t, s, "resumed", "message 2-3 bc", "message 4-4 d")
	})
}

// A publisher has left, and what it pushed is consumed, but the connection breaks before the server knows: nothing is
// told twice.
func TestResumeLosslessDeparted(t *testing.T) {
	for name, answer := range map[string][]appender{
		"the server knows the publisher": {&codec.Joined{Room: room, Pub: 1, Account: "bob"},
			&codec.Left{Room: room, Pub: 1, Code: codec.CodeLeft}},
		"the server has forgotten it": {gap(2, codec.MaxSeq, codec.GapExpired),
			&codec.Left{Room: room, Pub: 1, Code: codec.CodeGone}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFake(t)
				c, p := f.connect(f.options())
				s := subscribe(c, p, codec.PolicyLossless, codec.MaxFrame)
				p.send(frame(1, 0, "a"), &codec.Left{Room: room, Pub: 1, Code: codec.CodeLeft})
				wantEvents(t, s, "message 1-1 a", "left  left")
				p.close()
				p = f.accept()
				if m := p.subscribed(codec.PolicyLossless, codec.MaxFrame); len(m.Have) != 1 || m.Have[0].Last != 1 {
					t.Errorf("has %v, want 1", m.Have)
				}
				p.send(answer...)
				p.send(&codec.Joined{Room: room, Pub: 2, Account: "carol"})
				wantEvents(t, s, "resumed", "joined carol")
			})
		})
	}
}

// A client that comes back says that it was there, also if nothing had come to it; one that has not been answered joins.
func TestResumeWithNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		_, err := during(func() (*Subscription, error) { return c.Subscribe(t.Context(), room, SubscribeOptions{}) }, func() {
			if m := want[*codec.Subscribe](p); m.Resumes {
				t.Error("it says that it was there before it has asked")
			}
			p.close()
			p = f.accept()
			if m := p.subscribed(codec.PolicyLive, 0); m.Resumes {
				t.Error("it says that it was there before it was answered")
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		p.close()
		p = f.accept()
		if m := p.subscribed(codec.PolicyLive, 0); !m.Resumes || len(m.Have) != 0 {
			t.Errorf("it comes back with %+v", m)
		}
	})
}

// A client that comes back names a publisher of whom nothing has come, whether its caller has heard of that or not:
// otherwise it would not be told that it has left.
func TestResumeNamesSilentPublishers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		s := subscribe(c, p, codec.PolicyLive, 0)
		for pub, account := range []string{"", "alice", "bob", "carol", "dave"} {
			if account != "" {
				p.send(&codec.Joined{Room: room, Pub: uint16(pub), Account: account})
			}
		}
		wantEvents(t, s, "joined alice", "joined bob")
		p.send(frame(1, 0, "a"), &codec.Left{Room: room, Pub: 4, Code: codec.CodeLeft})
		synctest.Wait()
		p.close()
		p = f.accept()
		m := p.subscribed(codec.PolicyLive, 0)
		want := []codec.Position{{StreamKey: codec.StreamKey{Pub: 1, Dtype: 1}, Last: 1},
			{StreamKey: codec.StreamKey{Pub: 2}}, {StreamKey: codec.StreamKey{Pub: 3}}}
		if !slices.Equal(m.Have, want) {
			t.Errorf("it comes back with %v, want %v", m.Have, want)
		}
	})
}

// What is told once more of a publisher that has left a lossless room, by a node that has not heard of it yet, is no
// news; what had not come before is.
func TestToldOnceMoreOfWhoHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		s := subscribe(c, p, codec.PolicyLossless, 1<<20)
		joined := &codec.Joined{Room: room, Pub: 1, Account: "bob"}
		left := &codec.Left{Room: room, Pub: 1, Code: codec.CodeGone}
		p.send(joined, frame(1, 0, "a"), frame(2, 0, "b"), left)
		wantEvents(t, s, "joined bob", "message 1-1 a", "message 2-2 b", "left bob gone")
		p.send(joined, frame(1, 0, "a"), frame(2, 0, "b"), left)
		p.send(joined, frame(2, 0, "b"), frame(3, 0, "c"), left)
		wantEvents(t, s, "joined bob", "message 3-3 c", "left bob gone")
		p.send(joined, gap(1, 3, codec.GapExpired), gap(4, codec.MaxSeq, codec.GapExpired), left)
		p.send(joined, gap(1, 5, codec.GapExpired), frame(6, 0, "d"), left)
		wantEvents(t, s, "joined bob", "gap 4-5 expired", "message 6-6 d", "left bob gone")
		p.send(joined, gap(1, 4, codec.GapExpired), frame(5, 0, "x"), frame(6, 0, "d"), frame(7, 0, "e"), left)
		wantEvents(t, s, "joined bob", "message 7-7 e", "left bob gone")
		p.send(joined, gap(1, 2, codec.GapExpired), frame(8, 0, "f"), gap(1, 4, codec.GapExpired), frame(9, 0, "g"))
		wantEvents(t, s, "joined bob", "message 8-8 f", "message 9-9 g")
		_ = c.Close(t.Context())
	})
}

func TestResumeRefused(t *testing.T) {
	named(t, map[string]codec.Code{"for good": codec.CodeRoomUnknown, "for now": codec.CodeOverloaded},
		func(t *testing.T, code codec.Code) {
			f := newFake(t)
			c, p := f.connect(f.options())
			s := subscribe(c, p, codec.PolicyLive, 0)
			p.send(frame(1, 0, "a"))
			synctest.Wait()
			p.close()
			p = f.accept()
			p.send(&codec.Refused{Req: want[*codec.Subscribe](p).Req, Code: code})
			if code.Retry() {
				p.subscribed(codec.PolicyLive, 0)
				wantEvents(t, s, "message 1-1 a", "resumed")
				return
			}
			wantEvents(t, s, "message 1-1 a", "closed room_unknown", "closed room_unknown")
		})
}

func TestTooManyStreamsToResume(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		s := subscribe(c, p, codec.PolicyLive, 0)
		for i := range codec.MaxPositions + 1 {
			fr := frame(1, 0, "")
			fr.Pub, fr.Dtype = uint16(1+i/256), uint8(i)
			p.send(fr)
		}
		synctest.Wait()
		p.close()
		f.accept().quiet()
		for range codec.MaxPositions + 1 {
			if _, err := s.Next(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Next(t.Context()); !errors.Is(err, ErrTooManyStreams) {
			t.Error(err)
		}
	})
}

func TestUnsubscribe(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		s := subscribe(c, p, codec.PolicyLive, 0)
		p.send(frame(1, 0, "a"), frame(2, 0, "b"))
		ev, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		done := background(func() error { return c.Unsubscribe(t.Context(), room) })
		m := want[*codec.Unsubscribe](p)
		p.send(frame(3, 0, "c"), ok(m.Req))
		if err := <-done; err != nil {
			t.Error(err)
		}
		if m := ev.(*Message); string(m.Payload) != "a" { // still the caller's
			t.Errorf("payload %q", m.Payload)
		}
		wantEvents(t, s, "closed left", "closed left")

		s = subscribe(c, p, codec.PolicyLive, 0)
		s.Close()
		want[*codec.Unsubscribe](p)
		wantEvents(t, s, "closed left")
		subscribe(c, p, codec.PolicyLive, 0)
	})
}

// Acknowledgements say what the caller has consumed.
func TestAcks(t *testing.T) {
	const window = 4 * codec.MaxFrame
	big := strings.Repeat("x", codec.MaxPiece)
	wantAck := func(p *peer, seq uint64) {
		t.Helper()
		if m := want[*codec.Ack](p); *m != *ack(1, seq) {
			t.Fatalf("got %+v, want %d", m, seq)
		}
	}
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		o := f.options()
		o.ReceiveBuffer = 8 << 20
		c, p := f.connect(o)
		s := subscribe(c, p, codec.PolicyLossless, window)

		p.send(gap(1, 2, codec.GapJoined), frame(3, 0, "a"), frame(4, 0, "b"))
		wantEvents(t, s, "gap 1-2 joined", "message 3-3 a", "message 4-4 b")
		wantAck(p, 2) // the first is not delayed: there was none for long
		p.quiet()     // the others may be, and the caller still has message 4
		next := background(func() error { _, err := s.Next(t.Context()); return err })
		wantAck(p, 4) // now it waits
		p.send(frame(5, 0, "c"))
		if err := <-next; err != nil {
			t.Fatal(err)
		}

		p.send(frame(6, 0, big), frame(7, 0, "d"), frame(8, 0, "e"))
		wantEvents(t, s, "message 6-6 65516 bytes")
		p.quiet()
		wantEvents(t, s, "message 7-7 d")
		wantAck(p, 6) // a quarter of the window
		time.Sleep(ackDelay)
		wantEvents(t, s, "message 8-8 e")
		wantAck(p, 7) // as long as that

		// A message larger than the window: its pieces are acknowledged as they come, or the rest never would.
		many := pieces(10, big)
		for i := range many {
			many[i].(*codec.Stream).Seq += 8
		}
		p.send(many[:3]...)
		next = background(func() error { _, err := s.Next(t.Context()); return err })
		for _, seq := range []uint64{9, 10, 11} {
			wantAck(p, seq)
		}
		for i, m := range many[3:] {
			p.send(m)
			if i < 6 {
				wantAck(p, uint64(12+i))
			}
		}
		if err := <-next; err != nil {
			t.Fatal(err)
		}
		p.quiet()

		// A server that comes anew is told again.
		p.close()
		p = f.accept()
		if m := p.subscribed(codec.PolicyLossless, window); m.Have[0].Last != 18 {
			t.Errorf("has %v", m.Have)
		}
		wantEvents(t, s, "resumed")
		wantAck(p, 18)
	})
}

// A subscription whose caller takes nothing holds up nothing else, whatever the policy, and holds no more than its
// bound; what it lost it is told.
func TestUnreadSubscription(t *testing.T) {
	const frames = 400
	payload := strings.Repeat("x", 100)
	named(t, map[string]struct {
		policy codec.Policy
		events []string
	}{
		"live":       {codec.PolicyLive, []string{"gap 1-400 slow", "message 401-401 key k"}},
		"latest":     {codec.PolicyLatest, []string{"gap 1-400 newer", "message 401-401 key k"}},
		"disconnect": {codec.PolicyDisconnect, []string{"closed too_slow"}},
	}, func(t *testing.T, c struct {
		policy codec.Policy
		events []string
	}) {
		f := newFake(t)
		o := f.options()
		o.ReceiveBuffer = 10 * (codec.StreamHeaderSize + 100)
		cl, p := f.connect(o)
		s := subscribe(cl, p, c.policy, 0)
		ends := make(chan bool)
		go func() {
			defer close(ends)
			for {
				switch m := p.read().(type) {
				case *codec.Stat:
					p.send(&codec.Info{Req: m.Req, Room: room})
					return
				case *codec.Unsubscribe:
					p.send(&codec.OK{Req: m.Req})
				}
			}
		}()
		flags := codec.FlagKey
		for seq := range uint64(frames) {
			p.send(frame(seq+1, flags, payload)) // blocks for as long as the client does not read
			flags = 0
		}
		if _, err := cl.Stat(t.Context(), room); err != nil {
			t.Fatal(err)
		}
		<-ends
		s.mu.Lock()
		if s.q.bytes > hardFactor*o.ReceiveBuffer {
			t.Errorf("holds %d bytes", s.q.bytes)
		}
		s.mu.Unlock()
		p.send(frame(frames+1, codec.FlagKey, "k"))
		synctest.Wait()
		if c.policy == codec.PolicyLive {
			s.mu.Lock()
			if s.q.bytes > o.ReceiveBuffer {
				t.Errorf("holds %d bytes", s.q.bytes)
			}
			s.mu.Unlock()
		}
		for _, want := range c.events {
			ev, err := s.Next(t.Context())
			for _, ok := ev.(*Message); ok && c.policy == codec.PolicyDisconnect; _, ok = ev.(*Message) {
				ev, err = s.Next(t.Context()) // what came before
			}
			if got := describeEvent(ev, err); got != want {
				t.Fatalf("%s, want %s", got, want)
			}
		}
	})
}

// A burst of four times the buffer is no reason to drop anything for a caller that takes it within bufferAge.
func TestBurst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		o := f.options()
		o.ReceiveBuffer = 10 * (codec.StreamHeaderSize + 100)
		c, p := f.connect(o)
		s := subscribe(c, p, codec.PolicyLive, 0)
		payload := strings.Repeat("x", 100)
		go func() {
			for seq := range uint64(1000) {
				p.send(frame(seq+1, 0, payload))
			}
		}()
		synctest.Wait()
		for seq := range uint64(1000) {
			if seq%10 == 0 {
				time.Sleep(bufferAge / 8)
			}
			wantEvents(t, s, fmt.Sprintf("message %d-%d 100 bytes", seq+1, seq+1))
		}
	})
}

// In a lossless room a server that keeps to its window fits; one that does not has to wait.
func TestLosslessBuffer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		o := f.options()
		o.ReceiveBuffer = 10 * (codec.StreamHeaderSize + 100)
		c, p := f.connect(o)
		s := subscribe(c, p, codec.PolicyLossless, 1<<20)
		payload := strings.Repeat("x", 100)
		var sent int
		done := make(chan struct{})
		go func() {
			defer close(done)
			for sent = range 100 {
				p.send(frame(uint64(sent+1), 0, payload))
			}
		}()
		synctest.Wait()
		if sent != 10*hardFactor+1 { // one is read and waits to be held
			t.Errorf("%d frames taken off the connection", sent)
		}
		for range 4 { // for more than twice the ping time
			want[*codec.Ping](p)
		}
		go func() {
			for p.fill() == nil {
			}
		}()
		for seq := range 100 {
			wantEvents(t, s, fmt.Sprintf("message %d-%d 100 bytes", seq+1, seq+1))
		}
		<-done
	})
}

// Ending a subscription that is full sets the connection free.
func TestCloseFullSubscription(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		o := f.options()
		o.ReceiveBuffer = 1
		c, p := f.connect(o)
		s := subscribe(c, p, codec.PolicyLive, 0)
		go p.send(frame(1, 0, "a"), frame(2, 0, "b"), frame(3, 0, "c"), &codec.Ping{Echo: 1})
		synctest.Wait()
		s.Close()
		want[*codec.Unsubscribe](p)
		want[*codec.Pong](p)
	})
}

// So does a connection that breaks, and no frame is lost or doubled by it.
func TestBreakWhileFull(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		o := f.options()
		o.ReceiveBuffer = 1
		c, p := f.connect(o)
		s := subscribe(c, p, codec.PolicyLive, 0)
		go p.send(frame(1, 0, "a"), frame(2, 0, "b"))
		synctest.Wait()
		c.mu.Lock()
		l := c.link
		c.mu.Unlock()
		l.fail(errors.New("broken"))
		p = f.accept()
		if m := p.subscribed(codec.PolicyLive, 0); len(m.Have) != 1 || m.Have[0].Last != 1 {
			t.Errorf("has %v", m.Have)
		}
		go p.send(frame(2, 0, "b"))
		wantEvents(t, s, "message 1-1 a", "resumed", "message 2-2 b")
	})
}

func TestClosedCodes(t *testing.T) {
	named(t, map[string]struct {
		code     codec.Code
		sub, pub bool // which of the two ends
	}{
		"removed":   {codec.CodeRemoved, true, true},
		"idle":      {codec.CodeIdle, true, true},
		"node lost": {codec.CodeNodeLost, true, true},
		"too slow":  {codec.CodeTooSlow, true, false},
		"replaced":  {codec.CodeReplaced, true, false},
		"revoked":   {codec.CodeRevoked, false, true},
	}, func(t *testing.T, c struct {
		code     codec.Code
		sub, pub bool
	}) {
		f := newFake(t)
		cl, p := f.connect(f.options())
		pub := publish(cl, p, codec.MaxFrame, PublishOptions{})
		sub := subscribe(cl, p, codec.PolicyLive, 0)
		p.send(frame(1, 0, "a"), &codec.Closed{Room: room, Code: c.code}, frame(2, 0, "b"))
		synctest.Wait()
		if c.sub {
			wantEvents(t, sub, "message 1-1 a", fmt.Sprintf("closed %v", c.code))
		} else {
			wantEvents(t, sub, "message 1-1 a", "message 2-2 b")
		}
		err := pub.Push(t.Context(), 1, Delta, nil)
		if c.pub != errors.Is(err, &ClosedError{Code: c.code}) || !c.pub && err != nil {
			t.Errorf("push: %v", err)
		}
		var closed *ClosedError
		if errors.As(err, &closed) && closed.Retry() != (c.code == codec.CodeNodeLost) {
			t.Error("retry")
		}
	})
}
