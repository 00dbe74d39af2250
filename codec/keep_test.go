package codec

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"reflect"
	"testing"
)

// TestKeep: what a room keeps travels in register, mirrored and state, beside other optional fields, and a value that
// breaks its layout is nothing.
func TestKeep(t *testing.T) {
	cases := loadVectors(t).Keep
	if len(cases) < 5 {
		t.Fatalf("%d vectors", len(cases))
	}
	for _, c := range cases {
		want := Keep{c.HistoryBytes, c.HistoryMillis, c.Occupied}
		field := append([]byte{tagKeep, byte(len(c.Hex) / 2)}, unhex(t, c.Hex)...)
		if want == (Keep{}) {
			field = nil
		}
		head := RoomHead{Room: 1, Relay: "n1", Owner: "alice", RoomSettings: RoomSettings{IdleMillis: 5, Keep: want}}
		lives := RoomState{RoomHead: head, Publishers: []PublisherState{{1, "bob", 2, Life{3, 4, 5}}}, Seen: []Life{{3, 4, 5}}}
		for _, f := range []struct{ with, got Control }{
			{&Register{Req: 7, IdleMillis: 5, Keep: want}, &Register{Keep: Keep{9, 9, true}}}, // of the frame before
			{&Mirrored{Req: 7, RoomHead: head}, &Mirrored{RoomHead: RoomHead{RoomSettings: RoomSettings{Keep: Keep{9, 9, true}}}}},
			{&State{Req: 7, RoomState: RoomState{RoomHead: head}}, &State{RoomState: RoomState{RoomHead: RoomHead{RoomSettings: RoomSettings{Keep: Keep{9, 9, true}}}}}},
			{&State{Req: 7, RoomState: lives}, &State{}},
		} {
			b := enc(f.with.Append(nil))
			if !c.Read && !bytes.HasSuffix(b, field) {
				t.Errorf("%s: %T encoded %x, wanted at its end %x", c.Name, f.with, b, field)
			}
			if err := f.got.Parse(b); err != nil || !reflect.DeepEqual(f.got, f.with) {
				t.Errorf("%s: parsed %+v, %v; wanted %+v", c.Name, f.got, err, f.with)
			}
		}
		// As others may write it.
		b := append(enc((&Register{Req: 7}).Append(nil)), tagKeep, byte(len(c.Hex)/2))
		b = append(b, unhex(t, c.Hex)...)
		binary.BigEndian.PutUint16(b, uint16(len(b)-LengthSize))
		var got Register
		if err := got.Parse(b); err != nil || got.Keep != want {
			t.Errorf("%s: parsed %s as %+v, %v", c.Name, hex.EncodeToString(b), got.Keep, err)
		}
	}
}
