package heap

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
)

// A heap that is full is held in large pages afterwards, what is in it is as it was, and the process holds no more.
func TestGatherer(t *testing.T) {
	const size = 96 << 20
	var all [][]byte
	for n := 0; n < size; n += 64 << 10 {
		all = append(all, bytes.Repeat([]byte{byte(n >> 16)}, 64<<10))
	}
	before, large := resident(t)
	g, full := new(Gatherer), 0
	for g.Step(1); len(g.spans) > 0 && !g.given; {
		full += g.Step(4)
	}
	if full == 0 {
		t.Skip("this system does not do it")
	}
	after, more := resident(t)
	t.Logf("%d MiB are in memory, %d before; %d MiB in large pages, %d before", after>>20, before>>20, more>>20, large>>20)
	if more < size/2 {
		t.Errorf("%d MiB of the heap are in large pages, of %d", more>>20, size>>20)
	}
	if after > before+16<<20 {
		t.Errorf("%d MiB are in memory, and before it were %d", after>>20, before>>20)
	}
	for i, b := range all {
		if b[0] != byte(i) || b[len(b)-1] != byte(i) {
			t.Fatalf("block %d is not what it was", i)
		}
	}
	runtime.KeepAlive(all)
	if g.Step(1000); len(g.spans) > 0 {
		t.Error("another round for a heap that has not grown")
	}
}

// resident returns how many bytes this process has in memory, and of these in large pages.
func resident(t *testing.T) (all, large int) {
	b, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		t.Skip(err)
	}
	for line := range bytes.Lines(b) {
		_, _ = fmt.Sscanf(string(line), "Rss: %d kB", &all)
		_, _ = fmt.Sscanf(string(line), "AnonHugePages: %d kB", &large)
	}
	return all << 10, large << 10
}

func TestSpans(t *testing.T) {
	const maps = `00400000-01000000 r-xp 00000000 fe:00 1 /timedge
01000000-02000000 rw-p 00000000 fe:00 1 /timedge
c000000000-c000800000 rw-p 00000000 00:00 0
c000800000-c004000000 ---p 00000000 00:00 0
c004001000-c004800000 rw-p 00000000 00:00 0 [anon: Go: heap]
c008000000-c008100000 rw-p 00000000 00:00 0
`
	want := []span{{0xc000000000, 0xc000800000}, {0xc004200000, 0xc004800000}}
	if got := spansOf([]byte(maps)); !slices.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}
