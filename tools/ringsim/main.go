// Command ringsim places many rooms on a large cluster and prints how evenly they lie, how many move when a node leaves
// or joins, and what it costs. It needs no network and prints the same placement in each run; only the times differ.
package main

import (
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/timedge/timedge/ring"
)

func main() {
	nodes := flag.Int("nodes", 1000, "nodes in the cluster, from 2 to 65534")
	rooms := flag.Int("rooms", 1_000_000, "rooms to place, at least 1")
	seed := flag.Uint64("seed", 1, "seed of the room numbers")
	flag.Parse()
	if flag.NArg() > 0 || *nodes < 2 || *nodes > 65534 || *rooms < 1 {
		flag.Usage()
		os.Exit(2)
	}
	simulate(os.Stdout, *nodes, *rooms, *seed)
}

// depth is the chain that a room has by default: a relay and three standbys.
const depth = 4

// simulate prints the three tables to w.
func simulate(w io.Writer, nodes, rooms int, seed uint64) {
	members := make([]ring.Member, nodes)
	index := make(map[string]int, nodes)
	for i := range members {
		members[i].Name = fmt.Sprintf("node-%04d", i)
		index[members[i].Name] = i
	}
	source := rand.New(rand.NewPCG(seed, 0))
	numbers := make([]uint64, rooms)
	for i := range numbers {
		numbers[i] = source.Uint64()
	}
	fmt.Fprintf(w, "%d nodes, %d rooms, %d partitions, chains of %d\n", nodes, rooms, ring.Partitions, min(depth, nodes))

	start := time.Now()
	r := ring.New(members)
	costNew := time.Since(start)
	chains, costFirst := place(r, numbers)
	_, costAgain := place(r, numbers)

	fmt.Fprintf(w, "\nbalance: rooms per node\n  %-12s %10s %10s %10s %10s %12s\n",
		"place", "mean", "least", "most", "deviation", "chance alone")
	for k, place := range []string{"relay", "2nd", "3rd", "4th"}[:min(depth, nodes)] {
		printBalance(w, place, chains, k, index)
	}

	fmt.Fprintf(w, "\nmovement: rooms whose relay changes\n  %-22s %10s %10s %12s %14s\n", "", "moved", "fair", "needlessly", "as foreseen")
	lost := members[nodes/2]
	without, _ := place(ring.New(slices.Delete(slices.Clone(members), nodes/2, nodes/2+1)), numbers)
	m := compare(chains, without, lost.Name, "")
	m.print(w, "one node is lost", rooms, float64(rooms)/float64(nodes))
	drained := slices.Clone(members)
	drained[nodes/2].Draining = true
	draining, _ := place(ring.New(drained), numbers)
	m = compare(chains, draining, lost.Name, "")
	m.print(w, "one node drains", rooms, float64(rooms)/float64(nodes))
	const newcomer = "newcomer"
	with, _ := place(ring.New(append(slices.Clone(members), ring.Member{Name: newcomer})), numbers)
	m = compare(chains, with, "", newcomer)
	m.print(w, "one node joins", rooms, float64(rooms)/float64(nodes+1))

	const draws = 1000
	start = time.Now()
	for i := range draws {
		r.Draw(source.Uint64, members[i%nodes].Name)
	}
	costDraw := time.Since(start) / draws
	fmt.Fprintf(w, "\ncost\n  %-34s %12v\n  %-34s %12v\n  %-34s %12v\n  %-34s %12v\n",
		"ring of a membership", costNew.Round(time.Microsecond),
		"chain, ranked as rooms come", perRoom(costFirst, rooms),
		"chain, remembered", perRoom(costAgain, rooms),
		"room number for a given relay", costDraw.Round(10*time.Nanosecond))
}

func perRoom(d time.Duration, rooms int) time.Duration { return d / time.Duration(rooms) }

// place returns the chains of all rooms, and the time for computing them without keeping them.
func place(r *ring.Ring, rooms []uint64) ([][]ring.Member, time.Duration) {
	var scratch [depth]ring.Member
	start := time.Now()
	for _, room := range rooms {
		r.AppendChain(scratch[:0], room, depth)
	}
	cost := time.Since(start)
	chains := make([][]ring.Member, len(rooms))
	for i, room := range rooms {
		chains[i] = r.Chain(room, depth)
	}
	return chains, cost
}

// printBalance prints how many rooms have a node in place k of their chain: the mean, the least and the most loaded
// node, the standard deviation, and the one that perfectly random placement would have.
func printBalance(w io.Writer, name string, chains [][]ring.Member, k int, index map[string]int) {
	count := make([]float64, len(index))
	for _, chain := range chains {
		count[index[chain[k].Name]]++
	}
	n := float64(len(index))
	mean := float64(len(chains)) / n
	var sum float64
	for _, c := range count {
		sum += (c - mean) * (c - mean)
	}
	fmt.Fprintf(w, "  %-12s %10.1f %10.0f %10.0f %8.2f %% %10.2f %%\n", name, mean, slices.Min(count), slices.Max(count),
		100*math.Sqrt(sum/n)/mean, 100*math.Sqrt(mean*(1-1/n))/mean)
}

// movement says what became of the relays of all rooms.
type movement struct {
	moved      int
	needlessly int // neither from the node that left nor to the one that joined
	foreseen   int // to the second of the old chain, or from the second of the new one
}

func compare(before, after [][]ring.Member, left, joined string) (m movement) {
	for i, old := range before {
		from, to := old[0].Name, after[i][0].Name
		if from == to {
			continue
		}
		m.moved++
		if from != left && to != joined {
			m.needlessly++
		}
		if from == left && to == old[1].Name || to == joined && after[i][1].Name == from {
			m.foreseen++
		}
	}
	return m
}

func (m movement) print(w io.Writer, what string, rooms int, fair float64) {
	fmt.Fprintf(w, "  %-22s %10d %10.0f %12d %14d\n", what, m.moved, fair, m.needlessly, m.foreseen)
}
