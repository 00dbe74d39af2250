package footage

// Inputs are all inputs. The first are those on which push once fell short; the others are more of the same kinds.
var Inputs []Input

func init() {
	Inputs = []Input{
		// What others are made of.
		{Name: "base.ts", Format: ts, Seconds: 8, Keys: 8, What: "plain", make: encoded("ts", 8, x264+aac)},
		{Name: "base.mp4", Format: mp4, Seconds: 8, Keys: 8, What: "plain", make: remuxed("mp4", "base.ts", adts+frag)},
		{Name: "base.webm", Format: webm, Seconds: 8, Keys: 8, What: "plain", make: encoded("webm", 8, vp8+opus+"-live 1")},
		{Name: "hi.mkv", Format: webm, Seconds: 15, Keys: 14, What: "many bytes",
			make: noise("mkv", 15, "8M", "-g 25 -keyint_min 25 -live 1")},

		// Groups and fragments larger than a queue.
		{Name: "gop6s.ts", Format: ts, Seconds: 14, Keys: 2, What: "groups of 6 MB",
			make: noise("ts", 14, "8M", "-g 150 -keyint_min 150")},
		{Name: "longgop.ts", Format: ts, Seconds: 20, Keys: 1, What: "one group", make: noise("ts", 20, "10M", "-g 1000")},
		{Name: "frag10s.mp4", Format: mp4, Seconds: 21, Keys: 2, What: "fragments of 10 MB",
			make: noise("mp4", 21, "8M", frag)},
		{Name: "bigfrag.mp4", Format: mp4, Seconds: 20, Keys: 1, What: "fragments that begin with no key picture",
			make: remuxed("mp4", "longgop.ts", "-c copy -f mp4 -movflags empty_moov+default_base_moof -frag_duration 8000000")},

		// Damage.
		{Name: "badsync.ts", Format: ts, Seconds: 8, Keys: 7, Damaged: true, What: "a damaged sync byte",
			make: edited("base.ts", func(b []byte) []byte {
				b[fraction(b, 0.25)/packet*packet] = 0x49
				return b
			})},
		{Name: "cutout.ts", Format: ts, Seconds: 8, Keys: 7, Damaged: true, What: "50 bytes missing",
			make: edited("base.ts", without(0.25, 50))},
		{Name: "garbage.ts", Format: ts, Seconds: 8, Keys: 8, What: "garbage before the first packet",
			make: edited("base.ts", behind(100))},
		{Name: "m2ts.m2ts", Format: ts, Seconds: 8, Keys: 8, What: "packets of 192 bytes",
			make: remuxed("m2ts", "base.ts", "-c copy -mpegts_m2ts_mode 1 -f mpegts")},

		// Time.
		{Name: "prog.mp4", Format: ordinary, Refused: true, What: "the index at the end",
			make: remuxed("mp4", "base.ts", adts)},
		{Name: "faststart.mp4", Format: ordinary, Refused: true, What: "the index at the beginning",
			make: remuxed("mp4", "base.ts", adts+"-movflags +faststart")},
		{Name: "gop250.mp4", Format: mp4, Seconds: 32, Keys: 4, What: "key pictures 10.4 s apart",
			make: func(m *Maker) ([]byte, error) {
				return m.ffmpeg("mp4",
					"-f lavfi -i testsrc2=size=320x240:rate=24:duration="+m.length(32)+
						" -c:v libx264 -preset veryfast -pix_fmt yuv420p"+frag)
			}},
		{Name: "loop3.ts", Format: ts, Seconds: 24, Keys: 24, Damaged: true, What: "three times the same clip",
			make: joined("base.ts", "base.ts", "base.ts")},
		{Name: "chained.webm", Format: webm, Seconds: 16, Keys: 16, Damaged: true, What: "twice the same clip",
			make: joined("base.webm", "base.webm")},
		{Name: "y.mp4", Format: mp4, Seconds: 8, Keys: 8, What: "another size", make: func(m *Maker) ([]byte, error) {
			return m.ffmpeg("mp4", "-f lavfi -i testsrc2=size=640x360:rate=25:duration="+m.length(8)+x264+frag)
		}},
		{Name: "newmoov.mp4", Format: mp4, Seconds: 16, Keys: 16, Damaged: true, What: "another clip behind the first",
			make: joined("base.mp4", "y.mp4")},
		{Name: "notfdt.mp4", Format: mp4, Seconds: 8, Keys: 8, What: "no decode times", make: edited("base.mp4", untimed(0))},
		{Name: "att5.mkv", Format: webm, Seconds: 8, Keys: 7, Sized: true, What: "5 MB attached",
			make: func(m *Maker) ([]byte, error) {
				return attached(m, 5_000_000)
			}},

		// Tables.
		{Name: "ghost.ts", Format: ts, Seconds: 8, Keys: 8, What: "a program without a map",
			make: edited("base.ts", haunted)},
		{Name: "x2.ts", Format: ts, Seconds: 8, Keys: 8, What: "other codecs and PIDs",
			make: func(m *Maker) ([]byte, error) {
				return encoded("ts", 8,
					" -c:v mpeg2video -g 25 -c:a mp2 -streamid 0:300 -streamid 1:301 -output_ts_offset "+m.length(8))(m)
			}},
		{Name: "pmtchange.ts", Format: ts, Seconds: 16, Keys: 11, Damaged: true, Leaps: true,
			What: "codecs change, with packets between the tables",
			make: func(m *Maker) ([]byte, error) {
				first, err := m.read("base.ts")
				if err != nil {
					return nil, err
				}
				second, err := m.read("x2.ts")
				first = first[:len(first)/2/packet*packet]
				return append(apart(1)(first), apart(1)(second)...), err
			}},

		// Marks.
		{Name: "nobase.mp4", Format: mp4, Seconds: 8, NoLate: true, What: "offsets from the beginning",
			make: remuxed("mp4", "base.ts", adts+"-movflags frag_keyframe+empty_moov")},
		{Name: "obs.mp4", Format: mp4, Seconds: 8, NoLate: true, What: "offsets from the beginning, as OBS writes them",
			make: remuxed("mp4", "base.ts", adts+"-movflags frag_keyframe+empty_moov+delay_moov")},
		{Name: "onecluster_hi.mkv", Format: webm, Seconds: 15, Keys: 14, What: "one cluster of all",
			make: edited("hi.mkv", oneCluster)},
		{Name: "audiofirst6.webm", Format: webm, Seconds: 8, Keys: 7, Damaged: true, What: "clusters begin with sound",
			make: edited("base.webm", soundFirst(6))},
		{Name: "norai.ts", Format: ts, Seconds: 8, Keys: 8, What: "no marks", make: edited("base.ts", unmarked)},
		{Name: "allrai.ts", Format: ts, Seconds: 8, Keys: 8, What: "all marked", make: edited("base.ts", allMarked)},
		{Name: "privvideo.ts", Format: ts, Seconds: 8, Keys: 8, What: "video called private data",
			make: edited("base.ts", typed(0x1b, 0x06))},
		{Name: "e.mp4", Format: mp4, Seconds: 8, Keys: 8, What: "a fragment a sample",
			make: remuxed("mp4", "base.ts", adts+"-movflags frag_every_frame+empty_moov+default_base_moof")},
		{Name: "allsync.mp4", Format: mp4, Seconds: 8, Keys: 8, What: "all marked", make: edited("e.mp4", allSync)},
		{Name: "spsonce.ts", Format: ts, Seconds: 8, Keys: 8, What: "parameter sets once", make: edited("base.ts", setsOnce)},
	}
	Shown = len(Inputs)
	Inputs = append(append(Inputs, variants()...), others()...)
}

