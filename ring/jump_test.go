package ring

import (
	"testing"

	"pgregory.net/rapid"
)

// TestJumpGolden holds jump to the published algorithm. The values are those that implementations in other languages
// test themselves with (Guava's HashingTest among them); the last rows come from the C++ code of the paper.
func TestJumpGolden(t *testing.T) {
	first20 := []int64{0, 55, 62, 8, 45, 59, 86, 97, 82, 59, 73, 37, 17, 56, 86, 21, 90, 37, 38, 83}
	for key, want := range first20 {
		if got := jump(uint64(key), 100); got != want {
			t.Errorf("jump(%d, 100) = %d, want %d", key, got, want)
		}
	}
	for _, c := range []struct {
		key     uint64
		buckets int64
		want    int64
	}{
		{10863919174838991, 11, 6},
		{2016238256797177309, 11, 3},
		{1673758223894951030, 11, 5},
		{2, 100001, 80343},
		{2201, 100001, 22152},
		{2202, 100001, 15018},
		{0xdeadbeef, 1, 0},
		{0xdeadbeef, 666, 285},
		{0xdeadbeef, Partitions, 479362},
		{1<<64 - 1, 666, 313},
		{1<<64 - 1, Partitions, 589430},
	} {
		if got := jump(c.key, c.buckets); got != c.want {
			t.Errorf("jump(%d, %d) = %d, want %d", c.key, c.buckets, got, c.want)
		}
	}
}

// TestJumpMonotone: with one bucket more, a key stays or goes to the new one.
func TestJumpMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.Uint64().Draw(t, "key")
		n := rapid.Int64Range(1, Partitions).Draw(t, "buckets")
		before, after := jump(key, n), jump(key, n+1)
		if before < 0 || before >= n {
			t.Fatalf("jump(%d, %d) = %d is out of range", key, n, before)
		}
		if after != before && after != n {
			t.Fatalf("key %d moved from %d to %d when bucket %d was added", key, before, after, n)
		}
	})
}
