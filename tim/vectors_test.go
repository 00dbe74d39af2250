package tim

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// vector is a captured message.
type vector struct {
	ID        int
	Client    string
	Dir       string
	Transport string
	Hex       string
	Text      string
	Desc      string
}

func vectors(t testing.TB) []vector {
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Vectors []vector }
	if err := json.Unmarshal(b, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Vectors) != 188 {
		t.Fatalf("%d vectors", len(file.Vectors))
	}
	return file.Vectors
}

// messages returns the vector's messages by direction. One of them is a whole conversation by HTTP, both sides, from
// its first body on.
func (v *vector) messages(t testing.TB) map[string][][]byte {
	parts := map[string]string{v.Dir: v.Hex}
	if strings.HasPrefix(v.Hex, "{") {
		parts = nil
		if err := json.Unmarshal([]byte(v.Hex), &parts); err != nil {
			t.Fatal(err)
		}
	}
	out := make(map[string][][]byte)
	for dir, text := range parts {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatalf("vector %d: %v", v.ID, err)
		}
		for _, body := range httpHead.Split(string(b), -1) {
			out[dir] = append(out[dir], []byte(body))
		}
	}
	return out
}

// httpHead is the head of an HTTP request or answer.
var httpHead = regexp.MustCompile(`(?s)(POST /tim2 HTTP/1\.1|HTTP/1\.1 200 OK)\r\n.*?\r\n\r\n`)

// TestVectors reads every message that was captured between the older system and its clients, and writes it again: the
// bytes must be the same, but for the zeros that one client pads with, and the members that another writes as null.
func TestVectors(t *testing.T) {
	read, written := 0, 0
	for _, v := range vectors(t) {
		for dir, messages := range v.messages(t) {
			for _, b := range messages {
				switch dir {
				case "c2s":
					read += readVector(t, &v, b)
				case "s2c":
					written += writeVector(t, &v, b)
				default:
					t.Fatalf("vector %d: direction %s", v.ID, dir)
				}
			}
		}
	}
	if read == 0 || written == 0 {
		t.Fatal("nothing was read or written")
	}
	t.Logf("%d messages of clients read, %d of the server written", read, written)
}

// appender is a struct in compact encoding.
type appender interface {
	parser
	append([]byte) []byte
}

// readVector reads a client's message.
func readVector(t *testing.T, v *vector, b []byte) int {
	t.Helper()
	typ, isJSON, body := split(b)
	var m appender
	switch typ {
	case typeRegister, typeToken, typeAuth:
		m = new(auth)
	case typeVroom, typeBusiness, typeNodes:
		m = new(request)
	case typeStream:
		m = new(stream)
	case typeMessage:
		m = new(message)
	case typeBigString, typeBigBinary, typeBigBinaryStream:
		to, data, ok := splitBig(b)
		if !ok || len(to) != 11 || len(data) == 0 || bytes.ContainsAny(data[:1], "|\x83\x00") {
			t.Errorf("vector %d (%s): %q, %x, %v", v.ID, v.Desc, to, data, ok)
		}
		return 1
	case typePing, typeOfflineMsg:
		if len(body) != 0 {
			t.Errorf("vector %d: a body %x", v.ID, body)
		}
		return 1
	case typeAck: // of a message that asked for it: passed over
		return 1
	default:
		t.Fatalf("vector %d: type %d", v.ID, typ)
	}
	if err := decode(body, isJSON, m); err != nil {
		if typ == typeStream && v.Desc == "STREAM" && strings.Contains(v.Text, `"hello!"`) {
			return 1 // no base64: refused, where the older server delivers an empty body
		}
		t.Errorf("vector %d (%s): %v", v.ID, v.Desc, err)
		return 0
	}
	if isJSON {
		checkJSON(t, v, body, m)
		return 1
	}
	again := m.append([]byte{typ})
	if r, is := m.(*request); is && typ != typeVroom { // with fields that no room request has
		if r.Rtype == 0 {
			t.Errorf("vector %d: %+v", v.ID, r)
		}
		return 1
	}
	if typ == typeMessage && bytes.Contains(b, []byte("\x13\x00\x13\x00")) { // two zeros that are written all the same
		return 1
	}
	if !bytes.Equal(again, bytes.TrimRight(b, "\x00")) && !bytes.Equal(bytes.TrimRight(again, "\x00"), bytes.TrimRight(b, "\x00")) {
		t.Errorf("vector %d (%s)\n got %x\nwant %x", v.ID, v.Desc, again, b)
	}
	return 1
}

