package engine_test

import (
	"encoding/binary"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/timedge/timedge/codec"
)

// The tests of this file send every frame that a client may send with every field at its edges and beyond, by the
// layouts of codec/PROTOCOL.md.

// edgeField is a field of a layout: a typical value, and those at its edges and beyond, as bytes.
type edgeField struct {
	name    string
	typical []byte
	edges   map[string][]byte
}

var edgeType = regexp.MustCompile(`^(\w+)(?:\((.*)\))?!?(?:>=\w+)?$`)

func uvarint(v uint64) []byte { return binary.AppendUvarint(nil, v) }

// newEdgeField makes a field of name:type. The typical room is the one given.
func newEdgeField(t *testing.T, name, typ string, room codec.RoomID) edgeField {
	t.Helper()
	m := edgeType.FindStringSubmatch(typ)
	if m == nil {
		t.Fatalf("PROTOCOL.md has a type %q", typ)
	}
	f := edgeField{name: name, edges: map[string][]byte{"missing": nil}}
	fixed := func(n int) {
		f.typical = append(make([]byte, n-1), 1)
		f.edges["lowest"], f.edges["highest"] = make([]byte, n), []byte(strings.Repeat("\xff", n))
	}
	switch m[1] {
	case "u8":
		fixed(1)
	case "u16":
		fixed(2)
	case "u48":
		fixed(6)
	case "u64":
		fixed(8)
		if name == "room" {
			f.typical = binary.BigEndian.AppendUint64(nil, uint64(room))
			f.edges["one above"] = binary.BigEndian.AppendUint64(nil, uint64(room)+1)
		}
	case "varint", "varint32":
		f.typical = uvarint(60_000)
		f.edges["lowest"], f.edges["highest"] = uvarint(0), uvarint(1<<64-1)
		f.edges["32 bits"], f.edges["33 bits"] = uvarint(1<<32-1), uvarint(1<<32)
		f.edges["overlong"], f.edges["without end"] = []byte{0x81, 0}, []byte(strings.Repeat("\xff", 11))
	case "bits":
		mask, err := strconv.ParseUint(m[2], 0, 8)
		if err != nil {
			t.Fatal(err)
		}
		f.typical = []byte{0}
		f.edges["all"], f.edges["all and others"] = []byte{byte(mask)}, []byte{0xff}
	case "bytes", "string":
		n, err := strconv.ParseUint(m[2], 0, 32)
		if err != nil {
			t.Fatal(err)
		}
		f.typical = append(uvarint(3), "bob"...)
		long := func(n uint64) []byte { return append(uvarint(n), strings.Repeat("a", int(n))...) }
		f.edges["empty"], f.edges["longest"], f.edges["too long"] = long(0), long(n), long(n+1)
		f.edges["beyond the frame"], f.edges["longer than memory"] = append(uvarint(n), 'a'), uvarint(1<<64-1)
		f.edges["not UTF-8"] = append(uvarint(2), 0xff, 0xfe)
	case "list":
		f.typical = uvarint(0)
		var one []byte
		for _, x := range edgeFields(t, m[2], room) {
			one = append(one, x.typical...)
		}
		f.edges["one"], f.edges["twice the same"] = append(uvarint(1), one...), append(append(uvarint(2), one...), one...)
		f.edges["more than the frame"], f.edges["more than memory"] = append(uvarint(1000), one...), uvarint(1<<64-1)
	default:
		t.Fatalf("PROTOCOL.md has a type %q", typ)
	}
	return f
}

// edgeFields reads a layout without its ext.
func edgeFields(t *testing.T, layout string, room codec.RoomID) (fields []edgeField) {
	t.Helper()
	depth, start := 0, 0
	for i, c := range layout + " " {
		switch {
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == ' ' && depth == 0:
			if name, typ, ok := strings.Cut(layout[start:i], ":"); ok {
				fields = append(fields, newEdgeField(t, name, typ, room))
			}
			start = i + 1
		}
	}
	return fields
}

// clientFrames are the rows of PROTOCOL.md's tables of control frames that a client may send.
func clientFrames(t *testing.T) (rows [][]string) {
	t.Helper()
	doc, err := os.ReadFile("../codec/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| (0x[0-3][0-9a-f]) \\| `(\\w+)` \\| (C>S|both) \\| `(.*) ext` \\|$")
	for _, m := range row.FindAllStringSubmatch(string(doc), -1) {
		rows = append(rows, m[1:])
	}
	if len(rows) < 15 {
		t.Fatalf("PROTOCOL.md has %d frames of clients", len(rows))
	}
	return rows
}

