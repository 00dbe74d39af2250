package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/timedge/timedge/client/media"
)

// source is an input that is cut into units.
type source struct {
	io.ReadCloser
	size  int64 // -1: not known
	units *media.Splitter
	first *media.Unit // read already
}

// open opens the input. Of a file it looks at the beginning, so that one that cannot be pushed as wanted is refused
// before anybody is told of it. It returns early when ctx ends, though whoever is to write to a pipe has not come.
func (p *input) open(ctx context.Context, std *streams) (*source, error) {
	if p.File == "-" {
		return &source{ReadCloser: io.NopCloser(std.in), size: -1}, nil
	}
	type opened struct {
		file *os.File
		err  error
	}
	done := make(chan opened, 1)
	go func() { // left behind for the process's end if nobody writes to the pipe
		f, err := os.Open(p.File)
		done <- opened{f, err}
	}()
	var f *os.File
	select {
	case o := <-done:
		if f = o.file; o.err != nil {
			return nil, o.err
		}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, errors.Join(err, f.Close())
	case info.IsDir():
		return nil, errors.Join(fmt.Errorf("%s is a directory: name a file", p.File), f.Close())
	case !info.Mode().IsRegular():
		return &source{ReadCloser: f, size: -1}, nil
	}
	in := &source{ReadCloser: f, size: info.Size()}
	u, err := in.next()
	switch {
	case err == nil:
		in.first = &u
	case err != io.EOF:
		return nil, errors.Join(fmt.Errorf("read %s: %w", p.File, err), f.Close())
	}
	if p.Realtime {
		if err := p.keepsTime(in, 0, false); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return in, nil
}

// next returns the next unit, and io.EOF behind the last.
func (s *source) next() (u media.Unit, err error) {
	if s.first != nil {
		u, s.first = *s.first, nil
		return u, nil
	}
	if s.units == nil {
		if s.units, err = media.NewSplitter(s); err != nil {
			return media.Unit{Time: media.NoTime}, err
		}
	}
	if u, err = s.units.Next(); err != nil {
		u.Time = media.NoTime
	}
	return u, err
}
