package client

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/timedge/timedge/codec"
)

func TestHello(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		_, p := f.connect(f.options())
		if p.hello.Account != "alice" || string(p.hello.Token) != "secret" || p.hello.Instance == 0 {
			t.Errorf("hello %+v", p.hello)
		}
	})
}

func TestDialFails(t *testing.T) {
	answer := func(code codec.Code) func(p *peer) {
		return func(p *peer) {
			p.readHello()
			p.write(codec.AppendServerPreface(nil, 1))
			p.send(&codec.Error{Code: code, Text: "no"})
			p.close()
		}
	}
	named(t, map[string]struct {
		servers []string
		play    func(p *peer)
		code    codec.Code // of the ConnectionError; 0: another error
		tries   int
	}{
		"not let in":              {[]string{"one", "two"}, answer(codec.CodeAuthFailed), codec.CodeAuthFailed, 1},
		"going away":              {[]string{"one", "two"}, answer(codec.CodeGoingAway), codec.CodeGoingAway, 2},
		"silent during handshake": {[]string{"one"}, answer(codec.CodeSilent), codec.CodeSilent, 1},
		"not our protocol": {[]string{"one", "two"}, func(p *peer) {
			p.readHello()
			p.write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			p.close()
		}, 0, 2},
		"closed without a word": {[]string{"one"}, func(p *peer) { p.readHello(); p.close() }, 0, 1},
		"never answers":         {[]string{"one", "two"}, func(p *peer) { p.readHello() }, 0, 2},
		"no common version": {[]string{"one"}, func(p *peer) {
			p.readHello()
			p.write(codec.AppendServerPreface(nil, 0))
			p.send(&codec.Error{Code: codec.CodeVersion})
			p.close()
		}, codec.CodeVersion, 1},
		"a version not offered": {[]string{"one"}, func(p *peer) {
			p.readHello()
			p.write(codec.AppendServerPreface(nil, 9))
		}, 0, 1},
	}, func(t *testing.T, c struct {
		servers []string
		play    func(p *peer)
		code    codec.Code
		tries   int
	}) {
		f := newFake(t)
		o := f.options()
		o.Servers = c.servers
		done := background(func() error { _, err := Dial(context.Background(), o); return err })
		for range c.tries {
			c.play(<-f.conns)
		}
		err := <-done
		var no *ConnectionError
		if err == nil || errors.As(err, &no) != (c.code != 0) || no != nil && no.Code != c.code {
			t.Errorf("error %v, want code %d", err, c.code)
		}
		if len(f.tried) != c.tries {
			t.Errorf("tried %v, want %d tries", f.tried, c.tries)
		}
	})
}

func TestDialEndsWithContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		done := background(func() error { _, err := Dial(ctx, f.options()); return err })
		(<-f.conns).readHello()
		if err := <-done; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
}

func TestOptions(t *testing.T) {
	t.Setenv(ServerEnv, "a:1, b:2")
	o, err := Options{}.withDefaults()
	if err != nil || !slices.Equal(o.Servers, []string{"a:1", "b:2"}) || o.ReceiveBuffer == 0 || o.Dialer == nil {
		t.Errorf("defaults %+v, %v", o, err)
	}
	_, err = Options{
		Servers: []string{""}, Account: strings.Repeat("a", 200), Token: strings.Repeat("t", 5000),
		BackoffMax: 1, ReceiveBuffer: -1,
	}.withDefaults()
	for _, word := range []string{"server 1 of 1", "account", "token", "BackoffMax", "ReceiveBuffer"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%v does not tell of %s", err, word)
		}
	}
}

