package target

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/tools/loadgen/verify"
)

// A conversation is what a server says to one subscriber: its part of the handshake, and then messages.
type conversation struct {
	target  string
	greet   []byte
	deliver func(dst []byte, published []byte) []byte // what a subscriber gets of what a publisher wrote
}

const testRoom = codec.RoomID(99)

func conversations() []conversation {
	same := func(dst, published []byte) []byte { return append(dst, published...) }
	edge := codec.AppendServerPreface(nil, codec.VersionMax)
	edge = enc((&codec.Welcome{Node: "n", PingMillis: 1000}).Append(edge))
	edge = enc((&codec.Subscribed{Req: 1, Room: testRoom}).Append(edge))
	edge = enc((&codec.Joined{Room: testRoom, Pub: 1, Account: "a"}).Append(edge))
	return []conversation{
		{"timedge", edge, same},
		{"limit", []byte("k"), same},
		{"nats", []byte("INFO {\"server_id\":\"x\"} \r\nPONG\r\n"), func(dst, p []byte) []byte {
			return append(append(dst, "MSG r0 1"...), p[len("PUB r0"):]...)
		}},
		{"redis", []byte("*3\r\n$9\r\nsubscribe\r\n$2\r\nr0\r\n:1\r\n"), func(dst, p []byte) []byte {
			return append(append(dst, "*3\r\n$7\r\nmessage\r\n"...), p[len("*3\r\n$7\r\nPUBLISH\r\n"):]...)
		}},
		{"mosquitto", []byte{0x20, 2, 0, 0, 0x90, 3, 0, 1, 0}, same},
		{"tim", []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n" +
			"\x82\x08\x0c\x11\x13\x10\x38\x01a\x00" + "\x82\x06\x0c\x11\x13\x16\x26\x0a"), unmasked},
		{"centrifugo", []byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n" +
			"\x82\x05\x04\x08\x01\x2a\x00" + "\x82\x07\x00\x04\x08\x01\x32\x00\x00"), pushed},
	}
}

// pushed makes the publication that Centrifugo sends of a command, with the publisher behind it. Every second message
// holds a ping as well.
func pushed(dst, published []byte) []byte {
	b := published[max(2, map[byte]int{126: 4, 127: 10}[published[1]&0x7f])+4:]
	data := bytes.Index(b, []byte("\x0a\x02r0\x12"))
	size, k := binary.Uvarint(b[data+5:])
	payload := b[data+5+k:][:size]
	lengthy := func(tag byte, b []byte) []byte {
		return append(binary.AppendUvarint([]byte{tag}, uint64(len(b))), b...)
	}
	pub := append(lengthy(cfPubData, payload), lengthy(5<<3|2, []byte("\x12\x03abc"))...)
	reply := lengthy(cfPush, append(lengthy(cfPushedTo, []byte("r0")), lengthy(cfPub, pub)...))
	reply = append(binary.AppendUvarint(nil, uint64(len(reply))), reply...)
	if size%2 == 0 {
		reply = append(reply, 0)
	}
	switch n := len(reply); {
	case n < 126:
		dst = append(dst, wsBinary, byte(n))
	case n < 1<<16:
		dst = append(dst, wsBinary, 126, byte(n>>8), byte(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, wsBinary, 127), uint64(n))
	}
	return append(dst, reply...)
}

// unmasked makes what a server sends of a WebSocket message that a client sent with a mask of zeros.
func unmasked(dst, published []byte) []byte {
	head := map[byte]int{126: 4, 127: 10}[published[1]&0x7f]
	head = max(head, 2)
	dst = append(append(dst, published[0], published[1]&0x7f), published[2:head]...)
	return append(dst, published[head+4:]...)
}

