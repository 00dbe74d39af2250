package node

import (
	"bytes"
	"compress/lzw"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/memberlist"
)

// memberlist believes whoever holds the cluster key: it makes room for as much as a member announces, and some of what
// none of its own would ever say ends the process. So what is in a sealed packet or stream is looked at here before
// memberlist has it: what is none of its messages, or is out of all proportion, is left out. Who does not hold the key
// is memberlist's to turn away.

// errNonsense says that gossip comes from a member and means nothing.
var errNonsense = errors.New("node: a member speaks nonsense")

const (
	// sealed begins a sealed stream of memberlist's (encryptMsg in its net.go), then comes the length of what is sealed, 4
	// bytes.
	sealed     = 10
	sealedHead = 5
	// maxPlain bounds what a message may hold when it is decompressed.
	maxPlain = 1 << 20
	// maxIncarnation bounds how often a member may have said anew that it lives. memberlist counts in 32 bits, and who is
	// said to have come to their end could never contradict.
	maxIncarnation = 1 << 31
	// maxNesting bounds values within values; memberlist's have two levels.
	maxNesting = 4
)

// memberlist's messages, as in its net.go.
const (
	msgPing = iota
	msgIndirectPing
	msgAck
	msgSuspect
	msgAlive
	msgDead
	msgPushPull
	msgCompound
	msgUser
	msgCompress
	_ // sealed
	msgNack
	msgChecksum
	msgError
)

// rumor is what messages about members, and signs of life, have in common: the fields that memberlist relies on. It
// goes by their names.
type rumor struct {
	Incarnation uint32
	Addr        []byte
	Port        uint16
	Vsn         []byte
	SourceAddr  []byte
	Target      []byte
}

// ofAddress reports whether b is an address.
func ofAddress(b []byte) bool { return len(b) == net.IPv4len || len(b) == net.IPv6len }

// sane says what is wrong with a value that a message of a type holds; nil if memberlist may have it.
func (r *rumor) sane(typ byte) error {
	switch {
	case r.Incarnation >= maxIncarnation:
		return fmt.Errorf("%w: incarnation %d", errNonsense, r.Incarnation)
	case len(r.SourceAddr) > 0 && !ofAddress(r.SourceAddr), typ == msgIndirectPing && !ofAddress(r.Target),
		(typ == msgAlive || typ == msgPushPull) && (!ofAddress(r.Addr) || r.Port == 0):
		return fmt.Errorf("%w: an address that is none", errNonsense)
	case (typ == msgAlive || typ == msgPushPull) && len(r.Vsn) != 6:
		return fmt.Errorf("%w: %d versions", errNonsense, len(r.Vsn))
	}
	return nil
}

// unseal returns what a sealed message holds; known is false if none of the keys opens it, so that no member has sent
// it.
func unseal(keys [][]byte, b, head []byte) (plain []byte, known bool) {
	const versionSize, nonceSize = 1, 12
	if len(b) < versionSize+nonceSize || b[0] > 1 {
		return nil, false
	}
	for _, k := range keys {
		block, err := aes.NewCipher(k)
		if err != nil {
			continue
		}
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			continue
		}
		if plain, err = gcm.Open(nil, b[versionSize:versionSize+nonceSize], b[versionSize+nonceSize:], head); err == nil {
			return plain, true
		}
	}
	return nil, false
}

// checkSealed says what is wrong with a sealed message of a member; nil if memberlist may have it. head is what was
// sealed with it in the clear, of a stream; nil for a packet.
func checkSealed(keys [][]byte, b, head []byte) error {
	plain, known := unseal(keys, b, head)
	switch {
	case !known:
		return nil
	case b[0] != 1: // with padding, which nobody has used since memberlist's first version
		return fmt.Errorf("%w: it is sealed in an old way", errNonsense)
	case head != nil:
		return checkStream(plain)
	}
	if len(plain) > sealedHead && plain[0] == msgChecksum {
		plain = plain[sealedHead:]
	}
	return checkPacket(plain, true)
}

