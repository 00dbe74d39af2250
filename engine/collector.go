package engine

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"time"
)

// What clients make the process hold is counted when it is taken and when it is let go of. What was let go of is still
// the process's until Go's collector has found it; what pools keep, for two collections. The runtime's limit on memory
// (debug.SetMemoryLimit) has the collector run in time, but it is no bound: where garbage comes faster than it is found
// the process grows past it, and would do so with whatever clients do first and next.
//
// So whoever fills memory faster than it is collected waits for the collector. While more is in use than that limit, no
// loop gives turns, as while one is behind: who sends little goes on. What is in use after a collection all the same
// costs more than it is counted for, and makes the bound on what is held so much lower.

// collector looks at the memory that the process has in use. The ticker's, unless it says otherwise.
type collector struct {
	use    func() (used, limit int64) // bytes
	begin  func()                     // collects: it blocks until what was garbage is free
	done   sync.WaitGroup             // the collection that is going on
	going  atomic.Bool
	ended  atomic.Int64 // when the last one did
	excess atomic.Int64 // bytes in use beyond the limit after it; any goroutine
}

// collectRest is how long after a collection another may begin: meanwhile what it has shown can act.
const collectRest = 100 * time.Millisecond

// memoryInUse returns how many bytes the process has taken from the system for Go, those apart that are free, and how
// many it may take; the code and what belongs to no Go memory are in neither.
func memoryInUse() (used, limit int64) {
	samples := [...]metrics.Sample{
		{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(samples[:])
	return int64(samples[0].Value.Uint64() - samples[1].Value.Uint64() - samples[2].Value.Uint64()), debug.SetMemoryLimit(-1)
}

// collect frees what is garbage. The second collection also frees what pools had kept at the first, and gives back to
// the system what is free.
func collect() {
	runtime.GC()
	if used, limit := memoryInUse(); used > limit-limit/8 {
		debug.FreeOSMemory()
	}
}

// watchMemory has loops wait for the collector where more is in use than the limit.
func (e *Engine) watchMemory() {
	c := &e.collector
	if c.going.Load() || e.now()-c.ended.Load() < int64(collectRest) {
		return
	}
	if used, limit := c.use(); used <= limit {
		c.excess.Store(0)
		return
	}
	c.going.Store(true)
	e.behind.Add(1)
	c.done.Add(1)
	go func() {
		defer c.done.Done()
		e.try(inSweep, c.begin)
		used, limit := c.use()
		c.excess.Store(max(0, used-limit))
		c.ended.Store(e.now())
		c.going.Store(false)
		e.caughtUp(nil)
	}()
}

// memoryBound returns how much clients may make the process hold: MemoryBound, less what they have it use beyond what is
// counted, but half of it in any case.
func (e *Engine) memoryBound() int64 {
	bound := e.live().MemoryBound
	return max(bound-e.collector.excess.Load(), bound/2)
}
