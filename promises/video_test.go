package promises

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/client/media"
)

// codecs are how a video of each container is made.
var codecs = map[string]string{
	"ts":   "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -c:a aac",
	"webm": "-c:v libvpx -deadline realtime -cpu-used 16 -qmin 0 -c:a libopus",
}

// makeVideo has ffmpeg make a video with sound, 25 pictures a second and a key picture every 12, and returns its path.
// The noise makes it large.
func makeVideo(t *testing.T, container, size string, seconds, noise int, rate string) string {
	t.Helper()
	if os.Getenv("TIMEDGE_NO_FFMPEG") != "" {
		t.Skip("TIMEDGE_NO_FFMPEG is set")
	}
	path := filepath.Join(t.TempDir(), "video."+container)
	picture := fmt.Sprintf("testsrc2=size=%s:rate=25:duration=%d,noise=alls=%d:allf=t+u", size, seconds, noise)
	sound := fmt.Sprintf("sine=duration=%d", seconds)
	args := []string{"-v", "error", "-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, "-g", "12"}
	args = append(append(args, strings.Fields(codecs[container])...), strings.Fields(rate)...)
	if out, err := exec.Command("ffmpeg", append(args, path)...).CombinedOutput(); err != nil {
		t.Fatalf("ffmpeg: %v\n%s", err, out)
	}
	return path
}

// tolerated is what ffmpeg may say of a WebM file of which a part is missing: the file says how long it is, and so does
// the cluster that was cut.
var tolerated = regexp.MustCompile(`File ended prematurely|Element at \w+ ending at \w+ exceeds containing master element ending at \w+`)

// decode decodes a video to its last byte and returns a digest of each picture, in order. It is an error if ffmpeg
// finds anything wrong with picture or sound.
func decode(video []byte) (pictures []string, err error) {
	cmd := exec.Command("ffmpeg", "-v", "error", "-threads", "1", "-i", "pipe:0",
		"-map", "0", "-fps_mode:v", "passthrough", "-f", "framemd5", "-")
	cmd.Stdin = bytes.NewReader(video)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("ffmpeg: %w\n%s", err, &said)
	}
	for line := range strings.Lines(said.String()) {
		if !tolerated.MatchString(line) {
			return nil, fmt.Errorf("ffmpeg says %s", said.String())
		}
	}
	for line := range strings.Lines(out.String()) { // stream, dts, pts, duration, size, digest
		if rest, ok := strings.CutPrefix(line, "0,"); ok {
			pictures = append(pictures, strings.TrimSpace(rest[strings.LastIndexByte(rest, ',')+1:]))
		}
	}
	return pictures, nil
}

// unit is one message of a video as a viewer gets it.
type unit struct {
	first, last uint64
	kind        client.Kind
	data        []byte
}

// split cuts a video into what is pushed of it.
func split(t *testing.T, video []byte) (units []unit) {
	t.Helper()
	s, err := media.NewSplitter(bytes.NewReader(video))
	if err != nil {
		t.Fatal(err)
	}
	for {
		u, err := s.Next()
		if err != nil {
			return units
		}
		units = append(units, unit{kind: u.Kind, data: bytes.Clone(u.Data)})
	}
}
