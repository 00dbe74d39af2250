package engine_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/internal/clock"
)

// greeting is a valid preface and hello.
func greeting(account string) []byte {
	return enc((&codec.Hello{Account: account, Instance: 1}).Append(codec.AppendClientPreface(nil, 1, 1)))
}

// raw makes a frame of a type and a body.
func raw(typ byte, body ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(1+len(body)))
	return append(append(b, typ), body...)
}

// lastWord reads what the server sends until it closes, and returns the error frame at its end.
func (w *wire) lastWord() *codec.Error {
	w.t.Helper()
	w.preface()
	for {
		switch m := w.any().(type) {
		case *codec.Error:
			if x := w.any(); x != nil {
				w.t.Fatalf("%T after an error", x)
			}
			return m
		case nil:
			w.t.Fatal("closed without an error")
		}
	}
}

func TestMalformedInputClosesWithItsCode(t *testing.T) {
	// However long the machine takes, no client's time for its hello is over before the test says so.
	patient := func(t *testing.T) (k *carried, over func()) {
		clk := &leaping{Clock: clock.System}
		k = startCarried(t, func(c *engine.Config) { c.HelloTimeout, c.Clock = time.Hour, clk })
		return k, func() { clk.leap(time.Hour) }
	}
	shared, _ := patient(t)
	// serverFor returns the server of a case, and what is to be done when all is said.
	serverFor := func(t *testing.T, code codec.Code) (k *carried, said func()) {
		if code != codec.CodeHelloTimeout {
			return shared, func() {}
		}
		k, over := patient(t)
		return k, func() {
			k.AwaitAccepted(t, 1)
			over()
		}
	}
	open := greeting("mallory")
	after := func(b []byte) []byte { return append(bytes.Clone(open), b...) }
	stream := func(zeroFrom, zeroTo int) []byte {
		b := enc((&codec.Stream{Room: 1, StreamKey: codec.StreamKey{Pub: 1}, Seq: 1}).Append(nil))
		clear(b[zeroFrom:zeroTo])
		return b
	}
	pref := func(rest []byte) []byte { return append(codec.AppendClientPreface(nil, 1, 1), rest...) }
	req := func(b ...byte) []byte { return append([]byte{1, 0, 0, 0, 0, 0, 0, 0, 1}, b...) } // request 1, room 1
	overlong := bytes.Repeat([]byte{0x80}, 10)

	for _, tc := range []struct {
		name  string
		input []byte
		code  codec.Code
	}{
		{"wrong magic", []byte("GET / HTTP/1.1\r\n\r\n"), codec.CodeBadMagic},
		{"wrong magic, one byte", []byte("X"), codec.CodeBadMagic},
		{"wrong magic, in the fourth byte", []byte("TDGX"), codec.CodeBadMagic},
		{"version 0", codec.AppendClientPreface(nil, 0, 0), codec.CodeVersion},
		{"versions to come", codec.AppendClientPreface(nil, 2, 255), codec.CodeVersion},
		{"versions the wrong way round", codec.AppendClientPreface(nil, 255, 1), codec.CodeVersion},
		{"nothing at all", nil, codec.CodeHelloTimeout},
		{"half a preface", []byte("TDGE\x01"), codec.CodeHelloTimeout},
		{"preface only", pref(nil), codec.CodeHelloTimeout},
		{"half a hello", open[:len(open)-3], codec.CodeHelloTimeout},
		{"ping before hello", pref(enc((&codec.Ping{}).Append(nil))), codec.CodeHelloExpected},
		{"stream before hello", pref(stream(0, 0)), codec.CodeHelloExpected},
		{"unknown type before hello", pref(raw(0x7f)), codec.CodeHelloExpected},
		{"hello that is too long, by its length alone", pref([]byte{0x10, 0x00}), codec.CodeFrameTooLong},
		{"hello without an account", pref(enc((&codec.Hello{Instance: 1}).Append(nil))), codec.CodeBadAccount},
		{"hello cut short", pref(raw(codec.TypeHello, 5, 'a')), codec.CodeMalformed},
		{"hello not UTF-8", pref(raw(codec.TypeHello, 1, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0)), codec.CodeMalformed},
		{"hello with a name too long", pref(raw(codec.TypeHello, append([]byte{0x81, 1}, make([]byte, 129+10)...)...)),
			codec.CodeMalformed},
		{"hello with a token beyond the frame", pref(raw(codec.TypeHello, 1, 'a', 0xff, 0x1f)), codec.CodeMalformed},
		{"frame of length 0", after([]byte{0, 0}), codec.CodeMalformed},
		{"frame longer than any may be", after([]byte{0xff, 0xff}), codec.CodeFrameTooLong},
		{"unknown type", after(raw(0x7f)), codec.CodeUnknownType},
		{"type reserved for node links", after(raw(0x40)), codec.CodeUnknownType},
		{"type reserved for accounts", after(raw(0x33)), codec.CodeUnknownType},
		{"second hello", after(enc((&codec.Hello{Account: "a"}).Append(nil))), codec.CodeUnexpected},
		{"overlong varint", after(raw(codec.TypeStat, append([]byte{0x81, 0x00}, req()[1:]...)...)), codec.CodeBadVarint},
		{"varint above 32 bits", after(raw(codec.TypeStat, append([]byte{0xff, 0xff, 0xff, 0xff, 0x1f}, req()[1:]...)...)),
			codec.CodeBadVarint},
		{"varint above 64 bits", after(raw(codec.TypeRegister, append([]byte{1, 0}, append(overlong, 1)...)...)),
			codec.CodeBadVarint},
		{"request cut short", after(raw(codec.TypeSubscribe, 1, 0, 0)), codec.CodeMalformed},
		{"unknown flag", after(raw(codec.TypeSubscribe, req(0x80, 0)...)), codec.CodeMalformed},
		{"list longer than the frame", after(raw(codec.TypeSubscribe, req(0, 0xff, 0x1f)...)), codec.CodeMalformed},
		{"list longer than its limit", after(raw(codec.TypeSubscribe, req(0, 0x81, 0x20)...)), codec.CodeListTooLong},
		{"unknown critical field", after(raw(codec.TypeStat, req(1, 0)...)), codec.CodeUnknownCritical},
		{"optional fields out of order", after(raw(codec.TypeStat, req(4, 0, 2, 0)...)), codec.CodeMalformed},
		{"bytes behind the last field", after(raw(codec.TypeStat, req(2)...)), codec.CodeMalformed},
		{"stream with an unknown flag", after(raw(0xc0, make([]byte, 17)...)), codec.CodeMalformed},
		{"stream shorter than its header", after(raw(0x80, 1, 2, 3)), codec.CodeMalformed},
		{"stream of room 0", after(stream(3, 11)), codec.CodeMalformed},
		{"stream of publisher 0", after(stream(11, 13)), codec.CodeMalformed},
		{"stream frame 0", after(stream(14, 20)), codec.CodeMalformed},
		{"gap the wrong way round",
			after(raw(codec.TypeGap, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 1, 0)),
			codec.CodeMalformed},
	} {
		for _, way := range []string{"plain", "tls", "ws", "wss"} {
			t.Run(tc.name+"/"+way, func(t *testing.T) {
				t.Parallel()
				k, said := serverFor(t, tc.code)
				w := &wire{t: t, c: k.connect(t, way)}
				w.write(tc.input)
				said()
				if m := w.lastWord(); m.Code != tc.code || m.Text == "" {
					t.Errorf("error %v %q, want %v and a text", m.Code, m.Text, tc.code)
				}
			})
			if len(tc.input) > 200 {
				continue
			}
			t.Run(tc.name+", byte by byte/"+way, func(t *testing.T) {
				t.Parallel()
				k, said := serverFor(t, tc.code)
				w := &wire{t: t, c: k.connect(t, way)}
				for _, b := range tc.input {
					if _, err := w.c.Write([]byte{b}); err != nil {
						break // the server has heard enough
					}
				}
				said()
				if m := w.lastWord(); m.Code != tc.code {
					t.Errorf("error %v %q, want %v", m.Code, m.Text, tc.code)
				}
			})
		}
	}
}

