package main

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
)

// stuck is a writer whose reader stops until it is freed, and is gone when err is set.
type stuck struct {
	free chan struct{}
	mu   sync.Mutex
	got  bytes.Buffer
	err  error
}

func (w *stuck) Write(b []byte) (int, error) {
	<-w.free
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0, w.err
	}
	return w.got.Write(b)
}

func TestSinkWritesAll(t *testing.T) {
	w := &stuck{free: make(chan struct{})}
	close(w.free)
	s := newLineSink(w, true)
	for i := range 1000 {
		fmt.Fprintf(s, "{\"n\":%d,\"s\":\"\u009b\"}\n", i)
	}
	s.Close()
	if s.Dropped() != 0 || bytes.Count(w.got.Bytes(), []byte("\n")) != 1000 || obeyed(w.got.Bytes()) != "" {
		t.Errorf("%d dropped, written: %.80q", s.Dropped(), w.got.String())
	}
}

// A reader that stops costs lines, which are counted, and holds nobody up, also at the end.
func TestSinkReaderStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &stuck{free: make(chan struct{})}
		s := newLineSink(w, false)
		line := bytes.Repeat([]byte("x"), 1023)
		line = append(line, '\n')
		const lines = 2*sinkBytes/1024 + 10
		for range lines {
			if n, err := s.Write(line); n != len(line) || err != nil {
				t.Fatal(n, err)
			}
		}
		s.Close()
		dropped := s.Dropped()
		if dropped == 0 {
			t.Error("nothing was dropped")
		}
		close(w.free)
		synctest.Wait()
		if got := uint64(bytes.Count(w.got.Bytes(), []byte("\n"))); got+dropped != lines {
			t.Errorf("%d written, %d dropped of %d", got, dropped, lines)
		}
	})
}

func TestSinkReaderGone(t *testing.T) {
	w := &stuck{free: make(chan struct{}), err: errors.New("broken pipe")}
	close(w.free)
	s := newLineSink(w, false)
	for range 10 {
		fmt.Fprintln(s, "line")
	}
	s.Close()
	fmt.Fprintln(s, "late")
	if got := s.Dropped(); got != 11 {
		t.Errorf("%d dropped of 11", got)
	}
}
