package room

import (
	"sort"
	"sync"
)

// flight is what is on its way in a room with seats that is not lossless. Loops that take batches and seats that
// acknowledge meet here; its mutex is a leaf.
type flight struct {
	mu    sync.Mutex
	local uint64  // every loop has taken what is up to here
	seats uint64  // and every seat; with nobody seated it does not count
	empty bool    // nobody is seated
	list  []aloft // list[head:] is on its way, in order
	head  int
}

// aloft is a batch on its way.
type aloft struct {
	last uint64
	n    int   // bytes
	at   int64 // when it was posted
}

func (f *flight) add(a aloft) {
	f.mu.Lock()
	defer f.mu.Unlock()
	// Moving the rest down only when it is the smaller half costs less than one move for each batch in all.
	if f.head > 32 && f.head*2 > len(f.list) {
		f.list, f.head = f.list[:copy(f.list, f.list[f.head:])], 0
	}
	f.list = append(f.list, a)
}

// owed reports whether a batch that was posted before a moment ends behind seq.
func (f *flight) owed(seq uint64, before int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := f.list[f.head:]
	i := sort.Search(len(list), func(i int) bool { return list[i].last > seq })
	return i < len(list) && list[i].at < before
}

// taken says that every loop has taken the batch that ends with last.
func (f *flight) taken(s *stream, last uint64) {
	f.mu.Lock()
	f.local = max(f.local, last)
	last, bytes := f.land()
	f.mu.Unlock()
	s.landed(last, bytes)
}

// seatsAt says how far the n slowest seats are.
func (f *flight) seatsAt(s *stream, low uint64, n int) {
	f.mu.Lock()
	f.seats, f.empty = low, n == 0
	last, bytes := f.land()
	f.mu.Unlock()
	s.landed(last, bytes)
}

// land takes the batches that have arrived off the list, and returns where the last of them ends, 0 if there is none,
// and their bytes. A batch is acknowledged as a whole, as its bytes count. Mutex held.
func (f *flight) land() (last uint64, bytes int) {
	to := f.local
	if !f.empty {
		to = min(to, f.seats)
	}
	for ; f.head < len(f.list) && f.list[f.head].last <= to; f.head++ {
		last, bytes = f.list[f.head].last, bytes+f.list[f.head].n
	}
	if f.head == len(f.list) {
		f.list, f.head = f.list[:0], 0
		if cap(f.list) > 1024 {
			f.list = nil // a burst must not pin its size
		}
	}
	return last, bytes
}

// landed counts what land has returned.
func (s *stream) landed(last uint64, bytes int) {
	if last != 0 {
		s.rise(last)
		s.pub.arrived(bytes)
	}
}
