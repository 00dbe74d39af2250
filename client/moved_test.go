package client

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/timedge/timedge/codec"
)

var (
	moved      = &codec.Closed{Room: room, Code: codec.CodeMoved}
	superseded = &codec.Closed{Room: room, Code: codec.CodeSuperseded}
	forgotten  = &codec.PushRefused{Room: room, Pub: 1, Code: codec.CodeNotPublishing, Frames: 2}
)

// A room that moves to another node, or a server that has forgotten its publisher: that publishes again on the same
// connection and sends again what is not acknowledged, whatever number it is given, and its subscription is not
// touched.
func TestMoved(t *testing.T) {
	has := func(next uint64) []codec.StreamNext { return []codec.StreamNext{{Dtype: 1, Next: next}} }
	named(t, map[string]struct {
		pub    uint16
		next   []codec.StreamNext
		frames []string
		word   codec.Control
	}{
		"the streams are known":           {1, has(3), []string{"1:3 c", "1:4 end"}, moved},
		"all has arrived":                 {1, has(4), []string{"1:4 end"}, moved},
		"the streams are unknown":         {1, nil, []string{"1:1 a", "1:2 b", "1:3 c", "1:4 end"}, moved},
		"another number":                  {9, nil, []string{"1:1 pub 9 b", "1:2 pub 9 c", "1:3 pub 9 end"}, moved},
		"superseded by an older publish":  {1, has(3), []string{"1:3 c", "1:4 end"}, superseded},
		"superseded under another number": {9, nil, []string{"1:1 pub 9 b", "1:2 pub 9 c", "1:3 pub 9 end"}, superseded},
		"the publisher is forgotten":      {1, nil, []string{"1:1 a", "1:2 b", "1:3 c", "1:4 end"}, forgotten},
	}, func(t *testing.T, c struct {
		pub    uint16
		next   []codec.StreamNext
		frames []string
		word   codec.Control
	}) {
		f := newFake(t)
		cl, p := f.connect(f.options())
		sub := subscribe(cl, p, codec.PolicyLive, 0)
		pub := publish(cl, p, 4*codec.MaxFrame, PublishOptions{})
		for _, m := range []string{"a", "b", "c"} {
			push(t, pub, 1, m)
			wantFrames(p, "1:"+string('1'+m[0]-'a')+" "+m)
		}
		p.send(ack(1, 1), c.word, forgotten) // the second of frames that were on their way
		synctest.Wait()
		push(t, pub, 1, "end") // pushing goes on meanwhile
		flushed := background(func() error { return pub.Flush(t.Context()) })
		before := time.Now()
		p.published(c.pub, 4*codec.MaxFrame, c.next...)
		if !time.Now().Equal(before) {
			t.Error("not asked at once")
		}
		p.send(forgotten, &codec.PushRefused{Room: room, Pub: 1, Code: codec.CodeSuperseded, Frames: 1}) // told late
		wantFrames(p, c.frames...)
		p.quiet()
		synctest.Wait()
		select {
		case err := <-flushed:
			t.Errorf("flushed before all is acknowledged: %v", err)
		default:
		}
		a := ack(1, 4)
		a.Pub = c.pub
		p.send(a)
		if err := <-flushed; err != nil {
			t.Error(err)
		}
		p.send(&codec.Joined{Room: room, Pub: 5, Account: "bob"})
		wantEvents(t, sub, "joined bob")
	})
}

