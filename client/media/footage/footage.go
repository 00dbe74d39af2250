// Package footage makes inputs for tests: files such as people push, made by ffmpeg, and damaged or rearranged as
// recorders, captures and cables do it. It is used by tests only. Start at [Inputs], the list of what there is, and at
// [New], which makes them.
//
// A Maker is for one goroutine at a time.
package footage

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Input is a file to push, and what is to be expected of it.
type Input struct {
	Name    string
	What    string
	Seconds float64 // it lasts, at full length
	Keys    int     // points to join at, at least, at full length
	Format  string  // what a splitter calls it

	Refused  bool // cannot be pushed at its own speed, and is refused
	NoLate   bool // cannot be joined late, which is told
	Damaged  bool // decoders complain of the whole, too
	Sized    bool // says how long it is, so that a decoder misses what a late joiner does not have
	OpenGOPs bool // the pictures behind a key picture refer to ones before it, which a decoder may mention
	Leaps    bool // its times leap ahead, and that is part of its length

	make func(m *Maker) ([]byte, error)
}

// Maker makes inputs in a directory.
type Maker struct {
	dir   string
	short bool
}

// New returns a maker of inputs in dir; short ones are about half as long.
func New(dir string, short bool) *Maker { return &Maker{dir, short} }

// File makes an input if it is not there yet, and returns its path.
func (m *Maker) File(name string) (string, error) {
	path := filepath.Join(m.dir, name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	for _, in := range Inputs {
		if in.Name == name {
			b, err := in.make(m)
			if err != nil {
				return "", fmt.Errorf("footage: %s: %w", name, err)
			}
			return path, os.WriteFile(path, b, 0o600)
		}
	}
	return "", fmt.Errorf("footage: there is no %s", name)
}

// Seconds returns how long an input lasts that this maker makes.
func (m *Maker) Seconds(in *Input) float64 {
	if m.short {
		return in.Seconds / 2
	}
	return in.Seconds
}

// Keys returns how many points to join at an input has that this maker makes.
func (m *Maker) Keys(in *Input) int {
	if m.short {
		return in.Keys / 2
	}
	return in.Keys
}

// length returns how long something is to be, in seconds.
func (m *Maker) length(seconds float64) string {
	if m.short {
		seconds /= 2
	}
	return fmt.Sprint(seconds)
}

// read makes another input and returns its bytes.
func (m *Maker) read(name string) ([]byte, error) {
	path, err := m.File(name)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// ffmpeg runs it with arguments in one string, and one for the output behind them.
func (m *Maker) ffmpeg(ext, args string) ([]byte, error) {
	f, err := os.CreateTemp(m.dir, "made-*."+ext)
	if err != nil {
		return nil, err
	}
	f.Close()
	defer os.Remove(f.Name())
	cmd := exec.Command("ffmpeg",
		append(append([]string{"-nostdin", "-y", "-v", "error"}, strings.Fields(args)...), f.Name())...)
	cmd.Dir = m.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("ffmpeg %s: %w\n%s", args, err, out)
	}
	return os.ReadFile(f.Name())
}

// What encoders are told.
const (
	x264 = " -c:v libx264 -preset veryfast -g 25 -keyint_min 25 -sc_threshold 0 -bf 0 -pix_fmt yuv420p "
	h264 = " -c:v libx264 -preset veryfast -g 25 -pix_fmt yuv420p "
	open = " -c:v libx264 -preset veryfast -g 25 -pix_fmt yuv420p -x264-params open-gop=1:bframes=3 "
	wave = " -c:v libx264 -preset veryfast -g 25 -pix_fmt yuv420p -x264-params intra-refresh=1:bframes=0 "
	h265 = " -c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=25:min-keyint=25 "
	cra  = " -c:v libx265 -preset ultrafast -x265-params log-level=none:keyint=25:min-keyint=25:open-gop=1:bframes=3 "
	vp8  = " -c:v libvpx -deadline realtime -cpu-used 8 -g 25 -b:v 300k "
	vp9  = " -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 25 -b:v 300k "
	av1  = " -c:v libsvtav1 -preset 12 -g 25 "
	aac  = " -c:a aac "
	opus = " -c:a libopus "
	frag = " -f mp4 -movflags frag_keyframe+empty_moov+default_base_moof "
	adts = " -c copy -bsf:a aac_adtstoasc "
)

// encoded is a picture with a tone, as long as the input, encoded so.
func encoded(ext string, seconds float64, args string) func(*Maker) ([]byte, error) {
	return func(m *Maker) ([]byte, error) {
		d := m.length(seconds)
		return m.ffmpeg(ext,
			"-f lavfi -i testsrc2=size=320x240:rate=25:duration="+d+" -f lavfi -i sine=sample_rate=48000:duration="+d+args)
	}
}

// noise is a picture that takes many bytes.
func noise(ext string, seconds float64, rate string, args string) func(*Maker) ([]byte, error) {
	return func(m *Maker) ([]byte, error) {
		return m.ffmpeg(ext, "-f lavfi -i testsrc2=size=320x240:rate=25:duration="+m.length(seconds)+",noise=alls=90:allf=t"+
			" -c:v libx264 -preset ultrafast -sc_threshold 0 -bf 0 -pix_fmt yuv420p -bufsize 1M"+
			" -b:v "+rate+" -minrate "+rate+" -maxrate "+rate+" "+args)
	}
}

// remuxed is another input in another container.
func remuxed(ext, from, args string) func(*Maker) ([]byte, error) {
	return func(m *Maker) ([]byte, error) {
		path, err := m.File(from)
		if err != nil {
			return nil, err
		}
		return m.ffmpeg(ext, "-i "+path+" "+args)
	}
}

// edited is another input on which a knife was.
func edited(from string, edits ...func([]byte) []byte) func(*Maker) ([]byte, error) {
	return func(m *Maker) ([]byte, error) {
		b, err := m.read(from)
		if err != nil {
			return nil, err
		}
		for _, edit := range edits {
			b = edit(b)
		}
		return b, nil
	}
}

// joined is other inputs, one behind the other.
func joined(names ...string) func(*Maker) ([]byte, error) {
	return func(m *Maker) ([]byte, error) {
		var all [][]byte
		for _, name := range names {
			b, err := m.read(name)
			if err != nil {
				return nil, err
			}
			all = append(all, b)
		}
		return bytes.Join(all, nil), nil
	}
}

// fraction returns a place in b.
func fraction(b []byte, part float64) int { return int(float64(len(b)) * part) }

// without cuts n bytes out at a part of the way.
func without(part float64, n int) func([]byte) []byte {
	return func(b []byte) []byte {
		at := fraction(b, part)
		return append(bytes.Clone(b[:at]), b[at+n:]...)
	}
}

// behind puts n bytes of garbage before b.
func behind(n int) func([]byte) []byte {
	return func(b []byte) []byte {
		junk := make([]byte, n)
		for i := range junk {
			junk[i] = byte((i*37 + 11) % 251)
		}
		return append(junk, b...)
	}
}

// zeros writes a file of so many zeros.
func (m *Maker) zeros(name string, n int) (string, error) {
	path := filepath.Join(m.dir, name)
	return path, os.WriteFile(path, make([]byte, n), 0o600)
}
