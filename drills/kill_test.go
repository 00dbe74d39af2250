package drills

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// figures collects what subscribers saw over all repetitions of a drill.
type figures struct {
	gaps   []time.Duration // the longest pause of each viewer
	frames uint64
}

func (g *figures) add(s *stream) {
	g.frames += s.pushed.Load() * uint64(len(s.subs))
	for _, v := range s.subs {
		g.gaps = append(g.gaps, v.longest)
	}
}

// String gives the pauses' percentiles. That nothing was lost or came twice has been checked by then.
func (g *figures) String() string {
	return fmt.Sprintf("%d viewers, %d frames delivered: 0 lost, 0 twice; longest pause %s", len(g.gaps), g.frames, g.pauses())
}

func (g *figures) pauses() string {
	slices.Sort(g.gaps)
	at := func(q float64) time.Duration {
		return g.gaps[min(len(g.gaps)-1, int(q*float64(len(g.gaps))))].Round(100 * time.Microsecond)
	}
	return fmt.Sprintf("p50 %v, p99 %v, worst %v", at(0.5), at(0.99), at(1))
}

const pace = 2 * time.Millisecond

// The relay is killed while it carries a stream between clients of the two other nodes.
func TestRelayKilled(t *testing.T) {
	f := newFleet(t, 3)
	var g figures
	for k := range *kills {
		relay := k % 3
		a, b := (relay+1)%3, (relay+2)%3
		s := f.run(place{relay: relay, publisher: a, subscribers: []int{a, b, b}}, pace)
		s.reach(50)
		told := []*takeovers{f.takeovers(a), f.takeovers(b)}
		f.kill(relay)
		s.reach(100)
		for _, x := range told {
			x.check()
		}
		s.finish()
		g.add(s)
		f.start(relay)
		f.await(3)
	}
	t.Log("relay killed:", &g)
}

// takeovers is what a node's metric has told of them by some moment.
type takeovers struct {
	f          *fleet
	node       int
	at         time.Time
	count, sum float64
}

const takeoverMetric = "timedge_takeover_duration_seconds"

func (f *fleet) takeovers(i int) *takeovers {
	return &takeovers{f, i, time.Now(), f.metric(i, takeoverMetric+"_count"), f.metric(i, takeoverMetric+"_sum")}
}

// check waits until the node tells of another one, none of which can have taken longer than it is since that moment. Its
// buckets hold them all.
func (x *takeovers) check() {
	x.f.t.Helper()
	var now *takeovers
	x.f.until("a node tells how long its room had no relay", func() bool {
		now = x.f.takeovers(x.node)
		return now.count > x.count
	})
	n, took, within := now.count-x.count, now.sum-x.sum, time.Since(x.at).Seconds()
	if took <= 0 || took > n*within {
		x.f.t.Errorf("%v rooms had no relay for %v s in all, it says, within %v s", n, took, within)
	}
	if all := x.f.metric(x.node, takeoverMetric+`_bucket{le="+Inf"}`); all < now.count {
		x.f.t.Errorf("%v takeovers, of which the buckets hold %v", now.count, all)
	}
}

// The relay is frozen while it carries a stream between clients of the two other nodes, and thawed when the others have
// gone on without it.
func TestRelayFrozen(t *testing.T) {
	f := newFleet(t, 3)
	var g figures
	for k := range *kills {
		relay := k % 3
		a, b := (relay+1)%3, (relay+2)%3
		s := f.run(place{relay: relay, publisher: a, subscribers: []int{a, b, b}}, pace)
		s.reach(50)
		f.signal(relay, syscall.SIGSTOP)
		s.reach(100)
		f.signal(relay, syscall.SIGCONT)
		s.reach(100)
		s.finish()
		g.add(s)
		f.await(3)
	}
	t.Log("relay frozen:", &g)
}

