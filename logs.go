package main

import (
	"bytes"
	"io"
	"sync"
	"time"
)

// lineSink passes lines on to a writer in a goroutine of its own, so that whoever logs, an event loop among them, never
// waits for the reader of a pipe. While that reader stops, as many bytes as sinkBytes wait for it; further lines are
// dropped and counted. So are lines that cannot be written because the reader is gone.
type lineSink struct {
	w    io.Writer
	json bool          // lines are JSON: what a terminal would obey in them is escaped
	wake chan struct{} // holds a value when there may be something to write
	done chan struct{} // closed when run has ended

	mu      sync.Mutex
	wait    []byte // whole lines
	ending  bool
	dropped uint64
}

const (
	sinkBytes = 1 << 20
	// sinkParting is how long the last lines may take: the reader of a full pipe must not keep a process from ending.
	sinkParting = time.Second
)

func newLineSink(w io.Writer, json bool) *lineSink {
	s := &lineSink{w: w, json: json, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go s.run()
	return s
}

// Write takes whole lines, a copy of them. It does not block and returns no error.
func (s *lineSink) Write(lines []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ending || len(s.wait)+len(lines) > sinkBytes:
		s.dropped += countLines(lines)
	case s.json:
		s.wait = printableJSON(s.wait, lines)
	default:
		s.wait = append(s.wait, lines...)
	}
	s.signal()
	return len(lines), nil
}

func (s *lineSink) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Dropped returns how many lines were not written.
func (s *lineSink) Dropped() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped
}

// Close writes what waits, for at most sinkParting. Lines that come later are dropped.
func (s *lineSink) Close() {
	s.mu.Lock()
	s.ending = true
	s.mu.Unlock()
	s.signal()
	select {
	case <-s.done:
	case <-time.After(sinkParting):
	}
}

func (s *lineSink) run() {
	defer close(s.done)
	var spare []byte
	for range s.wake {
		for {
			s.mu.Lock()
			lines, ending := s.wait, s.ending
			s.wait, spare = spare[:0], nil // one buffer is filled while the other is written
			s.mu.Unlock()
			if len(lines) == 0 {
				if ending {
					return
				}
				spare = lines
				break
			}
			if n, err := s.w.Write(lines); err != nil {
				s.mu.Lock()
				s.dropped += countLines(lines[n:])
				s.mu.Unlock()
			}
			spare = lines
		}
	}
}

// close ends the sinks of std, if it has any.
func (s *streams) close() {
	for _, sink := range append([]*lineSink{s.outSink, s.errSink}, s.fileSinks...) {
		if sink != nil {
			sink.Close()
		}
	}
}

func countLines(b []byte) uint64 { return uint64(bytes.Count(b, []byte{'\n'})) }
