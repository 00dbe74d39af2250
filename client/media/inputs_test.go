package media_test

import (
	"bytes"
	"flag"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/timedge/timedge/client/media"
	"github.com/timedge/timedge/client/media/footage"
)

var allInputs = flag.Bool("inputs", false,
	"cut all inputs, instead of those on which push once fell short and every second other")

// TestInputs cuts the inputs there are: those on which push once fell short, of the others every second, or all with
// -inputs, as "make drill" has it. The units are the input; who joins at any key unit gets what decodes without a
// complaint; the times go from 0 to the end without a leap. It takes short forms; the drills take all of it.
func TestInputs(t *testing.T) {
	needFFmpeg(t)
	inputs := slices.Clone(footage.Inputs[:footage.Shown])
	for i, other := range footage.Inputs[footage.Shown:] {
		if *allInputs || i%2 == 0 {
			inputs = append(inputs, other)
		}
	}
	joins := 3
	if testing.Short() {
		inputs, joins = inputs[:footage.Shown], 2
	}
	made := footage.New(t.TempDir(), true)
	var making sync.Mutex // inputs are made of each other
	for _, in := range inputs {
		t.Run(in.Name, func(t *testing.T) {
			t.Parallel()
			making.Lock()
			path, err := made.File(in.Name)
			making.Unlock()
			if err != nil {
				t.Fatal(err)
			}
			s, file := splitFile(t, path)
			if !bytes.Equal(join(s.units), file) {
				t.Fatal("the units joined are not the input")
			}
			if got := string(s.info.Format); got != in.Format {
				t.Errorf("taken for %s, is %s", got, in.Format)
			}
			if in.Refused {
				if got := starts(s.units); got != "" || s.info.Late == "" {
					t.Errorf("starts at %s; late: %q", got, s.info.Late)
				}
				return
			}
			checkPace(t, s.units, time.Duration(made.Seconds(&in)*float64(time.Second)), in.Leaps)
			keys := keyUnits(s.units)
			if in.NoLate {
				if len(keys) > 0 || s.info.Late == "" {
					t.Errorf("%d key units; late: %q", len(keys), s.info.Late)
				}
				return
			}
			if len(keys) < max(1, made.Keys(&in)) {
				t.Errorf("%d key units, want %d at least: %s", len(keys), made.Keys(&in), kinds(s.units))
			}
			for n := 0; n < len(keys); n += max(1, (len(keys)+joins-1)/joins) {
				for _, line := range in.Faults(t.TempDir(), lateCopy(s.units, keys[n]), file) {
					t.Errorf("who joins at unit %d of %d (%v) has a decoder say: %s", keys[n], len(s.units), s.units[keys[n]].time,
						line)
				}
			}
		})
	}
}

// splitted is a file that has been cut.
type splitted struct {
	units []unit
	info  media.Info
}

