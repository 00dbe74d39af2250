package ring

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// members returns n members, node-0 and so on.
func members(n int) []Member {
	m := make([]Member, n)
	for i := range m {
		m[i].Name = fmt.Sprintf("node-%d", i)
	}
	return m
}

func names(chain []Member) []string {
	s := make([]string, len(chain))
	for i, m := range chain {
		s[i] = m.Name
	}
	return s
}

// TestGoldenChains freezes the placement: nodes of two releases that disagree here disagree about where rooms live, so
// a change of any of these values needs a new version of the protocol between nodes. They come from a program of its
// own, in another language.
func TestGoldenChains(t *testing.T) {
	r := New(members(5))
	for room, want := range map[uint64][]string{
		1:                  {"node-1", "node-3", "node-0", "node-2", "node-4"},
		2:                  {"node-1", "node-2", "node-4", "node-0", "node-3"},
		0xdeadbeef:         {"node-4", "node-1", "node-0", "node-2", "node-3"},
		0x0123456789abcdef: {"node-2", "node-0", "node-3", "node-1", "node-4"},
		1<<64 - 1:          {"node-3", "node-4", "node-1", "node-0", "node-2"},
	} {
		if got := names(r.Chain(room, 5)); !slices.Equal(got, want) {
			t.Errorf("chain of room %#x: %q, want %q", room, got, want)
		}
	}
}

func TestChainLength(t *testing.T) {
	draining := members(6)
	draining[0].Draining, draining[4].Draining = true, true
	allDraining := []Member{{"a", true}, {"b", true}}
	for _, c := range []struct {
		name    string
		members []Member
		n       int
		want    int
	}{
		{"no members", nil, 4, 0},
		{"one member", members(1), 4, 1},
		{"none wanted", members(3), 0, 0},
		{"fewer than none wanted", members(3), -1, 0},
		{"fewer than there are", members(3), 2, 2},
		{"as many as are cached", members(9), cachedDepth, cachedDepth},
		{"more than are cached", members(9), cachedDepth + 1, cachedDepth + 1},
		{"more than there are", members(9), 100, 9},
		{"draining ones do not count", draining, 6, 4},
		{"all drain", allDraining, 2, 0},
		{"one name given twice", []Member{{"a", false}, {"b", false}, {"a", false}}, 3, 2},
		{"draining if either says so", []Member{{"a", false}, {"b", false}, {"a", true}}, 3, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := New(c.members)
			const room = 0x1234567890abcdef
			chain := r.Chain(room, c.n)
			if len(chain) != c.want {
				t.Fatalf("chain %q has %d members, want %d", names(chain), len(chain), c.want)
			}
			relay, ok := r.Relay(room)
			if wantOK := slices.ContainsFunc(r.Members(), func(m Member) bool { return !m.Draining }); ok != wantOK {
				t.Fatalf("Relay: %v, want %v", ok, wantOK)
			}
			if len(chain) > 0 && relay != chain[0] {
				t.Fatalf("relay %q does not lead the chain %q", relay.Name, names(chain))
			}
		})
	}
}

func TestAppendChainKeepsWhatIsThere(t *testing.T) {
	r := New(members(6))
	for _, n := range []int{2, 6} {
		got := r.AppendChain([]Member{{Name: "first"}}, 7, n)
		want := append([]Member{{Name: "first"}}, r.Chain(7, n)...)
		if !slices.Equal(got, want) {
			t.Errorf("n=%d: %q, want %q", n, names(got), names(want))
		}
	}
}

func TestNewKeepsNoReference(t *testing.T) {
	m := members(3)
	r := New(m)
	m[0].Name = "other"
	if got := names(r.Members()); !slices.Equal(got, []string{"node-0", "node-1", "node-2"}) {
		t.Errorf("members are %q after the caller's slice changed", got)
	}
}

func TestNewPanicsOnTooManyMembers(t *testing.T) {
	m := members(maxPlaced + 1)
	m[0].Draining = true
	r := New(m) // the last one fits
	room, ok := r.Draw(rand.New(rand.NewPCG(1, 1)).Uint64, "node-9")
	if relay, _ := r.Relay(room); !ok || relay.Name != "node-9" {
		t.Errorf("with %d members room %#x, drawn for node-9, is led by %q", maxPlaced, room, relay.Name)
	}
	defer func() {
		if recover() == nil {
			t.Errorf("New took %d members", maxPlaced+1)
		}
	}()
	m[0].Draining = false
	New(m)
}

// TestConcurrentChains asks a fresh ring from several goroutines at once, so that they make the same pages and rank the
// same partitions; the race detector and the comparison with a ring of one goroutine judge.
func TestConcurrentChains(t *testing.T) {
	shared, own := New(members(20)), New(members(20))
	const rooms = 2000
	want := make([]Member, rooms)
	for i := range want {
		want[i], _ = own.Relay(uint64(i))
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range want {
				if got, _ := shared.Relay(uint64(i)); got != want[i] {
					t.Errorf("relay of room %d is %q, want %q", i, got.Name, want[i].Name)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestDraw(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)).Uint64
	draining := members(10)
	draining[3].Draining = true
	for _, c := range []struct {
		name    string
		members []Member
		self    string
		random  func() uint64
		ok      bool
	}{
		{"alone", members(1), "node-0", random, true},
		{"one of ten", members(10), "node-7", random, true},
		{"beside a draining one", draining, "node-7", random, true},
		{"draining itself", draining, "node-3", random, false},
		{"not a member", members(10), "node-10", random, false},
		{"no members", nil, "node-0", random, false},
		{"only zeros drawn", members(1), "node-0", func() uint64 { return 0 }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := New(c.members)
			room, ok := r.Draw(c.random, c.self)
			if ok != c.ok {
				t.Fatalf("Draw: %v, want %v", ok, c.ok)
			}
			if !ok {
				return
			}
			if relay, _ := r.Relay(room); room == 0 || relay.Name != c.self {
				t.Fatalf("room %#x is led by %q", room, relay.Name)
			}
		})
	}
}

// TestDrawCount: as many numbers are drawn as there are members, on average.
func TestDrawCount(t *testing.T) {
	const n, rooms = 50, 1000
	r, source, drawn := New(members(n)), rand.New(rand.NewPCG(3, 4)), 0
	random := func() uint64 { drawn++; return source.Uint64() }
	for i := range rooms {
		if _, ok := r.Draw(random, fmt.Sprintf("node-%d", i%n)); !ok {
			t.Fatal("no room found")
		}
	}
	// The mean of 1,000 draws deviates by 3.2 %.
	if mean := float64(drawn) / rooms; mean < 0.9*n || mean > 1.1*n {
		t.Errorf("%.1f draws a room among %d members", mean, n)
	}
}

func TestAllocs(t *testing.T) {
	r := New(members(10))
	dst := make([]Member, 0, cachedDepth)
	random := rand.New(rand.NewPCG(5, 6)).Uint64
	r.Relay(42)
	for _, c := range []struct {
		name string
		f    func()
	}{
		{"AppendChain", func() { dst = r.AppendChain(dst[:0], 42, cachedDepth) }},
		{"Relay", func() { r.Relay(42) }},
		{"Draw", func() { r.Draw(random, "node-3") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			if n := testing.AllocsPerRun(100, c.f); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}
