package room

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Memory counts what a node holds in memory, and for which account, at its real cost: the buffers, and the structs, map
// and list entries beside them. While there is not enough for all, the accounts that hold most have to give up first:
// those above a level that Weigh finds. The zero value is ready to use, and knows no want. Any goroutine.
//
// What is held for several, as a batch in the queues of many subscribers, counts once, for who sent it.
type Memory struct {
	held   atomic.Int64
	cached atomic.Int64
	level  atomic.Int64 // of held; 0: nobody has to give up anything
	caches atomic.Int64 // likewise of cached

	mu     sync.Mutex
	shares map[string]*Share
}

// Share is what one account holds.
type Share struct {
	Account string
	mem     *Memory

	held    atomic.Int64
	cached  atomic.Int64 // of these, what the logs of rooms keep for late joiners and those who resume
	Conns   atomic.Int64 // connections of the account's sessions
	streams atomic.Int64
	pubs    atomic.Int64 // publishers, those that linger included

	used atomic.Bool // since the last Sweep

	mu     sync.Mutex
	pushes map[*Publisher]struct{} // publishers, which may have something cached
}

// Costs of what is not a buffer, in bytes: the struct and its entries in maps and lists. TestCosts measures them.
const (
	roomCost      = 560
	publisherCost = 704 // with its session's part of it
	streamCost    = 400
	grantCost     = 96 // beside the account's name
	seatCost      = 544
	placeCost     = 136
	clientCost    = 40

	// batchOverhead is what a batch costs beside its buffer: the struct, the buffer's, an entry in a log, in a mailbox and
	// in a list of what is on its way.
	batchOverhead = 384
	// segCost is an entry of a Queue.
	segCost  = int(unsafe.Sizeof(seg{}))
	viewCost = int(unsafe.Sizeof(view{})) + 48
)

// Share returns an account's share.
func (m *Memory) Share(account string) *Share {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.shares[account]
	if s == nil {
		s = &Share{Account: account, mem: m}
		if m.shares == nil {
			m.shares = make(map[string]*Share)
		}
		m.shares[account] = s
	}
	s.used.Store(true)
	return s
}

// Sweep forgets the shares of accounts that hold nothing. Call it every second or so: who asks for a share has until
// the next but one call to hold something.
func (m *Memory) Sweep() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for account, s := range m.shares {
		if !s.used.Swap(false) && s.held.Load() == 0 && s.Conns.Load() == 0 {
			delete(m.shares, account)
		}
	}
}

// Held returns the bytes that the node holds.
func (m *Memory) Held() int64 { return m.held.Load() }

// Cached returns the bytes that logs hold.
func (m *Memory) Cached() int64 { return m.cached.Load() }

// Hold counts n bytes more for the account, or fewer if n is negative. On a nil share it does nothing.
func (s *Share) Hold(n int) {
	if s != nil {
		s.held.Add(int64(n))
		s.mem.held.Add(int64(n))
	}
}

// Held returns the bytes that the account holds.
func (s *Share) Held() int64 { return s.held.Load() }

func (s *Share) cache(n int) {
	s.cached.Add(int64(n))
	s.mem.cached.Add(int64(n))
}

// Over reports whether the account holds more than there is for one: it gets nothing more, and has to give up
// something.
func (s *Share) Over() bool {
	level := s.mem.level.Load()
	return level != 0 && s.held.Load() > level
}

// overCaches is Over for caches.
func (s *Share) overCaches() bool {
	level := s.mem.caches.Load()
	return level != 0 && s.cached.Load() > level || s.Over()
}

// excess returns how many bytes of cache the account has to give up.
func (s *Share) excess() int64 {
	over := int64(0)
	if level := s.mem.caches.Load(); level != 0 {
		over = max(over, s.cached.Load()-level)
	}
	if level := s.mem.level.Load(); level != 0 {
		over = max(over, s.held.Load()-level)
	}
	return over
}

// Weigh compares what is held with bound, and what is cached with caches. Where there is more it sets the level: what
// each account may hold at most so that all together hold no more than the bound, each of those below what it has. It
// returns the accounts above a level, the largest first. One goroutine at a time.
func (m *Memory) Weigh(bound, caches int64) (over []*Share) {
	held := m.held.Load() > bound
	cached := m.cached.Load() > caches
	if !held && !cached {
		m.level.Store(0)
		m.caches.Store(0)
		return nil
	}
	m.mu.Lock()
	shares := make([]*Share, 0, len(m.shares))
	for _, s := range m.shares {
		shares = append(shares, s)
	}
	m.mu.Unlock()
	m.level.Store(0)
	if held {
		m.level.Store(level(shares, bound, m.held.Load(), (*Share).Held))
	}
	m.caches.Store(0)
	if cached {
		m.caches.Store(level(shares, caches, m.cached.Load(), func(s *Share) int64 { return s.cached.Load() }))
	}
	for _, s := range shares {
		if s.Over() || s.overCaches() {
			over = append(over, s)
		}
	}
	slices.SortFunc(over, func(a, b *Share) int { return cmp.Compare(b.Held(), a.Held()) })
	return over
}

// level returns the most that each share may be so that all are at most bound, with what belongs to nobody: the level
// to which the bound fills them up. It is at least a thousandth of the bound, so that an account that holds next to
// nothing is left alone.
func level(shares []*Share, bound, total int64, of func(*Share) int64) int64 {
	sizes := make([]int64, 0, len(shares))
	for _, s := range shares {
		n := of(s)
		total -= n
		sizes = append(sizes, n)
	}
	slices.Sort(sizes)
	left := bound - max(0, total)
	for i, n := range sizes {
		if each := left / int64(len(sizes)-i); n > each {
			return max(each, bound/1024)
		}
		left -= n
	}
	return math.MaxInt64
}