func TestFramesOfAServerAreUnexpected(t *testing.T) {
	k := startCarried(t)
	var goAway codec.GoAway
	frames := []codec.Control{
		&codec.Welcome{}, &goAway, &codec.Registered{}, &codec.Published{Room: 1, Pub: 1}, &codec.Subscribed{Room: 1},
		&codec.Info{Room: 1}, &codec.OK{}, &codec.Refused{}, &codec.Joined{Room: 1, Pub: 1}, &codec.Left{Room: 1, Pub: 1},
		&codec.Closed{Room: 1}, &codec.PushRefused{Room: 1, Pub: 1}, &codec.Count{Room: 1},
	}
	frames[2].(*codec.Registered).Room = 1
	for _, f := range frames {
		for _, way := range []string{"plain", "tls", "ws", "wss"} {
			w := &wire{t: t, c: k.connect(t, way)}
			w.write(enc(f.Append(greeting("mallory"))))
			if m := w.lastWord(); m.Code != codec.CodeUnexpected {
				t.Errorf("frame %#x by %s: error %v", f.Type(), way, m.Code)
			}
		}
	}
}

func TestAnErrorFromTheClientIsNotAnswered(t *testing.T) {
	e := start(t)
	w := login(t, e, "mallory", 1)
	w.send(&codec.Error{Code: codec.CodeMalformed, Text: "you made a mistake"})
	if x := w.any(); x != nil {
		t.Errorf("got %T", x)
	}
}

