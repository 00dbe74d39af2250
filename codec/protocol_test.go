package codec

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The tests in this file read PROTOCOL.md and compare it with the code and the vectors.

func readProtocol(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// tables returns the cells, without backquotes, of all rows of all tables whose head starts with the given cells.
func tables(t testing.TB, doc string, head ...string) (rows [][]string) {
	t.Helper()
	inside := false
	for line := range strings.Lines(doc) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			inside = false
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.Trim(strings.TrimSpace(cells[i]), "`")
		}
		switch {
		case len(cells) >= len(head) && slices.Equal(cells[:len(head)], head):
			inside = true
		case inside && cells[0] != "---":
			rows = append(rows, cells)
		}
	}
	if len(rows) == 0 {
		t.Fatalf("PROTOCOL.md has no table %q", head)
	}
	return rows
}

// documentFrames returns the frame tables by name.
func documentFrames(t testing.TB) map[string]documentFrame {
	t.Helper()
	return documentTables(t, "type")
}

func documentTables(t testing.TB, head string) map[string]documentFrame {
	t.Helper()
	m := map[string]documentFrame{}
	for _, row := range tables(t, readProtocol(t), head, "name", "direction", "layout") {
		typ, err := strconv.ParseUint(strings.TrimSuffix(row[0], "-0x8f"), 0, 8)
		if err != nil {
			t.Fatal(err)
		}
		layout, ext, err := parseLayout(row[3])
		if err != nil {
			t.Fatalf("%s: %v", row[1], err)
		}
		if ext != (row[1] != "stream") {
			t.Errorf("%s: every control frame, and no stream frame, ends with ext", row[1])
		}
		if _, twice := m[row[1]]; twice {
			t.Errorf("%s is in the tables twice", row[1])
		}
		m[row[1]] = documentFrame{byte(typ), row[1], row[2], layout}
	}
	return m
}

func TestProtocolTypes(t *testing.T) {
	got := map[string]byte{}
	for name, f := range documentFrames(t) {
		got[name] = f.typ
		if !slices.Contains([]string{"C>S", "S>C", "both"}, f.direction) {
			t.Errorf("%s: direction %q", name, f.direction)
		}
	}
	want := typesByName()
	want["stream"] = TypeStream
	if !maps.Equal(got, want) {
		t.Errorf("PROTOCOL.md has %v\nthe code has     %v", got, want)
	}
	for typ := range 256 {
		if c := NewControl(byte(typ)); c != nil && c.Type() != byte(typ) {
			t.Errorf("NewControl(%#x) has the type %#x", typ, c.Type())
		}
		if c := NewControl(byte(typ)); c != nil && typ >= 0x33 {
			t.Errorf("type %#x is reserved", typ)
		}
	}
}

// TestProtocolLayouts encodes every vector by the layouts of the document. TestVectorFrames does so by the code.
func TestProtocolLayouts(t *testing.T) {
	frames := documentFrames(t)
	for _, v := range loadVectors(t).frames() {
		t.Run(v.Name, func(t *testing.T) {
			f, ok := frames[v.Type]
			if !ok {
				t.Fatalf("PROTOCOL.md has no frame %s", v.Type)
			}
			b, err := f.encode(v.Fields, v.Ext)
			if err != nil {
				t.Fatal(err)
			}
			if hex.EncodeToString(b) != v.Hex {
				t.Errorf("the layout gives %x\nthe vector has   %s", b, v.Hex)
			}
		})
	}
}

// typicalFields returns the fields of the first vector of each type.
func typicalFields(t testing.TB) map[string]map[string]any {
	t.Helper()
	m := map[string]map[string]any{}
	for _, v := range loadVectors(t).Frame {
		if _, ok := m[v.Type]; !ok {
			m[v.Type] = v.Fields
		}
	}
	return m
}

