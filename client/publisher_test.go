package client

import (
	"bytes"
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

// wantFrames reads stream frames and gaps and compares them with a line each: dtype, number, flags, payload or its
// length.
func wantFrames(p *peer, want ...string) {
	p.t.Helper()
	for i, w := range want {
		if got := describeFrame(p.read()); got != w {
			p.t.Fatalf("frame %d: %s, want %s", i, got, w)
		}
	}
}

func describeFrame(m appender) string {
	switch m := m.(type) {
	case *codec.Stream:
		s := fmt.Sprintf("%d:%d", m.Dtype, m.Seq)
		for _, f := range []struct {
			flag codec.Flags
			name string
		}{{codec.FlagKey, "key"}, {codec.FlagInit, "init"}, {codec.FlagMore, "more"}, {codec.FlagCont, "cont"}} {
			if m.Flags&f.flag != 0 {
				s += " " + f.name
			}
		}
		if m.Pub != 1 {
			s += fmt.Sprint(" pub ", m.Pub)
		}
		if len(m.Payload) > 20 {
			return s + fmt.Sprint(" ", len(m.Payload))
		}
		return s + " " + string(m.Payload)
	case *codec.Gap:
		return fmt.Sprintf("%d:gap %d-%d %v", m.Dtype, m.From, m.To, m.Reason)
	}
	return show(m)
}

const piece = codec.MaxPiece

// push pushes without waiting for more than the window has.
func push(t *testing.T, p *Publisher, dtype uint8, payload string) {
	t.Helper()
	if err := p.Push(t.Context(), dtype, Delta, []byte(payload)); err != nil {
		t.Fatal(err)
	}
}

func TestPush(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		pub := publish(c, p, 8*codec.MaxFrame, PublishOptions{})
		payload := bytes.Repeat([]byte("x"), 2*piece+1)
		for _, m := range []struct {
			dtype uint8
			kind  Kind
			size  int
		}{{1, Init, 3}, {1, Key, 2*piece + 1}, {1, Delta, piece}, {1, Delta, 0}, {1, Delta, 1}} {
			if err := pub.Push(t.Context(), m.dtype, m.kind, payload[:m.size]); err != nil {
				t.Fatal(err)
			}
			clear(payload[:0]) // the caller's again
			synctest.Wait()
		}
		wantFrames(p, "1:1 init xxx", "1:2 key more 65516", "1:3 key more cont 65516", "1:4 key cont x", "1:5 65516", "1:6 ",
			"1:7 x")

		for name, err := range map[string]error{
			"too large":    pub.Push(t.Context(), 1, Delta, make([]byte, 4<<20+1)),
			"unknown kind": pub.Push(t.Context(), 1, 3, nil),
		} {
			if err == nil {
				t.Errorf("%s: no error", name)
			}
		}
		if _, err := c.Publish(t.Context(), room, PublishOptions{}); !errors.Is(err, ErrPublishing) {
			t.Errorf("a second publisher: %v", err)
		}
		if err := c.Push(t.Context(), room, 9, []byte("y")); err != nil { // by the same publisher
			t.Error(err)
		}
		wantFrames(p, "9:1 y")
		p.quiet()
	})
}

func TestClientPush(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		done := background(func() error { return c.Push(t.Context(), room, 3, []byte("a")) })
		p.published(1, codec.MaxFrame, codec.StreamNext{Dtype: 3, Next: 41}) // the room knows the stream already
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		wantFrames(p, "3:41 a")
		p.send(&codec.Closed{Room: room, Code: codec.CodeRevoked})
		synctest.Wait()
		done = background(func() error { return c.Push(t.Context(), room, 3, []byte("b")) }) // asks anew
		p.send(&codec.Refused{Req: want[*codec.Publish](p).Req, Code: codec.CodeNotGranted})
		if err := <-done; !errors.Is(err, &RefusedError{Code: codec.CodeNotGranted}) {
			t.Error(err)
		}
	})
}

