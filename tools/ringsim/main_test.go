package main

import (
	"strings"
	"testing"
)

// TestSimulate holds the figures of a small cluster that do not depend on the machine: all but the cost.
func TestSimulate(t *testing.T) {
	var out strings.Builder
	simulate(&out, 20, 10_000, 1)
	got, cost, ok := strings.Cut(out.String(), "\ncost\n")
	if !ok || strings.Count(cost, "\n") != 4 {
		t.Errorf("no table of costs in %q", out.String())
	}
	want := `20 nodes, 10000 rooms, 1048576 partitions, chains of 4

balance: rooms per node
  place              mean      least       most  deviation chance alone
  relay             500.0        429        550     5.10 %       4.36 %
  2nd               500.0        468        551     4.82 %       4.36 %
  3rd               500.0        449        542     4.49 %       4.36 %
  4th               500.0        460        541     3.88 %       4.36 %

movement: rooms whose relay changes
                              moved       fair   needlessly    as foreseen
  one node is lost              514        500            0            514
  one node drains               514        500            0            514
  one node joins                489        476            0            489
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