// TestProtocolEdges breaks the rules of each layout, one field at a time, in what the document says is valid: the code
// must refuse what the document refuses.
func TestProtocolEdges(t *testing.T) {
	frames := documentFrames(t)
	typical := typicalFields(t)
	check := func(t *testing.T, f documentFrame, loose int, value any, code Code) {
		t.Helper()
		fields := maps.Clone(typical[f.name])
		fields[f.layout[loose].name] = value
		if _, err := f.encode(fields, nil); err == nil {
			t.Fatal("the layout allows it")
		}
		f.layout = slices.Clone(f.layout)
		l := &f.layout[loose]
		l.zero, l.least = true, ""
		switch l.typ {
		case "varint32":
			l.typ = "varint"
		case "bits":
			l.typ = "u8"
		default:
			l.arg++
		}
		b, err := f.encode(fields, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = parseAny(b, MaxFrame)
		checkCode(t, err, code)
	}
	for _, f := range frames {
		for i, l := range f.layout {
			t.Run(f.name+"/"+l.name, func(t *testing.T) {
				switch l.typ {
				case "varint32":
					check(t, f, i, "4294967296", CodeBadVarint)
				case "string":
					check(t, f, i, strings.Repeat("a", l.arg+1), CodeMalformed)
				case "bytes":
					check(t, f, i, strings.Repeat("5a", l.arg+1), CodeMalformed)
				case "bits":
					for bit := 1; bit < 256; bit <<= 1 {
						if bit&l.arg == 0 {
							check(t, f, i, json.Number(strconv.Itoa(bit)), CodeMalformed)
						}
					}
				case "u16", "u48":
					if !l.zero {
						check(t, f, i, json.Number("0"), CodeMalformed)
					}
				case "u64":
					if !l.zero {
						check(t, f, i, "0", CodeMalformed)
					}
				}
			})
		}
	}
}

func TestProtocolCodes(t *testing.T) {
	got := map[Code]string{}
	for _, row := range tables(t, readProtocol(t), "code", "name", "meaning") {
		n, err := strconv.ParseUint(row[0], 10, 16)
		if err != nil {
			t.Fatal(err)
		}
		got[Code(n)] = row[1]
	}
	if want := Codes(); !maps.Equal(got, want) {
		t.Errorf("PROTOCOL.md has %v\nthe code has     %v", got, want)
	}
	names := map[string]bool{}
	for c, name := range got {
		if names[name] {
			t.Errorf("two codes are called %s", name)
		}
		names[name] = true
		if retry := c/100 == 3 || name == "node_lost" || name == "moved"; c.Retry() != retry {
			t.Errorf("%s: Retry is %v", name, c.Retry())
		}
	}
}

func TestProtocolReasonsPoliciesFlags(t *testing.T) {
	doc := readProtocol(t)
	names := func(head ...string) map[int]string {
		m := map[int]string{}
		for _, row := range tables(t, doc, head...) {
			n, err := strconv.ParseInt(row[0], 0, 16)
			if err != nil {
				t.Fatal(err)
			}
			m[int(n)] = row[1]
		}
		return m
	}
	reasons, policies := map[int]string{}, map[int]string{}
	for i := range 256 {
		if s := GapReason(i).String(); !strings.HasPrefix(s, "gap_") {
			reasons[i] = s
		}
		if p := Policy(i); p.Valid() {
			policies[i] = p.String()
			if back, ok := ParsePolicy(p.String()); !ok || back != p {
				t.Errorf("ParsePolicy(%q) = %v, %v", p.String(), back, ok)
			}
		}
	}
	if got := names("reason", "name", "meaning"); !maps.Equal(got, reasons) {
		t.Errorf("PROTOCOL.md has the reasons %v, the code %v", got, reasons)
	}
	if got := names("policy", "name"); !maps.Equal(got, policies) {
		t.Errorf("PROTOCOL.md has the policies %v, the code %v", got, policies)
	}
	flags := map[int]string{int(FlagKey): "key", int(FlagInit): "init", int(FlagMore): "more", int(FlagCont): "cont"}
	if got := names("flag", "name", "meaning"); !maps.Equal(got, flags) {
		t.Errorf("PROTOCOL.md has the flags %v, the code %v", got, flags)
	}
	// The masks of subscribe and publish are checked as layouts; here, which bit is which.
	for _, s := range []string{"`publish` flag 0x01 and `subscribe` flag 0x02 ask for `count`", "`subscribe` flag 0x01 leaves out"} {
		if !strings.Contains(strings.Join(strings.Fields(doc), " "), s) {
			t.Errorf("PROTOCOL.md does not say %q", s)
		}
	}
	if got := names("capability", "name", "meaning"); !maps.Equal(got, map[int]string{int(CapToken): "token"}) {
		t.Errorf("PROTOCOL.md has the capabilities %v", got)
	}
	if PubCount != 1 || SubCount != 2 || SubNoEcho != 1 {
		t.Error("the flags of publish and subscribe are not those of PROTOCOL.md")
	}
}

func TestProtocolLimits(t *testing.T) {
	want := map[string]uint64{
		"max_frame": MaxFrame, "max_handshake_frame": MaxHandshakeFrame, "stream_header": StreamHeaderSize,
		"max_piece": MaxPiece, "default_max_payload": DefaultMaxPayload, "max_seq": MaxSeq, "max_account": MaxAccount,
		"max_text": MaxText, "max_request": MaxRequest, "max_positions": MaxPositions, "preface": PrefaceSize, "room_text": RoomTextLen,
		"version_min": VersionMin, "version_max": VersionMax, "answer_within": uint64(AnswerWithin / time.Second),
	}
	got := map[string]uint64{}
	for _, row := range tables(t, readProtocol(t), "name", "value", "what") {
		n, err := strconv.ParseUint(row[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		got[row[0]] = n
	}
	if !maps.Equal(got, want) {
		t.Errorf("PROTOCOL.md has %v\nthe code has     %v", got, want)
	}
	if v := loadVectors(t).Version; v != VersionMax {
		t.Errorf("vectors are for version %d", v)
	}
}

func TestProtocolRoomNumber(t *testing.T) {
	m := regexp.MustCompile("`(\\w{11})` is\\s+(\\d+)\\s+\\(0x([0-9a-f]+)\\)").FindStringSubmatch(readProtocol(t))
	if m == nil {
		t.Fatal("PROTOCOL.md has no example of a room number")
	}
	id, err := ParseRoomID(m[1])
	if err != nil || strconv.FormatUint(uint64(id), 10) != m[2] || strconv.FormatUint(uint64(id), 16) != m[3] {
		t.Errorf("%s is %d, %#x, %v; PROTOCOL.md says %s, 0x%s", m[1], id, uint64(id), err, m[2], m[3])
	}
	if !strings.Contains(readProtocol(t), "`"+base58+"`") {
		t.Error("PROTOCOL.md has another alphabet")
	}
}

// TestProtocolSession runs the worked example: the fields give the bytes by the layouts and by the code, and each side
// sends only what it may.
func TestProtocolSession(t *testing.T) {
	frames := documentFrames(t)
	blocks := regexp.MustCompile("(?s)```session\n(.*?)```").FindAllStringSubmatch(readProtocol(t), -1)
	if len(blocks) != 2 {
		t.Fatalf("%d example sessions", len(blocks))
	}
	step := regexp.MustCompile(`(?m)^([<>]) ([0-9a-f ]+)\n  (\w+) (\{.*\})$`)
	for _, block := range blocks {
		if steps, lines := step.FindAllString(block[1], -1), strings.Count(block[1], "\n"); lines != 2*len(steps) {
			t.Errorf("%d steps in %d lines", len(steps), lines)
		}
		for _, m := range step.FindAllStringSubmatch(block[1], -1) {
			side, name := m[1], m[3]
			b := unhex(t, strings.ReplaceAll(m[2], " ", ""))
			var fields map[string]any
			if err := unmarshal([]byte(m[4]), &fields); err != nil {
				t.Fatal(err)
			}
			if name == "preface" {
				sessionPreface(t, side, b, fields)
				continue
			}
			f, ok := frames[name]
			if wrong := map[string]string{">": "S>C", "<": "C>S"}[side]; !ok || f.direction == wrong {
				t.Errorf("%s %s: the frame does not go this way", side, name)
			}
			if want, err := f.encode(fields, nil); err != nil || !bytes.Equal(b, want) {
				t.Errorf("%s: example has %x\nthe layout gives %x, %v", name, b, want, err)
			}
			if got := enc(newFrame(t, frameVector{Type: name, Fields: fields}).Append(nil)); !bytes.Equal(b, got) {
				t.Errorf("%s: example has %x\nthe code gives   %x", name, b, got)
			}
		}
	}
}

func sessionPreface(t *testing.T, side string, b []byte, fields map[string]any) {
	t.Helper()
	at := func(name string) uint8 { return uint8(number(fields[name]).Int64()) }
	want := AppendClientPreface(nil, at("lowest"), at("highest"))
	if side == "<" {
		want = AppendServerPreface(nil, at("chosen"))
		if at("lowest") != VersionMin || at("highest") != VersionMax {
			t.Error("the server's preface has other versions than this package")
		}
	}
	if !bytes.Equal(b, want) {
		t.Errorf("%s preface: example has %x, the code gives %x", side, b, want)
	}
}