// What the server has and did not acknowledge, a publisher that reconnects does not send again, and yet counts it, and
// waits for it: in a lossless room the subscribers have not got it, in a cluster the other nodes.
func TestReconnectUnacknowledged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		answer := func(next uint64) {
			m := want[*codec.Publish](p)
			p.send(&codec.Published{
				Req: m.Req, Room: m.Room, Pub: 1, Policy: codec.PolicyLossless, Window: codec.MaxFrame,
				Streams: []codec.StreamNext{{Dtype: 1, Next: next}},
			})
		}
		pub, err := during(func() (*Publisher, error) { return c.Publish(t.Context(), room, PublishOptions{}) },
			func() { answer(1) })
		if err != nil {
			t.Fatal(err)
		}
		half := strings.Repeat("a", piece/2)
		push(t, pub, 1, half)
		push(t, pub, 1, "b")
		wantFrames(p, "1:1 32758", "1:2 b")
		p.close()
		p = f.accept()
		answer(2)
		wantFrames(p, "1:2 b")
		pushed := background(func() error { return pub.Push(t.Context(), 1, Delta, []byte(half)) })
		p.quiet() // it would be more than the window
		p.send(ack(1, 1))
		if err := <-pushed; err != nil {
			t.Error(err)
		}
		wantFrames(p, "1:3 32758")
		flushed := background(func() error { return pub.Flush(t.Context()) })
		p.close()
		p = f.accept()
		answer(4)
		p.send(ack(1, 2))
		synctest.Wait()
		select {
		case err := <-flushed:
			t.Errorf("flushed before the subscribers have it: %v", err)
		default:
		}
		p.send(ack(1, 3))
		if err := <-flushed; err != nil {
			t.Error(err)
		}
	})
}

// Push waits while the window is full, and goes on with the acknowledgements.
func TestWindow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		pub := publish(c, p, codec.MaxFrame, PublishOptions{})
		a, b := strings.Repeat("a", piece/2), strings.Repeat("b", piece/2)
		push(t, pub, 1, a)
		done := background(func() error { return pub.Push(t.Context(), 1, Delta, []byte(b)) })
		wantFrames(p, "1:1 32758")
		p.quiet()
		// It would fit, but it is not its turn.
		other := background(func() error { return pub.Push(t.Context(), 2, Delta, nil) })
		synctest.Wait()
		p.quiet()
		p.send(ack(1, 99)) // nothing is taken for acknowledged that was not sent
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := <-other; err != nil {
			t.Error(err)
		}
		got := []string{describeFrame(p.read()), describeFrame(p.read())}
		if slices.Sort(got); !slices.Equal(got, []string{"1:2 32758", "2:1 "}) {
			t.Errorf("then %v", got)
		}
		flush := background(func() error { return pub.Flush(t.Context()) })
		p.send(ack(1, 2))
		synctest.Wait()
		select {
		case err := <-flush:
			t.Errorf("flushed too early: %v", err)
		default:
		}
		p.send(ack(2, 1))
		if err := <-flush; err != nil {
			t.Error(err)
		}
	})
}

// A Push that is given up while it waits leaves the stream as if it had not been, or tells of a gap.
func TestPushGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		pub := publish(c, p, 3*codec.MaxFrame, PublishOptions{})
		start := func(size int) (func(), <-chan error) {
			ctx, cancel := context.WithCancel(t.Context())
			done := background(func() error { return pub.Push(ctx, 1, Delta, make([]byte, size)) })
			synctest.Wait()
			return cancel, done
		}
		canceled := func(done <-chan error) {
			t.Helper()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		// Two pieces go out, the third waits and is given up: so is a number.
		cancel, done := start(3 * piece)
		wantFrames(p, "1:1 more 65516", "1:2 more cont 65516")
		cancel()
		canceled(done)
		wantFrames(p, "1:gap 3-3 publisher")
		p.send(ack(1, 2))
		push(t, pub, 1, "x")
		wantFrames(p, "1:4 x")
		p.send(ack(1, 4))

		// Nothing was sent yet: nothing was pushed.
		for range 3 {
			push(t, pub, 1, strings.Repeat("y", piece))
		}
		cancel, done = start(piece)
		wantFrames(p, "1:5 65516", "1:6 65516", "1:7 65516")
		cancel()
		canceled(done)
		p.send(ack(1, 7))
		push(t, pub, 1, "z")
		wantFrames(p, "1:8 z")

		// The writer is stuck: what it has not taken is taken back.
		p.send(ack(1, 8))
		push(t, pub, 2, "stuck")
		synctest.Wait()
		cancel, done = start(3 * piece)
		cancel()
		canceled(done)
		push(t, pub, 1, "w")
		wantFrames(p, "2:1 stuck", "1:9 w")

		// One that waits for its turn behind another on the same stream.
		cancel1, first := start(3 * piece)
		cancel2, second := start(1)
		cancel2()
		canceled(second)
		cancel1()
		canceled(first)
	})
}