// checkPacket looks at a message of a packet; one that is whole may hold others.
func checkPacket(b []byte, whole bool) error {
	if len(b) == 0 {
		return fmt.Errorf("%w: a message without a type", errNonsense)
	}
	typ, b := b[0], b[1:]
	switch {
	case typ == msgCompress && whole:
		inner, err := decompress(b)
		if err != nil {
			return err
		}
		if len(inner) > 0 && inner[0] == msgCompress {
			break
		}
		return checkPacket(inner, true)
	case typ == msgCompound && whole:
		return eachPart(b, func(part []byte) error { return checkPacket(part, false) })
	case typ <= msgDead, typ == msgNack:
		return checkValue(typ, b)
	}
	return fmt.Errorf("%w: a packet with a message of type %d", errNonsense, typ)
}

// eachPart calls f for each message of a compound one.
func eachPart(b []byte, f func(part []byte) error) error {
	short := fmt.Errorf("%w: a compound message is cut off", errNonsense)
	if len(b) < 1 || len(b) < 1+2*int(b[0]) {
		return short
	}
	lengths, b := b[1:1+2*int(b[0])], b[1+2*int(b[0]):]
	for ; len(lengths) > 0; lengths = lengths[2:] {
		n := int(binary.BigEndian.Uint16(lengths))
		if n > len(b) {
			return short
		}
		if err := f(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// checkStream looks at what a stream holds.
func checkStream(b []byte) error {
	if len(b) > 0 && b[0] == msgCompress {
		var err error
		if b, err = decompress(b[1:]); err != nil {
			return err
		}
	}
	if len(b) == 0 {
		return fmt.Errorf("%w: a message without a type", errNonsense)
	}
	typ, b := b[0], b[1:]
	switch typ {
	case msgPing, msgAck, msgError:
		return checkValue(typ, b)
	case msgPushPull:
		return checkStates(b)
	}
	return fmt.Errorf("%w: a stream with a message of type %d", errNonsense, typ)
}

// checkStates looks at what one member tells another of all.
func checkStates(b []byte) error {
	var head struct{ Nodes, UserStateLen int }
	rest, err := value(b, &head)
	if err != nil {
		return err
	}
	for range head.Nodes {
		var r rumor
		if rest, err = value(rest, &r); err == nil {
			err = r.sane(msgPushPull)
		}
		if err != nil {
			return err
		}
	}
	if head.Nodes < 0 || head.UserStateLen != len(rest) { // this program's have nothing to add
		return fmt.Errorf("%w: %d members, and %d bytes instead of %d", errNonsense, head.Nodes, len(rest), head.UserStateLen)
	}
	return nil
}

// checkValue looks at the value of a message.
func checkValue(typ byte, b []byte) error {
	var r rumor
	if _, err := value(b, &r); err != nil {
		return err
	}
	return r.sane(typ)
}

// decompress returns what a compressed message holds.
func decompress(b []byte) ([]byte, error) {
	var c struct {
		Algo uint8
		Buf  []byte
	}
	if _, err := value(b, &c); err != nil {
		return nil, err
	}
	in := lzw.NewReader(bytes.NewReader(c.Buf), lzw.LSB, 8)
	defer in.Close()
	plain, err := io.ReadAll(io.LimitReader(in, maxPlain+1))
	if err != nil || c.Algo != 0 || len(plain) > maxPlain {
		return nil, fmt.Errorf("%w: what is compressed", errNonsense)
	}
	return plain, nil
}

// value decodes the value that b begins with, and returns what is behind it.
func value(b []byte, into any) (rest []byte, err error) {
	rest, ok := behind(b, maxNesting)
	if !ok || codec.NewDecoderBytes(b[:len(b)-len(rest)], new(codec.MsgpackHandle)).Decode(into) != nil {
		return nil, fmt.Errorf("%w: a value that is none", errNonsense)
	}
	return rest, nil
}

// behind returns what is behind the value of MessagePack that b begins with; false if that is none, or not all there,
// or has more than so many levels.
func behind(b []byte, levels int) (rest []byte, ok bool) {
	if len(b) == 0 || levels == 0 {
		return nil, false
	}
	t, b := b[0], b[1:]
	skip, lengthOf, each := 0, 0, 0 // bytes of the value; bytes of its length, which then counts items of so many values
	switch {
	case t < 0x80, t >= 0xe0, t == 0xc0, t == 0xc2, t == 0xc3: // a number, nothing, false, true
	case t < 0x90: // a map
		return behindAll(b, 2*int(t&0x0f), levels-1)
	case t < 0xa0: // an array
		return behindAll(b, int(t&0x0f), levels-1)
	case t < 0xc0: // a text
		skip = int(t & 0x1f)
	case t <= 0xc6 && t >= 0xc4: // bytes
		lengthOf = 1 << (t - 0xc4)
	case t <= 0xc9 && t >= 0xc7: // an extension: a length, a type, bytes
		lengthOf, skip = 1<<(t-0xc7), 1
	case t <= 0xcb && t >= 0xca: // floats
		skip = 4 << (t - 0xca)
	case t <= 0xcf && t >= 0xcc: // unsigned
		skip = 1 << (t - 0xcc)
	case t <= 0xd3 && t >= 0xd0: // signed
		skip = 1 << (t - 0xd0)
	case t <= 0xd8 && t >= 0xd4: // extensions of a fixed size
		skip = 1 + 1<<(t-0xd4)
	case t <= 0xdb && t >= 0xd9: // texts
		lengthOf = 1 << (t - 0xd9)
	case t == 0xdc, t == 0xdd: // arrays
		lengthOf, each = 2<<(t-0xdc), 1
	case t == 0xde, t == 0xdf: // maps
		lengthOf, each = 2<<(t-0xde), 2
	default:
		return nil, false
	}
	if lengthOf > len(b) {
		return nil, false
	}
	n := 0
	for _, x := range b[:lengthOf] {
		n = n<<8 | int(x)
	}
	if b = b[lengthOf:]; each > 0 {
		return behindAll(b, each*n, levels-1)
	}
	if skip += n; skip > len(b) {
		return nil, false
	}
	return b[skip:], true
}

// behindAll is behind for so many values.
func behindAll(b []byte, n, levels int) ([]byte, bool) {
	if n > len(b) {
		return nil, false
	}
	ok := true
	for ; n > 0 && ok; n-- {
		b, ok = behind(b, levels)
	}
	return b, ok
}

// gossiped is a stream of memberlist's whose message is looked at before it is read.
type gossiped struct {
	net.Conn
	keys   *memberlist.Keyring
	odd    func(from net.Addr, err error)
	looked bool
	head   []byte // what was read to look at it
	err    error
}

func (g *gossiped) Read(b []byte) (int, error) {
	if !g.looked {
		g.looked = true
		g.head, g.err = g.look()
	}
	switch {
	case len(g.head) > 0:
		n := copy(b, g.head)
		g.head = g.head[n:]
		return n, nil
	case g.err != nil:
		return 0, g.err
	}
	return g.Conn.Read(b)
}

// look reads the message and looks at it.
func (g *gossiped) look() ([]byte, error) {
	head := make([]byte, sealedHead)
	if n, err := io.ReadFull(g.Conn, head[:1]); err != nil || head[0] != sealed {
		return head[:n], err // memberlist takes nothing that is not sealed
	}
	if n, err := io.ReadFull(g.Conn, head[1:]); err != nil {
		return head[:1+n], err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxUnproved {
		return nil, errTooMuch
	}
	all := append(head, make([]byte, n)...)
	if got, err := io.ReadFull(g.Conn, all[sealedHead:]); err != nil {
		return all[:sealedHead+got], err
	}
	if err := checkSealed(g.keys.GetKeys(), all[sealedHead:], all[:sealedHead]); err != nil {
		g.odd(g.RemoteAddr(), err)
		return nil, err
	}
	return all, nil
}
