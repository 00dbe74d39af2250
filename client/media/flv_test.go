package media_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/timedge/timedge/client/media"
)

// flvTag builds a tag with the size behind it.
func flvTag(kind byte, ms uint32, data string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(kind)<<24|uint32(len(data)))
	b = append(b, byte(ms>>16), byte(ms>>8), byte(ms), byte(ms>>24), 0, 0, 0)
	b = append(b, data...)
	return binary.BigEndian.AppendUint32(b, uint32(len(b)))
}

// What tags of FLV hold: configurations, key pictures and others.
const (
	flvHead   = "FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00"
	avcConfig = "\x17\x00\x00\x00\x00\x01\x64\x00\x1e\xff\xe1\x00\x00"
	avcOther  = "\x17\x00\x00\x00\x00\x01\x4d\x00\x1e\xff\xe1\x00\x00"
	avcKey    = "\x17\x01\x00\x00\x00\x00\x00\x00\x0d\x65\x88\x84\x00\x33\xff\x00\x00\x00\x00\x00\x00\x00"
	// marked, and none
	avcFalse  = "\x17\x01\x00\x00\x00\x00\x00\x00\x0d\x41\x9a\x24\x6c\x41\x4f\x00\x00\x00\x00\x00\x00\x00"
	avcDelta  = "\x27\x01\x00\x00\x00\x00\x00\x00\x0d\x41\x9a\x24\x6c\x41\x4f\x00\x00\x00\x00\x00\x00\x00"
	hvcConfig = "\x90hvc1\x01" // enhanced: sequence start
	hvcKey    = "\x93hvc1\x26\x01\xaf\x00"
	av1Config = "\x90av01\x81"
	av1Key    = "\x91av01\x12\x00\x0a\x01\x00\x32\x02\x10\x00"
	av1Delta  = "\xa1av01\x12\x00\x32\x02\x30\x00"
	aacConfig = "\xaf\x00\x12\x10"
	aacData   = "\xaf\x01\x21\x00"
)

func TestFLV(t *testing.T) {
	type tag struct {
		kind byte
		data string
	}
	const sound, picture, script = 8, 9, 18
	for _, test := range []struct {
		name string
		tags []tag
		want string
	}{
		{"head, then pictures",
			[]tag{{script, "x"}, {picture, avcConfig}, {sound, aacConfig}, {picture, avcKey}, {sound, aacData},
				{picture, avcDelta}, {picture, avcKey}},
			"init 1, key 1, delta 2, key 1"},
		{"a false mark", []tag{{picture, avcConfig}, {picture, avcKey}, {picture, avcFalse}}, "init 1, key 1, delta 1"},
		{"the configuration again",
			[]tag{{picture, avcConfig}, {picture, avcKey}, {picture, avcConfig}, {picture, avcKey}, {picture, avcDelta},
				{picture, avcKey}},
			"init 1, key 2, delta 1, key 1"},
		{"another configuration",
			[]tag{{picture, avcConfig}, {picture, avcKey}, {picture, avcOther}, {picture, avcKey}, {picture, avcDelta},
				{picture, avcKey}},
			"init 1, key 2, delta 2"}, // who joins later than with it lacks it
		{"enhanced H.265", []tag{{picture, hvcConfig}, {picture, hvcKey}}, "init 1, key 1"},
		{"enhanced AV1", []tag{{picture, av1Config}, {picture, av1Key}, {picture, av1Delta}, {picture, av1Key}},
			"init 1, key 1, delta 1, key 1"},
		{"sound before the first picture",
			[]tag{{picture, avcConfig}, {sound, aacConfig}, {sound, aacData}, {picture, avcKey}}, "init 1, delta 1, key 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := []byte(flvHead)
			for i, g := range test.tags {
				file = append(file, flvTag(g.kind, uint32(40*i), g.data)...)
			}
			format, units := split(t, bytes.NewReader(file))
			if format != media.FLV || !bytes.Equal(join(units), file) {
				t.Fatalf("%s, %d units", format, len(units))
			}
			if got := kinds(units); got != test.want {
				t.Errorf("units are %s, want %s", got, test.want)
			}
			// Another file behind it begins anew.
			_, twice := split(t, bytes.NewReader(append(bytes.Clone(file), file...)))
			if got, want := kinds(twice), test.want+", "+test.want; got != want {
				t.Errorf("twice, units are %s, want %s", got, want)
			}
		})
	}
}
