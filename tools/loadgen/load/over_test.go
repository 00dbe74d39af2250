package load

import (
	"context"
	"crypto/tls"
	"testing"
	"time"

	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/internal/testcert"
	"github.com/timedge/timedge/tools/loadgen/over"
)

// TestOverCarriers runs loads of every kind by every carrier: each byte is compared, and a slow link gets its announced
// gaps.
func TestOverCarriers(t *testing.T) {
	here := []string{"127.0.0.1:0"}
	e, err := engine.Start(engine.Config{
		Loops: 2, Listen: here, ListenTLS: here, ListenWS: here, ListenWSS: here,
		TLS: &tls.Config{Certificates: []tls.Certificate{testcert.New(1)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = e.Shutdown(ctx)
	})
	for i, kind := range over.Kinds {
		for name, change := range map[string]func(c *Config){
			"open":   func(*Config) {},
			"closed": func(c *Config) { c.Mode, c.Streams[0].Payload = Closed, 1024 },
			"late":   func(c *Config) { c.Late, c.Streams[0].KeyEvery = 0.5, 10 },
			"slow":   func(c *Config) { c.Half, c.Link, c.Streams[0].Payload = 0.4, 20_000, 1024 },
		} {
			t.Run(string(kind)+"/"+name, func(t *testing.T) {
				c := testConfig(e.Addrs()[0].String())
				c.Target, c.Rooms, c.Publishers, c.Subscribers = "timedge", 1, 1, 5
				c.Over, c.OverAddr = kind, e.Addrs()[1+i].String()
				change(&c)
				r := mustRun(t, c)
				if len(r.Failed) > 0 || r.Healthy().Counts.Messages == 0 {
					t.Errorf("%d messages; %q", r.Healthy().Counts.Messages, r.Failed)
				}
			})
		}
	}
}
