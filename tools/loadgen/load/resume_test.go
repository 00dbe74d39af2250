package load

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/tools/loadgen/verify"
)

// node is what stands between loadgen and a server that it shares with other nodes. It can die, or freeze: then it
// takes connections and bytes, and passes nothing on.
type node struct {
	l      net.Listener
	addr   string
	frozen chan struct{}
	all    sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
	dead  bool
}

func startNode(t *testing.T, server string) *node {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &node{l: l, addr: l.Addr().String(), frozen: make(chan struct{})}
	n.all.Go(func() {
		for {
			down, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", server)
			if err != nil {
				down.Close()
				continue
			}
			if !n.keep(down, up) {
				continue
			}
			n.all.Go(func() { n.pass(up, down) })
			n.all.Go(func() { n.pass(down, up) })
		}
	})
	t.Cleanup(n.kill)
	return n
}

// keep remembers connections to be broken. It reports false, having closed them, if the node is dead.
func (n *node) keep(conns ...net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dead {
		for _, c := range conns {
			c.Close()
		}
		return false
	}
	n.conns = append(n.conns, conns...)
	return true
}

func (n *node) pass(to, from net.Conn) {
	buf := make([]byte, 8<<10) // less than what is often there, so that frames are cut
	for {
		k, err := from.Read(buf)
		select {
		case <-n.frozen:
			_, _ = io.Copy(io.Discard, from)
			return
		default:
		}
		if err == nil {
			_, err = to.Write(buf[:k])
		}
		if err != nil {
			from.Close()
			to.Close()
			return
		}
	}
}

// breakAll breaks the connections that there are.
func (n *node) breakAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // what is on its way is lost
		}
		c.Close()
	}
	n.conns = nil
}

func (n *node) kill() {
	n.mu.Lock()
	n.dead = true
	n.mu.Unlock()
	n.l.Close()
	n.breakAll()
	n.all.Wait()
}

