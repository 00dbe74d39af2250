package engine_test

import (
	"fmt"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

// gathered returns a server's metrics by their series: name{label="value"}.
func gathered(t testing.TB, e *engine.Engine) map[string]*dto.Metric {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(e)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*dto.Metric{}
	for _, f := range families {
		for _, m := range f.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			all[f.GetName()+"{"+strings.Join(labels, ",")+"}"] = m
		}
	}
	return all
}

// Requests are counted by kind and outcome, once each, however they are answered.
func TestRequestOutcomes(t *testing.T) {
	e := start(t)
	alice, bob := login(t, e, "alice", 1), login(t, e, "bob", 2)
	room := alice.register(codec.Register{})
	other := room + 1
	alice.publish(room)
	bob.subscribe(room)
	for _, m := range []codec.Control{
		grant(10, room, "bob"), grant(11, other, "bob"), revoke(12, room, "bob"), stat(13, room), stat(14, other),
		unpublish(15, room), unpublish(16, room), &codec.Subscribe{Req: 17, Room: other}, &codec.Publish{Req: 18, Room: other},
		&codec.Register{Req: 19, MaxSubs: 1 << 40}, remove(20, other),
	} {
		alice.ask(m)
	}
	for _, m := range []codec.Control{
		grant(10, room, "carol"), &codec.Subscribe{Req: 11, Room: room}, unsubscribe(12, room), unsubscribe(13, room), remove(14, room), &codec.Publish{Req: 15, Room: room},
	} {
		bob.ask(m)
	}
	okayed(t, alice.ask(remove(21, room)), 21)
	want := map[string]float64{
		"register ok": 1, "register refused": 1, "remove ok": 1, "remove refused": 2, "grant ok": 1, "grant refused": 2, "revoke ok": 1, "revoke refused": 0,
		"publish ok": 1, "publish refused": 2, "unpublish ok": 1, "unpublish refused": 1, "subscribe ok": 1, "subscribe refused": 2,
		"unsubscribe ok": 1, "unsubscribe refused": 1, "stat ok": 1, "stat refused": 1, "inbox ok": 0, "inbox refused": 0, "token ok": 0, "token refused": 0,
	}
	got := map[string]float64{}
	for series, m := range gathered(t, e) {
		if labels, is := strings.CutPrefix(series, "timedge_requests_total"); is {
			var kind, outcome string
			if _, err := fmt.Sscanf(labels, "{kind=%q,outcome=%q}", &kind, &outcome); err != nil {
				t.Fatal(series, err)
			}
			got[kind+" "+outcome] = m.Counter.GetValue()
		}
	}
	if !maps.Equal(got, want) {
		for k := range want {
			if got[k] != want[k] {
				t.Errorf("%s: %v, want %v", k, got[k], want[k])
			}
		}
		t.Errorf("%d kinds, want %d", len(got), len(want))
	}
}

// What frames take on their way is observed, in sockets and in queues, and nothing else is.
func TestFanOutTimes(t *testing.T) {
	e := start(t)
	w := login(t, e, "alice", 1)
	one, two := w.register(calm), w.register(calm)
	src := newSource(w, one)
	straight, queued := login(t, e, "bob", 2), login(t, e, "carol", 3)
	straight.subscribe(one)
	queued.subscribe(one) // who is in two rooms gets both by its queue
	queued.subscribe(two)
	times := func(name string) *dto.Histogram {
		return gathered(t, e)["timedge_"+name+"_duration_seconds{}"].Histogram
	}
	before := times("fanout").GetSampleCount()
	if before != 0 {
		t.Errorf("%d observations, and nothing was pushed", before)
	}
	began := time.Now()
	const frames = 400
	for range frames {
		src.push(1, codec.FlagKey, []byte("x"))
		for _, r := range []*wire{straight, queued} {
			for {
				if _, is := r.any().(*codec.Stream); is {
					break
				}
			}
		}
	}
	took := time.Since(began)
	for _, name := range []string{"fanout", "queue"} {
		h := times(name)
		if n := h.GetSampleCount(); n == 0 || n > 4*frames {
			t.Errorf("%s: %d observations of %d frames", name, n, frames)
		}
		if most := took.Seconds() * float64(h.GetSampleCount()); h.GetSampleSum() < 0 || h.GetSampleSum() > most {
			t.Errorf("%s: %v s in all", name, h.GetSampleSum())
		}
	}
}

// TestSeriesDoNotGrow: whatever clients do, no label has a value that they choose, and there are no more series
// afterwards than names that this program knows.
func TestSeriesDoNotGrow(t *testing.T) {
	e := start(t, func(c *engine.Config) { c.MaxSubsPer, c.MaxPubsPer = 3, 3 })
	before := gathered(t, e)
	codes := slices.Collect(maps.Values(codec.Codes()))
	known := func(series string) bool {
		if before[series] != nil {
			return true
		}
		for _, name := range []string{"timedge_refused_total", "timedge_closed_total"} { // counted from the first on
			for _, code := range codes {
				if series == fmt.Sprintf("%s{code=%q}", name, code) {
					return true
				}
			}
		}
		return false
	}
	for i := range 20 {
		w := login(t, e, fmt.Sprintf("account-%d", i), uint64(i+1))
		for range 5 {
			room := w.register(codec.Register{Policy: codec.Policy(i % 4)})
			src := newSource(w, w.register(codec.Register{}))
			src.push(uint8(i*7), 0, fmt.Appendf(nil, "payload %d", i))
			w.ask(&codec.Subscribe{Req: 100, Room: room})
			w.ask(grant(101, room, fmt.Sprintf("friend-%d", i)))
			w.ask(remove(102, room+codec.RoomID(i)+1))
			if len(src.seq) > 2 {
				break
			}
			okayed(t, w.ask(unpublish(103, src.room)), 103)
			w.ask(unsubscribe(104, room))
		}
		if i%2 == 0 {
			w.write([]byte{0, 1, byte(i)}) // no frame that there is: closed for it
			for w.any() != nil {
			}
		}
		bad := dial(t, e)
		bad.write(fmt.Appendf(nil, "GET /%d HTTP/1.1\r\n\r\n", i))
	}
	after := gathered(t, e)
	for series := range after {
		if !known(series) {
			t.Errorf("%s is new", series)
		}
		for _, word := range []string{"account-", "friend-", "127.0.0.1"} {
			if strings.Contains(series, word) {
				t.Errorf("%s names what a client has chosen", series)
			}
		}
	}
	for series := range before {
		if after[series] == nil {
			t.Errorf("%s has gone", series)
		}
	}
}

// Who scrapes text gets buckets, who speaks protobuf native ones.
func TestMetricsPage(t *testing.T) {
	e := start(t)
	for accept, want := range map[string]string{
		"": `timedge_fanout_duration_seconds_bucket{le="0.015625"} 0`,
		"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited": "timedge_fanout_duration_seconds",
	} {
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.Header.Set("Accept", accept)
		w := httptest.NewRecorder()
		if e.Handler().ServeHTTP(w, r); w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%q: %d without %s", accept, w.Code, want)
		}
	}
}
