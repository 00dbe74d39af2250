package ring

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

var sizes = []int{3, 10, 100, 1000}

// spread makes room numbers that look random out of 0, 1, 2 ...
const spread = 0x9e3779b97f4a7c15

func BenchmarkJump(b *testing.B) {
	room := uint64(1)
	for b.Loop() {
		partition(room)
		room += spread
	}
}

// BenchmarkChain is the cost of a chain once it is remembered: of one room, and of so many that they are in no
// processor cache.
func BenchmarkChain(b *testing.B) {
	for _, n := range sizes {
		for _, rooms := range []uint64{1, 1 << 16} {
			b.Run(fmt.Sprintf("nodes=%d/rooms=%d", n, rooms), func(b *testing.B) {
				r := New(members(n))
				dst := make([]Member, 0, cachedDepth)
				for i := range rooms {
					r.Relay((i + 1) * spread)
				}
				b.ReportAllocs()
				for i := uint64(0); b.Loop(); i++ {
					dst = r.AppendChain(dst[:0], (i%rooms+1)*spread, cachedDepth)
				}
			})
		}
	}
}

// BenchmarkRank is the cost of a partition that is asked for first.
func BenchmarkRank(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			r := New(members(n))
			var best [cachedDepth]ranked
			top := best[:min(n, cachedDepth)]
			b.ReportAllocs()
			for p := uint32(0); b.Loop(); p++ {
				r.rank(p, top)
			}
		})
	}
}

func BenchmarkDraw(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			r := New(members(n))
			random := rand.New(rand.NewPCG(1, 2)).Uint64
			b.ReportAllocs()
			for b.Loop() {
				r.Draw(random, "node-1")
			}
		})
	}
}

func BenchmarkNew(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			m := members(n)
			b.ReportAllocs()
			for b.Loop() {
				New(m)
			}
		})
	}
}
