package node

import (
	"bytes"
	"compress/lzw"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	mrand "math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// fields is a value of memberlist's.
type fields = map[string]any

// said returns a message of memberlist's: its type and a value.
func said(typ byte, v any) []byte {
	b := []byte{typ}
	if err := codec.NewEncoder(writeTo{&b}, new(codec.MsgpackHandle)).Encode(v); err != nil {
		panic(err)
	}
	return b
}

type writeTo struct{ b *[]byte }

func (w writeTo) Write(p []byte) (int, error) { *w.b = append(*w.b, p...); return len(p), nil }

func squeezed(algo int, plain []byte) []byte {
	var b bytes.Buffer
	w := lzw.NewWriter(&b, lzw.LSB, 8)
	_, _ = w.Write(plain)
	_ = w.Close()
	return said(msgCompress, fields{"Algo": algo, "Buf": b.Bytes()})
}

func compound(parts ...[]byte) []byte {
	b := []byte{msgCompound, byte(len(parts))}
	for _, p := range parts {
		b = binary.BigEndian.AppendUint16(b, uint16(len(p)))
	}
	return append(b, bytes.Join(parts, nil)...)
}

// babbler is who holds the cluster key and says what it likes.
type babbler struct {
	t  *testing.T
	k  Key
	to string
}

// sealed seals as memberlist does: with a version, 0 being the one that pads.
func (o babbler) sealed(version byte, plain, head []byte) []byte {
	block, err := aes.NewCipher(o.k.derive("gossip", nil, 32))
	if err != nil {
		o.t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		o.t.Fatal(err)
	}
	b := make([]byte, 13)
	b[0] = version
	_, _ = rand.Read(b[1:])
	return gcm.Seal(b, b[1:13], plain, head)
}

func (o babbler) packet(version byte, plain []byte) {
	c, err := net.Dial("udp", o.to)
	if err != nil {
		o.t.Fatal(err)
	}
	_, _ = c.Write(o.sealed(version, plain, nil))
	_ = c.Close()
}

// stream says something in a stream, and waits until the node closes it.
func (o babbler) stream(version byte, plain []byte) {
	c, err := net.Dial("tcp", o.to)
	if err != nil {
		o.t.Fatal(err)
	}
	defer c.Close()
	head := binary.BigEndian.AppendUint32([]byte{sealed}, uint32(len(plain)+29))
	_, _ = c.Write(append(head, o.sealed(version, plain, head)...))
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
		o.t.Errorf("a stream that begins with %x: %v", plain[:min(len(plain), 32)], err)
	}
}

// aliveFields returns what memberlist says of a member that lives, with some fields changed; nil takes one out.
func aliveFields(c *Cluster, change fields) fields {
	at := netip.MustParseAddrPort(c.Addr())
	v := fields{
		"Incarnation": 7, "Node": c.cfg.Name, "Name": c.cfg.Name, "Addr": at.Addr().AsSlice(), "Port": at.Port(),
		"Meta": (*delegate)(c).NodeMeta(512), "Vsn": []byte{1, 5, 2, 2, 5, 4}, "State": 0,
	}
	for k, x := range change {
		if v[k] = x; x == nil {
			delete(v, k)
		}
	}
	return v
}

// states returns what one member tells another of all.
func states(nodes int, user any, each ...fields) []byte {
	b := said(msgPushPull, fields{"Nodes": nodes, "UserStateLen": user, "Join": false})
	for _, v := range each {
		b = append(b, said(0, v)[1:]...)
	}
	return b
}

