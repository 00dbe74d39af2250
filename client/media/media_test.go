package media_test

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/timedge/timedge/client/media"
	"pgregory.net/rapid"
)

// The samples are one second each, made by ffmpeg 5.1 from testsrc2 and sine; testdata/README.md has the commands.
//
//go:embed testdata/sample.*
var samples embed.FS

var sampleNames = []string{"sample.ts", "sample.mp4", "sample.webm", "sample.flv", "sample.ogg"}

func sample(t testing.TB, name string) []byte {
	t.Helper()
	b, err := samples.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// unit is a media.Unit that outlives the next call.
type unit struct {
	data []byte
	kind media.Kind
	time time.Duration
}

func split(t interface{ Fatalf(string, ...any) }, r io.Reader) (media.Format, []unit) {
	s, err := media.NewSplitter(r)
	if err != nil {
		t.Fatalf("NewSplitter: %v", err)
	}
	var units []unit
	for {
		u, err := s.Next()
		if err == io.EOF {
			return s.Format(), units
		}
		if err != nil {
			t.Fatalf("Next: %v", err)
		}
		if len(u.Data) == 0 || len(u.Data) > media.MaxUnit {
			t.Fatalf("a unit of %d bytes", len(u.Data))
		}
		units = append(units, unit{bytes.Clone(u.Data), u.Kind, u.Time})
	}
}

func join(units []unit) (b []byte) {
	for _, u := range units {
		b = append(b, u.data...)
	}
	return b
}

// kinds counts the units of a kind in a row: "init 1, key 1, delta 3".
func kinds(units []unit) string {
	var runs []string
	for i, n := 0, 1; i < len(units); i, n = i+n, 1 {
		for i+n < len(units) && units[i+n].kind == units[i].kind {
			n++
		}
		runs = append(runs, fmt.Sprintf("%v %d", units[i].kind, n))
	}
	return strings.Join(runs, ", ")
}

func TestSamples(t *testing.T) {
	for _, test := range []struct {
		name   string
		format media.Format
		kinds  string
	}{
		{"sample.ts", media.MPEGTS, "init 2, key 1, delta 2, init 1, key 1, delta 3"},
		{"sample.mp4", media.MP4, "init 1, key 2, delta 1"}, // the last is the random access table
		{"sample.webm", media.WebM, "init 1, key 1, delta 27, key 1, delta 28"},
		{"sample.flv", media.FLV, "init 1, delta 1, key 1, delta 11, key 1, delta 12"},
		{"sample.ogg", media.Ogg, "init 2, key 1, delta 4, key 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := sample(t, test.name)
			format, units := split(t, bytes.NewReader(file))
			if format != test.format {
				t.Errorf("taken for %s, is %s", format, test.format)
			}
			if got := kinds(units); got != test.kinds {
				t.Errorf("units are %s, want %s", got, test.kinds)
			}
			if !bytes.Equal(join(units), file) {
				t.Error("the units joined are not the file")
			}
		})
	}
}

// TestArrival cuts the samples as they arrive in pieces: the bytes stay, and so do the points to start from.
func TestArrival(t *testing.T) {
	for _, name := range sampleNames {
		file := sample(t, name)
		_, whole := split(t, bytes.NewReader(file))
		for _, test := range []struct {
			name   string
			reader func(io.Reader) io.Reader
		}{
			{"byte by byte", iotest.OneByteReader},
			{"half reads", iotest.HalfReader},
			{"error with the last bytes", iotest.DataErrReader},
		} {
			t.Run(name+" "+test.name, func(t *testing.T) {
				_, units := split(t, test.reader(bytes.NewReader(file)))
				if !bytes.Equal(join(units), file) {
					t.Error("the units joined are not the file")
				}
				if got, want := starts(units), starts(whole); got != want {
					t.Errorf("starts at %s, want %s", got, want)
				}
			})
		}
	}
}

// starts lists where runs of init units, and key units, start.
func starts(units []unit) string {
	var b strings.Builder
	at := 0
	for i, u := range units {
		if u.kind == media.Key || u.kind == media.Init && (i == 0 || units[i-1].kind != media.Init) {
			fmt.Fprintf(&b, "%v@%d ", u.kind, at)
		}
		at += len(u.data)
	}
	return b.String()
}

// TestPause: a picture goes out when the input pauses after it, not when the next one comes.
func TestPause(t *testing.T) {
	file := sample(t, "sample.ts")
	_, whole := split(t, bytes.NewReader(file))
	r, w := io.Pipe()
	defer r.Close()
	go func() {
		for _, u := range whole {
			if _, err := w.Write(u.data); err != nil {
				return
			}
		}
		// Neither another byte nor an end.
	}()
	s, err := media.NewSplitter(r)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		u, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(u.Data, whole[i].data) || u.Kind != whole[i].kind {
			t.Fatalf("unit %d is %v of %d bytes, want %v of %d", i, u.Kind, len(u.Data), whole[i].kind, len(whole[i].data))
		}
	}
}