// A publisher that is given a number back that it had before goes on as it counted then: what arrived then does not
// come again, the rest does.
func TestMovedBack(t *testing.T) {
	named(t, map[string]struct {
		next   uint64
		frames []string
	}{
		"one message is there":    {2, []string{"1:2 b", "1:3 c", "1:4 d"}},
		"two messages are there":  {3, []string{"1:3 c", "1:4 d"}},
		"all but the last one is": {4, []string{"1:4 d"}},
	}, func(t *testing.T, c struct {
		next   uint64
		frames []string
	}) {
		f := newFake(t)
		cl, p := f.connect(f.options())
		pub := publish(cl, p, 4*codec.MaxFrame, PublishOptions{})
		for _, m := range []string{"a", "b", "c"} {
			push(t, pub, 1, m)
			wantFrames(p, "1:"+string('1'+m[0]-'a')+" "+m)
		}
		p.send(ack(1, 1), moved)
		p.published(9, 4*codec.MaxFrame)
		wantFrames(p, "1:1 pub 9 b", "1:2 pub 9 c")
		push(t, pub, 1, "d")
		wantFrames(p, "1:3 pub 9 d")
		p.send(&codec.Closed{Room: room, Code: codec.CodeMoved})
		p.published(1, 4*codec.MaxFrame, codec.StreamNext{Dtype: 1, Next: c.next})
		wantFrames(p, c.frames...)
		flushed := background(func() error { return pub.Flush(t.Context()) })
		p.send(ack(1, 4))
		if err := <-flushed; err != nil {
			t.Error(err)
		}
	})
}

// While the window is full and a message is half sent, a move changes nothing but where it goes.
func TestMovedInMessage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		pub := publish(c, p, 3*codec.MaxFrame, PublishOptions{})
		done := background(func() error { return pub.Push(t.Context(), 1, Delta, make([]byte, 4*piece)) })
		wantFrames(p, "1:1 more 65516", "1:2 more cont 65516")
		p.send(ack(1, 1), moved)
		p.published(1, 3*codec.MaxFrame)
		wantFrames(p, "1:1 more 65516", "1:2 more cont 65516")
		p.send(ack(1, 2))
		wantFrames(p, "1:3 more cont 65516")
		wantFrames(p, "1:4 cont 65516")
		if err := <-done; err != nil {
			t.Error(err)
		}
		p.send(moved) // nothing is acknowledged since the last time but frame 2
		p.published(1, 3*codec.MaxFrame, codec.StreamNext{Dtype: 1, Next: 5})
		flushed := background(func() error { return pub.Flush(t.Context()) })
		p.send(ack(1, 4)) // of what it had already
		if err := <-flushed; err != nil {
			t.Error(err)
		}
	})
}

// A server that moves the room over and over is asked at growing intervals; one that refuses for now is asked until it
// does not.
func TestMovedOverAndOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		pub := publish(c, p, codec.MaxFrame, PublishOptions{})
		push(t, pub, 1, "a")
		wantFrames(p, "1:1 a")
		start := time.Now()
		for range 20 {
			p.send(moved)
			p.published(1, codec.MaxFrame)
			wantFrames(p, "1:1 a")
		}
		if took := time.Since(start); took < 20*c.opts.BackoffMin/4 {
			t.Errorf("asked 20 times within %v", took)
		}
		p.send(moved)
		for i := range 3 * maxAstray {
			code := []codec.Code{codec.CodeMoved, codec.CodeOverloaded}[i%2]
			p.send(&codec.Refused{Req: want[*codec.Publish](p).Req, Code: code})
		}
		p.published(1, codec.MaxFrame)
		wantFrames(p, "1:1 a")
		p.send(&codec.PushRefused{Room: room, Pub: 1, Code: codec.CodeSequence, Frames: 1}) // the first of its kind
		p.published(1, codec.MaxFrame)
		wantFrames(p, "1:1 a")
		flushed := background(func() error { return pub.Flush(t.Context()) })
		p.send(ack(1, 1))
		if err := <-flushed; err != nil {
			t.Error(err)
		}
	})
}

// A publisher that is closed while its room moves leaves it where it is then; one whose time is up leaves no right
// behind. Nor is a server asked without a pause that acknowledges, moves the room, gives another number, and so on: two
// nodes that disagree do that.
func TestMovedAndAcknowledgedOverAndOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		pub := publish(c, p, codec.MaxFrame, PublishOptions{})
		start, num := time.Now(), uint16(1)
		for range 20 {
			push(t, pub, 1, "a")
			want[*codec.Stream](p)
			a := ack(1, 1)
			a.Pub = num
			p.send(a, moved)
			num++
			p.published(num, codec.MaxFrame)
		}
		if took := time.Since(start); took < 20*c.opts.BackoffMin/4 {
			t.Errorf("asked 20 times within %v", took)
		}
	})
}

