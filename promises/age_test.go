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
// or its caller is.
func TestLatestAge(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 5 s for each case")
	}
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
			g := game{options: client.RoomOptions{Policy: client.PolicyLatest}, rate: test.rate, work: test.work}
			g.play(t, 5*time.Second)
			g.within(t, "", g.seen, 0.99, 250*time.Millisecond)
		})
	}
}

// TestLiveAge: in a live room what a subscriber with a slow path reads is not older than the room's bound on age and
// what the path needs, whatever its kernel would take. Until the path counts as one that does not keep up (see
// docs/decisions/keeping-up.md), which takes seconds, a fourth of 10 s is added.
func TestLiveAge(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 12 s for each case")
	}
	const age, found = time.Second, 6 * time.Second
	rates := []int{30_000}
	if long {
		rates = append(rates, 60_000)
	}
	for _, rate := range rates {
		t.Run(fmt.Sprintf("a path of %d kB/s", rate/1000), func(t *testing.T) {
			g := game{options: client.RoomOptions{QueueAge: age}, rate: rate}
			g.play(t, 2*found)
			at := slices.IndexFunc(g.seen, func(s sighting) bool { return s.at >= found })
			if at < 0 {
				t.Fatal("nothing came after the path was found to be slow")
			}
			g.within(t, "at first", g.seen[:at], 1, age+10*time.Second/4)
			g.within(t, "later", g.seen[at:], 0.99, age+age/2)
		})
	}
}

// game has twenty players send states of 100 bytes, each sixty times a second: 144 kB/s, several times what the path
// of the subscriber takes.
type game struct {
	options client.RoomOptions
	rate    int           // of the path, bytes a second; 0: no bound
	work    time.Duration // for each event

	seen []sighting
	late lateness
}

// sighting is a state that came.
type sighting struct{ at, age time.Duration }

const players, stateSize, hz = 20, 100, 60

// play runs for a time.
func (g *game) play(t *testing.T, lasts time.Duration) {
	s := serve(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	owner := dialAs(t, s.addr, "owner")
	room := must(owner.Register(ctx, g.options))(t)
	if err := owner.Grant(ctx, room, client.Everyone); err != nil {
		t.Fatal(err)
	}
	addr := s.addr
	if g.rate > 0 {
		addr = throttle(t, s.addr, g.rate)
	}
	sub := must(dialAs(t, addr, "viewer").Subscribe(ctx, room, client.SubscribeOptions{}))(t)
	for i := range players {
		p := must(dialAs(t, s.addr, fmt.Sprint("player", i)).Publish(ctx, room, client.PublishOptions{}))(t)
		go func() {
			tick := time.NewTicker(time.Second / hz)
			defer tick.Stop()
			state := make([]byte, stateSize)
			for {
				select {
				case due := <-tick.C:
					g.late.add(time.Since(due))
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
	for begun := time.Now(); time.Since(begun) < lasts; {
		ev, err := sub.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if m, ok := ev.(*client.Message); ok {
			sent := time.Unix(0, int64(binary.BigEndian.Uint64(m.Payload)))
			g.seen = append(g.seen, sighting{time.Since(begun), time.Since(sent)})
		}
		if g.work > 0 {
			time.Sleep(g.work)
		}
	}
}

// within checks that a part of what was seen was at most so old when it came, beside what its transmission takes.
func (g *game) within(t *testing.T, when string, seen []sighting, part float64, most time.Duration) {
	t.Helper()
	ages := make([]time.Duration, len(seen))
	for i, s := range seen {
		ages[i] = s.age
	}
	slices.Sort(ages)
	is := ages[int(float64(len(ages)-1)*part)]
	t.Logf("%s: %d states; age p50 %v, p%g %v", when, len(ages), ages[len(ages)/2].Round(time.Millisecond), 100*part,
		is.Round(time.Millisecond))
	if g.rate > 0 { // a state is transmitted after those of the others that are as new
		most += time.Duration(players*(stateSize+codec.StreamHeaderSize)) * time.Second / time.Duration(g.rate)
	}
	// A busy machine keeps each of those on the way waiting: who pushes, the server, the path, who reads.
	if most += 4 * g.late.p99(); is > most {
		t.Errorf("%s: p%g of age is %v, at most %v; p99 of timers' lateness is %v", when, 100*part, is, most, g.late.p99())
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
