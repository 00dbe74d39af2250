package media_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/timedge/timedge/client/media"
)

// needFFmpeg skips the test only where that was asked for; a machine without ffmpeg fails.
func needFFmpeg(t *testing.T) {
	t.Helper()
	if os.Getenv("TIMEDGE_NO_FFMPEG") != "" {
		t.Skip("TIMEDGE_NO_FFMPEG is set")
	}
}

// record makes a file of three seconds with ffmpeg and returns its bytes.
func record(t *testing.T, name, args string) []byte {
	t.Helper()
	needFFmpeg(t)
	path := filepath.Join(t.TempDir(), name)
	const source = "-nostdin -v error -f lavfi -i testsrc2=size=160x120:rate=25:duration=3 -f lavfi -i sine=duration=3 "
	all := strings.Fields(source + args)
	if out, err := exec.Command("ffmpeg", append(all, path)...).CombinedOutput(); err != nil {
		t.Fatalf("ffmpeg: %v\n%s", err, out)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// decode runs a full decode and fails on whatever ffmpeg complains about.
func decode(t *testing.T, what string, b []byte, tolerated ...string) {
	t.Helper()
	cmd := exec.Command("ffmpeg", "-v", "error", "-xerror", "-i", "pipe:0", "-f", "null", "-")
	cmd.Stdin = bytes.NewReader(b)
	out, err := cmd.CombinedOutput()
	var said []string
	for line := range strings.Lines(string(out)) {
		ok := false
		for _, s := range tolerated {
			ok = ok || strings.Contains(line, s)
		}
		if !ok {
			said = append(said, line)
		}
	}
	if err != nil || len(said) > 0 {
		t.Errorf("%s does not decode: %v\n%s", what, err, strings.Join(said, ""))
	}
}

const (
	h264 = "-c:v libx264 -preset veryfast -g 12 -pix_fmt yuv420p "
	aac  = "-c:a aac "
	opus = "-c:a libopus "
	vp8  = "-c:v libvpx -deadline realtime -cpu-used 8 -g 12 -b:v 400k "
	vp9  = "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 12 -b:v 400k "
	frag = "-f mp4 -movflags "
)

// TestRealFiles cuts files of all the kinds that ffmpeg makes, and decodes what somebody gets who joins at each key
// unit.
func TestRealFiles(t *testing.T) {
	needFFmpeg(t)
	// A segment of known size that lacks its first clusters ends early for ffmpeg, which decodes all the same and says so.
	const early = "File ended prematurely"
	for _, test := range []struct {
		name, args string
		format     media.Format
		keys       int // at least; frame 0, 12, 24 .. 72 are key frames
		tolerated  []string
	}{
		{"h264 aac.ts", h264 + aac, media.MPEGTS, 7, nil},
		{"h264 b-frames.ts", "-c:v libx264 -preset medium -bf 3 -g 12 -pix_fmt yuv420p " + aac, media.MPEGTS, 7, nil},
		{"mpeg2 mp2.ts", "-c:v mpeg2video -g 12 -c:a mp2 ", media.MPEGTS, 7, nil},
		{"constant rate.ts", h264 + aac + "-muxrate 3M ", media.MPEGTS, 7, nil},
		{"sound only.ts", "-vn " + aac, media.MPEGTS, 8, nil},
		{"fragment a group.mp4", h264 + aac + frag + "frag_keyframe+empty_moov+default_base_moof", media.MP4, 7, nil},
		{"fragment a frame.mp4", h264 + aac + frag + "frag_every_frame+empty_moov+default_base_moof", media.MP4, 7, nil},
		{"cmaf.mp4", h264 + aac + frag + "cmaf+frag_keyframe", media.MP4, 7, nil},
		{"dash.mp4", h264 + "-an " + frag + "dash+frag_keyframe", media.MP4, 7, nil},
		{"sound only.mp4", "-vn " + aac + frag + "empty_moov+default_base_moof -frag_duration 200000", media.MP4, 10, nil},
		{"vp8 opus.webm", vp8 + opus, media.WebM, 7, []string{early}},
		{"vp8 opus live.webm", vp8 + opus + "-live 1 ", media.WebM, 7, nil},
		{"vp9 opus.webm", vp9 + opus, media.WebM, 7, []string{early}},
		{"vp9 opus live.webm", vp9 + opus + "-live 1 ", media.WebM, 7, nil},
		{"sound only.webm", "-vn " + opus, media.WebM, 1, nil},
		{"h264 aac.mkv", h264 + aac + "-live 1 ", media.WebM, 7, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			file := record(t, test.name, test.args)
			format, units := split(t, bytes.NewReader(file))
			if format != test.format {
				t.Errorf("taken for %s", format)
			}
			joined := join(units)
			if !bytes.Equal(joined, file) {
				t.Fatalf("units hold %d bytes, not those %d of the file", len(joined), len(file))
			}
			decode(t, "the whole", joined)
			checkKeys(t, units, test.keys, test.tolerated)
			checkTimes(t, units)
		})
	}
}

func checkKeys(t *testing.T, units []unit, want int, tolerated []string) {
	t.Helper()
	var init []byte
	var keys []int
	for i, u := range units {
		switch u.kind {
		case media.Init:
			init = u.data
		case media.Key:
			if init == nil {
				t.Fatalf("unit %d is a key before any init", i)
			}
			if len(keys) == 0 {
				for _, before := range units[:i] {
					if before.kind == media.Delta {
						t.Errorf("a delta unit before the first key")
					}
				}
			}
			keys = append(keys, i)
		}
	}
	if len(keys) < want {
		t.Errorf("%d key units, want %d", len(keys), want)
	}
	// A dozen joins are as good as all: a sound stream has a key unit for each packet.
	for n := 0; n < len(keys); n += max(1, len(keys)/12) {
		i := keys[n]
		decode(t, "what follows a key unit", append(bytes.Clone(lastInit(units[:i])), join(units[i:])...), tolerated...)
	}
}

func lastInit(units []unit) []byte {
	for i := len(units) - 1; i >= 0; i-- {
		if units[i].kind == media.Init {
			return units[i].data
		}
	}
	return nil
}

func checkTimes(t *testing.T, units []unit) {
	t.Helper()
	first, last := media.NoTime, media.NoTime
	for i, u := range units {
		switch {
		case u.time == media.NoTime:
			if u.kind == media.Key {
				t.Errorf("key unit %d has no time", i)
			}
		case first == media.NoTime:
			first, last = u.time, u.time
		default:
			if u.kind == media.Key && u.time < first {
				t.Errorf("key unit %d is at %v, before the first at %v", i, u.time, first)
			}
			last = max(last, u.time)
		}
	}
	if span := last - first; span.Seconds() < 1.9 || span.Seconds() > 3.1 {
		t.Errorf("times span %v of a file of 3s", span)
	}
}
