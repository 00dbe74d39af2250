package codec_test

import (
	"fmt"

	"github.com/timedge/timedge/codec"
)

// A reader keeps what has arrived in one buffer and takes whole frames off its front.
func ExampleNext() {
	room, _ := codec.ParseRoomID("NGhMpCbk2wQ")
	key := codec.StreamKey{Pub: 1, Dtype: 7}
	var buf []byte
	buf = enc((&codec.Joined{Room: room, Pub: 1, Account: "alice"}).Append(buf))
	buf = enc((&codec.Gap{Room: room, StreamKey: key, From: 1, To: 699, Reason: codec.GapJoined}).Append(buf))
	buf = enc((&codec.Stream{Room: room, StreamKey: key, Flags: codec.FlagKey, Seq: 700, Payload: []byte("picture")}).Append(buf))
	buf = append(buf, 0, 9, codec.TypePing) // the rest of the ping has not arrived yet

	for {
		frame, typ, err := codec.Next(buf, codec.MaxFrame)
		if err != nil {
			fmt.Println(err)
			return
		}
		buf = buf[len(frame):]
		if typ&codec.TypeStream != 0 {
			var s codec.Stream
			if err := codec.ParseStream(frame, &s); err != nil {
				fmt.Println(err)
				return
			}
			fmt.Printf("frame %d of %v: %s\n", s.Seq, s.StreamKey, s.Payload)
			continue
		}
		c, err := codec.ParseControl(frame)
		if err != nil {
			fmt.Println(err)
			return
		}
		switch m := c.(type) {
		case *codec.Joined:
			fmt.Printf("publisher %d is %s\n", m.Pub, m.Account)
		case *codec.Gap:
			fmt.Printf("frames %d to %d will not come: %s\n", m.From, m.To, m.Reason)
		}
	}
	// Output:
	// publisher 1 is alice
	// frames 1 to 699 will not come: joined
	// frame 700 of {1 7}: picture
	// codec: frame not yet whole
}

func ExampleStream_Append() {
	s := codec.Stream{
		Room: 0x7f2b30f75c1d81ef, StreamKey: codec.StreamKey{Pub: 1, Dtype: 7},
		Flags: codec.FlagKey, Seq: 2, Payload: []byte("pic1"),
	}
	fmt.Printf("% x\n", enc(s.Append(nil)))
	// Output: 00 16 81 7f 2b 30 f7 5c 1d 81 ef 00 01 07 00 00 00 00 00 02 70 69 63 31
}

func ExampleParseControl() {
	frame := enc((&codec.Refused{Req: 4, Code: codec.CodeNotOwner, Text: "only alice may"}).Append(nil))
	c, err := codec.ParseControl(frame)
	if err != nil {
		fmt.Println(err)
		return
	}
	refused := c.(*codec.Refused)
	fmt.Println(refused.Req, refused.Code, refused.Text)
	// Output: 4 not_owner only alice may
}

// Hot callers parse into a frame of their own, which allocates nothing.
func ExampleAck_Parse() {
	frame := enc((&codec.Ack{Room: 1, StreamKey: codec.StreamKey{Pub: 1, Dtype: 7}, Seq: 42}).Append(nil))
	var ack codec.Ack
	if err := ack.Parse(frame); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("all up to", ack.Seq, "has arrived")
	// Output: all up to 42 has arrived
}

func ExampleParseRoomID() {
	id, err := codec.ParseRoomID("NGhMpCbk2wQ")
	fmt.Println(uint64(id), id, err)
	// Output: 9163471705775899119 NGhMpCbk2wQ <nil>
}

// enc returns what an Append has written. Its error says that a field does not fit, which none of these does.
func enc(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
