package engine

import (
	"testing"

	"github.com/timedge/timedge/codec"
)

// TestFlutter holds that what a client that comes and goes makes its loop do grows with what it sends, and no faster:
// requests that wait for the one before them are not handled again and again meanwhile.
func TestFlutter(t *testing.T) {
	x := newStepsBench(t)
	r := x.register(codec.PolicyLive)
	work := func(pairs int) (items int) {
		var b []byte
		for range pairs {
			x.req += 2
			u := &codec.Unsubscribe{}
			u.Req, u.Room = x.req, r.ID
			for _, m := range []codec.Control{&codec.Subscribe{Req: x.req + 1, Room: r.ID}, u} {
				var err error
				if b, err = m.Append(b); err != nil {
					t.Fatal(err)
				}
			}
		}
		x.l.onLoop(func() {
			was := x.l.eng.requests[askUnsubscribe][outcomeOK].Load()
			if err := x.s.feed(b); err != nil {
				t.Error(err)
			}
			for x.l.used = 0; x.s.paused; x.l.used = 0 {
				more := x.l.box.take(nil)
				items += len(more)
				for i := range more {
					x.l.handle(&more[i])
				}
				x.l.takeTurns()
			}
			for more := x.l.box.take(nil); len(more) > 0; more = x.l.box.take(nil) {
				items += len(more)
				for i := range more {
					x.l.handle(&more[i])
				}
			}
			x.l.settle()
			if n := x.l.eng.requests[askUnsubscribe][outcomeOK].Load() - was; n != uint64(pairs) {
				t.Errorf("%d of %d pairs of requests were done", n, pairs)
			}
		})
		return items
	}
	for _, pairs := range []int{1, 200} {
		if n := work(pairs); n > 8*pairs {
			t.Errorf("%d pairs of requests made %d items for the loop, at most %d are allowed", pairs, n, 8*pairs)
		}
	}
}