func TestRaw(t *testing.T) {
	for _, test := range []struct{ name, input string }{
		{"nothing", ""},
		{"one byte", "G"},
		{"text like a packet", "GET / HTTP/1.1\r\n" + strings.Repeat("Good ", 200)},
		{"sync byte once", "G\x00\x00\x10" + strings.Repeat("x", 1000)},
		{"start of EBML", "\x1a\x45\xdf"},
		{"EBML and junk", "\x1a\x45\xdf\xa3" + strings.Repeat("\x00", 500)},
		{"EBML of a size beyond all", "\x1a\x45\xdf\xa3\x01\xff\xff\xff\xff\xff\xff\xfe" + strings.Repeat("y", 500)},
		{"ftyp and junk", "\x00\x00\x00\x10ftypisom\x00\x00\x02\x00" + strings.Repeat("z", 500)},
		{"ftyp of a size beyond all", "\x00\x00\x00\x01ftyp\x7f\xff\xff\xff\xff\xff\xff\xff" + strings.Repeat("z", 500)},
		{"start of FLV", "FLV\x01\x05\x00\x00\x00\x09"},
		{"FLV and junk", "FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00" + strings.Repeat("\x77", 500)},
		{"Ogg and junk", "OggS\x00" + strings.Repeat("\x77", 500)},
		{"samples before moov", "\x00\x00\x00\x10ftypisom\x00\x00\x02\x00\x00\x00\x00\x0cmdatabcd"},
		{"many", strings.Repeat("0123456789abcdef", 100_000)},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, units := split(t, strings.NewReader(test.input))
			if got := string(join(units)); got != test.input {
				t.Errorf("the units joined are %d bytes, not those %d of the input", len(got), len(test.input))
			}
			if s := starts(units); s != "" {
				t.Errorf("starts at %s", s)
			}
			for _, u := range units {
				if len(u.data) > 32<<10 {
					t.Errorf("a unit of %d bytes", len(u.data))
				}
			}
		})
	}
}

// TestBroken: what comes after the fault has no marks, what was before keeps them, and nothing is lost.
func TestBroken(t *testing.T) {
	for _, name := range sampleNames {
		file := sample(t, name)
		_, whole := split(t, bytes.NewReader(file))
		cutAt := len(join(whole[:len(whole)/2]))
		for _, test := range []struct {
			name string
			file []byte
		}{
			{"breaks off between units", file[:cutAt]},
			{"breaks off within a unit", file[:cutAt+7]},
			{"goes on as something else", append(bytes.Clone(file[:cutAt]), bytes.Repeat([]byte{0x00, 0x55}, 50_000)...)},
			{"goes on with another file", append(bytes.Clone(file[:cutAt]), file...)},
		} {
			t.Run(name+" "+test.name, func(t *testing.T) {
				_, units := split(t, bytes.NewReader(test.file))
				if !bytes.Equal(join(units), test.file) {
					t.Error("the units joined are not the file")
				}
				if got, want := starts(units), starts(whole[:len(whole)/2]); !strings.HasPrefix(got, want) {
					t.Errorf("starts at %s, want %s before the fault", got, want)
				}
			})
		}
	}
}

// TestChained: a second file in the same input starts anew, with an init unit of its own.
func TestChained(t *testing.T) {
	for _, name := range sampleNames {
		if name == "sample.ts" {
			continue // the same tables again: a transport stream simply goes on
		}
		t.Run(name, func(t *testing.T) {
			file := sample(t, name)
			_, once := split(t, bytes.NewReader(file))
			_, twice := split(t, bytes.NewReader(append(bytes.Clone(file), file...)))
			if got, want := strings.Count(starts(twice), "init"), 2*strings.Count(starts(once), "init"); got != want {
				t.Errorf("%d init units, want %d", got, want)
			}
			if got, want := strings.Count(starts(twice), "key"), 2*strings.Count(starts(once), "key"); got != want {
				t.Errorf("%d key units, want %d", got, want)
			}
		})
	}
}

