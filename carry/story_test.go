package carry_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/timedge/timedge/internal/world"
)

// TestStories plays the days of testdata/stories: faults that seeds have found, shrunk, and mended since, or not yet.
// Read the files. Their form is that of a day that -shrink prints; what follows ---- is "holds", or "fails" and the
// invariant. After a change that is meant, go test -run Stories -rewrite ./carry writes that anew.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata/stories", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			day := &world.Day{}
			for _, a := range d.CmdArgs {
				var err error
				switch a.Key {
				case "seed":
					day.Seed, err = strconv.ParseUint(a.Vals[0], 10, 64)
				case "length":
					day.Length, err = time.ParseDuration(a.Vals[0])
				default:
					err = fmt.Errorf("unknown argument %q", a.Key)
				}
				if err != nil {
					d.Fatalf(t, "%v", err)
				}
			}
			for line := range strings.Lines(d.Input) {
				a, err := world.ParseAction(line)
				if err != nil {
					d.Fatalf(t, "%q: %v", line, err)
				}
				day.Actions = append(day.Actions, a)
			}
			res := day.Play(true)
			if res.Fault == nil {
				return "holds\n"
			}
			t.Logf("%v\n%s", res.Fault, strings.Join(res.Story, "\n"))
			return "fails " + res.Fault.Invariant + "\n"
		})
	})
}