func TestEveryFieldAtItsEdges(t *testing.T) {
	e := start(t)
	owner := login(t, e, "alice", 1)
	room, victim := owner.register(calm), owner.register(codec.Register{})
	okayed(t, owner.ask(grant(1, room, "mallory")), 1)
	for range 10 { // what is allocated once
		login(t, e, "mallory", 1).c.Close()
	}
	e.AwaitSessions(t, 1)
	before, cases := descriptors(t), 0
	codes := map[codec.Code]int{}
	for _, f := range clientFrames(t) {
		typ, err := strconv.ParseUint(f[0], 0, 8)
		if err != nil {
			t.Fatal(err)
		}
		if f[1] == "error" {
			continue // ends the session without an answer: TestAnErrorFromTheClientIsNotAnswered
		}
		fields := edgeFields(t, f[3], room)
		for i, edged := range fields {
			for edge, value := range edged.edges {
				var body []byte
				for k, x := range fields {
					if k == i {
						body = append(body, value...)
					} else {
						body = append(body, x.typical...)
					}
				}
				for _, state := range []string{"idle", "in the room"} {
					cases++
					name := f[1] + "/" + edged.name + "/" + edge + "/" + state
					w := dial(t, e)
					b := codec.AppendClientPreface(nil, 1, 1)
					if f[1] != "hello" {
						b = enc((&codec.Hello{Account: "mallory", Instance: 1, Caps: codec.CapToken}).Append(b))
					}
					if state == "in the room" && f[1] != "hello" {
						b = enc((&codec.Publish{Req: 1, Room: room}).Append(b))
						b = enc((&codec.Subscribe{Req: 2, Room: room}).Append(b))
					}
					b = append(b, raw(byte(typ), body...)...)
					w.write(enc((&codec.Ping{Echo: 4711}).Append(b)))
					code, alive := w.outcome(t, name)
					if !alive {
						codes[code]++
						if code/100 != 1 && code != codec.CodeBadAccount {
							t.Errorf("%s: closed with %v", name, code)
						}
					}
					w.c.Close()
				}
			}
		}
	}
	e.AwaitSessions(t, 1)
	// What mallory has no right to is as it was.
	if m, ok := owner.ask(stat(5, victim)).(*codec.Info); !ok || m.Publishers != 0 || m.Subscribers != 0 || m.Frames != 0 {
		t.Errorf("the other room is %+v", m)
	}
	flat(t, e, before)
	t.Logf("%d cases, closed with %v", cases, codes)
}

// outcome reads until the pong, or the error before the close.
func (w *wire) outcome(t *testing.T, name string) (code codec.Code, alive bool) {
	t.Helper()
	w.preface()
	for {
		switch m := w.any().(type) {
		case *codec.Pong:
			if m.Echo == 4711 {
				return 0, true
			}
		case *codec.Error:
			if m.Text == "" {
				t.Errorf("%s: an error without a text", name)
			}
			return m.Code, false
		case nil:
			t.Fatalf("%s: closed without an error", name)
		}
	}
}

// Room numbers have 64 random bits: neither those beside one's own nor random ones lead anywhere.
func TestGuessingRoomNumbers(t *testing.T) {
	e := start(t)
	before := descriptors(t)
	owner, mallory := login(t, e, "alice", 1), login(t, e, "mallory", 1)
	rooms := map[codec.RoomID]bool{}
	var highest codec.RoomID
	for range 100 {
		r := owner.register(codec.Register{})
		rooms[r] = true
		highest = max(highest, r)
	}
	if highest < 1<<56 { // for 100 random numbers: once in 2^800
		t.Errorf("the highest of 100 numbers is %#x", uint64(highest))
	}
	var b []byte
	guesses := uint32(0)
	guess := func(r codec.RoomID) {
		if r == 0 || rooms[r] {
			return
		}
		guesses++
		b = enc((&codec.Subscribe{Req: guesses, Room: r}).Append(b))
		guesses++
		b = enc((&codec.Publish{Req: guesses, Room: r}).Append(b))
		guesses++
		b = enc(stat(guesses, r).Append(b))
	}
	for r := range rooms {
		for d := codec.RoomID(1); d <= 10; d++ {
			guess(r + d)
			guess(r - d)
			guess(r ^ 1<<(6*d))
		}
	}
	go func() { _, _ = mallory.c.Write(b) }()
	for range guesses {
		if m, ok := mallory.any().(*codec.Refused); !ok || m.Code != codec.CodeRoomUnknown {
			t.Fatalf("a guess was answered with %+v", m)
		}
	}
	owner.c.Close()
	mallory.c.Close()
	flat(t, e, before)
}