// The pieces of a large message and the messages of another dtype take turns.
func TestInterleaving(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		pub := publish(c, p, 1<<20, PublishOptions{})
		video := background(func() error { return pub.Push(t.Context(), 1, Key, make([]byte, 2<<20)) })
		synctest.Wait() // as much of the window as it may have is full of video
		audio := background(func() error {
			for range 20 {
				if err := pub.Push(t.Context(), 2, Delta, []byte("sound")); err != nil {
					return err
				}
			}
			return nil
		})
		synctest.Wait()
		between, most, unacked := 0, 0, 0
		var sounds, pieces uint64
		for sounds < 20 || pieces < 33 {
			m := want[*codec.Stream](p)
			if m.Dtype == 2 {
				sounds++
				most, between = max(most, between), 0
				p.send(ack(2, m.Seq))
				synctest.Wait()
				continue
			}
			pieces++
			between++
			if unacked++; unacked == 4 { // a quarter of the window
				unacked = 0
				p.send(ack(1, m.Seq))
				synctest.Wait()
			}
		}
		if most > 3 {
			t.Errorf("%d pieces between one small message and the next", most)
		}
		for _, done := range []<-chan error{video, audio} {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// What a publisher sends again when the connection broke.
func TestPublisherResumes(t *testing.T) {
	big := strings.Repeat("x", piece+1) // two frames
	has := func(next uint64) []codec.StreamNext { return []codec.StreamNext{{Dtype: 1, Next: next}} }
	named(t, map[string]struct {
		push   []string           // on dtype 1; the server takes all off the connection
		acked  uint64             // before the break
		pub    uint16             // number given after it
		next   []codec.StreamNext // and what the server then has
		frames []string           // what it is sent
		fault  bool               // a message was lost
	}{
		"nothing is acknowledged": {[]string{"a", "b"}, 0, 1, nil, []string{"1:1 a", "1:2 b", "1:3 end"}, false},
		"some is": {[]string{"a", "b", "c"}, 1, 1, nil,
			[]string{"1:1 a", "1:2 b", "1:3 c", "1:4 end"}, false},
		"the server has more":           {[]string{"a", "b", "c"}, 1, 1, has(3), []string{"1:3 c", "1:4 end"}, false},
		"the server has all":            {[]string{"a", "b", "c"}, 1, 1, has(4), []string{"1:4 end"}, false},
		"the server has half a message": {[]string{"a", big}, 1, 1, has(3), []string{"1:3 cont x", "1:4 end"}, false},
		"all is acknowledged":           {[]string{"a", "b"}, 2, 1, has(3), []string{"1:3 end"}, false},
		"the server has forgotten some": {[]string{"a", "b", "c"}, 2, 1, has(1),
			[]string{"1:1 a", "1:2 b", "1:3 c", "1:4 end"}, false},
		"forgotten all": {[]string{"a", "b"}, 2, 1, has(2), []string{"1:2 b", "1:3 end"}, false},
		"forgotten, in a message": {[]string{"a", big, "c"}, 2, 1, has(2),
			[]string{"1:2 more 65516", "1:3 cont x", "1:4 c", "1:5 end"}, false},
		"another publisher number": {[]string{"a", "b", "c"}, 2, 9, nil, []string{"1:1 pub 9 c", "1:2 pub 9 end"},
			false},
		"another number, all acknowledged": {[]string{"a"}, 1, 9, nil, []string{"1:1 pub 9 end"}, false},
		"another number, in a message": {[]string{"a", big, "c"}, 2, 9, nil, []string{"1:1 pub 9 c", "1:2 pub 9 end"},
			true},
		"another number, nothing but a cut": {[]string{big}, 1, 9, nil, []string{"1:1 pub 9 end"}, true},
		"a stream we do not know": {[]string{"a"}, 1, 1, append(has(2), codec.StreamNext{Dtype: 2, Next: 5}),
			[]string{"1:2 end"}, false},
	}, func(t *testing.T, c struct {
		push   []string
		acked  uint64
		pub    uint16
		next   []codec.StreamNext
		frames []string
		fault  bool
	}) {
		f := newFake(t)
		cl, p := f.connect(f.options())
		pub := publish(cl, p, 4*codec.MaxFrame, PublishOptions{})
		for _, m := range c.push {
			push(t, pub, 1, m)
		}
		for synctest.Wait(); ; {
			if m := want[*codec.Stream](p); m.Flags.End() && m.Seq >= uint64(len(c.push)) {
				break
			}
		}
		p.send(ack(1, c.acked))
		synctest.Wait()
		p.close()

		p = f.accept()
		p.published(c.pub, 4*codec.MaxFrame, c.next...)
		synctest.Wait()
		err := pub.Push(t.Context(), 1, Delta, []byte("end"))
		if c.fault != errors.Is(err, &ClosedError{Code: codec.CodeGone}) {
			t.Errorf("push: %v", err)
		}
		if c.fault { // told once
			push(t, pub, 1, "end")
		}
		wantFrames(p, c.frames...)
		p.quiet()
	})
}

// What is acknowledged is kept for a while: a server that has forgotten it, or never knew, is sent it again, and told
// of what is not there any more, in the middle of a message, too. Afterwards everything goes on as if nothing had been.
func TestPublisherKeeps(t *testing.T) {
	const messages, size = 40, piece + 1 // of two frames
	named(t, map[string]struct {
		next  []codec.StreamNext
		pause time.Duration // before the last message
		first string        // what the server is sent first
	}{
		"forgotten a little":    {[]codec.StreamNext{{Dtype: 1, Next: 2*messages - 2}}, 0, "1:78 cont x"},
		"forgotten all":         {[]codec.StreamNext{{Dtype: 1, Next: 1}}, 0, "1:gap 1-50 publisher"},
		"unknown":               {nil, 0, "1:50 cont x"},
		"forgotten for so long": {[]codec.StreamNext{{Dtype: 1, Next: 1}}, keepFor + time.Second, "1:gap 1-78 publisher"},
	}, func(t *testing.T, c struct {
		next  []codec.StreamNext
		pause time.Duration
		first string
	}) {
		f := newFake(t)
		cl, p := f.connect(f.options())
		pub := publish(cl, p, 8*codec.MaxFrame, PublishOptions{})
		big := strings.Repeat("x", size)
		for n := range uint64(messages) {
			if n == messages-1 {
				time.Sleep(c.pause)
			}
			push(t, pub, 1, big)
			for want[*codec.Stream](p).Seq != 2*n+2 {
			}
			p.send(ack(1, 2*n+2))
			synctest.Wait()
		}
		p.close()
		p = f.accept()
		p.published(1, 8*codec.MaxFrame, c.next...)
		wantFrames(p, c.first)
		flushed := background(func() error { // what is sent again takes its part of the window
			if err := pub.Push(t.Context(), 1, Delta, []byte("end")); err != nil {
				return err
			}
			return pub.Flush(t.Context())
		})
		for {
			m := want[*codec.Stream](p)
			if m.Seq%8 == 0 {
				p.send(ack(1, m.Seq))
			}
			if m.Seq == 2*messages+1 {
				break
			}
			synctest.Wait()
		}
		select {
		case err := <-flushed:
			t.Errorf("flushed before all is acknowledged: %v", err)
		default:
		}
		p.send(ack(1, 2*messages+1))
		if err := <-flushed; err != nil {
			t.Error(err)
		}
		cl.mu.Lock()
		defer cl.mu.Unlock()
		if pub.window.used != 0 || pub.inflight != 0 {
			t.Errorf("%d bytes of the window are used, %d on their way", pub.window.used, pub.inflight)
		}
	})
}

// A push in the middle of a large message goes on over a broken connection.
func TestBreakInMessage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		pub := publish(c, p, 3*codec.MaxFrame, PublishOptions{})
		done := background(func() error { return pub.Push(t.Context(), 1, Delta, make([]byte, 4*piece)) })
		wantFrames(p, "1:1 more 65516", "1:2 more cont 65516")
		p.close()
		p = f.accept()
		p.published(1, 3*codec.MaxFrame, codec.StreamNext{Dtype: 1, Next: 2})
		wantFrames(p, "1:2 more cont 65516")
		p.send(ack(1, 1)) // what the server has counts until then
		wantFrames(p, "1:3 more cont 65516")
		p.send(ack(1, 2))
		wantFrames(p, "1:4 cont 65516")
		if err := <-done; err != nil {
			t.Error(err)
		}

		// If the publisher was given up meanwhile, the message cannot be completed, and Push says so.
		p.send(ack(1, 4))
		done = background(func() error { return pub.Push(t.Context(), 1, Delta, make([]byte, 4*piece)) })
		wantFrames(p, "1:5 more 65516", "1:6 more cont 65516")
		p.send(ack(1, 5))
		wantFrames(p, "1:7 more cont 65516")
		p.close()
		p = f.accept()
		p.published(2, 3*codec.MaxFrame)
		if err := <-done; !errors.Is(err, &ClosedError{Code: codec.CodeGone}) {
			t.Error(err)
		}
		push(t, pub, 1, "x")
		wantFrames(p, "1:1 pub 2 x")
	})
}

