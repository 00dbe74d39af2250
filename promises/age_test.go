package promises

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// TestLatestAge: in a latest room what a subscriber reads is never older than its path needs, whether the path is slow
// or its caller is. Twenty players send states of 100 bytes, each sixty times a second: 144 kB/s, several times what
// the path takes.
func TestLatestAge(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 5 s for each case")
	}
	const players, size, hz = 20, 100, 60
	for _, test := range []struct {
		name string
		rate int           // of the path, bytes a second; 0: no bound
		work time.Duration // for each event
	}{
		{"a path of 30 kB/s", 30_000, 0},
		{"a path of 60 kB/s", 60_000, 0},
		{"a caller with 2 ms of work for each event", 0, 2 * time.Millisecond},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			owner := dialAs(t, s.addr, "owner")
			room := must(owner.Register(ctx, client.RoomOptions{Policy: codec.PolicyLatest}))(t)
			if err := owner.Grant(ctx, room, client.Everyone); err != nil {
				t.Fatal(err)
			}
			addr := s.addr
			if test.rate > 0 {
				addr = throttle(t, s.addr, test.rate)
			}
			sub := must(dialAs(t, addr, "viewer").Subscribe(ctx, room, client.SubscribeOptions{}))(t)
			var late lateness
			for i := range players {
				p := must(dialAs(t, s.addr, fmt.Sprint("player", i)).Publish(ctx, room, client.PublishOptions{}))(t)
				go func() {
					tick := time.NewTicker(time.Second / hz)
					defer tick.Stop()
					state := make([]byte, size)
					for {
						select {
						case due := <-tick.C:
							late.add(time.Since(due))
						case <-ctx.Done():
							return
						}
						binary.BigEndian.PutUint64(state, uint64(time.Now().UnixNano()))
						if p.Push(ctx, 1, client.Delta, state) != nil {
							return
						}
					}
				}()
			}
			var ages []time.Duration
			for begun := time.Now(); time.Since(begun) < 5*time.Second; {
				ev, err := sub.Next(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if m, ok := ev.(*client.Message); ok {
					ages = append(ages, time.Since(time.Unix(0, int64(binary.BigEndian.Uint64(m.Payload)))))
				}
				if test.work > 0 {
					time.Sleep(test.work)
				}
			}
			slices.Sort(ages)
			p50, p99 := ages[len(ages)/2], ages[len(ages)*99/100]
			t.Logf("%d states; age p50 %v, p99 %v", len(ages), p50.Round(time.Millisecond), p99.Round(time.Millisecond))
			// A state is transmitted after those of the others that are as new.
			most := 250 * time.Millisecond
			if test.rate > 0 {
				most += time.Duration(players*(size+codec.StreamHeaderSize)) * time.Second / time.Duration(test.rate)
			}
			// A busy machine keeps each of those on the way waiting: who pushes, the server, the path, who reads.
			most += 4 * late.p99()
			if p99 > most {
				t.Errorf("p99 of age is %v, at most %v; p99 of timers' lateness is %v", p99, most, late.p99())
			}
		})
	}
}

// lateness is how late timers are: what the machine does to everybody on it. Safe for concurrent use.
type lateness struct {
	mu  sync.Mutex
	all []time.Duration
}

func (l *lateness) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, d)
}

func (l *lateness) p99() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.all)
	return l.all[len(l.all)*99/100]
}

// throttle returns an address that leads to another by a path that takes so many bytes a second from there, and holds
// little.
func throttle(t *testing.T, to string, rate int) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	// Segments as small as on a real path: a window below loopback's would be waited for.
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10)
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 536)
		})
	}}
	go func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := d.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			go func() {
				io.Copy(far, near)
				far.Close()
			}()
			go func() {
				defer near.Close()
				buf := make([]byte, 512)
				due := time.Now()
				for {
					n, err := far.Read(buf)
					if _, werr := near.Write(buf[:n]); err != nil || werr != nil {
						return
					}
					if now := time.Now(); due.Before(now.Add(-50 * time.Millisecond)) {
						due = now
					}
					due = due.Add(time.Duration(n) * time.Second / time.Duration(rate))
					time.Sleep(time.Until(due))
				}
			}()
		}
	}()
	return ln.Addr().String()
}