func splitFile(t *testing.T, path string) (s splitted, file []byte) {
	t.Helper()
	file = readFile(t, path)
	splitter, err := media.NewSplitter(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	for {
		u, err := splitter.Next()
		if err != nil {
			break
		}
		s.units = append(s.units, unit{bytes.Clone(u.Data), u.Kind, u.Time})
	}
	s.info = splitter.Info()
	return s, file
}

func keyUnits(units []unit) (at []int) {
	for i, u := range units {
		if u.kind == media.Key {
			at = append(at, i)
		}
	}
	return at
}

// lateCopy is what somebody gets who joins while the group of key unit i goes on: the init units in a row before it,
// then all from it on.
func lateCopy(units []unit, i int) []byte {
	end := i
	for end > 0 && units[end-1].kind != media.Init {
		end--
	}
	begin := end
	for begin > 0 && units[begin-1].kind == media.Init {
		begin--
	}
	return append(join(units[begin:end]), join(units[i:])...)
}

// checkPace: times begin at 0, never go back, leap by no more than the input has to, and last as long as it does.
func checkPace(t *testing.T, units []unit, want time.Duration, leaps bool) {
	t.Helper()
	last := media.NoTime
	for i, u := range units {
		if u.time == media.NoTime {
			continue
		}
		switch {
		case last == media.NoTime && u.time != 0:
			t.Errorf("the first time is %v", u.time)
		case u.time < last:
			t.Errorf("unit %d is at %v, behind %v", i, u.time, last)
		case !leaps && last != media.NoTime && u.time > last+2*time.Second:
			t.Errorf("unit %d is at %v, after %v", i, u.time, last)
		}
		last = u.time
	}
	if last < want*8/10-time.Second || last > want*11/10+time.Second {
		t.Errorf("lasts %v, want %v", last, want)
	}
}

// TestDamagedInputs damages inputs in many places, each in several ways: there are key units again behind it, the bytes
// stay, and so does the pace.
func TestDamagedInputs(t *testing.T) {
	needFFmpeg(t)
	made := footage.New(t.TempDir(), true)
	places := 40
	if testing.Short() {
		places = 10
	}
	for _, name := range []string{"base.ts", "m2ts.m2ts", "base.mp4", "e.mp4", "base.webm", "unsized.webm",
		"onecluster.webm", "h264.flv", "opus20.ogg"} {
		t.Run(name, func(t *testing.T) {
			path, err := made.File(name)
			if err != nil {
				t.Fatal(err)
			}
			whole, file := splitFile(t, path)
			keys, lasts := len(keyUnits(whole.units)), lastTime(whole.units)
			var ats []int
			for i := 1; i < places; i++ {
				ats = append(ats, len(file)*i/places)
			}
			for at := 0; ; { // what tells the time of a cluster of WebM, of which another one comes later
				i := bytes.Index(file[at:], []byte{0x1f, 0x43, 0xb6, 0x75})
				if i < 0 {
					break
				}
				at += i + 4
				if !bytes.Contains(file[at:], []byte{0x1f, 0x43, 0xb6, 0x75}) {
					break
				}
				if t := bytes.IndexByte(file[at:min(len(file), at+10)], 0xe7); t >= 0 {
					ats = append(ats, at+t+2)
				}
			}
			for _, at := range ats {
				for damage, b := range map[string][]byte{
					"a byte changed":  edit(file, at, 1, []byte{file[at] ^ 0x55}),
					"50 bytes out":    edit(file, at, 50, nil),
					"2,000 bytes out": edit(file, at, 2000, nil),
					"300 bytes set":   edit(file, at, 300, bytes.Repeat([]byte{0xff}, 300)),
					"100 bytes in":    edit(file, at, 0, bytes.Repeat([]byte{0x1f, 0x43, 0x47, 0}, 25)),
				} {
					_, units := split(t, bytes.NewReader(b))
					if !bytes.Equal(join(units), b) {
						t.Fatalf("%s at %d: the units joined are not the input", damage, at)
					}
					if got := len(keyUnits(units)); got < keys-2 {
						t.Errorf("%s at %d: %d key units of %d: %s", damage, at, got, keys, kinds(units))
					}
					if wrong := wrongTimes(units, lasts); wrong != "" {
						t.Errorf("%s at %d: %s", damage, at, wrong)
					}
				}
			}
		})
	}
}

// edit replaces n bytes of b.
func edit(b []byte, at, n int, with []byte) []byte {
	return bytes.Join([][]byte{b[:at], with, b[min(len(b), at+n):]}, nil)
}

// wrongTimes says what is wrong with the times of an input that is damaged in one place and lasts so long; "" if
// nothing is. Damage may hit what tells the time of a run of units, as a cluster of WebM: that run alone may be
// elsewhere then.
func wrongTimes(units []unit, lasts time.Duration) string {
	late := func(u unit) bool { return u.time > lasts+time.Second }
	from := slices.IndexFunc(units, late)
	if from < 0 {
		from = len(units)
	}
	to := from
	for to < len(units) && late(units[to]) {
		to++
	}
	rest := append(slices.Clone(units[:from]), units[to:]...)
	switch got := lastTime(rest); {
	case slices.ContainsFunc(units[to:], late):
		return fmt.Sprintf("lasts %v instead of %v, and not in one run alone", lastTime(units), lasts)
	case got < lasts-time.Second && (from == len(units) || to < len(units)):
		return fmt.Sprintf("lasts %v instead of %v", got, lasts)
	}
	return ""
}

func lastTime(units []unit) (last time.Duration) {
	for _, u := range units {
		last = max(last, u.time)
	}
	return last
}