// A publisher that the server counts anew numbers anew, also what a push is at work on; giving that up still leaves a
// gap.
func TestGivenUpAfterRestart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		pub := publish(c, p, 3*codec.MaxFrame, PublishOptions{})
		push(t, pub, 1, "a")
		push(t, pub, 1, "b")
		wantFrames(p, "1:1 a", "1:2 b")
		p.send(ack(1, 2))
		ctx, cancel := context.WithCancel(t.Context())
		done := background(func() error { return pub.Push(ctx, 1, Delta, make([]byte, 4*piece)) })
		wantFrames(p, "1:3 more 65516", "1:4 more cont 65516")
		p.close()
		p = f.accept()
		p.published(2, 3*codec.MaxFrame)
		wantFrames(p, "1:1 more pub 2 65516", "1:2 more cont pub 2 65516")
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		push(t, pub, 1, "x")
		wantFrames(p, "1:gap 3-3 publisher", "1:4 pub 2 x")
	})
}

// The end of a publisher lets go of all pushes, those that wait for the window and those that wait for them.
func TestEndReleasesPushes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		pub := publish(c, p, codec.MaxFrame, PublishOptions{})
		var waiting []<-chan error
		for range 3 {
			waiting = append(waiting, background(func() error { return pub.Push(t.Context(), 1, Delta, make([]byte, 3*piece)) }))
			synctest.Wait()
		}
		p.send(&codec.Closed{Room: room, Code: codec.CodeRemoved})
		for _, done := range append(waiting, background(func() error { return pub.Push(t.Context(), 1, Delta, nil) })) {
			if err := <-done; !errors.Is(err, &ClosedError{Code: codec.CodeRemoved}) {
				t.Error(err)
			}
		}
	})
}

