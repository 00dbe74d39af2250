package engine_test

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

// flat waits until the process has no more descriptors than before and nobody refers to a frame.
func flat(t *testing.T, e *engine.Engine, before int) {
	t.Helper()
	e.Rooms().EndAll(codec.CodeRemoved)
	// between two looks; a descriptor is closed after its session
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		fds, batches := descriptors(t), e.Batches()
		if fds <= before && batches == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors before, %d after; %d batches are held", before, fds, batches)
		}
	}
}

// Connections that say nothing, or half a hello, take nothing from those that stream; when they are gone everything is
// as it was. The program benchmarks/hostile does this with ten thousand, and measures.
func TestConnectionsWithoutHelloBesideGoodClients(t *testing.T) {
	e := start(t, func(c *engine.Config) { c.MaxHandshakes = 100 })
	owner, sub := login(t, e, "alice", 1), login(t, e, "bob", 1)
	room := owner.register(calm)
	sub.subscribe(room)
	pub := owner.publish(room).Pub
	before := descriptors(t)

	attack, stop := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() { // more than there may be, all the time: whom the server ends is replaced
		defer close(stopped)
		var held []net.Conn
		for i := 0; attack.Err() == nil; i++ {
			c, err := net.Dial("tcp", e.Addrs()[0].String())
			if err != nil {
				continue
			}
			context.AfterFunc(attack, func() { _ = c.Close() })
			_, _ = c.Write(greeting("mallory")[:i%20])
			if held = append(held, c); len(held) > 400 {
				_, _ = io.Copy(io.Discard, held[0])
				_ = held[0].Close()
				held = held[1:]
			}
		}
	}()

	const rounds, each = 40, 50
	v := newVerifier(room)
	for r := range rounds {
		owner.write(burst(room, pub, 1+r*each, each, 100))
		v.upTo(sub, codec.StreamKey{Pub: pub}, uint64((r+1)*each))
		owner.acked(uint64((r + 1) * each))
	}
	for deadline := time.Now().Add(patience); metric(t, e, `timedge_turned_away_total{reason="handshakes"}`) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("however many connections say nothing, none is turned away")
		}
		time.Sleep(time.Millisecond) // asking takes processors from who connects
	}
	stop()
	<-stopped
	e.AwaitSessions(t, 2)
	flat(t, e, before)
}

// A flood of ten times what a session may push in a second, together with others' streams.
func TestFloodBesideGoodClients(t *testing.T) {
	e := start(t, func(c *engine.Config) { c.Limits.SessionFrames = 2000 })
	before := descriptors(t)
	good, sub, flood := login(t, e, "alice", 1), login(t, e, "bob", 1), login(t, e, "mallory", 1)
	room, floodRoom := good.register(calm), flood.register(calm)
	sub.subscribe(room)
	sub.subscribe(floodRoom)
	pub, floodPub := good.publish(room).Pub, flood.publish(floodRoom).Pub
	const ten = 20_000
	flooded := make(chan error, 1)
	go func() { _, err := flood.c.Write(burst(floodRoom, floodPub, 1, ten, 40)); flooded <- err }()
	good.write(burst(room, pub, 1, 1000, 40))
	good.acked(1000)
	seen := map[codec.RoomID]uint64{}
	for seen[room] < 1000 || seen[floodRoom] < ten {
		f := next[*codec.Stream](sub)
		if seen[f.Room]++; f.Seq != seen[f.Room] {
			t.Fatalf("room %v: frame %d instead of %d", f.Room, f.Seq, seen[f.Room])
		}
	}
	if err := <-flooded; err != nil {
		t.Fatal(err)
	}
	if seq := flood.quietUntilPong(); seq == ten {
		t.Error("the flood is acknowledged at once")
	}
	flood.c.Close()
	okayed(t, good.ask(remove(9, room)), 9)
	e.AwaitSessions(t, 2)
	good.c.Close()
	sub.c.Close()
	flat(t, e, before)
}

// Many more connections than are closed at once, opened together: each is told why, and closed though it stays.
func TestManyWithoutHello(t *testing.T) {
	e := start(t, func(c *engine.Config) { c.HelloTimeout = 50 * time.Millisecond })
	before := descriptors(t)
	ws := make([]*wire, 100)
	for i := range ws {
		ws[i] = dial(t, e)
	}
	for _, w := range ws {
		if m := w.lastWord(); m.Code != codec.CodeHelloTimeout {
			t.Fatal(m)
		}
	}
	e.AwaitSessions(t, 0)
	for _, w := range ws {
		w.c.Close()
	}
	flat(t, e, before)
}
