package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// seen is what a viewer noticed.
type seen struct {
	name  string
	nodes string // that it was connected to
	err   error  // why it ended before the stream did

	frames, twice    uint64
	lost             map[string]uint64 // by reason
	before, after    time.Duration     // the longest wait for the next frame until the kill, and from then on
	identical        bool              // the bytes are those of the file
	pictures, faults int
}

// whole reports whether the viewer has all of a video, once, and without a fault.
func (s *seen) whole(v *video) bool {
	return s.err == nil && s.frames > 0 && len(s.lost) == 0 && s.twice == 0 && s.identical && s.pictures == v.pictures && s.faults == 0
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
	row("frames lost", (*seen).missing)
	row("frames twice", func(s *seen) string { return fmt.Sprint(s.twice) })
	row("longest wait for a frame, before", func(s *seen) string { return millis(s.before) })
	row("longest wait from the kill on", func(s *seen) string { return millis(s.after) })
	row("bytes as they were pushed", func(s *seen) string {
		if s.identical {
			return "all"
		}
		return "NO"
	})
	row("pictures decoded", func(s *seen) string { return fmt.Sprintf("%d of %d", s.pictures, v.pictures) })
	row("faults found by the decoder", func(s *seen) string { return fmt.Sprint(s.faults) })
	fmt.Fprintf(w, "\n  Before the kill %s relayed the room (epoch %d), after it %s (epoch %d).\n", before.node, before.epoch, after.node, after.epoch)
	for i := range all {
		s := &all[i]
		fmt.Fprintf(w, "  What %s noticed of it: %s was the longest wait for a frame; until then %s. A picture lasts 40 ms.\n", s.name, millis(s.after), millis(s.before))
	}
	var short error
	for i := range all {
		if s := &all[i]; !s.whole(v) {
			short = errors.Join(short, fmt.Errorf("%s has not got everything, once and in order", s.name), s.err)
		}
	}
	if short == nil {
		fmt.Fprintln(w, "  Nothing was lost, nothing came twice, every picture and all of the sound is there.")
	}
	return short
}

// missing tells how many frames did not come, and why.
func (s *seen) missing() string {
	if len(s.lost) == 0 {
		return "0"
	}
	var why []string
	for _, reason := range slices.Sorted(maps.Keys(s.lost)) {
		why = append(why, fmt.Sprintf("%d %s", s.lost[reason], reason))
	}
	return strings.Join(why, ", ")
}

func millis(d time.Duration) string {
	return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
}