// A window that is smaller on the next server holds back what was pushed under the larger one.
func TestWindowShrinks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		pub := publish(c, p, 4*codec.MaxFrame, PublishOptions{})
		for range 4 {
			push(t, pub, 1, strings.Repeat("x", piece))
		}
		wantFrames(p, "1:1 65516", "1:2 65516", "1:3 65516", "1:4 65516")
		p.close()
		p = f.accept()
		p.published(1, codec.MaxFrame)
		for seq := range uint64(4) {
			wantFrames(p, fmt.Sprintf("1:%d 65516", seq+1))
			p.quiet()
			p.send(ack(1, seq+1))
		}
	})
}

func TestPushRefused(t *testing.T) {
	refusal := func(code codec.Code) *codec.PushRefused {
		return &codec.PushRefused{Room: room, Pub: 1, Code: code, Frames: 1}
	}
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		pub := publish(c, p, 4*codec.MaxFrame, PublishOptions{})
		push(t, pub, 1, "a")
		push(t, pub, 1, strings.Repeat("b", piece+1))
		wantFrames(p, "1:1 a", "1:2 more 65516", "1:3 cont b")

		// A server that has lost the thread is asked where it is.
		p.send(refusal(codec.CodeSequence), refusal(codec.CodeSequence))
		p.published(1, 4*codec.MaxFrame, codec.StreamNext{Dtype: 1, Next: 1})
		wantFrames(p, "1:1 a", "1:2 more 65516", "1:3 cont b")
		p.send(ack(1, 2))
		synctest.Wait()

		// One that does not know the beginning of a message is spared the rest, which is lost.
		p.send(refusal(codec.CodeBadPieces))
		p.published(1, 4*codec.MaxFrame, codec.StreamNext{Dtype: 1, Next: 3})
		wantFrames(p, "1:gap 3-3 publisher")
		if err := pub.Flush(t.Context()); !errors.Is(err, &ClosedError{Code: codec.CodeGone}) {
			t.Errorf("flush: %v", err)
		}
		push(t, pub, 1, "c")
		wantFrames(p, "1:4 c")

		// What may succeed later is tried later, without bothering the caller.
		before := time.Now()
		p.send(refusal(codec.CodeRateLimited))
		p.published(1, 4*codec.MaxFrame, codec.StreamNext{Dtype: 1, Next: 4})
		wantFrames(p, "1:4 c")
		if time.Now().Equal(before) {
			t.Error("tried again at once")
		}
		p.send(ack(1, 4))
		synctest.Wait()

		// A thread lost over and over is the end.
		push(t, pub, 1, "d")
		for range maxAstray {
			wantFrames(p, "1:5 d")
			p.send(refusal(codec.CodeSequence))
			p.published(1, 4*codec.MaxFrame, codec.StreamNext{Dtype: 1, Next: 5})
		}
		wantFrames(p, "1:5 d")
		p.send(refusal(codec.CodeSequence))
		synctest.Wait()
		if err := pub.Push(t.Context(), 1, Delta, nil); !errors.Is(err, &ClosedError{room, codec.CodeSequence}) {
			t.Errorf("push: %v", err)
		}
	})
	named(t, map[string]codec.Code{
		"not granted":  codec.CodeNotGranted,
		"payload size": codec.CodePayloadSize,
	}, func(t *testing.T, code codec.Code) {
		f := newFake(t)
		c, p := f.connect(f.options())
		pub := publish(c, p, 4*codec.MaxFrame, PublishOptions{})
		push(t, pub, 1, "a")
		wantFrames(p, "1:1 a")
		flush := background(func() error { return pub.Flush(t.Context()) })
		synctest.Wait()
		p.send(refusal(code))
		synctest.Wait()
		for name, err := range map[string]error{"push": pub.Push(t.Context(), 1, Delta, nil), "flush": <-flush} {
			if !errors.Is(err, &ClosedError{room, code}) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestPublishRefused(t *testing.T) {
	named(t, map[string]struct {
		code  codec.Code
		first bool // as the answer to the first publish, not after a reconnection
		ends  bool
	}{
		"at first":                    {codec.CodeNotGranted, true, true},
		"at first, for now":           {codec.CodeOverloaded, true, true},
		"when it comes back":          {codec.CodeRoomUnknown, false, true},
		"when it comes back, for now": {codec.CodeOverloaded, false, false},
	}, func(t *testing.T, c struct {
		code  codec.Code
		first bool
		ends  bool
	}) {
		f := newFake(t)
		cl, p := f.connect(f.options())
		var err error
		refuse := func() { p.send(&codec.Refused{Req: want[*codec.Publish](p).Req, Code: c.code}) }
		if c.first {
			_, err = during(func() (*Publisher, error) { return cl.Publish(t.Context(), room, PublishOptions{}) }, refuse)
		} else {
			pub := publish(cl, p, codec.MaxFrame, PublishOptions{})
			p.close()
			p = f.accept()
			refuse()
			if !c.ends {
				p.published(1, codec.MaxFrame)
			}
			synctest.Wait()
			err = pub.Push(t.Context(), 1, Delta, []byte("a"))
		}
		want := error(&RefusedError{Code: c.code})
		if !c.first { // it had begun
			want = &ClosedError{room, c.code}
		}
		if c.ends != errors.Is(err, want) || !c.ends && err != nil {
			t.Error(err)
		}
		if c.ends { // it is not in the way of another try
			publish(cl, p, codec.MaxFrame, PublishOptions{})
		}
	})
}

func TestPublisherClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		pub := publish(c, p, codec.MaxFrame, PublishOptions{})
		push(t, pub, 1, "a")
		wantFrames(p, "1:1 a")
		done := background(func() error { return pub.Close(t.Context()) })
		p.quiet() // it flushes first
		p.send(ack(1, 1))
		want[*codec.Unpublish](p)
		p.close() // and it sees to it that the server knows
		p = f.accept()
		p.published(1, codec.MaxFrame, codec.StreamNext{Dtype: 1, Next: 2})
		p.send(ok(want[*codec.Unpublish](p).Req))
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := pub.Push(t.Context(), 1, Delta, nil); !errors.Is(err, &ClosedError{Code: codec.CodeLeft}) {
			t.Error(err)
		}
		if err := pub.Close(t.Context()); err != nil {
			t.Errorf("closed again: %v", err)
		}

		// One that cannot be flushed in time ends all the same, and is there to be opened anew.
		pub = publish(c, p, codec.MaxFrame, PublishOptions{})
		push(t, pub, 1, "b")
		wantFrames(p, "1:1 b")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := pub.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		want[*codec.Unpublish](p)
		publish(c, p, codec.MaxFrame, PublishOptions{})
	})
}

func TestCounts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		pub := publish(c, p, codec.MaxFrame, PublishOptions{Counts: true})
		p.send(&codec.Count{Room: room, Subscribers: 1}, &codec.Count{Room: room, Subscribers: 2, Publishers: 1})
		synctest.Wait()
		if n := <-pub.Counts(); n.Subscribers != 2 || n.Publishers != 1 {
			t.Errorf("count %+v, want the newest", n)
		}
		p.send(&codec.Closed{Room: room, Code: codec.CodeRemoved})
		if _, open := <-pub.Counts(); open {
			t.Error("still open")
		}
	})
}

// Frames waiting at once go out in one write.
func TestCoalescedWrite(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		pub := publish(c, p, codec.MaxFrame, PublishOptions{})
		push(t, pub, 1, "first") // the writer is at it until the server reads
		synctest.Wait()
		for range 100 {
			push(t, pub, 1, "x")
		}
		wantFrames(p, "1:1 first")
		if err := p.fill(); err != nil {
			t.Fatal(err)
		}
		if want := 100 * (codec.StreamHeaderSize + 1); len(p.in) != want {
			t.Errorf("one write of %d bytes, want %d", len(p.in), want)
		}
	})
}