// TestMemberSpeaksNonsense: who holds the cluster key and says what no member says is left out and counted, and nobody
// else notices. Many of these end a process whose memberlist hears them.
func TestMemberSpeaksNonsense(t *testing.T) {
	key := NewKey()
	a := startNode(t, "a", key)
	b := startNode(t, "b", key, a.Addr())
	a.await(t, "both", has("a b"))
	o := babbler{t, key, a.Addr()}
	good := func(change fields) fields { return aliveFields(b.Cluster, change) }
	bomb := squeezed(0, make([]byte, 16<<20))
	packets := map[string][]byte{
		"nothing":                       {},
		"no such type":                  said(99, fields{}),
		"what users say":                said(msgUser, fields{}),
		"an error":                      said(msgError, fields{"Error": "x"}),
		"states":                        states(0, 0),
		"no value":                      {msgAlive},
		"half a value":                  said(msgAlive, good(nil))[:40],
		"a list":                        said(msgAlive, []int{1, 2, 3}),
		"a map of 4 billion":            {msgAlive, 0xdf, 0xff, 0xff, 0xff, 0xff},
		"bytes of 4 billion":            append([]byte{msgAck, 0x81, 0xa7}, "Payload\xc6\xff\xff\xff\xff"...),
		"lists in lists":                append([]byte{msgAck}, bytes.Repeat([]byte{0x91}, 1000)...),
		"an address of three bytes":     said(msgAlive, good(fields{"Addr": []byte{1, 2, 3}})),
		"no address":                    said(msgAlive, good(fields{"Addr": nil})),
		"a port 0":                      said(msgAlive, good(fields{"Port": 0, "Incarnation": 1000})),
		"two versions":                  said(msgAlive, good(fields{"Vsn": []byte{1, 5}})),
		"no versions":                   said(msgAlive, good(fields{"Vsn": nil})),
		"no name":                       said(msgAlive, good(fields{"Node": ""})),
		"a name of 300 bytes":           said(msgAlive, good(fields{"Node": strings.Repeat("x", 300)})),
		"a name of bytes":               said(msgAlive, good(fields{"Node": "x\xff\xfe"})),
		"a name with a line":            said(msgAlive, good(fields{"Node": "x\ny"})),
		"metadata of 3 bytes":           said(msgAlive, good(fields{"Meta": []byte{LinkVersion, 0, 1}, "Incarnation": 1000})),
		"nobody's address":              said(msgAlive, good(fields{"Node": "x", "Addr": []byte{0, 0, 0, 0}})),
		"everybody's address":           said(msgAlive, good(fields{"Node": "x", "Addr": []byte{224, 0, 0, 1}})),
		"b suspected for ever":          said(msgSuspect, fields{"Incarnation": uint32(1<<32 - 1), "Node": "b", "From": "x"}),
		"b dead for ever":               said(msgDead, fields{"Incarnation": uint32(1<<32 - 2), "Node": "b", "From": "x"}),
		"b alive for ever":              said(msgAlive, good(fields{"Incarnation": uint32(1<<32 - 1)})),
		"a dead for ever":               said(msgDead, fields{"Incarnation": uint32(1<<32 - 1), "Node": "a", "From": "x"}),
		"a question from nowhere":       said(msgPing, fields{"SeqNo": 1, "Node": "a", "SourceAddr": []byte{1, 2, 3}, "SourcePort": 9}),
		"a question for nowhere":        said(msgIndirectPing, fields{"SeqNo": 1, "Target": []byte{1}, "Port": 9, "Node": "b"}),
		"a compound one that is cut":    compound(said(msgPing, fields{"SeqNo": 1}))[:8],
		"a compound one of nothing":     {msgCompound},
		"compound ones in one":          compound(compound(said(msgPing, fields{"SeqNo": 1}))),
		"nothing in a compound one":     compound(nil),
		"compressed, to nothing":        squeezed(0, nil),
		"compressed, in a way unknown":  squeezed(7, said(msgPing, fields{"SeqNo": 1})),
		"compressed twice":              squeezed(0, squeezed(0, said(msgPing, fields{"SeqNo": 1}))),
		"compressed, and no such thing": said(msgCompress, fields{"Algo": 0, "Buf": []byte("garbage")}),
	}
	streams := map[string][]byte{
		"nothing":                  {},
		"no such type":             said(99, fields{}),
		"what users say":           said(msgUser, fields{"UserMsgLen": 1 << 50}),
		"16 MiB in 32 KiB":         bomb,
		"compressed, to nothing":   squeezed(0, nil),
		"no value":                 {msgPushPull},
		"a million members":        states(1<<20, 0),
		"-1 members":               states(-1, 0),
		"20 MiB of a user's":       states(0, 20<<20),
		"-1 bytes of a user's":     states(0, -1),
		"two versions":             states(1, 0, good(fields{"Vsn": []byte{1, 5}})),
		"one version":              states(1, 0, good(fields{"Vsn": []byte{1}})),
		"an address of one byte":   states(1, 0, good(fields{"Addr": []byte{1}})),
		"one member of two":        states(2, 0, good(nil)),
		"two members for one":      states(1, 0, good(nil), good(nil)),
		"b dead for ever":          states(1, 0, good(fields{"Incarnation": uint32(1<<32 - 1), "State": 3})),
		"a question from nowhere":  said(msgPing, fields{"SeqNo": 1, "Node": "a", "SourceAddr": []byte{1, 2, 3}, "SourcePort": 9}),
		"a list instead of a head": said(msgPushPull, []int{1}),
	}
	for name, plain := range packets {
		before := a.Rumors().Nonsense
		o.packet(1, plain)
		counted(t, a, name, before)
	}
	for name, plain := range streams {
		before := a.Rumors().Nonsense
		o.stream(1, plain)
		counted(t, a, name, before)
	}
	for _, plain := range [][]byte{{}, {1, 2, 0xff}, bytes.Repeat([]byte{200}, 16), said(msgPing, fields{"SeqNo": 1})} {
		before := a.Rumors().Nonsense
		o.packet(0, plain)
		counted(t, a, "padded, in a packet", before)
		before = a.Rumors().Nonsense
		o.stream(0, plain)
		counted(t, a, "padded, in a stream", before)
	}
	if n := strings.Count(a.log.String(), `"gossip is left out"`); n == 0 || n > 20 {
		t.Errorf("the log tells %d times of nonsense", n)
	}
	a.undisturbed(t, b)
}

