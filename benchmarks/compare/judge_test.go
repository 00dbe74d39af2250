package main

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSignFlip(t *testing.T) {
	cases := []struct {
		name string
		d    []float64
		want float64
	}{
		{"none", nil, 1},
		{"no difference", []float64{0, 0, 0}, 1},
		{"all the same way", []float64{1, 1, 1, 1, 1, 1, 1, 1}, 2.0 / 256},
		{"all the other way", []float64{-1, -2, -3, -4, -5}, 2.0 / 32},
		{"one against", []float64{2, 2, 2, -1}, 4.0 / 16},
	}
	for _, c := range cases {
		if got := signFlip(c.d); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// rounds makes a figure whose machine drifts by half while it is measured, with noise of 5 % and head slower by factor.
func rounds(r *rand.Rand, n int, factor float64) *pair {
	f := &pair{}
	for i := range n {
		drift := 1 + 0.5*float64(i)/float64(n)
		f.base = append(f.base, 100*drift*math.Exp(0.05*r.NormFloat64()))
		f.head = append(f.head, 100*factor*drift*math.Exp(0.05*r.NormFloat64()))
	}
	return f
}

func TestJudgeFindsTwentyPercentUnderDrift(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	caught, alarms := 0, 0
	for range 200 {
		if judge(key{"x", "sec/op"}, rounds(r, 10, 1.2), 0.01, 8).worse {
			caught++
		}
		if judge(key{"x", "sec/op"}, rounds(r, 10, 1), 0.01, 8).worse {
			alarms++
		}
	}
	if caught < 195 || alarms > 1 {
		t.Errorf("caught %d of 200 slowdowns, %d false alarms", caught, alarms)
	}
}

func TestJudge(t *testing.T) {
	flat := func(v float64) []float64 { return []float64{v, v, v, v, v, v, v, v, v, v} }
	cases := []struct {
		name  string
		unit  string
		pair  pair
		worse bool
	}{
		{"slower", "sec/op", pair{flat(10), flat(12)}, true},
		{"slower within the bound", "sec/op", pair{flat(10), flat(10.5)}, false},
		{"faster", "sec/op", pair{flat(12), flat(10)}, false},
		{"allocations from nothing", "allocs/op", pair{flat(0), flat(1)}, true},
		{"no allocations", "allocs/op", pair{flat(0), flat(0)}, false},
		{"a rate is not judged", "deliveries/s", pair{flat(10), flat(5)}, false},
		{"too few rounds", "sec/op", pair{flat(10)[:3], flat(20)[:3]}, false},
	}
	for _, c := range cases {
		if v := judge(key{"x", c.unit}, &c.pair, 0.01, 8); v.worse != c.worse {
			t.Errorf("%s: %+v", c.name, v)
		}
	}
}

func TestFiguresComeFromBenchmarkLines(t *testing.T) {
	base, head := &side{name: "base"}, &side{name: "head"}
	c := &comparison{base: base, head: head, figures: make(map[key]*pair), round: make(map[key]*pair)}
	line := "BenchmarkLoad/scenario=fan-out 1 2e+06 deliveries/s 31.5 cpu-ns/delivery\nBenchmarkX-2 100 12 ns/op 0 B/op 1 allocs/op\n"
	for _, s := range []*side{base, head, head} {
		if err := c.add(s, line); err != nil {
			t.Fatal(err)
		}
	}
	for k := range judged {
		if k == "B/idle-subscriber" {
			continue
		}
		found := false
		for have, p := range c.round {
			if have.unit == k {
				found = len(p.base) == 1 && len(p.head) == 2
			}
		}
		if !found {
			t.Errorf("no figure with the judged unit %s among %v", k, c.round)
		}
	}
	c.closeRound()
	if f := c.figures[allLoads]; f == nil || len(f.base) != 1 || math.Abs(f.head[0]-31.5e-9) > 1e-15 {
		t.Errorf("all loads together: %+v", f)
	}
}

func TestPlantStillFits(t *testing.T) {
	overlay, err := plant(filepath.Join("..", ".."), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(filepath.Dir(overlay), "planted.go"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), "plantedBegin"); n != 3 {
		t.Errorf("planted %d times, want 3", n)
	}
}