func TestCloseWhileMoved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		pub := publish(c, p, codec.MaxFrame, PublishOptions{})
		done := background(func() error { return pub.Close(t.Context()) })
		first := want[*codec.Unpublish](p)
		p.send(moved, &codec.Refused{Req: first.Req, Code: codec.CodeNotPublishing})
		p.published(3, codec.MaxFrame)
		second := want[*codec.Unpublish](p)
		p.send(&codec.Refused{Req: second.Req, Code: codec.CodeOverloaded})
		p.send(ok(want[*codec.Unpublish](p).Req))
		if err := <-done; err != nil {
			t.Error(err)
		}

		pub = publish(c, p, codec.MaxFrame, PublishOptions{})
		p.send(moved)
		want[*codec.Publish](p)
		ended := background(func() error { return pub.Close(t.Context()) })
		synctest.Wait()
		p.quiet() // it waits for the answer
		p.send(&codec.Closed{Room: room, Code: codec.CodeRemoved})
		if err := <-ended; err != nil {
			t.Errorf("all had arrived: %v", err)
		}
	})
}

// A subscription that comes back while its room moves tries until it is taken, and names what it has, also if the gap
// it was told last still waits for the caller.
func TestSubscribeRefusedWhileMoving(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		sub := subscribe(c, p, codec.PolicyLive, 0)
		p.send(&codec.Joined{Room: room, Pub: 1, Account: "bob"}, frame(1, codec.FlagKey, "a"), gap(2, 5, codec.GapSlow))
		synctest.Wait()
		p.close()
		p = f.accept()
		for i := range 8 {
			m := want[*codec.Subscribe](p)
			if len(m.Have) != 1 || m.Have[0].Last != 5 || len(m.Gapped) != 1 || m.Gapped[0] != 0 {
				t.Errorf("resumes with %+v, gapped %v", m.Have, m.Gapped)
			}
			p.send(&codec.Refused{Req: m.Req, Code: []codec.Code{codec.CodeMoved, codec.CodeOverloaded}[i%2]})
		}
		p.subscribed(codec.PolicyLive, 0)
		p.send(frame(6, codec.FlagKey, "b"))
		wantEvents(t, sub, "joined bob", "message 1-1 key a", "gap 2-5 slow", "resumed", "message 6-6 key b")
		p.close()
		p = f.accept()
		if m := p.subscribed(codec.PolicyLive, 0); m.Have[0].Last != 6 || len(m.Gapped) != 0 {
			t.Errorf("resumes with %+v, gapped %v", m.Have, m.Gapped)
		}
	})
}

// After a lost connection the other servers are tried at once, and the same one too, as a load balancer has others
// behind it; but not where the server itself said that it cannot be had.
func TestReconnectAtOnce(t *testing.T) {
	named(t, map[string]struct {
		servers []string
		lose    func(p *peer)
		first   string // the one tried first; "": another than the one lost
		paused  bool
	}{
		"two servers, a broken connection": {[]string{"one", "two"}, (*peer).close, "", false},
		"two servers, overloaded": {[]string{"one", "two"}, func(p *peer) {
			p.send(&codec.Error{Code: codec.CodeOverloaded})
			p.close()
		}, "", false},
		"one address, a broken connection": {[]string{"one"}, (*peer).close, "one", false},
		"one address, overloaded": {[]string{"one"}, func(p *peer) {
			p.send(&codec.Error{Code: codec.CodeOverloaded})
			p.close()
		}, "one", true},
	}, func(t *testing.T, c struct {
		servers []string
		lose    func(p *peer)
		first   string
		paused  bool
	}) {
		f := newFake(t)
		o := f.options()
		o.Servers = c.servers
		cl, p := f.connect(o)
		f.tried, f.at = nil, nil
		lost := time.Now()
		c.lose(p)
		next := f.accept()
		synctest.Wait()
		if c.first == "" && next.addr == p.addr || c.first != "" && next.addr != c.first {
			t.Errorf("from %s to %s", p.addr, next.addr)
		}
		if wait := f.at[0].Sub(lost); wait > 0 != c.paused {
			t.Errorf("tried after %v", wait)
		}
		// Those who let nobody stay are not tried as fast as they throw the client out.
		start := time.Now()
		for range 10 {
			next.close()
			next = f.accept()
		}
		if time.Since(start) < cl.opts.BackoffMin {
			t.Error("tried without pauses")
		}
		// One that has stood for a while counts as good again.
		time.Sleep(steady)
		f.at, lost = nil, time.Now()
		next.close()
		f.accept()
		if wait := f.at[0].Sub(lost); wait > 0 {
			t.Errorf("tried after %v", wait)
		}
	})
}