// A node that is relay and publisher's node is suspended for longer than a publisher whose connection broke is waited
// for, as a virtual machine may be, and goes on. The others have seen the publisher leave meanwhile; its client, which
// has noticed nothing, goes on with its stream.
func TestRelayAndPublishersNodeSuspended(t *testing.T) {
	f := newFleet(t, 3)
	var g figures
	times := []time.Duration{12 * time.Second, 22 * time.Second, 30 * time.Second}
	if *kills < 10 {
		times = times[:1]
	}
	for k := range 2 * len(times) {
		own := k % 3
		p := place{relay: own, publisher: own, subscribers: []int{(own + 1) % 3, (own + 2) % 3}}
		if k%2 == 1 {
			p.policy = codec.PolicyLossless
		}
		s := f.run(p, pace)
		s.reach(50)
		f.signal(own, syscall.SIGSTOP)
		<-time.After(times[k/2])
		f.signal(own, syscall.SIGCONT)
		s.reach(100)
		s.finish()
		g.add(s)
		f.await(3)
	}
	t.Log("relay and publisher's node suspended:", &g)
}

// The node is killed that the publisher's client is connected to.
func TestPublishersNodeKilled(t *testing.T) {
	f := newFleet(t, 3)
	var g figures
	for k := range *kills {
		own := k % 3
		relay, b := (own+1)%3, (own+2)%3
		s := f.run(place{relay: relay, publisher: own, subscribers: []int{relay, b, b}}, pace)
		s.reach(50)
		f.kill(own)
		s.reach(100)
		s.finish()
		g.add(s)
		f.start(own)
		f.await(3)
	}
	t.Log("publisher's node killed:", &g)
}

// The node is killed that all subscribers' clients are connected to.
func TestSubscribersNodeKilled(t *testing.T) {
	f := newFleet(t, 3)
	var g figures
	for k := range *kills {
		own := k % 3
		relay, a := (own+1)%3, (own+2)%3
		s := f.run(place{relay: relay, publisher: a, subscribers: []int{own, own, own}}, pace)
		s.reach(50)
		f.kill(own)
		s.reach(100)
		s.finish()
		g.add(s)
		f.start(own)
		f.await(3)
	}
	t.Log("subscribers' node killed:", &g)
}

// Everything is on one node, relay, publisher and subscribers, and that is killed.
func TestOnlyNodeInUseKilled(t *testing.T) {
	f := newFleet(t, 3)
	var g figures
	for k := range *kills {
		own := k % 3
		s := f.run(place{relay: own, publisher: own, subscribers: []int{own, own}}, pace)
		s.reach(50)
		f.kill(own)
		s.reach(100)
		s.finish()
		g.add(s)
		f.start(own)
		f.await(3)
	}
	t.Log("relay, publisher's and subscribers' node killed:", &g)
}

// A standby is killed, then the relay.
func TestStandbyThenRelayKilled(t *testing.T) {
	f := newFleet(t, 5)
	s := f.run(place{relay: 0, publisher: 1, subscribers: []int{2, 3}}, pace)
	chain := f.report(0, s.room.String()).Chain
	s.reach(50)
	f.kill(f.named(chain[1]))
	f.kill(0)
	s.reach(100)
	s.finish()
}

// Two of five nodes are killed at once, the relay and the second in line.
func TestTwoOfFiveKilled(t *testing.T) {
	f := newFleet(t, 5)
	s := f.run(place{relay: 0, publisher: 1, subscribers: []int{2, 3, 4}}, pace)
	second := f.named(f.report(0, s.room.String()).Chain[1])
	s.reach(50)
	f.signal(0, syscall.SIGKILL)
	f.signal(second, syscall.SIGKILL)
	f.gone(0)
	f.gone(second)
	s.reach(100)
	s.finish()
}

