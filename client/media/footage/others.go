package footage

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// others are inputs as recorders, cameras and packagers write them that are neither of those that fell short nor their
// nearest relatives.
func others() (all []Input) {
	for _, v := range []struct {
		name, ext, format, args string
	}{
		{"manytracks.ts", "ts", ts, " -map 0:v" + strings.Repeat(" -map 1:a", 24) + h264 + aac}, // maps of several packets
		{"soundfirst.mp4", "mp4", mp4, " -map 1:a -map 0:v" + h264 + aac + frag},
		{"clock.mp4", "mp4", mp4, h264 + aac + frag + "-write_prft wallclock"},
		{"delayed.mp4", "mp4", mp4,
			h264 + aac + "-f mp4 -movflags frag_keyframe+empty_moov+default_base_moof+delay_moov"},
		{"negative.mp4", "mp4", mp4,
			h264 + aac + "-f mp4 -movflags frag_keyframe+empty_moov+default_base_moof+negative_cts_offsets"},
		{"hev1.mp4", "mp4", mp4, h265 + "-tag:v hev1" + aac + frag},
		{"avc3.mp4", "mp4", mp4, h264 + "-tag:v avc3" + aac + frag},
		{"av1e.mp4", "mp4", mp4, av1 + aac + "-f mp4 -movflags frag_every_frame+empty_moov+default_base_moof"},
		{"timecode.mov", "mov", mp4,
			h264 + aac + "-timecode 00:00:10:00 -movflags frag_keyframe+empty_moov+default_base_moof"},
		{"vfw.mkv", "mkv", webm, " -c:v msmpeg4v2 -g 25" + opus + "-live 1"},
		{"alpha.webm", "webm", webm,
			" -c:v libvpx -pix_fmt yuva420p -auto-alt-ref 0 -deadline realtime -cpu-used 8 -g 25 -b:v 300k" + opus + "-live 1"},
		{"short.mkv", "mkv", webm, h264 + aac + "-cluster_time_limit 200 -live 1"},
		{"adpcm.flv", "flv", flv, h264 + "-c:a adpcm_swf -ar 44100"},
	} {
		all = append(all, Input{Name: v.name, Format: v.format, Seconds: 5, Keys: 2, make: encoded(v.ext, 5, v.args)})
	}
	return append(all, []Input{
		{Name: "midstart.ts", Format: ts, Seconds: 4.8, Keys: 3, Damaged: true, What: "begins in the midst of a packet",
			make: edited("base.ts", without(0, 77), withoutFirst(0.4))},
		{Name: "midstart.m2ts", Format: ts, Seconds: 4.8, Keys: 3, Damaged: true, What: "the same, packets of 192 bytes",
			make: edited("m2ts.m2ts", without(0, 100), withoutFirst(0.4))},
		{Name: "badsync.m2ts", Format: ts, Seconds: 8, Keys: 7, Damaged: true, What: "a damaged sync byte",
			make: edited("m2ts.m2ts", func(b []byte) []byte { b[fraction(b, 0.3)/192*192+4] = 0x49; return b })},
		{Name: "holes.204", Format: ts, Seconds: 8, Keys: 6, Damaged: true, What: "bytes missing, packets of 204 bytes",
			make: edited("parity.ts", without(0.2, 20), without(0.5, 2000))},
		{Name: "loop.m2ts", Format: ts, Seconds: 16, Keys: 15, Damaged: true, What: "twice the same clip",
			make: joined("m2ts.m2ts", "m2ts.m2ts")},
		{Name: "setsonce265.ts", Format: ts, Seconds: 5, Keys: 4, What: "parameter sets once, H.265",
			make: edited("h265.ts", setsOnce265)},
		{Name: "allrai265.ts", Format: ts, Seconds: 5, Keys: 4, What: "all marked, H.265",
			make: edited("h265.ts", allMarked)},
		{Name: "noraimpeg2.ts", Format: ts, Seconds: 5, Keys: 4, What: "no marks, MPEG-2",
			make: edited("mpeg2b.ts", unmarked)},
		{Name: "mute.ts", Format: ts, Seconds: 5, Keys: 4, What: "no sound", make: encoded("ts", 5, " -an"+h264)},
		{Name: "soundlater.ts", Format: ts, Seconds: 10, Keys: 8, Damaged: true, What: "sound that begins in the middle",
			make: func(m *Maker) ([]byte, error) {
				first, err := m.read("mute.ts")
				if err != nil {
					return nil, err
				}
				second, err := encoded("ts", 5, h264+aac+"-output_ts_offset "+m.length(5))(m)
				return append(first, second...), err
			}},
		{Name: "loop.mp4", Format: mp4, Seconds: 16, Keys: 16, Damaged: true, What: "twice the same clip",
			make: joined("base.mp4", "base.mp4")},
		{Name: "allsyncav1.mp4", Format: mp4, Seconds: 5, Keys: 4, What: "all marked, AV1",
			make: edited("av1e.mp4", allSync)},
		{Name: "loop.flv", Format: flv, Seconds: 10, Keys: 8, Damaged: true, What: "twice the same clip",
			make: joined("h264.flv", "h264.flv")},
		{Name: "noneflagged.flv", Format: flv, Seconds: 5, Keys: 4, What: "no picture marked",
			make: edited("h264.flv", flvMarks(2))},
		{Name: "allflagged.flv", Format: flv, Seconds: 5, Keys: 4, What: "all marked", make: edited("h264.flv", flvMarks(1))},
		{Name: "loop.ogg", Format: ogg, Seconds: 10, Keys: 4, Damaged: true, What: "twice the same clip",
			make: joined("opus20.ogg", "opus20.ogg")},
		{Name: "noneflagged.webm", Format: webm, Seconds: 8, Keys: 8, What: "no picture marked",
			make: edited("base.webm", webmMarks(false))},
		{Name: "allflagged.webm", Format: webm, Seconds: 8, Keys: 8, What: "all marked",
			make: edited("base.webm", webmMarks(true))},
		{Name: "noneflagged9.webm", Format: webm, Seconds: 5, Keys: 4, What: "no picture marked, VP9",
			make: edited("vp9.webm", webmMarks(false))},
		{Name: "noneflaggedav1.webm", Format: webm, Seconds: 5, Keys: 2, What: "no picture marked, AV1",
			make: edited("av1.webm", webmMarks(false))},
		{Name: "noneflagged.mkv", Format: webm, Seconds: 5, Keys: 2, What: "no picture marked, H.264",
			make: edited("h264.mkv", webmMarks(false))},
		{Name: "grouped.webm", Format: webm, Seconds: 8, Keys: 8, What: "groups of blocks",
			make: edited("base.webm", grouped)},
		{Name: "headless.webm", Format: webm, Seconds: 8, Keys: 7, Damaged: true, What: "a cluster's header missing",
			make: edited("base.webm", headless)},
	}...)
}

