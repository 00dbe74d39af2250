// Package ring computes where a room lives: from the members of a cluster to the room's chain (relay, second, third,
// ...).
//
// Start at [New], which makes a [Ring] of one membership, and at [Ring.AppendChain]. A room number goes by jump hash
// (Lamping & Veach 2014) to one of [Partitions] partitions, and each partition ranks the members by highest random
// weight (Thaler & Ravishankar 1998). So every node computes the same chain from the same members in any order,
// removing a member moves only the rooms that it led, each to the member that was second, and a member added to n
// others takes 1/(n+1) of the rooms, evenly from all.
//
// The package has no clock, does no I/O and starts no goroutine. A Ring never changes: another membership is another
// Ring. What it has ranked it remembers, in atomic words, so all its methods may be called from many goroutines at once
// and never block.
package ring

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
)

// A Member is a node that rooms may be placed on.
type Member struct {
	Name     string // unique in the cluster, the same for as long as the node runs
	Draining bool   // about to leave: in no chain, as if it had left already
}

// Ring is the placement of all rooms on one membership.
type Ring struct {
	members []Member // all, by name
	placed  []Member // those that do not drain, by name: the only ones in chains
	hashes  []uint64 // hash of placed[i].Name
	cache   cache
}

// maxPlaced is how many members may be in chains: the cache keeps them as 16-bit numbers, zero being none.
const maxPlaced = math.MaxUint16

// New returns the ring of members, in whatever order they come; it keeps no reference to the slice. A name given twice
// counts once, as draining if either says so. More than 65,535 members that do not drain are a broken invariant: New
// panics.
//
// A ring takes 128 KiB, and up to 8 MiB as the partitions of more and more rooms are asked for.
func New(members []Member) *Ring {
	r := &Ring{members: slices.Clone(members)}
	slices.SortFunc(r.members, func(a, b Member) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 || a.Draining == b.Draining {
			return c
		}
		if a.Draining {
			return -1
		}
		return 1
	})
	r.members = slices.CompactFunc(r.members, func(a, b Member) bool { return a.Name == b.Name })
	for _, m := range r.members {
		if !m.Draining {
			r.placed = append(r.placed, m)
			r.hashes = append(r.hashes, nameHash(m.Name))
		}
	}
	if len(r.placed) > maxPlaced {
		panic(fmt.Sprintf("ring: %d members, at most %d are possible", len(r.placed), maxPlaced))
	}
	return r
}

// Members returns all members by name, draining ones too. The caller must not change the slice.
func (r *Ring) Members() []Member { return r.members }

// Relay returns the member that leads room, and false if there is none because all drain or there are no members.
func (r *Ring) Relay(room uint64) (Member, bool) {
	if len(r.placed) == 0 {
		return Member{}, false
	}
	return r.placed[r.top(partition(room))&0xffff-1], true
}

// Chain returns the first n members in line for room, its relay first. There are fewer if fewer members do not drain.
func (r *Ring) Chain(room uint64, n int) []Member {
	return r.AppendChain(make([]Member, 0, max(0, min(n, len(r.placed)))), room, n)
}

// AppendChain appends to dst what [Ring.Chain] returns. It allocates nothing if dst has the room, n is at most 4 (a
// relay and three standbys) and the ring was asked for the partition before; a longer chain is ranked anew each time.
func (r *Ring) AppendChain(dst []Member, room uint64, n int) []Member {
	n = min(n, len(r.placed))
	if n <= 0 {
		return dst
	}
	p := partition(room)
	if n <= cachedDepth {
		for word := r.top(p); n > 0; n-- {
			dst = append(dst, r.placed[word&0xffff-1])
			word >>= 16
		}
		return dst
	}
	best := make([]ranked, n)
	r.rank(p, best)
	for _, b := range best {
		dst = append(dst, r.placed[b.member])
	}
	return dst
}

// drawsPerMember bounds Draw: a member that leads its share of the partitions needs more than this often with a chance
// of e^-64.
const drawsPerMember = 64

// Draw takes room numbers from random until it finds one whose relay is self. It takes as many as there are members on
// average, compares a few weights for each, remembers none of the rankings, and never returns zero. It returns false if
// self is not in chains (unknown or draining), or if random is not random at all.
func (r *Ring) Draw(random func() uint64, self string) (room uint64, ok bool) {
	me, ok := slices.BinarySearchFunc(r.placed, self, func(m Member, name string) int { return cmp.Compare(m.Name, name) })
	if !ok {
		return 0, false
	}
	for range drawsPerMember * len(r.placed) {
		room = random()
		if room != 0 && r.leads(partition(room), me) {
			return room, true
		}
	}
	return 0, false
}