// The relay of a lossless room is killed and comes back while its subscriber consumes nothing: the publisher has sent
// all that it may, nothing is acknowledged, and neither its new node nor the relay has any of it. Only the publisher
// itself can send it again.
func TestRelayComesBackBetweenPushAndAck(t *testing.T) {
	f := newFleet(t, 3)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// The subscriber's node is to take over, and to have had everything by then.
	const relay, at, other = 0, 1, 2
	room := codec.RoomID(0)
	for room == 0 || f.report(relay, room.String()).Chain[1] != f.nodes[at].name {
		room = f.register(ctx, place{relay: relay, policy: codec.PolicyLossless})
	}
	sub, err := f.client(at, "viewer").Subscribe(ctx, room, client.SubscribeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	owner := f.clientOf([]int{relay, other}, "owner")
	pub, err := owner.Publish(ctx, room, client.PublishOptions{})
	if err != nil {
		t.Fatal(err)
	}
	const messages, size, window = 150, 60_000, 4 << 20 / 60_020
	var pusher sync.WaitGroup
	pusher.Go(func() {
		msg := make([]byte, size)
		for n := range uint64(messages) {
			binary.BigEndian.PutUint64(msg, n)
			if err := pub.Push(ctx, 0, client.Delta, msg); err != nil {
				t.Error(err)
				return
			}
		}
		if err := pub.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	f.until("the subscriber's node has a window", func() bool { return f.metric(at, "timedge_link_frames_in_total") == window })
	f.kill(relay)
	f.until("the publisher is at the other node, and the subscriber's relays", func() bool {
		r := f.report(other, room.String())
		return r.Relay == f.nodes[at].name && len(r.Publishers) == 1 && r.Publishers[0].Node == f.nodes[other].name
	})
	f.start(relay)
	f.until("the first relay has the room back, and the publisher", func() bool {
		r := f.report(other, room.String())
		return r.Relay == f.nodes[relay].name && len(r.Publishers) == 1 && r.Publishers[0].Node == f.nodes[other].name
	})
	for n, left := uint64(0), false; !left; {
		ev, err := sub.Next(ctx)
		if err != nil {
			t.Fatalf("after %d messages: %v", n, err)
		}
		switch ev := ev.(type) {
		case *client.Message:
			if got := binary.BigEndian.Uint64(ev.Payload); got != n {
				t.Fatalf("message %d, expected %d", got, n)
			}
			n++
		case *client.Gap:
			t.Fatalf("%+v", ev)
		case *client.Left:
			if left = true; n != messages {
				t.Errorf("%d messages, expected %d", n, messages)
			}
		}
	}
	pusher.Wait()
}

// named returns a node's number.
func (f *fleet) named(name string) int {
	return slices.IndexFunc(f.nodes, func(n *node) bool { return n.name == name })
}

// All nodes are restarted, one after the other, under load.
func TestRollingRestart(t *testing.T) {
	f := newFleet(t, 3)
	var ss []*stream
	for k := range 4 { // more, at a slower pace, are in TestManyRooms
		ss = append(ss, f.run(place{relay: k % 3, publisher: (k + 1) % 3, subscribers: []int{k % 3, (k + 2) % 3}}, pace))
	}
	var g figures
	for i := range 3 {
		for _, s := range ss {
			s.reach(20)
		}
		f.stop(i)
		f.start(i)
		f.await(3)
	}
	for _, s := range ss {
		s.reach(50)
		s.finish()
		g.add(s)
	}
	t.Log("rolling restart:", &g)
}

// The relay of very many rooms is killed, of which some carry streams: how long these stop does not depend on the others.
func TestRelayOfManyRoomsKilled(t *testing.T) {
	for _, text := range strings.Split(*idle, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(text+" rooms", func(t *testing.T) { relayOfRoomsKilled(t, n) })
	}
}

func relayOfRoomsKilled(t *testing.T, idle int) {
	flag, file := operatorFile(t)
	f := newFleet(t, 3, flag, file)
	var all sync.WaitGroup
	const at = 16
	for k := range at {
		c := f.client(0, fmt.Sprintf("owner%d", k)) // an account has so many rooms at most
		all.Go(func() {
			for i := k; i < idle; i += at {
				if _, err := c.Register(t.Context(), client.RoomOptions{}); err != nil {
					t.Errorf("room %d: %v", i, err)
					return
				}
			}
		})
	}
	all.Wait()
	var ss []*stream
	for range 4 {
		ss = append(ss, f.run(place{relay: 0, publisher: 1, subscribers: []int{1, 2}}, pace))
	}
	reach := func(n uint64) {
		for _, s := range ss {
			s.reach(n)
		}
	}
	pauses := func(g *figures) { // since the last call
		for _, s := range ss {
			for _, v := range s.subs {
				if d := time.Duration(v.pause.Swap(0)); g != nil {
					g.gaps = append(g.gaps, d)
				}
			}
		}
	}
	var before, g, after figures // before the kill, when the streams move, and while all other rooms do
	var took []time.Duration     // from the kill until the system has closed what the process had open, which nobody hears of before
	for k := range *kills {
		f.until("all rooms are where they belong", func() bool { return f.metric(0, "timedge_rooms") >= float64(idle+len(ss)) })
		pauses(nil)
		reach(500)
		pauses(&before)
		profiled := f.profiles(fmt.Sprintf("takeover-%d-%d", idle, k))
		all, large := f.resident(0)
		broke := f.breaks(0)
		f.kill(0)
		took = append(took, <-broke)
		t.Logf("a relay with %d MiB in memory, %d of them in large pages: its connections broke after %v", all, large, took[k].Round(100*time.Microsecond))
		reach(100)
		pauses(&g)
		f.until("the others have taken over", func() bool {
			time.Sleep(200 * time.Millisecond) // reading the metrics of so many rooms takes time from the streams
			return f.metric(1, "timedge_rooms")+f.metric(2, "timedge_rooms") >= float64(idle+len(ss))
		})
		pauses(&after)
		profiled()
		if k+1 < *kills {
			f.start(0)
			f.await(3)
		}
	}
	for _, s := range ss {
		s.reach(50)
		s.finish()
		g.frames += s.pushed.Load() * uint64(len(s.subs))
	}
	slices.Sort(took)
	t.Logf("relay of %d rooms killed: %v; its connections broke %v after the signal in the median, %v at worst", idle, &g,
		took[len(took)/2].Round(100*time.Microsecond), took[len(took)-1].Round(100*time.Microsecond))
	t.Logf("likewise, in a second without a kill: %v; while all other rooms were taken over: %v", before.pauses(), after.pauses())
}

// profiles has all nodes but the first profile their processors for some seconds, if a flag says so; wait returns when
// they have.
func (f *fleet) profiles(name string) (wait func()) {
	var all sync.WaitGroup
	if *cpuProfiles == "" {
		return all.Wait
	}
	for i, n := range f.nodes[1:] {
		all.Go(func() {
			if err := f.profile(i+1, "profile?seconds=5", filepath.Join(*cpuProfiles, name+"-"+n.name+".pb.gz")); err != nil {
				f.t.Error(err)
			}
		})
	}
	time.Sleep(500 * time.Millisecond) // they have begun
	return all.Wait
}

// resident returns how many MiB node i has in memory, and of these in large pages; 0 where the system does not say.
func (f *fleet) resident(i int) (all, large int) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", f.nodes[i].cmd.Process.Pid))
	for line := range strings.Lines(string(b)) {
		_, _ = fmt.Sscanf(line, "Rss: %d kB", &all)
		_, _ = fmt.Sscanf(line, "AnonHugePages: %d kB", &large)
	}
	return all >> 10, large >> 10
}

// breaks connects to a node, and returns how long it takes from now until that connection breaks.
func (f *fleet) breaks(i int) <-chan time.Duration {
	f.t.Helper()
	c, err := net.Dial("tcp", f.nodes[i].listen)
	if err != nil {
		f.t.Fatal(err)
	}
	after, from := make(chan time.Duration, 1), time.Now()
	go func() {
		defer c.Close()
		_ = c.SetReadDeadline(time.Now().Add(patience))
		_, _ = io.ReadAll(c)
		after <- time.Since(from)
	}()
	return after
}