// A slow hello that never ends is cut off by the same bound as silence: each byte does not buy more time.
func TestHelloByteByByteWithoutEnd(t *testing.T) {
	e := start(t, func(c *engine.Config) { c.HelloTimeout = 100 * time.Millisecond })
	before := descriptors(t)
	w := dial(t, e)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		b := append(codec.AppendClientPreface(nil, 1, 1), 0x0f, 0xf0, codec.TypeHello)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			x := byte('a')
			if i < len(b) {
				x = b[i]
			}
			if _, err := w.c.Write([]byte{x}); err != nil {
				return
			}
			<-tick.C
		}
	}()
	if m := w.lastWord(); m.Code != codec.CodeHelloTimeout {
		t.Errorf("error %v", m.Code)
	}
	<-gone // the server has closed its side wholly, although this one has not
	w.c.Close()
	flat(t, e, before)
}

func TestTurnedAway(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*engine.Config)
		hello  bool
	}{
		{"connections", func(c *engine.Config) { c.MaxConns = 2 }, true},
		{"handshakes", func(c *engine.Config) { c.MaxHandshakes = 2 }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := start(t, tc.change)
			var held []*wire
			for range 2 {
				if tc.hello {
					held = append(held, login(t, e, "a", 1))
				} else {
					held = append(held, dial(t, e))
				}
			}
			w := dial(t, e)
			_, _ = w.c.Write(greeting("late")) // what is sent meanwhile does not cost the client the reason
			if m := w.lastWord(); m.Code != codec.CodeTooManyConns {
				t.Errorf("error %v", m.Code)
			}
			held[0].c.Close()
			for { // the server sees the close some time later
				w := dial(t, e)
				w.write(greeting("b"))
				w.preface()
				if _, ok := w.any().(*codec.Welcome); ok {
					break
				}
			}
		})
	}
}

// script is a session that touches most of what a client may send; what the server answers must not depend on how its
// bytes are cut.
func script(room codec.RoomID) []byte {
	b := greeting("alice")
	b = enc((&codec.Publish{Req: 1, Room: room, Flags: 0}).Append(b))
	b = enc((&codec.Subscribe{Req: 2, Room: room}).Append(b))
	b = enc(grant(3, room, "bob").Append(b))
	for seq := uint64(1); seq <= 5; seq++ {
		f := codec.Stream{Room: room, StreamKey: codec.StreamKey{Pub: 1, Dtype: 3}, Seq: seq,
			Payload: bytes.Repeat([]byte{byte(seq)}, int(seq)*17)}
		b = enc(f.Append(b))
	}
	b = enc((&codec.Gap{Room: room, StreamKey: codec.StreamKey{Pub: 1, Dtype: 3}, From: 6, To: 9}).Append(b))
	b = enc((&codec.Stream{Room: room, StreamKey: codec.StreamKey{Pub: 1, Dtype: 3}, Seq: 10, Flags: codec.FlagKey,
		Payload: []byte("end")}).Append(b))
	b = enc((&codec.Stream{Room: room, StreamKey: codec.StreamKey{Pub: 1, Dtype: 3}, Seq: 12}).Append(b)) // refused
	b = enc(stat(4, room).Append(b))
	return enc((&codec.Ping{Echo: 77}).Append(b))
}