// Shown is how many of the inputs, from the first on, are those on which push once fell short.
var Shown int

const (
	ts       = "MPEG-TS"
	mp4      = "fragmented MP4"
	ordinary = "MP4 that is not fragmented"
	webm     = "WebM"
	flv      = "FLV"
	ogg      = "Ogg"
)

// variants are codecs in containers, and surgery, of the same kinds.
func variants() (all []Input) {
	add := func(in Input) { all = append(all, in) }
	for _, v := range []struct{ name, video string }{
		{"h264", h264}, {"open", open}, {"wave", wave}, {"h265", h265}, {"cra", cra},
	} {
		spoken := v.name == "open"
		add(Input{Name: v.name + ".ts", Format: ts, Seconds: 5, Keys: 4, OpenGOPs: spoken,
			make: encoded("ts", 5, v.video+aac)})
		add(Input{Name: v.name + ".mp4", Format: mp4, Seconds: 5, Keys: 4, OpenGOPs: spoken,
			make: encoded("mp4", 5, v.video+aac+frag)})
		add(Input{Name: v.name + ".mkv", Format: webm, Seconds: 5, Keys: 2, OpenGOPs: spoken,
			make: encoded("mkv", 5, v.video+aac+"-live 1")})
		if v.video != h265 && v.video != cra {
			add(Input{Name: v.name + ".flv", Format: flv, Seconds: 5, Keys: 4, OpenGOPs: spoken,
				make: encoded("flv", 5, v.video+aac)})
		}
	}
	for _, v := range []struct {
		name, ext, format, args string
	}{
		{"mpeg1.ts", "ts", ts, " -c:v mpeg1video -g 25 -c:a mp2"},
		{"mpeg2b.ts", "ts", ts, " -c:v mpeg2video -g 25 -bf 2 -c:a mp2"},
		{"mpeg2i.ts", "ts", ts, " -c:v mpeg2video -flags +ildct+ilme -g 25 -c:a mp2"},
		{"mpeg4.ts", "ts", ts, " -c:v mpeg4 -g 25 -c:a mp2"},
		{"dirac.ts", "ts", ts, " -c:v vc2 -c:a mp2 -strict -1"},
		{"ac3.ts", "ts", ts, h264 + "-c:a ac3"},
		{"opus.ts", "ts", ts, h264 + opus},
		{"latm.ts", "ts", ts, h264 + aac + "-mpegts_flags latm"},
		{"constant.ts", "ts", ts, h264 + aac + "-muxrate 2M"},
		{"noaud.ts", "ts", ts, h264 + aac + "-bsf:v h264_metadata=aud=remove"},
		{"raretables.ts", "ts", ts, h264 + aac + "-pat_period 1.3"},
		{"fields.ts", "ts", ts, " -c:v libx264 -flags +ildct+ilme -g 25 -preset veryfast -pix_fmt yuv420p" + aac},
		{"clockwrap.ts", "ts", ts, h264 + aac + "-output_ts_offset 95441"},
		{"sound.ts", "ts", ts, " -vn" + aac},
		{"vp9.mp4", "mp4", mp4, vp9 + opus + frag + "-strict -2"},
		{"av1.mp4", "mp4", mp4, av1 + aac + frag},
		{"mpeg4.mp4", "mp4", mp4, " -c:v mpeg4 -g 25" + aac + frag},
		{"mpeg2.mp4", "mp4", mp4, " -c:v mpeg2video -g 25" + aac + frag},
		{"cmaf.mp4", "mp4", mp4, h264 + aac + "-f mp4 -movflags cmaf+frag_keyframe"},
		{"dash.mp4", "mp4", mp4, h264 + aac + "-f mp4 -movflags dash+frag_keyframe+default_base_moof"},
		{"split.mp4", "mp4", mp4, h264 + aac + "-f mp4 -movflags frag_keyframe+empty_moov+default_base_moof+separate_moof"},
		{"nooffset.mp4", "mp4", mp4, h264 + aac + "-f mp4 -movflags frag_keyframe+empty_moov+omit_tfhd_offset"},
		{"twotones.mp4", "mp4", mp4, " -map 1:a -map 1:a -map 0:v" + h264 + aac + frag},
		{"sound.mp4", "mp4", mp4, " -vn" + aac + "-f mp4 -movflags empty_moov+default_base_moof -frag_duration 500000"},
		{"frag.mov", "mov", mp4, h264 + aac + "-movflags frag_keyframe+empty_moov+default_base_moof"},
		{"vp9.webm", "webm", webm, vp9 + opus + "-live 1"},
		{"hidden.webm", "webm", webm,
			" -c:v libvpx-vp9 -deadline good -cpu-used 8 -g 25 -auto-alt-ref 1 -lag-in-frames 16" + opus + "-live 1"},
		{"av1.webm", "webm", webm, av1 + opus + "-live 1"},
		{"mpeg2.mkv", "mkv", webm, " -c:v mpeg2video -g 25 -bf 2 -c:a mp2 -live 1"},
		{"mpeg4.mkv", "mkv", webm, " -c:v mpeg4 -g 25 -c:a mp2 -live 1"},
		{"theora.mkv", "mkv", webm, " -c:v libtheora -g 25 -c:a libvorbis -live 1"},
		{"mjpeg.mkv", "mkv", webm, " -c:v mjpeg -pix_fmt yuvj420p" + opus + "-live 1"},
		{"ffv1.mkv", "mkv", webm, " -c:v ffv1 -g 25 -c:a flac -live 1"},
		{"twotones.mkv", "mkv", webm, " -map 1:a -map 1:a -map 0:v" + h264 + aac + "-live 1"},
		{"sound.webm", "webm", webm, " -vn" + opus + "-live 1"},
		{"sorenson.flv", "flv", flv, " -c:v flv -g 25 -c:a libmp3lame -ar 44100"},
		{"sound.flv", "flv", flv, " -vn" + aac},
		{"opus.ogg", "ogg", ogg, " -vn" + opus},
		{"opus20.ogg", "ogg", ogg, " -vn" + opus + "-page_duration 20000"},
		{"vorbis.ogg", "ogg", ogg, " -vn -c:a libvorbis"},
		{"flac.ogg", "ogg", ogg, " -vn -c:a flac"},
		{"speex.ogg", "ogg", ogg, " -vn -c:a libspeex -ar 16000"},
		{"theora.ogg", "ogg", ogg, " -c:v libtheora -g 25 -c:a libvorbis"},
	} {
		keys := 2
		if v.name == "sound.webm" {
			keys = 1
		}
		add(Input{Name: v.name, Format: v.format, Seconds: 5, Keys: keys, make: encoded(v.ext, 5, v.args)})
	}
	return append(all, []Input{
		{Name: "parity.ts", Format: ts, Seconds: 8, Keys: 8, What: "packets of 204 bytes",
			make: edited("base.ts", withParity)},
		{Name: "garbage.m2ts", Format: ts, Seconds: 8, Keys: 8, What: "garbage before packets of 192 bytes",
			make: edited("m2ts.m2ts", behind(1000))},
		{Name: "holes.m2ts", Format: ts, Seconds: 8, Keys: 6, Damaged: true, What: "bytes missing",
			make: edited("m2ts.m2ts", without(0.2, 77), without(0.4, 1000))},
		{Name: "holes.ts", Format: ts, Seconds: 8, Keys: 5, Damaged: true, What: "bytes missing",
			make: edited("base.ts", without(0.2, 7), without(0.3, 1880), without(0.4, 5000))},
		{Name: "apart40.ts", Format: ts, Seconds: 8, Keys: 8, What: "40 packets between the tables",
			make: edited("base.ts", apart(40))},
		{Name: "elsewhere.ts", Format: ts, Seconds: 8, Keys: 8, What: "tables in the midst of groups",
			make: edited("base.ts", elsewhere(9))},
		{Name: "elsewhereonce.ts", Format: ts, Seconds: 8, Keys: 8, What: "parameter sets once, tables in the midst",
			make: edited("base.ts", setsOnce, elsewhere(9))},
		{Name: "setsnow.ts", Format: ts, Seconds: 8, Keys: 3, What: "parameter sets in every other group",
			make: edited("base.ts", setsNowAndThen)},
		{Name: "latetables.ts", Format: ts, Seconds: 5.6, Keys: 4, What: "tables only in the second half",
			make: edited("base.ts", lateTables(0.3))},
		{Name: "stuffed.ts", Format: ts, Seconds: 8, Keys: 8, What: "null packets", make: edited("base.ts", stuffed)},
		{Name: "miscounted.ts", Format: ts, Seconds: 8, Keys: 8, Damaged: true, What: "no continuity",
			make: edited("base.ts", miscounted)},
		{Name: "norai265.ts", Format: ts, Seconds: 5, Keys: 4, What: "no marks, H.265", make: edited("h265.ts", unmarked)},
		{Name: "priv265.ts", Format: ts, Seconds: 5, Keys: 4, What: "H.265 called private data",
			make: edited("h265.ts", typed(0x24, 0x06), unmarked)},
		{Name: "segments.ts", Format: ts, Seconds: 10, Keys: 8, Damaged: true, What: "segments in a row",
			make: func(m *Maker) ([]byte, error) {
				first, err := m.read("h264.ts")
				if err != nil {
					return nil, err
				}
				second, err := m.ffmpeg("ts", "-i "+m.dir+"/h264.ts -c copy -output_ts_offset "+m.length(5))
				return append(first, second...), err
			}},
		{Name: "programs.ts", Format: ts, Seconds: 5, Keys: 4, What: "two programs, the first without video",
			make: func(m *Maker) ([]byte, error) {
				d := m.length(5)
				return m.ffmpeg("ts",
					"-f lavfi -i testsrc2=size=320x240:rate=25:duration="+d+" -f lavfi -i sine=sample_rate=48000:duration="+d+
						" -map 1:a -map 0:v -map 1:a"+h264+aac+"-program title=a:st=0 -program title=b:st=1:st=2")
			}},
		{Name: "hybrid.mp4", Format: mp4, Seconds: 8, NoLate: true, What: "samples in the head, fragments behind",
			make: remuxed("mp4", "base.ts", adts+"-movflags frag_keyframe+default_base_moof")},
		{Name: "halved.ts", Format: ts, Seconds: 8, Keys: 7, What: "parameter sets in packets of their own",
			make: edited("base.ts", unmarked, setsApart)},
		{Name: "priv88.ts", Format: ts, Seconds: 8, Keys: 8, What: "video of a type nobody knows",
			make: edited("base.ts", typed(0x1b, 0x99), unmarked)},
		{Name: "twovideos.mkv", Format: webm, Seconds: 5, Keys: 2, What: "two videos, of other groups",
			make: func(m *Maker) ([]byte, error) {
				d := m.length(5)
				return m.ffmpeg("mkv",
					"-f lavfi -i testsrc2=size=320x240:rate=25:duration="+d+" -f lavfi -i testsrc=size=160x120:rate=25:duration="+d+
						" -map 0 -map 1 -c:v libx264 -preset veryfast -bf 0 -pix_fmt yuv420p -g:v:0 25 -g:v:1 10 -live 1")
			}},
		{Name: "nowandthen.mp4", Format: mp4, Seconds: 8, Keys: 8, What: "decode times now and then",
			make: edited("base.mp4", untimed(3))},
		{Name: "wide.mp4", Format: mp4, Seconds: 8, Keys: 8, What: "sizes of 64 bits", make: edited("base.mp4", wideSizes)},
		{Name: "events.mp4", Format: mp4, Seconds: 8, Keys: 8, What: "event messages", make: edited("base.mp4", withEvents)},
		{Name: "holes.mp4", Format: mp4, Seconds: 8, Keys: 5, Damaged: true, What: "bytes missing",
			make: edited("base.mp4", without(0.3, 500))},
		{Name: "allsync265.mp4", Format: mp4, Seconds: 5, Keys: 4, What: "all marked, H.265",
			make: edited("e265.mp4", allSync)},
		{Name: "e265.mp4", Format: mp4, Seconds: 5, Keys: 4, What: "a fragment a sample, H.265",
			make: encoded("mp4", 5, h265+aac+"-f mp4 -movflags frag_every_frame+empty_moov+default_base_moof")},
		{Name: "allsync9.mp4", Format: mp4, Seconds: 5, Keys: 4, What: "all marked, VP9", make: edited("e9.mp4", allSync)},
		{Name: "e9.mp4", Format: mp4, Seconds: 5, Keys: 4, What: "a fragment a sample, VP9",
			make: encoded("mp4", 5, vp9+opus+"-f mp4 -strict -2 -movflags frag_every_frame+empty_moov+default_base_moof")},
		{Name: "prog.mov", Format: ordinary, Refused: true, What: "QuickTime", make: remuxed("mov", "base.ts", "-c copy")},
		{Name: "prog.mkv", Format: webm, Seconds: 8, Keys: 6, Sized: true, What: "sizes and cues",
			make: remuxed("mkv", "base.ts", "-c copy")},
		{Name: "unsized.webm", Format: webm, Seconds: 8, Keys: 8, What: "clusters without sizes",
			make: edited("base.webm", unsized)},
		{Name: "onecluster.webm", Format: webm, Seconds: 8, Keys: 8, What: "one cluster of all, VP8",
			make: edited("base.webm", oneCluster)},
		{Name: "onecluster9.webm", Format: webm, Seconds: 5, Keys: 4, What: "one cluster of all, VP9",
			make: edited("vp9.webm", oneCluster)},
		{Name: "audiofirst20.webm", Format: webm, Seconds: 8, Keys: 7, Damaged: true, What: "clusters begin with much sound",
			make: edited("base.webm", soundFirst(20))},
		{Name: "padded.webm", Format: webm, Seconds: 8, Keys: 8, What: "void elements", make: edited("base.webm", padded)},
		{Name: "holes.webm", Format: webm, Seconds: 8, Keys: 5, Damaged: true, What: "bytes missing",
			make: edited("base.webm", without(0.3, 500))},
		{Name: "chained.mkv", Format: webm, Seconds: 10, Keys: 4, Damaged: true, What: "another clip behind the first",
			make: joined("h264.mkv", "h265.mkv")},
		{Name: "subtitled.mkv", Format: webm, Seconds: 5, Keys: 2, What: "subtitles", make: func(m *Maker) ([]byte, error) {
			d := m.length(5)
			return m.ffmpeg("mkv", "-f lavfi -i testsrc2=size=320x240:rate=25:duration="+d+" -f lavfi -i sine=duration="+d+
				" -f srt -i data:text/plain,1%0A00:00:00,500%20-->%2000:00:01,500%0AHello%0A%0A"+
				" -map 0 -map 1 -map 2"+h264+aac+"-c:s srt -live 1")
		}},
		{Name: "holes.flv", Format: flv, Seconds: 5, Keys: 3, Damaged: true, What: "bytes missing",
			make: edited("h264.flv", without(0.3, 500))},
		{Name: "holes.ogg", Format: ogg, Seconds: 5, Keys: 2, Damaged: true, What: "bytes missing",
			make: edited("opus20.ogg", without(0.3, 500))},
		{Name: "chained.ogg", Format: ogg, Seconds: 10, Keys: 6, Damaged: true, What: "another clip behind the first",
			make: joined("opus.ogg", "vorbis.ogg")},
	}...)
}

// attached is a Matroska file with a font of so many bytes.
func attached(m *Maker, size int) ([]byte, error) {
	base, err := m.File("base.ts")
	if err != nil {
		return nil, err
	}
	font, err := m.zeros("font.ttf", size)
	if err != nil {
		return nil, err
	}
	return m.ffmpeg("mkv", "-i "+base+" -c copy -attach "+font+" -metadata:s:t mimetype=application/x-truetype-font")
}