// A server that says nothing any more is left, soon if it or the options say so, and when another one answers: that is
// connected to when five eighths of the silence are over.
func TestSilence(t *testing.T) {
	for _, c := range []struct {
		ping    uint32 // ms
		option  time.Duration
		silence time.Duration
	}{
		{400, 0, 800 * time.Millisecond},
		{20_000, 0, 40 * time.Second},
		{20_000, time.Second, time.Second},
		{0, time.Second, time.Second},
		{100, time.Second, 200 * time.Millisecond},
	} {
		t.Run(fmt.Sprintf("ping time %d ms, option %v", c.ping, c.option), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFake(t)
				f.ping = c.ping
				o := f.options()
				o.Servers, o.Silence = []string{"one", "two"}, c.option
				var phases []string
				o.OnState = func(s State) { phases = append(phases, s.Phase.String()) }
				cl, p := f.connect(o)
				sub := subscribe(cl, p, codec.PolicyLive, 0)
				go func() { // frozen: the system takes what comes
					for p.fill() == nil {
					}
				}()
				for range 20 { // not while it says anything
					time.Sleep(c.silence / 2)
					p.send(&codec.Pong{})
				}
				start := time.Now()
				next := f.accept()
				if took := time.Since(start); took < c.silence*5/8 || took > c.silence*3/4 {
					t.Errorf("left after %v, want %v", took, c.silence)
				}
				if next.addr == p.addr {
					t.Error("tried the silent one again")
				}
				next.subscribed(codec.PolicyLive, 0)
				next.send(&codec.Joined{Room: room, Pub: 1, Account: "bob"})
				wantEvents(t, sub, "resumed", "joined bob")
				synctest.Wait()
				want := "connecting connected disconnected connecting connected"
				if got := strings.Join(phases, " "); got != want {
					t.Errorf("was told %s", got)
				}
			})
		})
	}
}

// A server that says something while another is being connected to is kept, and the other one let go.
func TestSilentForAMoment(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		o := f.options()
		o.Servers, o.Silence = []string{"one", "two"}, time.Second
		c, p := f.connect(o)
		sub := subscribe(c, p, codec.PolicyLive, 0)
		go func() {
			for p.fill() == nil {
			}
		}()
		other := <-f.conns
		other.readHello()
		p.send(&codec.Pong{})
		synctest.Wait()
		other.write(codec.AppendServerPreface(nil, 1))
		other.send(&codec.Welcome{Session: 1, Node: other.addr, MaxPayload: f.maxPayload, PingMillis: f.ping})
		if other.fill() == nil {
			t.Error("the other connection is used")
		}
		p.send(&codec.Joined{Room: room, Pub: 1, Account: "bob"})
		wantEvents(t, sub, "joined bob")
		if n := c.Stats().Connections; n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

// Behind one address there may be several servers: it is asked again while the silent one is still waited for, and
// again if that says nothing either, a few times. The first to answer is used.
func TestSilentBehindOneAddress(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		o := f.options()
		o.Silence = time.Second
		c, p := f.connect(o)
		sub := subscribe(c, p, codec.PolicyLive, 0)
		go func() {
			for p.fill() == nil {
			}
		}()
		start := time.Now()
		next := <-f.conns
		if took := time.Since(start); took < o.Silence*5/8 || took > o.Silence*3/4 {
			t.Errorf("asked again after %v", took)
		}
		next.readHello()
		frozen := <-f.conns
		frozen.readHello()
		if took := time.Since(start); took > 3*o.Silence {
			t.Errorf("asked once more after %v", took)
		}
		time.Sleep(8 * time.Second)
		next.write(codec.AppendServerPreface(nil, 1))
		next.send(&codec.Welcome{Session: 2, Node: "other", MaxPayload: f.maxPayload, PingMillis: f.ping})
		next.subscribed(codec.PolicyLive, 0)
		wantEvents(t, sub, "resumed")
		if n := len(f.tries()); n != 1+maxAsked {
			t.Errorf("%d connections", n)
		}
	})
}