// counted waits until a node has counted nonsense.
func counted(t *testing.T, n *testNode, what string, before uint64) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); n.Rumors().Nonsense == before; time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not counted", what)
		}
	}
}

// undisturbed checks that b has been a member of n's view without interruption, as the process that it is, and waits for
// word of it.
func (n *testNode) undisturbed(t *testing.T, b *testNode) {
	t.Helper()
	if err := b.Drain(); err != nil {
		t.Fatal(err)
	}
	n.await(t, b.Name()+" draining", func(v *View) bool {
		m, is := v.Find(b.Name())
		if !is || m.Birth != b.birth || m.Addr != b.Addr() {
			t.Fatalf("%s sees %+v", n.Name(), v.Members)
		}
		return m.Draining
	})
}

// TestMemberBabbles: changed at random, what members say never costs another member its place, nor the process its life.
func TestMemberBabbles(t *testing.T) {
	key := NewKey()
	a := startNode(t, "a", key)
	b := startNode(t, "b", key, a.Addr())
	a.await(t, "both", has("a b"))
	o := babbler{t, key, a.Addr()}
	rnd := mrand.New(mrand.NewPCG(1, 2))
	some := func(list ...any) any { return list[rnd.IntN(len(list))] }
	value := func() fields {
		of := []*Cluster{a.Cluster, b.Cluster}[rnd.IntN(2)]
		meta := slices.Clone((*delegate)(of).NodeMeta(512))
		meta[2+rnd.IntN(8)] ^= byte(1 << rnd.IntN(8))
		return aliveFields(of, fields{
			"Incarnation": some(0, 1, 2, rnd.IntN(100), rnd.Uint32(), "x"), "Node": some("a", "b", "c", rnd.Int(), nil),
			"Name": some("a", "b", "c", nil), "Port": some(1, 65535, 70000, netip.MustParseAddrPort(of.Addr()).Port()),
			"Meta": some(meta, []byte{1}, []byte("more than there is"), nil), "State": rnd.IntN(6), "From": some("a", "b", "x"),
			"SeqNo": some(rnd.Uint32(), -1, nil), "Payload": some([]byte{1}, 2), "Nack": some(true, 1),
			"Vsn": some([]byte{1, 5, 2, 2, 5, 4}, []byte{1, 5, 2, 2, 5, 4}, []byte{0, 0, 0, 0, 0, 0}, []byte{9, 9, 9, 9, 9, 9}, []byte{}),
		})
	}
	n := 2000
	if raceEnabled || testing.Short() {
		n = 400
	}
	for range n {
		var plain []byte
		switch rnd.IntN(4) {
		case 0:
			if rnd.IntN(10) > 0 {
				continue
			}
			o.stream(1, states(rnd.IntN(3), some(0, 1), value(), value()))
			continue
		case 1:
			plain = compound(said(byte(rnd.IntN(14)), value()), said(byte(rnd.IntN(6)), value()))
		default:
			plain = said(byte(rnd.IntN(14)), value())
		}
		if at := rnd.IntN(2 * len(plain)); at < len(plain) && !bytes.Contains(plain, []byte("Addr")) {
			plain[at] ^= byte(1 << rnd.IntN(8)) // but no address: nothing is to be sent there
		}
		o.packet(1, plain)
	}
	a.undisturbed(t, b)
	b.await(t, "both, to the end", has("a b"))
}

// FuzzSealed: whatever a member says is taken or left out, and nothing more is held of it than a bound allows.
func FuzzSealed(f *testing.F) {
	for _, b := range [][]byte{
		said(msgPing, fields{"SeqNo": 1, "Node": "a"}), compound(said(msgAck, fields{"SeqNo": 1}), said(msgNack, fields{"SeqNo": 1})),
		squeezed(0, said(msgDead, fields{"Incarnation": 1, "Node": "a", "From": "b"})), states(0, 0), {},
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, err := range []error{checkPacket(b, true), checkStream(b)} {
			if err != nil && !errors.Is(err, errNonsense) {
				t.Error(err)
			}
		}
	})
}
