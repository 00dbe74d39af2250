package engine

import (
	"testing"

	"github.com/timedge/timedge/codec"
)

// A path that has been slow and keeps up for a while is written to without more ado again, but for one in a latest
// room. What the kernel may hold unsent for it stays what its pace was.
func TestPaceRests(t *testing.T) {
	for name, always := range map[string]bool{"live": false, "latest": true} {
		t.Run(name, func(t *testing.T) {
			const bound = 10_000
			x := newStepsBench(t)
			x.l.onLoop(func() {
				l, s := x.l, x.s
				write := func() {
					s.queueControl(&codec.Pong{Echo: 1})
					s.flush()
				}
				if always {
					s.pacedFrom(bound)
				}
				s.setPace(bound)
				s.rare.pace.fullAt = l.now
				if write(); !s.paced() {
					t.Error("not paced though it has just been full")
				}
				l.now += int64(paceRest)
				if write(); s.paced() != always || s.unsent() != bound {
					t.Errorf("paced: %v, at most %d bytes unsent", s.paced(), s.unsent())
				}
			})
		})
	}
}