// The rounds of the servers: every one tried once in each, the pauses between them random and growing up to the bound.
func TestBackoff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		o := f.options()
		o.Servers = []string{"one", "two", "three"}
		c, p := f.connect(o)
		f.tried, f.at = nil, nil
		f.down = func(string) bool { return true }
		lost := time.Now()
		p.close()
		const rounds = 12
		time.Sleep(rounds * c.opts.BackoffMax)
		c.Close(context.Background())

		if len(f.tried) < 3*rounds {
			t.Fatalf("%d tries", len(f.tried))
		}
		if last := f.tried[2]; last != p.addr {
			t.Errorf("the server just lost is tried %v, want last", f.tried[:3])
		}
		for i := 0; i < 3*rounds; i += 3 {
			round := slices.Sorted(slices.Values(f.tried[i : i+3]))
			if !slices.Equal(round, []string{"one", "three", "two"}) {
				t.Errorf("round %d tries %v", i/3, round)
			}
			limit := min(c.opts.BackoffMax, c.opts.BackoffMin<<(i/3))
			if wait := f.at[i].Sub(lost); wait > limit {
				t.Errorf("round %d after %v, limit %v", i/3, wait, limit)
			}
			lost = f.at[i+2]
		}
	})
}

func TestReconnectKeepsInstance(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		_, p := f.connect(f.options())
		p.close()
		if again := f.accept(); again.hello.Instance != p.hello.Instance {
			t.Errorf("instance %x, then %x", p.hello.Instance, again.hello.Instance)
		}
	})
}

