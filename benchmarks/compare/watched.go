package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/timedge/timedge/benchmarks/internal/server"
)

// With --watched both sides are the same program: one that nobody looks at, and one with an audit, a Prometheus and a
// console. What they differ by is what looking costs.

// pages are what is asked for each second: by Prometheus, and by the console.
var pages = []struct{ path, accept string }{
	{"/metrics", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"},
	{"/api/v1/cluster", "application/json"},
}

const lookEvery = time.Second

// look changes the settings of a side's server, and looks on until the caller calls end, which says whether somebody
// was answered at all.
func (c *comparison) look(s *side, set *server.Settings) (end func() error, err error) {
	if s == c.base {
		set.Args = append(set.Args, "--admin=")
		return func() error { return nil }, nil
	}
	if set.Admin, err = server.FreeAddr(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(c.tmp, "audit")
	if err != nil {
		return nil, err
	}
	set.Args = append(set.Args, "--audit-file", filepath.Join(dir, "audit"))
	ctx, cancel := context.WithCancel(c.ctx)
	var looking sync.WaitGroup
	answers := make([]atomic.Int64, len(pages))
	for i, p := range pages {
		looking.Go(func() {
			for {
				wait := lookEvery
				if ask(ctx, "http://"+set.Admin+p.path, p.accept) == nil {
					answers[i].Add(1)
				} else {
					wait /= 20 // it is about to start
				}
				select {
				case <-time.After(wait):
				case <-ctx.Done():
					return
				}
			}
		})
	}
	return func() error {
		cancel()
		looking.Wait()
		for i, p := range pages {
			if answers[i].Load() == 0 {
				return fmt.Errorf("%s was never answered", p.path)
			}
		}
		return nil
	}, nil
}

func ask(ctx context.Context, url, accept string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", accept)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", res.Status)
	}
	return nil
}
