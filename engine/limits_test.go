package engine_test

import (
	"io"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

// metric returns the value of a line of /metrics, 0 if there is none.
func metric(t testing.TB, e *engine.Engine, line string) float64 {
	t.Helper()
	r := httptest.NewRecorder()
	e.Handler().ServeHTTP(r, httptest.NewRequest("GET", "/metrics", nil))
	body, err := io.ReadAll(r.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(body)) {
		if rest, ok := strings.CutPrefix(l, line+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	return 0
}

// burst is n frames of a stream, from the first on.
func burst(room codec.RoomID, pub uint16, from, n, payload int) (b []byte) {
	for i := range n {
		f := codec.Stream{Room: room, StreamKey: codec.StreamKey{Pub: pub}, Seq: uint64(from + i), Flags: codec.FlagKey,
			Payload: make([]byte, payload)}
		b = enc(f.Append(b))
	}
	return b
}

// acked waits until the server has acknowledged up to seq.
func (w *wire) acked(seq uint64) {
	w.t.Helper()
	for next[*codec.Ack](w).Seq < seq {
	}
}

// quietUntilPong asks for a pong and returns the highest acknowledgement that came before it.
func (w *wire) quietUntilPong() (seq uint64) {
	w.t.Helper()
	w.send(&codec.Ping{Echo: 1})
	for {
		switch m := w.any().(type) {
		case *codec.Ack:
			seq = m.Seq
		case *codec.Pong:
			return seq
		case nil:
			w.t.Fatal("closed")
		}
	}
}

// A session over its rate gets its acknowledgements later; nothing that it pushes is lost, and nobody else waits.
func TestPushingAboveTheRateIsSlowed(t *testing.T) {
	for _, tc := range []struct {
		name, metric string
		limit        func(*engine.Limits)
	}{
		{"frames of a session", "session", func(l *engine.Limits) { l.SessionFrames = 1000 }},
		{"bytes of a session", "session", func(l *engine.Limits) { l.SessionBytes = 1000 * 120 }},
		{"frames of an account", "account", func(l *engine.Limits) { l.AccountFrames = 1000 }},
		{"bytes of an account", "account", func(l *engine.Limits) { l.AccountBytes = 1000 * 120 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			e := start(t, func(c *engine.Config) { tc.limit(&c.Limits) })
			flood, good, sub := login(t, e, "mallory", 1), login(t, e, "alice", 1), login(t, e, "bob", 1)
			room := flood.register(calm)
			goodRoom := good.register(calm)
			sub.subscribe(room)
			pub, goodPub := flood.publish(room).Pub, good.publish(goodRoom).Pub

			const frames = 4000 // the burst, and three seconds' worth
			flood.write(burst(room, pub, 1, frames, 100))
			for seq := uint64(1); seq <= frames; seq++ { // all are delivered as they come
				if f := next[*codec.Stream](sub); f.Seq != seq {
					t.Fatalf("frame %d instead of %d", f.Seq, seq)
				}
			}
			good.write(burst(goodRoom, goodPub, 1, 100, 100))
			good.acked(100)
			if seq := flood.quietUntilPong(); seq == frames {
				t.Error("all is acknowledged at once")
			}
			if n := metric(t, e, `timedge_limited_total{limit="`+tc.metric+`"}`); n == 0 {
				t.Error("the metric does not show it")
			}
			flood.acked(frames)
		})
	}
}

// Who does not wait for acknowledgements that are held back is cut off.
func TestPushingOnWithoutAcknowledgements(t *testing.T) {
	e := start(t, func(c *engine.Config) { c.Limits.SessionFrames, c.Rooms.Window = 10, 64<<10 })
	w := login(t, e, "mallory", 1)
	room := w.register(calm)
	pub := w.publish(room).Pub
	go func() { _, _ = w.c.Write(burst(room, pub, 1, 3000, 100)) }() // 360 kB
	if m := next[*codec.Error](w); m.Code != codec.CodeFlowViolation {
		t.Errorf("closed with %v", m.Code)
	}
}

// An account's debt outlives its sessions: connecting again, or taking up another room, does not help.
func TestAccountsDebtOutlivesItsSessions(t *testing.T) {
	e := start(t, func(c *engine.Config) { c.Limits.AccountFrames = 10 })
	w := login(t, e, "mallory", 1)
	room, second := w.register(calm), w.register(calm)
	pub := w.publish(room).Pub
	w.write(burst(room, pub, 1, 1000, 10))
	refusedWith(t, w.ask(&codec.Publish{Req: 9, Room: second}), 9, codec.CodeRateLimited)
	w.c.Close()
	w = login(t, e, "mallory", 2)
	refusedWith(t, w.ask(&codec.Publish{Req: 9, Room: second}), 9, codec.CodeRateLimited)
	login(t, e, "alice", 1).register(calm)
	if n := metric(t, e, `timedge_refused_total{code="rate_limited"}`); n != 2 {
		t.Errorf("%v refusals are counted", n)
	}
}

// Requests over the rate are refused. Of other frames nothing can be: they are answered when the rate allows it.
func TestTooManyRequests(t *testing.T) {
	t.Parallel()
	e := start(t, func(c *engine.Config) { c.Limits.Requests = 10 })
	w, other := login(t, e, "mallory", 1), login(t, e, "mallory", 2)
	room := w.register(codec.Register{})
	var b []byte
	for req := range uint32(15) {
		b = enc(stat(req+1, room).Append(b))
	}
	w.write(b)
	refused := 0
	for range 15 {
		switch m := w.any().(type) {
		case *codec.Refused:
			if refused++; m.Code != codec.CodeRateLimited || m.Req == 0 {
				t.Fatalf("refused %+v", m)
			}
		case *codec.Info:
		default:
			t.Fatalf("got %+v", m)
		}
	}
	if refused == 0 || refused > 7 {
		t.Errorf("%d of 15 requests were refused", refused)
	}
	other.ask(stat(1, room))
	b = nil
	for i := range uint64(25) { // more than two seconds' worth
		b = enc((&codec.Ping{Echo: i}).Append(b))
	}
	w.write(b)
	for i := range uint64(25) {
		if m := next[*codec.Pong](w); m.Echo != i {
			t.Fatalf("pong %d instead of %d", m.Echo, i)
		}
	}
	if n := metric(t, e, `timedge_limited_total{limit="control"}`); n == 0 {
		t.Error("the metric does not show it")
	}
	if n := e.HeldSessions(); n != 0 {
		t.Errorf("%d sessions are held still", n)
	}
}

// askDeaf sends so many pings and reads no answer, until the session is held.
func askDeaf(t *testing.T, e *engine.Engine, n int) *wire {
	w := narrow(t, e, "mallory", 1)
	var b []byte
	for i := range uint64(n) {
		b = enc((&codec.Ping{Echo: i}).Append(b))
	}
	go func() { _, _ = w.c.Write(b) }()
	for deadline := time.Now().Add(patience); e.HeldSessions() == 0; time.Sleep(time.Millisecond) { // between two looks
		if time.Now().After(deadline) {
			t.Fatal("nobody is held")
		}
	}
	return w
}

// Who does not read what it is answered is not read either, so that its answers do not pile up; it gets all of them,
// in order, once it reads.
func TestAnswersThatNobodyReads(t *testing.T) {
	t.Parallel()
	e := start(t, quiet, func(c *engine.Config) { c.Limits.Requests = -1 })
	const n = 200_000
	w := askDeaf(t, e, n)
	if held := e.Held(); held > 4<<20 { // a read, a turn's answers, and what they cost
		t.Errorf("%d bytes are held", held)
	}
	if n := metric(t, e, `timedge_limited_total{limit="answers"}`); n == 0 {
		t.Error("the metric does not show it")
	}
	for i := range uint64(n) {
		if m := next[*codec.Pong](w); m.Echo != i {
			t.Fatalf("pong %d instead of %d", m.Echo, i)
		}
	}
	if n := e.HeldSessions(); n != 0 {
		t.Errorf("%d sessions are held still", n)
	}
}

// Who never reads its answers is as good as silent.
func TestWhoNeverReadsItsAnswersIsClosed(t *testing.T) {
	t.Parallel()
	e := start(t, quiet, func(c *engine.Config) { c.Limits.Requests = -1 })
	askDeaf(t, e, 200_000)
	silent := func() float64 { return metric(t, e, `timedge_closed_total{code="silent"}`) }
	for deadline := time.Now().Add(patience); silent() == 0; time.Sleep(time.Millisecond) { // its socket may take a bit more
		if time.Now().After(deadline) {
			t.Fatal("nobody is closed")
		}
		for loop := range 2 {
			e.LookForSilence(loop, 10)
		}
	}
	e.AwaitSessions(t, 0)
}

// Of who asks for far more than it may no more is refused in a tick than a little: what it has sent beyond that waits in
// its socket, and is answered when its rate allows it, all of it and in order. Others do not notice.
func TestHastyClientIsHeld(t *testing.T) {
	const rate, n = 2000, 8000
	e := start(t, quiet, func(c *engine.Config) { c.Limits.Requests = rate })
	w := login(t, e, "mallory", 1)
	room := w.register(codec.Register{})
	var b []byte
	for req := range uint32(n) {
		b = enc(stat(req+1, room).Append(b))
	}
	begin := time.Now()
	go w.write(b)
	refused := 0
	for req := uint32(1); req <= n; req++ {
		switch m := w.any().(type) {
		case *codec.Refused:
			if refused++; m.Code != codec.CodeRateLimited || m.Req != req {
				t.Fatalf("request %d: %+v", req, m)
			}
		case *codec.Info:
			if m.Req != req {
				t.Fatalf("request %d: %+v", req, m)
			}
		default:
			t.Fatalf("request %d: %+v", req, m)
		}
	}
	ticks := int(time.Since(begin)/(25*time.Millisecond)) + 2
	if most := engine.RefusedPerTick * ticks; refused == 0 || refused > most {
		t.Errorf("%d requests were refused in %d ticks at most, bound %d", refused, ticks, most)
	}
	if n := e.HeldSessions(); n != 0 {
		t.Errorf("%d sessions are held still", n)
	}
}

// Frames that are refused cost what control frames do, for no window holds them back.
func TestTooManyRefusedFrames(t *testing.T) {
	e := start(t, func(c *engine.Config) { c.Limits.Requests = 10 })
	w := login(t, e, "mallory", 1)
	var b []byte
	for i := range 1000 {
		b = append(b, burst(codec.RoomID(i+1), 1, 1, 1, 0)...)
	}
	_, _ = w.c.Write(b)
	if m := next[*codec.Error](w); m.Code != codec.CodeRateLimited {
		t.Errorf("closed with %v", m.Code)
	}
}

// Who goes on talking behind the server's last word is broken off; a little is passed over, so that the word arrives.
func TestTalkingOnAfterTheLastWord(t *testing.T) {
	e := start(t, func(c *engine.Config) { c.Rooms.Window = 64 << 10 })
	before := descriptors(t)
	w := login(t, e, "mallory", 1)
	w.write(raw(0x7f))
	if m := next[*codec.Error](w); m.Code != codec.CodeUnknownType {
		t.Fatalf("closed with %v", m.Code)
	}
	b := make([]byte, 16<<10)
	sent, err := 0, error(nil)
	for ; err == nil; sent += len(b) {
		_, err = w.c.Write(b)
	}
	if sent > 32<<20 { // two windows, and what sockets hold
		t.Errorf("%d bytes were taken behind the last word", sent)
	}
	flat(t, e, before+1) // this side's own
}

func TestAddressThatConnectsTooOften(t *testing.T) {
	e := start(t, func(c *engine.Config) {
		c.Limits = engine.Limits{ConnRate: 1, ConnBurst: 3, ConnExempt: []netip.Prefix{}}
	})
	for range 3 {
		login(t, e, "alice", 1)
	}
	for range 20 { // one may get in when a second is over
		w := dial(t, e)
		w.preface()
		_ = w.c.(interface{ CloseWrite() error }).CloseWrite()
		if m, ok := w.any().(*codec.Error); ok && m.Code == codec.CodeTooManyConns && strings.Contains(m.Text, "address") {
			if metric(t, e, `timedge_turned_away_total{reason="address"}`) == 0 {
				t.Error("it is not counted")
			}
			return
		}
	}
	t.Error("no connection was turned away")
}