func TestReadError(t *testing.T) {
	fault := errors.New("the cable is out")
	for _, name := range sampleNames {
		t.Run(name, func(t *testing.T) {
			file := sample(t, name)
			part := file[:len(file)/2]
			s, err := media.NewSplitter(io.MultiReader(bytes.NewReader(part), iotest.ErrReader(fault)))
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			for {
				u, err := s.Next()
				if err != nil {
					if err != fault {
						t.Errorf("Next: %v", err)
					}
					break
				}
				got = append(got, u.Data...)
			}
			if !bytes.Equal(got, part) {
				t.Errorf("%d of %d bytes before the error", len(got), len(part))
			}
		})
	}
	if _, err := media.NewSplitter(iotest.ErrReader(fault)); err != fault {
		t.Errorf("NewSplitter: %v", err)
	}
}

// TestAnyDamage damages the samples in every way: bytes changed, cut out, doubled, in reads of any size.
func TestAnyDamage(t *testing.T) {
	var files [][]byte
	for _, name := range sampleNames {
		files = append(files, sample(t, name))
	}
	rapid.Check(t, func(t *rapid.T) {
		b := bytes.Clone(rapid.SampledFrom(files).Draw(t, "file"))
		for range rapid.IntRange(0, 6).Draw(t, "faults") {
			at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
			n := rapid.IntRange(0, min(400, len(b)-at-1)).Draw(t, "bytes")
			switch rapid.IntRange(0, 3).Draw(t, "fault") {
			case 0:
				b[at] = rapid.Byte().Draw(t, "byte")
			case 1:
				b = append(b[:at], b[at+n:]...)
			case 2:
				b = append(bytes.Clone(b[:at+n]), b[at:]...)
			case 3:
				for i := range b[at : at+n] {
					b[at+i] = 0xff
				}
			}
		}
		size := rapid.IntRange(1, 4096).Draw(t, "read size")
		if _, units := split(t, &chunkReader{b, size}); !bytes.Equal(join(units), b) {
			t.Fatalf("the units joined are not the input")
		}
	})
}

// chunkReader gives at most so many bytes at a time.
type chunkReader struct {
	b    []byte
	size int
}

func (r *chunkReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), r.size)], r.b)
	r.b = r.b[n:]
	return n, nil
}

func FuzzSplitter(f *testing.F) {
	for _, name := range sampleNames {
		f.Add(sample(f, name), 0)
		f.Add(sample(f, name)[:len(sample(f, name))/2], 188)
	}
	f.Add([]byte("plain"), 1)
	for _, frame := range []int{192, 204} { // other framings of the same packets
		var b []byte
		for ts := sample(f, "sample.ts"); len(ts) >= 188; ts = ts[188:] {
			packet := make([]byte, frame)
			copy(packet[frame%12:], ts[:188]) // behind a time stamp, or before the parity
			b = append(b, packet...)
		}
		f.Add(b, frame)
		f.Add(b[:len(b)-7], 390) // cut off in what follows the last packet
	}
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		if size < 1 {
			size = max(1, len(b))
		}
		_, units := split(t, &chunkReader{b, size})
		if !bytes.Equal(join(units), b) {
			t.Fatal("the units joined are not the input")
		}
		last := time.Duration(0)
		for _, u := range units {
			if u.time == media.NoTime {
				continue
			}
			if u.time < last {
				t.Fatalf("time goes back from %v to %v", last, u.time)
			}
			last = u.time
		}
	})
}

// TestAllocations: behind the head, units cost no allocation, whatever their number.
func TestAllocations(t *testing.T) {
	for _, name := range sampleNames {
		t.Run(name, func(t *testing.T) {
			file := sample(t, name)
			_, units := split(t, bytes.NewReader(file))
			head, body := 0, 0
			for _, u := range units {
				if body += len(u.data); u.kind == media.Init && head+len(u.data) == body {
					head = body
				}
			}
			body = len(file)
			if name == "sample.mp4" {
				body = len(file) - len(units[len(units)-1].data) // without the table at the end
			}
			many := append(bytes.Clone(file[:head]), bytes.Repeat(file[head:body], 500)...)
			s, err := media.NewSplitter(bytes.NewReader(many))
			if err != nil {
				t.Fatal(err)
			}
			next := func() {
				if _, err := s.Next(); err != nil {
					t.Fatal(err)
				}
			}
			for range 50 {
				next()
			}
			if n := testing.AllocsPerRun(200, next); n > 0 {
				t.Errorf("%v allocations a unit", n)
			}
		})
	}
}

func BenchmarkSplitter(b *testing.B) {
	for _, name := range sampleNames {
		file := bytes.Repeat(sample(b, name), 20)
		b.Run("file="+name, func(b *testing.B) {
			b.SetBytes(int64(len(file)))
			for b.Loop() {
				s, err := media.NewSplitter(bytes.NewReader(file))
				for err == nil {
					_, err = s.Next()
				}
				if err != io.EOF {
					b.Fatal(err)
				}
			}
		})
	}
}