func TestWhereTheCutsAreHasNoMeaning(t *testing.T) {
	e := start(t)
	owner := login(t, e, "alice", 9)
	stream := codec.StreamKey{Pub: 1, Dtype: 3}
	begin := func(write func(w *wire, b []byte)) (*wire, codec.RoomID) {
		room := owner.register(codec.Register{})
		w := dial(t, e)
		write(w, script(room))
		return w, room
	}
	finish := func(w *wire, room codec.RoomID) {
		t.Helper()
		w.preface()
		v := newVerifier(room)
		answers := make(map[byte]int)
		for answers[codec.TypePushRefused] == 0 || answers[codec.TypePong] == 0 || v.stream(stream).next != 11 {
			x := w.any()
			if x == nil {
				t.Fatalf("closed after %v", answers)
			}
			if err := v.take(x); err != nil {
				t.Fatal(err)
			}
			if m, ok := x.(*codec.Error); ok {
				t.Fatalf("error %v %s", m.Code, m.Text)
			}
			if m, ok := x.(*codec.PushRefused); ok && (m.Code != codec.CodeSequence || m.Frames != 1) {
				t.Errorf("push refused %+v", m)
			}
			if m, ok := x.(codec.Control); ok {
				answers[m.Type()]++
			}
		}
		for _, typ := range []byte{
			codec.TypeWelcome, codec.TypePublished, codec.TypeSubscribed, codec.TypeOK, codec.TypeInfo, codec.TypePong,
			codec.TypePushRefused,
		} {
			if answers[typ] != 1 {
				t.Errorf("%d frames of type %#x", answers[typ], typ)
			}
		}
		if s := v.stream(stream); s.frames != 6 || v.missed(codec.GapPublisher) != 4 || s.payload != 17*15+3 {
			t.Errorf("%d frames of %d bytes, %d given up", s.frames, s.payload, v.missed(codec.GapPublisher))
		}
		w.c.Close()
	}
	t.Run("whole", func(t *testing.T) { finish(begin(func(w *wire, b []byte) { w.write(b) })) })
	t.Run("byte by byte", func(t *testing.T) {
		finish(begin(func(w *wire, b []byte) {
			for i := range b {
				w.write(b[i : i+1])
			}
		}))
	})
	t.Run("cut in two at every byte", func(t *testing.T) {
		step := 1
		if testing.Short() || raceEnabled {
			step = 7
		}
		var ws []*wire
		var rooms []codec.RoomID
		for cut := 1; cut < len(script(1)); cut += step {
			w, room := begin(func(w *wire, b []byte) {
				w.write(b[:cut])
				runtime.Gosched()
				w.write(b[cut:])
			})
			ws, rooms = append(ws, w), append(rooms, room)
		}
		for i, w := range ws {
			finish(w, rooms[i])
		}
	})
}