// A frozen server's system still takes connections. It is waited for, as any that many clients come to may be, but the
// next one is asked soon.
func TestFrozenInRound(t *testing.T) {
	for name, c := range map[string]struct{ silence, step time.Duration }{
		"as the options say": {time.Second, time.Second / 2},
		"a long silence":     {time.Minute, connectWithin},
		"by default":         {0, connectWithin},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFake(t)
				o := f.options()
				o.Servers, o.Silence = []string{"one", "two", "three"}, c.silence
				cl, p := f.connect(o)
				pub := publish(cl, p, codec.MaxFrame, PublishOptions{})
				start := time.Now()
				p.close()
				frozen := <-f.conns
				frozen.readHello()
				next := f.accept()
				if took := time.Since(start); took != c.step {
					t.Errorf("took %v, want %v", took, c.step)
				}
				if frozen.addr == p.addr || next.addr == frozen.addr {
					t.Errorf("order %s, %s, %s", p.addr, frozen.addr, next.addr)
				}
				next.published(1, codec.MaxFrame)
				synctest.Wait()
				push(t, pub, 1, "x")
				wantFrames(next, "1:1 x")
				if frozen.fill() == nil {
					t.Error("the frozen one is kept")
				}
			})
		})
	}
}

// While one server says nothing the others, who refused at first, are asked again and again; and it is used when it
// answers before them.
func TestSilentServerWhileOthersRefuse(t *testing.T) {
	for _, thaws := range []bool{false, true} {
		t.Run(fmt.Sprintf("thaws %v", thaws), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				f := newFake(t)
				o := f.options()
				o.Servers, o.Silence = []string{"one", "two", "three"}, time.Second
				_, p := f.connect(o)
				var back atomic.Bool
				silent := map[string]string{"one": "two", "two": "three", "three": "one"}[p.addr]
				f.down = func(addr string) bool { return addr != silent && !back.Load() }
				p.close()
				frozen := <-f.conns
				frozen.readHello()
				time.Sleep(5 * time.Second)
				if thaws {
					frozen.write(codec.AppendServerPreface(nil, 1))
					frozen.send(&codec.Welcome{Session: 1, Node: silent, MaxPayload: f.maxPayload, PingMillis: f.ping})
					frozen.send(&codec.Ping{Echo: 9})
					if m := want[*codec.Pong](frozen); m.Echo != 9 {
						t.Errorf("answered %d", m.Echo)
					}
				} else {
					back.Store(true)
					f.accept()
				}
				tried := f.tries()
				asked := 0
				for _, addr := range tried {
					if addr == silent {
						asked++
					}
				}
				if asked > maxAsked || len(tried) < 6 {
					t.Errorf("asked %v", tried)
				}
			})
		})
	}
}

// A hello that came too late, as where a server or this machine was stopped for a while, is said again.
func TestHelloTooLate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		o := f.options()
		o.Servers = []string{"one", "two"}
		_, p := f.connect(o)
		p.close()
		for range 3 {
			next := <-f.conns
			next.readHello()
			next.write(codec.AppendServerPreface(nil, 1))
			next.send(&codec.Error{Code: codec.CodeHelloTimeout})
			next.close()
		}
		f.accept()
	})
}
