package engine

import (
	"testing"
	"time"

	"github.com/timedge/timedge/internal/clock"
)

// steadyClock tells the time that a test sets.
type steadyClock struct {
	clock.Clock
	now int64
}

func (c *steadyClock) Now() int64 { return c.now }

// Where more memory is in use than the runtime's limit loops give no turns until it was collected; what is in use after
// that all the same lowers the bound on what clients may make the process hold, by half at most.
func TestLoopsWaitForTheCollector(t *testing.T) {
	const bound, limit = 64 << 20, 96 << 20
	for _, c := range []struct {
		name          string
		before, after int64 // bytes in use, before and after a collection
		collects      bool
		want          int64 // the bound afterwards
	}{
		{"enough", limit, 0, false, bound},
		{"garbage", limit + 50<<20, limit / 2, true, bound},
		{"more than is counted", limit + 50<<20, limit + 10<<20, true, bound - 10<<20},
		{"far more", 10 * limit, 9 * limit, true, bound / 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			clk := &steadyClock{now: int64(time.Hour)}
			e := &Engine{cfg: Config{Clock: clk, MemoryBound: bound}}
			e.lives.Store(&e.cfg)
			used, turns := c.before, false // turns were given meanwhile
			collects, goOn := make(chan struct{}, 1), make(chan struct{})
			e.collector.use = func() (int64, int64) { return used, limit }
			e.collector.begin = func() {
				collects <- struct{}{}
				turns = e.behind.Load() == 0
				<-goOn
				used = c.after
			}
			e.watchMemory()
			if got := e.collector.going.Load(); got != c.collects {
				t.Fatalf("collecting: %v", got)
			}
			if !c.collects {
				return
			}
			<-collects
			e.watchMemory() // the one that is going on is enough
			close(goOn)
			e.collector.done.Wait()
			if turns || e.behind.Load() != 0 {
				t.Errorf("turns while it was collected: %v; afterwards %d are behind", turns, e.behind.Load())
			}
			if got := e.memoryBound(); got != c.want {
				t.Errorf("the bound is %d, want %d", got, c.want)
			}
			used = 10 * limit
			e.watchMemory()
			if e.collector.going.Load() {
				t.Fatal("another collection right after the first")
			}
			clk.now += int64(collectRest)
			used = 0
			e.watchMemory()
			if got := e.memoryBound(); got != bound {
				t.Errorf("the bound is %d although little is in use", got)
			}
		})
	}
}

// What is in use counts as such.
func TestMemoryInUse(t *testing.T) {
	block := make([]byte, 64<<20)
	used, limit := memoryInUse()
	if used < int64(len(block)) {
		t.Errorf("%d bytes are in use, with a block of %d", used, len(block))
	}
	if limit <= 0 {
		t.Errorf("limit %d", limit)
	}
	clear(block)
}