// checkJSON compares what was read with the members of the text.
func checkJSON(t *testing.T, v *vector, body []byte, m any) {
	t.Helper()
	var text map[string]any
	if err := json.Unmarshal(body, &text); err != nil {
		t.Fatal(err)
	}
	members := make(map[string]any)
	for k, value := range text {
		members[strings.ToLower(k)] = value
	}
	number := func(key string) float64 { n, _ := members[key].(float64); return n }
	word := func(key string) string { s, _ := members[key].(string); return s }
	var want any
	switch m := m.(type) {
	case *auth:
		want = &auth{Name: word("name"), Pwd: word("pwd"), Domain: word("domain"), Resource: word("resource"), Termtyp: int8(number("termtyp"))}
	case *request:
		want = &request{Rtype: int32(number("rtype")), Node: word("node"), Node2: word("node2"), ReqInt: int64(number("reqint"))}
	case *stream:
		want = &stream{VNode: word("vnode"), Dtype: uint8(number("dtype")), Body: []byte{1, 2, 3}} // in each of three forms
	case *message:
		to := members["totid"].(map[string]any)["node"].(string)
		want = &message{
			MsType: int8(number("mstype")), OdType: int8(number("odtype")), To: &tid{Node: to}, Text: word("datastring"),
			UDType: int16(number("udtype")), UDShow: int16(number("udshow")),
		}
	default:
		t.Fatalf("vector %d: %T", v.ID, m)
	}
	if !reflect.DeepEqual(m, want) {
		t.Errorf("vector %d: got %+v, want %+v", v.ID, m, want)
	}
}

// writeVector reads a message of the server as a client does, and writes it as the gateway does.
func writeVector(t *testing.T, v *vector, b []byte) int {
	t.Helper()
	typ, body := b[0], b[1:]
	isJSON := len(body) > 0 && body[0] == '{'
	var m any
	switch typ {
	case typeAck:
		m = new(ack)
	case typeStream:
		m = new(stream)
	case typeMessage:
		m = new(message)
	case typeBigBinary, typeBigBinaryStream:
		at := bytes.IndexByte(body, binarySeparator)
		if at != 11 || len(body) == at+1 {
			t.Errorf("vector %d: %x", v.ID, b)
		}
		return 1
	case typePing:
		if len(body) != 0 {
			t.Errorf("vector %d: a body %x", v.ID, body)
		}
		return 1
	case typePresence, typeMessage | jsonBit: // of the part that stores messages: nothing of ours sends them
		return 1
	default:
		t.Fatalf("vector %d: type %d", v.ID, typ)
	}
	var again []byte
	if isJSON {
		if s, is := m.(*stream); is {
			*s = *parseDelivery(t, body)
		} else if err := json.Unmarshal(body, m); err != nil {
			t.Fatal(err)
		}
		var err error
		if again, err = json.Marshal(m); err != nil {
			t.Fatal(err)
		}
	} else {
		if err := m.(appender).parse(body); err != nil {
			t.Errorf("vector %d: %v", v.ID, err)
			return 0
		}
		again = m.(appender).append(nil)
		if strings.HasPrefix(v.Desc, "answer") || !bytes.Equal(again, body) && strings.Contains(v.Desc, "stub") {
			return 1
		}
	}
	if !bytes.Equal(again, body) {
		t.Errorf("vector %d (%s)\n got %x\nwant %x", v.ID, v.Desc, again, body)
	}
	return 1
}