// After a valid hello anything may come, by every way. Whatever it is, the server stays up, closes with a code or
// answers, and holds no memory for it.
func TestRandomFramesAfterAValidHello(t *testing.T) {
	k := startCarried(t, quiet, func(c *engine.Config) { c.Rooms.MaxRooms = 100 })
	owner := login(t, k.Engine, "alice", 1)
	room := owner.register(codec.Register{})
	okayed(t, owner.ask(grant(1, room, "mallory")), 1)
	frames := 1_000_000
	if testing.Short() || raceEnabled {
		frames = 50_000
	}
	rnd, fds := rand.New(rand.NewPCG(1, 2)), descriptors(t)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	codes := make(map[codec.Code]int)
	// The server makes such clients wait, for what their frames cost it. So a crowd of them waits at the same time.
	const crowd = 16
	for sent := 0; sent < frames; {
		done := make(chan codec.Code, crowd)
		begun := 0
		for ; begun < crowd && sent < frames; begun++ {
			way := []string{"plain", "tls", "ws", "wss"}[begun%4]
			w := &wire{t: t, c: k.connect(t, way)}
			hello := &codec.Hello{Account: "mallory", Instance: uint64(1 + begun), Caps: codec.CapToken}
			b := enc(hello.Append(codec.AppendClientPreface(nil, 1, 1)))
			n := min(frames-sent, 5000)
			for range n {
				b = appendRandom(b, rnd, room)
			}
			sent += n
			go func() {
				last := make(chan codec.Code)
				go func() { last <- finalCode(w, make([]byte, 64<<10)) }()
				_, _ = w.c.Write(b) // fails when the server has closed
				_ = socketOf(w.c).CloseWrite()
				code := <-last
				w.c.Close()
				done <- code
			}()
		}
		for range begun {
			codes[<-done]++
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("heap grew by %d bytes", grown)
	}
	t.Logf("last words: %v", codes)
	owner.send(&codec.Ping{Echo: 1})
	next[*codec.Pong](owner)
	flat(t, k.Engine, fds)
}

// appendRandom appends a frame: mostly a legal one with values from a small range, so that it gets far, and now and
// then garbage of a known or unknown type.
func appendRandom(b []byte, rnd *rand.Rand, room codec.RoomID) []byte {
	if rnd.IntN(4) == 0 {
		room = codec.RoomID(rnd.IntN(3))
	}
	key := codec.StreamKey{Pub: uint16(1 + rnd.IntN(4)), Dtype: uint8(rnd.IntN(3))}
	seq, req := uint64(1+rnd.IntN(50)), rnd.Uint32()
	name := string(rune('a' + rnd.IntN(5)))
	switch rnd.IntN(16) {
	case 0:
		return enc((&codec.Publish{Req: req, Room: room, Flags: uint8(rnd.IntN(2))}).Append(b))
	case 1:
		have := []codec.Position{{StreamKey: key, Last: seq}, {StreamKey: key, Last: 1}}
		return enc((&codec.Subscribe{Req: req, Room: room, Flags: uint8(rnd.IntN(4)), Have: have[:rnd.IntN(3)]}).Append(b))
	case 2:
		return enc(unsubscribe(req, room).Append(b))
	case 3:
		return enc(unpublish(req, room).Append(b))
	case 4:
		return enc(stat(req, room).Append(b))
	case 5:
		return enc(remove(req, room).Append(b))
	case 6:
		return enc((&codec.Register{Req: req, Policy: codec.Policy(rnd.IntN(5)),
			IdleMillis: rnd.Uint64() >> rnd.IntN(64)}).Append(b))
	case 7:
		return enc(grant(req, room, name).Append(b))
	case 8:
		return enc(revoke(req, room, name).Append(b))
	case 9:
		return enc((&codec.Gap{Room: max(room, 1), StreamKey: key, From: seq, To: seq + uint64(rnd.IntN(5))}).Append(b))
	case 10:
		return enc((&codec.Ack{Room: max(room, 1), StreamKey: key, Seq: seq}).Append(b))
	case 11:
		if rnd.IntN(50) == 0 {
			return enc((&codec.Token{Req: req, Token: []byte(name)}).Append(b))
		}
		if rnd.IntN(500) > 0 {
			return enc((&codec.Ping{Echo: rnd.Uint64()}).Append(b))
		}
		body := make([]byte, rnd.IntN(60))
		for i := range body {
			body[i] = byte(rnd.Uint32())
		}
		return append(b, raw(byte(rnd.Uint32()), body...)...)
	default:
		f := codec.Stream{Room: max(room, 1), StreamKey: key, Seq: seq, Flags: codec.Flags(rnd.IntN(16)),
			Payload: make([]byte, rnd.IntN(200))}
		return enc(f.Append(b))
	}
}

// finalCode reads to the end and returns the code of the error frame, or 0.
func finalCode(w *wire, sink []byte) (code codec.Code) {
	var buf []byte
	_ = w.c.SetReadDeadline(time.Now().Add(patience))
	skip := codec.PrefaceSize
	for {
		n, err := w.c.Read(sink)
		buf = append(buf, sink[:n]...)
		if skip > 0 && len(buf) >= skip {
			buf, skip = buf[skip:], 0
		}
		for skip == 0 {
			f, typ, ferr := codec.Next(buf, codec.MaxFrame)
			if ferr != nil {
				break
			}
			if typ == codec.TypeError {
				var m codec.Error
				if m.Parse(f) == nil {
					code = m.Code
				}
			}
			buf = buf[len(f):]
		}
		if err != nil {
			return code
		}
	}
}