// A server's final word ends the client; every call then says so, also those that were waiting.
func TestFinalError(t *testing.T) {
	named(t, map[string]func(f *fake, p *peer){
		"in the handshake of a reconnection": func(f *fake, p *peer) {
			p.close()
			p = <-f.conns
			p.readHello()
			p.write(codec.AppendServerPreface(nil, 1))
			p.send(&codec.Error{Code: codec.CodeAuthFailed, Text: "token expired"})
			p.close()
		},
		"on the connection": func(f *fake, p *peer) {
			p.send(&codec.Error{Code: codec.CodeAuthFailed, Text: "token expired"})
			p.close()
		},
	}, func(t *testing.T, play func(f *fake, p *peer)) {
		f := newFake(t)
		c, p := f.connect(f.options())
		pub := publish(c, p, codec.MaxFrame, PublishOptions{})
		sub := subscribe(c, p, codec.PolicyLive, 0)
		stat := background(func() error { _, err := c.Stat(t.Context(), room); return err })
		want[*codec.Stat](p)
		next := background(func() error { _, err := sub.Next(t.Context()); return err })
		synctest.Wait()
		play(f, p)

		errNext := <-next
		_, register := c.Register(t.Context(), RoomOptions{})
		_, subscribe := c.Subscribe(t.Context(), room, SubscribeOptions{})
		_, publish := c.Publish(t.Context(), room, PublishOptions{})
		_, again := sub.Next(t.Context())
		for name, err := range map[string]error{
			"stat": <-stat, "next": errNext, "register": register, "subscribe": subscribe, "publish": publish,
			"next again": again,
			"push":       pub.Push(t.Context(), 1, Delta, nil), "flush": pub.Flush(t.Context()),
			"client push": c.Push(t.Context(), room, 1, nil),
			"unsubscribe": c.Unsubscribe(t.Context(), room),
		} {
			var no *ConnectionError
			if !errors.As(err, &no) || no.Code != codec.CodeAuthFailed || no.Retry() {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestErrorsThatReconnect(t *testing.T) {
	named(t, map[string]func(p *peer){
		"overloaded":     func(p *peer) { p.send(&codec.Error{Code: codec.CodeOverloaded}); p.close() },
		"silent":         func(p *peer) { p.send(&codec.Error{Code: codec.CodeSilent}); p.close() },
		"hello too late": func(p *peer) { p.send(&codec.Error{Code: codec.CodeHelloTimeout}); p.close() },
		"without a word": func(p *peer) { p.close() },
		"a server that speaks nonsense": func(p *peer) {
			p.write([]byte{0, 0})
			if m := want[*codec.Error](p); m.Code != codec.CodeMalformed {
				p.t.Errorf("error %v", m.Code)
			}
		},
		"a frame that only clients send": func(p *peer) {
			p.send(&codec.Hello{})
			if m := want[*codec.Error](p); m.Code != codec.CodeUnexpected {
				p.t.Errorf("error %v", m.Code)
			}
		},
	}, func(t *testing.T, play func(p *peer)) {
		f := newFake(t)
		_, p := f.connect(f.options())
		play(p)
		f.accept()
	})
}

func TestPing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		_, p := f.connect(f.options())
		p.send(&codec.Ping{Echo: 42})
		if m := want[*codec.Pong](p); m.Echo != 42 {
			t.Errorf("pong %d", m.Echo)
		}
		ping := want[*codec.Ping](p) // the server has been silent for the ping time
		p.send(&codec.Pong{Echo: ping.Echo})
		start := time.Now()
		for {
			m := p.read()
			if _, ok := m.(*codec.Ping); !ok {
				t.Fatalf("got %s", show(m))
			}
			if time.Since(start) > 35*time.Second {
				break
			}
		}
		f.accept() // still silent
	})
}

func TestGoAway(t *testing.T) {
	named(t, map[string]struct {
		addrs []string
		down  string
		want  string
	}{
		"to a named server":            {[]string{"other"}, "", "other"},
		"to any":                       {nil, "", "two"},
		"to any when the named is out": {[]string{"other"}, "other", "two"},
	}, func(t *testing.T, c struct {
		addrs []string
		down  string
		want  string
	}) {
		f := newFake(t)
		o := f.options()
		o.Servers = []string{"one", "two"}
		f.down = func(addr string) bool { return addr == "two" }
		cl, p := f.connect(o)
		f.down = func(addr string) bool { return addr == c.down }
		sub := subscribe(cl, p, codec.PolicyLive, 0)

		remove := background(func() error { return cl.Remove(t.Context(), 9) })
		request := want[*codec.Remove](p)
		p.send(&codec.GoAway{Code: codec.CodeGoingAway, WithinMillis: 60_000, Addrs: c.addrs})
		next := f.accept()
		if next.addr != c.want {
			t.Errorf("connected to %s, want %s", next.addr, c.want)
		}
		// The old connection still serves, and the answer to what must not be asked twice is waited for.
		p.send(&codec.Joined{Room: room, Pub: 1, Account: "bob"}, frame(1, 0, "x"), &codec.OK{Req: request.Req})
		if err := <-remove; err != nil {
			t.Error(err)
		}
		if m := next.subscribed(codec.PolicyLive, 0); len(m.Have) != 1 || m.Have[0].Last != 1 {
			t.Errorf("resumes with %+v", m.Have)
		}
		next.send(frame(2, 0, "y"))
		wantEvents(t, sub, "joined bob", "message 1-1 x", "resumed", "message 2-2 y")
	})
}

func TestClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		pub := publish(c, p, codec.MaxFrame, PublishOptions{Counts: true})
		sub := subscribe(c, p, codec.PolicyLive, 0)
		stat := background(func() error { _, err := c.Stat(t.Context(), room); return err })
		next := background(func() error { _, err := sub.Next(t.Context()); return err })
		flush := background(func() error {
			if err := pub.Push(t.Context(), 1, Delta, []byte("x")); err != nil {
				return err
			}
			return pub.Flush(t.Context())
		})
		synctest.Wait()
		if err := c.Close(t.Context()); !errors.Is(err, context.DeadlineExceeded) { // the server answers nothing
			t.Error(err)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
		for name, err := range map[string]error{"stat": <-stat, "next": <-next, "flush": <-flush,
			"push": pub.Push(t.Context(), 1, Delta, nil)} {
			if !errors.Is(err, ErrClosed) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, open := <-pub.Counts(); open {
			t.Error("counts are still open")
		}
	})
}

// A client that is closed while there is no server to be had stops trying.
func TestCloseWhileDisconnected(t *testing.T) {
	bubble(t, func(t *testing.T) {
		f := newFake(t)
		c, p := f.connect(f.options())
		f.down = func(string) bool { return true }
		p.close()
		time.Sleep(time.Minute)
		c.Close(context.Background())
		n := len(f.tries())
		time.Sleep(time.Minute)
		if len(f.tries()) != n {
			t.Error("still trying")
		}
	})
}
