package tim

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
)

// seed adds the clients' captured messages, bodies only.
func seed(f *testing.F, json bool) {
	for _, v := range vectors(f) {
		for _, b := range v.messages(f)["c2s"] {
			if _, is, body := split(b); is == json {
				f.Add(body)
			}
		}
	}
}

// FuzzCompact reads anything as each struct: no panic, and what was read comes back the same when it is written and
// read again.
func FuzzCompact(f *testing.F) {
	seed(f, false)
	f.Add([]byte{0x5c, 0x5c, 0x5c, 0x5c, 0x5c, 0x5c, 0x5c, 0x5c, 0x5c, 0x5c})             // structs within structs
	f.Add([]byte{0x19, 0xfb, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x19, 0x19, 0x19, 0x19, 0x19}) // a list that says it is long
	f.Add([]byte{0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x88})                         // a map that does
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range []appender{new(auth), new(request), new(stream), new(message), new(ack)} {
			if m.parse(b) != nil {
				continue
			}
			again := reflect.New(reflect.TypeOf(m).Elem()).Interface().(appender)
			wrote := m.append(nil)
			if err := again.parse(wrote); err != nil {
				t.Fatalf("%T %+v: written as %x, which is %v", m, m, wrote, err)
			}
			if twice := again.append(nil); !bytes.Equal(wrote, twice) {
				t.Fatalf("%T: %x, then %x", m, wrote, twice)
			}
		}
	})
}

// FuzzJSON is FuzzCompact for JSON.
func FuzzJSON(f *testing.F) {
	seed(f, true)
	f.Add([]byte(`{"body":{"0":1,"1":2}}`))
	f.Add([]byte(`{"BODY":[1,2,-3],"dtype":300}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, m := range []parser{new(auth), new(request), new(message)} {
			_ = decode(b, true, m)
		}
		m := new(stream)
		if decode(b, true, m) != nil {
			return
		}
		wrote, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		again := new(stream)
		if err := decode(wrote, true, again); err != nil || again.VNode != m.VNode || again.Dtype != m.Dtype || !bytes.Equal(again.Body, m.Body) {
			t.Fatalf("%+v, then %+v (%v)", m, again, err)
		}
	})
}

// FuzzBig takes frames apart that have no struct.
func FuzzBig(f *testing.F) {
	f.Add(raw(typeBigBinary, true, "h3WNH6VKPLT", binarySeparator, "data"))
	f.Add(raw(typeBigString, false, "h3WNH6VKPLT", textSeparator, "text"))
	f.Add(raw(typeBigString, true, "h3WNH6VKPLT", 0, "text"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		to, data, ok := splitBig(b)
		if ok && (to == "" || len(to) > maxAddress || 1+len(to)+1+len(data) > len(b) || !bytes.HasSuffix(b, data)) {
			t.Fatalf("%x: %q %x", b, to, data)
		}
	})
}