func testTarget(t testing.TB, name string) Target {
	t.Helper()
	s, err := New(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Prepare(t.Context(), Plan{Rooms: 1, IDs: []uint64{uint64(testRoom)}}); err != nil {
		t.Fatal(err)
	}
	return s
}

// said is everything a server says to a subscriber: messages of the given sizes.
func (c *conversation) said(t testing.TB, sizes []int) []byte {
	t.Helper()
	st := &Stream{Number: 5}
	pub := testTarget(t, c.target).Publisher([]*Stream{st})
	if c.target == "timedge" {
		hello := codec.AppendServerPreface(nil, codec.VersionMax)
		hello = enc((&codec.Published{Req: 1, Room: testRoom, Pub: 1, Window: 1 << 30}).Append(hello))
		if _, _, err := pub.Scan(hello, nil); err != nil || !pub.Ready() {
			t.Fatalf("publisher is not ready: %v", err)
		}
	}
	if c.target == "limit" {
		_, _, _ = pub.Scan([]byte("k"), nil)
	}
	b := append([]byte(nil), c.greet...)
	for _, size := range sizes {
		out, done := pub.Append(nil, &Message{Stream: st, Due: 1, Size: size})
		if !done {
			t.Fatalf("message of %d bytes was not taken", size)
		}
		b = c.deliver(b, out)
	}
	return b
}

func testSubscriber(t testing.TB, name string) (Subscriber, *verify.Sink) {
	sink := verify.NewSink()
	sink.Check, sink.Every, sink.To = true, true, 1<<62
	tr := verify.NewTracker(sink)
	tr.Strict = true
	return testTarget(t, name).Subscriber(0, tr), sink
}

// feed hands b to a wire in pieces, as reads would give them.
func feed(w Wire, b []byte, piece func(at int) int) error {
	var pending []byte
	for at := 0; at < len(b); {
		n := min(piece(at), len(b)-at)
		pending = append(pending, b[at:at+n]...)
		at += n
		used, _, err := w.Scan(pending, nil)
		if err != nil {
			return err
		}
		pending = append(pending[:0], pending[used:]...)
	}
	if len(pending) > 0 {
		return fmt.Errorf("%d bytes left over", len(pending))
	}
	return nil
}

var testSizes = []int{16, 64, 17, 100, 700, 16, 64}

func TestSubscribersReadAnySplit(t *testing.T) {
	for _, c := range conversations() {
		t.Run(c.target, func(t *testing.T) {
			b := c.said(t, testSizes)
			check := func(name string, piece func(int) int) {
				w, sink := testSubscriber(t, c.target)
				if err := feed(w, b, piece); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if !w.Ready() || sink.Messages != uint64(len(testSizes)) || sink.Violations() != 0 {
					t.Fatalf("%s: ready %v, %d messages, %+v", name, w.Ready(), sink.Messages, sink.Counts)
				}
				if want := uint64(16 + 64 + 17 + 100 + 700 + 16 + 64); sink.Bytes != want {
					t.Fatalf("%s: %d bytes of payload, want %d", name, sink.Bytes, want)
				}
			}
			check("byte by byte", func(int) int { return 1 })
			for i := 1; i < len(b); i++ {
				check(fmt.Sprintf("split at %d", i), func(at int) int {
					if at == 0 {
						return i
					}
					return len(b)
				})
			}
		})
	}
}

func TestLargeMessagesTravelInPieces(t *testing.T) {
	const size = 200_000
	for _, c := range conversations() {
		w, sink := testSubscriber(t, c.target)
		if err := feed(w, c.said(t, []int{size, 16, size}), func(int) int { return 70_000 }); err != nil {
			t.Fatalf("%s: %v", c.target, err)
		}
		if sink.Messages != 3 || sink.Bytes != 2*size+16 || sink.Violations() != 0 {
			t.Errorf("%s: %d messages, %d bytes, %+v", c.target, sink.Messages, sink.Bytes, sink.Counts)
		}
		if piece := testTarget(t, c.target).Caps().Piece; piece > 0 && sink.Frames != 2*4+1 {
			t.Errorf("%s: %d frames, want 9", c.target, sink.Frames)
		}
	}
}

func TestSubscribersSeeLossOnEveryServer(t *testing.T) {
	for _, c := range conversations() {
		w, sink := testSubscriber(t, c.target)
		whole, first := c.said(t, []int{64, 64, 64}), c.said(t, []int{64})
		second := c.said(t, []int{64, 64})
		cut := append(append([]byte(nil), first...), whole[len(second):]...) // without message 2
		if err := feed(w, cut, func(int) int { return 1000 }); err != nil {
			t.Fatalf("%s: %v", c.target, err)
		}
		if sink.Lost != 1 || sink.Messages != 2 {
			t.Errorf("%s: lost %d of %d messages, want 1 of 3", c.target, sink.Lost, sink.Messages)
		}
	}
}

func TestTimedgeGapsAndClosings(t *testing.T) {
	c := conversations()[0]
	w, sink := testSubscriber(t, "timedge")
	b := append([]byte(nil), c.said(t, []int{64})...)
	gap := codec.Gap{Room: testRoom, StreamKey: codec.StreamKey{Pub: 1}, From: 2, To: 9, Reason: codec.GapSlow}
	b = enc(gap.Append(b))
	if err := feed(w, b, func(int) int { return 7 }); err != nil {
		t.Fatal(err)
	}
	if sink.Gaps != 1 || sink.GapFrames["slow"] != 8 || sink.Violations() != 0 {
		t.Errorf("%+v", sink.Counts)
	}
	err := feed(w, enc((&codec.Closed{Room: testRoom, Code: codec.CodeTooSlow}).Append(nil)), func(int) int { return 100 })
	if closed, ok := err.(*ClosedError); !ok || closed.Code != codec.CodeTooSlow {
		t.Errorf("closing came as %v", err)
	}
}

func TestLosslessSubscriberAcknowledgesWhatIsWhole(t *testing.T) {
	w, _ := testSubscriber(t, "timedge")
	hello := codec.AppendServerPreface(nil, codec.VersionMax)
	hello = enc((&codec.Subscribed{Req: 1, Room: testRoom, Policy: codec.PolicyLossless, Window: 4000}).Append(hello))
	b := conversations()[0]
	frames := b.said(t, []int{1000, 1000})[len(b.greet):]
	if _, _, err := w.Scan(hello, nil); err != nil {
		t.Fatal(err)
	}
	_, out, err := w.Scan(frames[:1500], nil) // one message and part of the next: more than an eighth of the window
	if err != nil {
		t.Fatal(err)
	}
	var ack codec.Ack
	if err := ack.Parse(out); err != nil || ack.Seq != 1 || ack.Room != testRoom {
		t.Errorf("acknowledged %+v, %v; want frame 1", ack, err)
	}
}

func TestTimedgePublisherKeepsItsWindow(t *testing.T) {
	st := &Stream{}
	pub := testTarget(t, "timedge").Publisher([]*Stream{st})
	hello := codec.AppendServerPreface(nil, codec.VersionMax)
	hello = enc((&codec.Published{Req: 1, Room: testRoom, Pub: 3, Window: 300}).Append(hello))
	if _, _, err := pub.Scan(hello, nil); err != nil {
		t.Fatal(err)
	}
	var out []byte
	sent := 0
	for range 10 {
		m := &Message{Stream: st, Size: 80}
		var done bool
		if out, done = pub.Append(out, m); !done {
			break
		}
		sent++
	}
	if sent != 3 {
		t.Fatalf("%d messages of 100 bytes in a window of 300", sent)
	}
	ack := codec.Ack{Room: testRoom, StreamKey: codec.StreamKey{Pub: 3}, Seq: 2}
	if _, _, err := pub.Scan(enc(ack.Append(nil)), nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, done := pub.Append(nil, &Message{Stream: st, Size: 80}); !done {
			t.Error("an acknowledgement of two messages did not make room for two")
		}
	}
	if _, done := pub.Append(nil, &Message{Stream: st, Size: 80}); done {
		t.Error("more than the window was sent")
	}
}

func TestScanAllocatesNothing(t *testing.T) {
	for _, c := range conversations() {
		w, _ := testSubscriber(t, c.target)
		sizes := make([]int, 4001)
		for i := range sizes {
			sizes[i] = 64
		}
		b := c.said(t, sizes)
		used, out, err := w.Scan(b[:len(b)/2], nil) // the first half makes what a stream needs
		if err != nil {
			t.Fatal(err)
		}
		rest := b[used:]
		per := testing.AllocsPerRun(10, func() {
			n, _, err := w.Scan(rest[:len(rest)/12], out[:0])
			if err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		})
		if per != 0 {
			t.Errorf("%s: %v allocations per read", c.target, per)
		}
	}
}

// BenchmarkScan is the generator's own cost per delivery, without the read itself.
func BenchmarkScan(b *testing.B) {
	for _, c := range conversations() {
		for _, size := range []int{64, 1024} {
			b.Run(fmt.Sprintf("target=%s/payload=%d", c.target, size), func(b *testing.B) {
				sizes := make([]int, (256<<10)/size)
				for i := range sizes {
					sizes[i] = size
				}
				said := c.said(b, sizes)
				w, sink := testSubscriber(b, c.target)
				sink.Check, sink.Every = false, false
				if _, _, err := w.Scan(said[:len(c.greet)], nil); err != nil {
					b.Fatal(err)
				}
				said = said[len(c.greet):]
				unit := len(said) / len(sizes)
				b.SetBytes(int64(unit))
				b.ReportAllocs()
				b.ResetTimer()
				// Round again, the sequence numbers start afresh: one duplicate run per round, which the fast path
				// does not take. A new tracker each round keeps it out of the figure.
				for n := 0; n < b.N; n += len(sizes) {
					b.StopTimer()
					w, sink = testSubscriber(b, c.target)
					sink.Check, sink.Every = false, false
					if _, _, err := w.Scan(c.greet, nil); err != nil {
						b.Fatal(err)
					}
					b.StartTimer()
					if _, _, err := w.Scan(said, nil); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
