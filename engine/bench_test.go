package engine_test

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/codec"
)

// fanOut measures deliveries in a closed loop: at most ahead bytes per subscriber are on their way. An operation is one
// write of the publisher: so many frames to each room.
func fanOut(b *testing.B, rooms, each, payload, frames int) {
	e := start(b, quiet)
	w := login(b, e, "alice", 1)
	var srcs []*source
	var ids []codec.RoomID
	for range rooms {
		room := w.register(calm)
		srcs, ids = append(srcs, newSource(w, room)), append(ids, room)
	}
	s := newSink(b, e.Addrs()[0], ids, each)
	p := newPump(w, srcs, payload, frames)
	ahead := int64(each * len(p.buf) * max(1, (1<<20)/len(p.buf)))
	want, begin := int64(0), time.Now()
	b.ReportAllocs()
	for b.Loop() {
		p.round(b)
		want += int64(each * len(p.buf))
		s.await(want - ahead)
	}
	s.await(want)
	// The loop's own time leaves out what was still on its way at its end.
	took, deliveries := time.Since(begin), float64(want/int64(p.frame))
	b.ReportMetric(deliveries/took.Seconds(), "deliveries/s")
	b.ReportMetric(float64(took.Nanoseconds())/deliveries, "ns/delivery")
}

func BenchmarkFanOut(b *testing.B) {
	for _, subs := range []int{1, 100, 1000} {
		for _, payload := range []int{64, 1 << 10, 16 << 10} {
			b.Run(fmt.Sprintf("subs=%d/payload=%d", subs, payload), func(b *testing.B) {
				fanOut(b, 1, subs, payload, max(1, (64<<10)/(payload+codec.StreamHeaderSize)))
			})
		}
	}
}

func BenchmarkManyRooms(b *testing.B) {
	for _, rooms := range []int{1, 100, 500} { // both ends of a connection are descriptors of this process
		b.Run(fmt.Sprintf("rooms=%d/subs=10/payload=64", rooms), func(b *testing.B) { fanOut(b, rooms, 10, 64, 1) })
	}
}

// BenchmarkIdleSubscriber measures the resident memory of a server process for each subscriber of one room that does
// nothing. An operation is one subscriber that connects and subscribes; run it with -benchtime=10000x.
func BenchmarkIdleSubscriber(b *testing.B) {
	srv := spawn(b, "server")
	addr, err := net.ResolveTCPAddr("tcp", strings.Fields(srv.expect("listening"))[1])
	if err != nil {
		b.Fatal(err)
	}
	rss := func() int64 {
		srv.tell("rss")
		n, err := strconv.ParseInt(strings.Fields(srv.expect("rss"))[1], 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		return n
	}
	w := on(b, addr.String(), "alice", 1)
	room := w.register(codec.Register{})
	if b.N > 18_000 {
		b.Skip("a process may have 20,000 descriptors")
	}
	before := rss()
	fds := make([]int, 0, b.N)
	b.ResetTimer()
	for i := range b.N {
		fd, err := connectRaw(addr, uint64(i+1), &codec.Subscribe{Req: 1, Room: room})
		if err == nil {
			fds = append(fds, fd)
			err = awaitRaw(fd, codec.TypeSubscribed)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(rss()-before)/float64(b.N), "B/sub")
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