// during runs c and calls f once the measured time has begun.
func during(t *testing.T, c Config, f func()) *Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var once sync.Once
	r, err := Run(ctx, c, Hooks{Progress: func(p Progress) {
		if p.Delivered > 0 {
			once.Do(f)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestConnectionsAreMadeAgain breaks connections in the middle of all kinds of runs: every stream goes on, whole and in
// order.
func TestConnectionsAreMadeAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	server := startEngine(t)
	video := Stream{Dtype: 1, Payload: 3000, Rate: 200, KeyEvery: 20, KeyScale: 30} // key messages of two pieces
	cases := []struct {
		name   string
		change func(c *Config)
	}{
		{"open loop", func(c *Config) {}},
		{"closed loop", func(c *Config) { c.Mode, c.Streams[0].Payload = Closed, 1000 }},
		{"large messages", func(c *Config) { c.Streams[0].Payload, c.Streams[0].Rate = 300_000, 50 }},
		{"several publishers and streams", func(c *Config) {
			c.Publishers, c.Streams = 3, []Stream{{Dtype: 2, Payload: 160, Rate: 100}, video}
		}},
		{"rooms", func(c *Config) { c.Rooms, c.PubConns = 20, 4 }},
		{"lossless", func(c *Config) { c.Policy, c.Streams[0].Payload = "lossless", 20_000 }},
		{"late and changing", func(c *Config) { c.Subscribers, c.Late, c.Churn, c.Streams = 20, 0.3, 50, []Stream{video} }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			one, two := startNode(t, server), startNode(t, server)
			cfg := testConfig(one.addr + "," + two.addr)
			cfg.Target, cfg.Loops, cfg.Subscribers, cfg.Duration = "timedge", 2, 10, time.Second
			c.change(&cfg)
			r := during(t, cfg, func() { two.breakAll(); one.kill() })
			for _, f := range r.Failed {
				t.Error(f)
			}
			if r.Failover.Subscribers.Count == 0 || r.Failover.Publishers.Count == 0 {
				t.Errorf("%d subscribers and %d publishers came back", r.Failover.Subscribers.Count, r.Failover.Publishers.Count)
			}
			if r.Healthy().Counts.Messages == 0 {
				t.Error("nothing was delivered")
			}
		})
	}
}

// TestFrozenNodeIsLeft: nothing tells a frozen node from one that has nothing to say but a ping.
func TestFrozenNodeIsLeft(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	server := startEngine(t)
	one, two := startNode(t, server), startNode(t, server)
	cfg := testConfig(one.addr + "," + two.addr)
	cfg.Target, cfg.Subscribers, cfg.Publishers, cfg.Duration, cfg.Silence = "timedge", 10, 2, 1500*time.Millisecond, 200*time.Millisecond
	r := during(t, cfg, func() { close(one.frozen) })
	for _, f := range r.Failed {
		t.Error(f)
	}
	if f := r.Failover; f.Subscribers.Count != 5 || f.Publishers.Count != 1 || f.Replayed == 0 {
		t.Errorf("%d subscribers and %d publishers left it, %d frames were pushed again", f.Subscribers.Count, f.Publishers.Count, f.Replayed)
	}
	if r.Longest.Count != 20 || r.Longest.Max < int64(cfg.Silence) {
		t.Errorf("the longest gap of %d streams is %v", r.Longest.Count, time.Duration(r.Longest.Max))
	}
}

// TestSignals: a node is killed, or frozen.
func TestSignals(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	for signal, state := range map[string]string{"KILL": "", "STOP": "T"} {
		process := exec.Command("sleep", "60")
		if err := process.Start(); err != nil {
			t.Fatal(err)
		}
		gone := make(chan struct{})
		go func() { _ = process.Wait(); close(gone) }()
		cfg := testConfig(startFake(t, &fakeServer{}))
		cfg.KillPID, cfg.Signal, cfg.KillAfter = process.Process.Pid, signal, 50*time.Millisecond
		mustRun(t, cfg)
		if state == "" {
			<-gone
			continue
		}
		stat, err := exec.Command("ps", "-o", "state=", "-p", strconv.Itoa(process.Process.Pid)).Output()
		if err != nil || !strings.HasPrefix(string(stat), state) {
			t.Errorf("%s: state %q, %v", signal, stat, err)
		}
		_ = process.Process.Kill()
		<-gone
	}
}

// TestAnnouncedLossFails: an announced gap is no broken promise, but a loss all the same where that is asked for.
func TestAnnouncedLossFails(t *testing.T) {
	for _, reason := range []codec.GapReason{codec.GapLost, codec.GapExpired, codec.GapPublisher, codec.GapSlow, codec.GapJoined} {
		for _, fails := range []bool{false, true} {
			c := testConfig("x")
			c.LostFails = fails
			c.SetDefaults()
			r := &Result{Config: c, Seconds: 1, Classes: map[string]*Class{"healthy": {}, "late": {}, "stalled": {}}}
			r.Generator.Lag, r.Generator.Turn = Describe(verify.NewHistogram()), Describe(verify.NewHistogram())
			for _, cl := range r.Classes {
				cl.Counts.GapFrames = map[string]uint64{reason.String(): 3}
			}
			r.judge(nil)
			want := 0
			if fails && reason != codec.GapSlow && reason != codec.GapJoined {
				want = 2 // not those that are slow on purpose
			}
			if len(r.Failed) != want {
				t.Errorf("%v, lost is failure %v: %v", reason, fails, r.Failed)
			}
		}
	}
}

// TestRoute: the other nodes are tried at once, and again after pauses that grow, and not for ever.
func TestRoute(t *testing.T) {
	r := newRoute(make([]netip.AddrPort, 3), 4)
	r.stands(1)
	now := int64(time.Hour)
	var at []int
	for range 7 {
		if !r.lost(now) {
			t.Fatal("given up")
		}
		at = append(at, r.at)
		if wait := r.next - now; (wait == 0) != (len(at) <= 3) {
			t.Errorf("try %d after %v", len(at), time.Duration(wait))
		}
	}
	if !slices.Equal(at, []int{2, 0, 1, 2, 0, 1, 2}) {
		t.Errorf("tried %v", at)
	}
	if r.lost(now + int64(giveUp)) {
		t.Error("never given up")
	}
	r.stands(now)
	if ping, over := r.quiet(now+int64(time.Second)/2, time.Second); !ping || over {
		t.Error("no ping")
	}
	if ping, over := r.quiet(now+int64(time.Second), time.Second); ping || over {
		t.Error("pinged twice, or left too early")
	}
	if _, over := r.quiet(now+int64(time.Second)+1, time.Second); !over {
		t.Error("not left")
	}
}