// withoutFirst leaves the first part of all bytes out.
func withoutFirst(part float64) func([]byte) []byte {
	return func(b []byte) []byte { return b[fraction(b, part):] }
}

// setsOnce265 turns the parameter sets of H.265 behind the first picture into filler.
func setsOnce265(b []byte) []byte {
	b = bytes.Clone(b)
	first := len(b)
	for _, idr := range [...]byte{19 << 1, 20 << 1} {
		if i := bytes.Index(b, []byte{0, 0, 1, idr, 1}); i >= 0 {
			first = min(first, i)
		}
	}
	for _, set := range [...]byte{32 << 1, 33 << 1, 34 << 1} {
		code := []byte{0, 0, 1, set, 1}
		for at := first; ; {
			i := bytes.Index(b[at:], code)
			if i < 0 {
				break
			}
			b[at+i+3] = 38 << 1
			at += i + len(code)
		}
	}
	return b
}

// webmMarks marks all blocks of video, which is the first track, as key frames, or none.
func webmMarks(key bool) func([]byte) []byte {
	return func(b []byte) []byte {
		out, clusters := parseWebM(b)
		for i := range clusters {
			for _, k := range clusters[i].blocks {
				if k.raw[0] != 0x81 {
					continue
				}
				if k.raw[3] &^= 0x80; key {
					k.raw[3] |= 0x80
				}
			}
			out = append(out, clusters[i].write(true)...)
		}
		return out
	}
}

// grouped puts each block into a group, which tells key frames by what they refer to.
func grouped(b []byte) []byte {
	out, clusters := parseWebM(b)
	for i := range clusters {
		c := &clusters[i]
		body := binary.BigEndian.AppendUint32([]byte{timestampID, 0x84}, uint32(c.time))
		for _, k := range c.blocks {
			raw := bytes.Clone(k.raw)
			key := raw[3]&0x80 != 0
			raw[3] &^= 0x80
			binary.BigEndian.PutUint16(raw[1:], uint16(int16(k.time-c.time)))
			group := elementOf(0xa1, raw)
			if !key {
				group = append(group, 0xfb, 0x81, 0xd8) // the block 40 ticks before
			}
			body = append(body, elementOf(0xa0, group)...)
		}
		out = append(out, elementOf(clusterID, body)...)
	}
	return out
}

// headless leaves the header of the third cluster out, as if those bytes were lost.
func headless(b []byte) []byte {
	out, clusters := parseWebM(b)
	for i := range clusters {
		raw := clusters[i].write(true)
		if i == 2 {
			raw = raw[12:]
		}
		out = append(out, raw...)
	}
	return out
}

// flvMarks gives each coded picture the same frame type: 1 is a key frame, 2 is none.
func flvMarks(kind byte) func([]byte) []byte {
	return func(b []byte) []byte {
		b = bytes.Clone(b)
		for at := 9 + 4; at+11 < len(b); {
			size := int(b[at+1])<<16 | int(b[at+2])<<8 | int(b[at+3])
			if b[at] == 9 && b[at+12] == 1 { // coded frames of H.264
				b[at+11] = b[at+11]&0x0f | kind<<4
			}
			at += 11 + size + 4
		}
		return b
	}
}
