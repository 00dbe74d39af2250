package main

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// seen is what a viewer noticed.
type seen struct {
	name  string
	nodes string // that it was connected to
	err   error  // why it ended before the stream did

	frames, lost, twice uint64
	before, after       time.Duration // the longest pause until the kill, and from then on
	identical           bool          // the bytes are those of the file
	pictures, faults    int
}

// whole reports whether the viewer has all of a video, once, and without a fault.
func (s *seen) whole(v *video) bool {
	return s.err == nil && s.frames > 0 && s.lost == 0 && s.twice == 0 && s.identical && s.pictures == v.pictures && s.faults == 0
}

// conclude prints the table, and returns an error if a viewer has less than everything.
func conclude(w io.Writer, before, after relay, v *video, all []seen) error {
	row := func(what string, cell func(s *seen) string) {
		fmt.Fprintf(w, "  %-36s", what)
		for i := range all {
			fmt.Fprintf(w, " %16s", cell(&all[i]))
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w)
	row("viewer", func(s *seen) string { return s.name })
	row("connected to", func(s *seen) string { return s.nodes })
	row("frames received", func(s *seen) string { return fmt.Sprint(s.frames) })
	row("frames lost", func(s *seen) string { return fmt.Sprint(s.lost) })
	row("frames twice", func(s *seen) string { return fmt.Sprint(s.twice) })
	row("longest pause before the kill", func(s *seen) string { return millis(s.before) })
	row("longest pause from the kill on", func(s *seen) string { return millis(s.after) })
	row("bytes are those that were pushed", func(s *seen) string {
		if s.identical {
			return "all"
		}
		return "NO"
	})
	row("pictures decoded", func(s *seen) string { return fmt.Sprintf("%d of %d", s.pictures, v.pictures) })
	row("faults found by the decoder", func(s *seen) string { return fmt.Sprint(s.faults) })
	fmt.Fprintf(w, "\n  before the kill %s relayed the room (epoch %d), after it %s (epoch %d)\n", before.node, before.epoch, after.node, after.epoch)

	var short error
	for i := range all {
		if s := &all[i]; !s.whole(v) {
			short = errors.Join(short, fmt.Errorf("%s has not got everything, once and in order", s.name), s.err)
		}
	}
	if short == nil {
		fmt.Fprintln(w, "  nothing was lost")
	}
	return short
}

func millis(d time.Duration) string {
	return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
}
