package ring

import (
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// nameHash and weight belong to the protocol between nodes, as Partitions does.
func nameHash(name string) uint64 { return xxhash.Sum64String(name) }

// weight returns the random weight of a member in partition p: the number after next p times in the sequence of
// SplitMix64 that starts at the hash of its name (Steele, Lea & Flood, "Fast Splittable Pseudorandom Number
// Generators", 2014). A name is so hashed once per ring; hashing partition and name together for each pair is 3 times
// slower at 100 members (BenchmarkRank).
func weight(p uint32, name uint64) uint64 {
	x := name + (uint64(p)+1)*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// ranked is a place in a partition's ranking.
type ranked struct {
	weight uint64
	member uint16 // index in Ring.placed
}

// rank fills best with the first members of partition p, highest weight first. Of equal weights the lower name is
// first. There must be at least as many members.
func (r *Ring) rank(p uint32, best []ranked) {
	n := 0
	for i, name := range r.hashes {
		w := weight(p, name)
		if n < len(best) {
			n++
		} else if w <= best[n-1].weight {
			continue
		}
		at := n - 1
		for ; at > 0 && w > best[at-1].weight; at-- {
			best[at] = best[at-1]
		}
		best[at] = ranked{w, uint16(i)}
	}
}

// leads reports whether member me is first in partition p. It stops at the first member that is heavier.
func (r *Ring) leads(p uint32, me int) bool {
	mine := weight(p, r.hashes[me])
	for i, name := range r.hashes {
		if w := weight(p, name); w > mine || (w == mine && i < me) {
			return false
		}
	}
	return true
}

// cachedDepth is how much of a ranking fits in one word: a relay and three standbys.
const cachedDepth = 4

// cache holds the first cachedDepth places of each partition that was asked for. A page is made when the first of its
// partitions is asked for, so that the ring of a small node, or one that soon gives way to the next, stays small. Two
// goroutines may rank the same partition at once: both store the same word.
type cache [Partitions / pageLen]atomic.Pointer[page]

const pageLen = 64

// page is one word a partition: cachedDepth members as index+1 in 16 bits each, the first lowest; zero if not yet
// ranked.
type page [pageLen]atomic.Uint64

// top returns the word of partition p. There must be members.
func (r *Ring) top(p uint32) uint64 {
	slot := &r.cache[p/pageLen]
	pg := slot.Load()
	if pg == nil {
		pg = new(page)
		if !slot.CompareAndSwap(nil, pg) {
			pg = slot.Load()
		}
	}
	word := pg[p%pageLen].Load()
	if word != 0 {
		return word
	}
	var places [cachedDepth]ranked
	best := places[:min(cachedDepth, len(r.placed))]
	r.rank(p, best)
	for i, b := range best {
		word |= uint64(b.member+1) << (16 * i)
	}
	pg[p%pageLen].Store(word)
	return word
}
