package codec

import "testing"

// TestHotPathAllocs: 0 allocations per frame wherever frames or acknowledgements pass.
func TestHotPathAllocs(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates on its own")
	}
	key := StreamKey{Pub: 3, Dtype: 1}
	stream := Stream{Room: 1, StreamKey: key, Flags: FlagKey, Seq: 700, Payload: make([]byte, 1024)}
	streams := enc(stream.Append(enc(stream.Append(nil))))
	ack, gap, ping, pong := Ack{1, key, 7}, Gap{1, key, 1, 6, GapJoined}, Ping{1}, Pong{1}
	ackFrame, gapFrame, pingFrame, pongFrame := enc(ack.Append(nil)), enc(gap.Append(nil)), enc(ping.Append(nil)), enc(pong.Append(nil))
	dst := make([]byte, 0, MaxFrame)
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	cases := []struct {
		name string
		f    func()
	}{
		{"Next and ParseStream", func() {
			for b := streams; len(b) > 0; {
				frame, _, err := Next(b, MaxFrame)
				must(err)
				must(ParseStream(frame, &stream))
				b = b[len(frame):]
			}
		}},
		{"Next on a part", func() { _, _, _ = Next(streams[:100], MaxFrame) }},
		{"Next on a fault", func() { _, _, _ = Next([]byte{0xff, 0xff}, MaxFrame) }},
		{"Stream.Append", func() { dst = enc(stream.Append(dst[:0])) }},
		{"AppendStreamHeader", func() { dst = enc(AppendStreamHeader(dst[:0], &stream, 1024)) }},
		{"Ack.Append", func() { dst = enc(ack.Append(dst[:0])) }},
		{"Ack.Parse", func() { must(ack.Parse(ackFrame)) }},
		{"Gap.Append", func() { dst = enc(gap.Append(dst[:0])) }},
		{"Gap.Parse", func() { must(gap.Parse(gapFrame)) }},
		{"Ping.Append", func() { dst = enc(ping.Append(dst[:0])) }},
		{"Ping.Parse", func() { must(ping.Parse(pingFrame)) }},
		{"Pong.Append", func() { dst = enc(pong.Append(dst[:0])) }},
		{"Pong.Parse", func() { must(pong.Parse(pongFrame)) }},
	}
	for _, c := range cases {
		if n := testing.AllocsPerRun(100, c.f); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
	if len(gapFrame) != GapSize {
		t.Errorf("a gap is %d bytes, GapSize says %d", len(gapFrame), GapSize)
	}
	if n := len(streams)/2 - len(stream.Payload); n != StreamHeaderSize {
		t.Errorf("%d bytes around a payload, StreamHeaderSize says %d", n, StreamHeaderSize)
	}
}
