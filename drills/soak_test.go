package drills

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
)

var (
	soak      = flag.Duration("soak", 6*time.Second, "how long the soak lasts")
	soakRooms = flag.Int("soakrooms", 16, "rooms of the soak")
	soakEvery = flag.Duration("soakevery", 2*time.Second, "between two bad days of the soak")
	soakSeed  = flag.Uint64("soakseed", 0, "of the soak's bad days; 0: another one each time")
	soakHeaps = flag.String("soakheaps", "", "a folder for profiles of the nodes' heaps, after the first bad day and after the last")
)

// kinds are what the rooms of a soak carry, in turn.
var kinds = []struct {
	policy codec.Policy
	every  time.Duration
	size   int
}{
	{0, 100 * time.Millisecond, 200},
	{0, 200 * time.Millisecond, 8000},
	{codec.PolicyLossless, 250 * time.Millisecond, 1000},
	{0, time.Second, 50},
}

// held is what a process holds, as its metrics say: bytes in all, of them those of logs for who joins late or resumes.
type held struct{ memory, logs, goroutines, descriptors float64 }

func (f *fleet) held(i int) held {
	return held{
		f.metric(i, "process_resident_memory_bytes"), f.metric(i, "timedge_cache_bytes"), f.metric(i, "go_goroutines"),
		f.metric(i, "process_open_fds"),
	}
}

// heaps keeps profiles of the nodes' heaps under a name, if the flag says so.
func (f *fleet) heaps(name string) {
	f.t.Helper()
	if *soakHeaps == "" {
		return
	}
	for i, n := range f.nodes {
		if err := f.profile(i, "heap?gc=1", filepath.Join(*soakHeaps, name+"-"+n.name+".pb.gz")); err != nil {
			f.t.Fatal(err)
		}
	}
}

// profile writes what node i, which knows operatorToken, says of itself under /debug/pprof/ to a file.
func (f *fleet) profile(i int, page, file string) error {
	n := f.nodes[i]
	req, err := http.NewRequestWithContext(f.t.Context(), "GET", "http://"+n.admin+"/debug/pprof/"+page, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+operatorToken)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s of %s: %s, %w", page, n.name, res.Status, err)
	}
	return os.WriteFile(file, b, 0o600)
}

const operatorToken = "the-operator-of-the-drills"

// operatorFile returns an argument for nodes that are to know operatorToken.
func operatorFile(t *testing.T) (flag, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(operatorToken), 0o600); err != nil {
		t.Fatal(err)
	}
	return "--admin-token-file", file
}

// Rooms of mixed kinds on three nodes, and a random bad day again and again, for as long as one likes: nothing is lost
// without a word, nothing comes twice, and what the processes hold does not grow.
func TestSoak(t *testing.T) {
	seed := *soakSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("-soakseed=%d", seed)
	flag, file := operatorFile(t)
	f := newFleet(t, 3, flag, file)
	var ss crowd
	for k := range *soakRooms {
		kind := kinds[k%len(kinds)]
		ss = append(ss, f.run(place{
			relay: k % 3, publisher: (k + k/3) % 3, subscribers: []int{(k + 1) % 3, (k + 2) % 3}, policy: kind.policy, size: kind.size,
		}, kind.every))
	}
	thaw := func(i int, after time.Duration) {
		f.signal(i, syscall.SIGSTOP)
		time.Sleep(after) // the pause is what is drilled
		f.signal(i, syscall.SIGCONT)
	}
	days := []struct {
		name string
		is   func(i int)
	}{
		{"killed", func(i int) { f.kill(i); f.start(i) }},
		{"restarted", func(i int) { f.stop(i); f.start(i) }},
		{"frozen for two seconds", func(i int) { thaw(i, 2*time.Second) }},
		{"paused for a moment", func(i int) { thaw(i, time.Duration(50+rng.IntN(230))*time.Millisecond) }},
		{"killed, and the next one", func(i int) { f.kill(i); f.start(i); f.await(3); f.kill((i + 1) % 3); f.start((i + 1) % 3) }},
	}
	var quiet []held // after each bad day, but for the first
	bad, begun := 0, time.Now()
	for next := begun; time.Since(begun) < *soak; next = next.Add(*soakEvery) {
		time.Sleep(time.Until(next))
		day, i := days[rng.IntN(len(days))], rng.IntN(3)
		day.is(i)
		f.await(3)
		ss.reach(2)
		var most held
		for n := range f.nodes {
			h := f.held(n)
			most = held{
				max(most.memory, h.memory), max(most.logs, h.logs), max(most.goroutines, h.goroutines), max(most.descriptors, h.descriptors),
			}
		}
		if bad++; bad == 1 {
			f.heaps("first")
		}
		if time.Since(begun) > filled {
			quiet = append(quiet, most)
		}
		t.Logf("%v: n%d %s; a node has %.0f MB, of which %.0f are logs, %.0f goroutines, %.0f descriptors at most",
			time.Since(begun).Round(time.Second), i+1, day.name, most.memory/1e6, most.logs/1e6, most.goroutines, most.descriptors)
	}
	f.heaps("last")
	var g figures
	for _, s := range ss {
		s.finish()
		g.add(s)
	}
	t.Logf("soak of %v, %d rooms, %d bad days: %v", time.Since(begun).Round(time.Second), len(ss), bad, &g)
	flat(t, quiet)
}

// filled is when the nodes hold what they are to hold: logs, which they keep for half a minute, and as much again until
// the collector comes.
const filled = 90 * time.Second

// flat compares the first third of a long soak with the last.
func flat(t *testing.T, hs []held) {
	third := len(hs) / 3
	if third < 5 {
		return
	}
	for _, of := range []struct {
		name  string
		slack float64
		get   func(held) float64
	}{
		{"bytes of memory", 32 << 20, func(h held) float64 { return h.memory }},
		{"goroutines", 50, func(h held) float64 { return h.goroutines }},
		{"descriptors", 50, func(h held) float64 { return h.descriptors }},
	} {
		median := func(hs []held) float64 {
			var xs []float64
			for _, h := range hs {
				xs = append(xs, of.get(h))
			}
			slices.Sort(xs)
			return xs[len(xs)/2]
		}
		first, last := median(hs[:third]), median(hs[len(hs)-third:])
		t.Logf("%s: %.0f in the first third, %.0f in the last", of.name, first, last)
		if last > 1.25*first+of.slack {
			t.Errorf("%s grow from %.0f to %.0f", of.name, first, last)
		}
	}
}
