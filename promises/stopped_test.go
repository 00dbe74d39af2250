package promises

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/timedge/timedge/client"
)

// TestStoppedViewer streams real video at its own speed to two viewers. One is a process that is stopped for five
// seconds of the video in its middle. It is told exactly what it missed: what it wrote is what the healthy one got
// without the frames named in its notices; and that decodes, without an error, to the pictures of the video but for
// some in the middle.
func TestStoppedViewer(t *testing.T) {
	if testing.Short() {
		t.Skip("takes as long as the video")
	}
	t.Parallel()
	for _, test := range []struct{ container, rate string }{
		{"ts", "-b:v 12M"},
		{"webm", "-b:v 12M -qmax 6"},
	} {
		t.Run(test.container, func(t *testing.T) {
			t.Parallel()
			path := makeVideo(t, test.container, "320x180", 11, 60, test.rate)
			video, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			s := serve(t)
			register := start(t, s.addr, nil, "register", "--queue=1MiB")
			room := register.room()
			register.end()
			healthy := must(dialAs(t, s.addr, "healthy").Subscribe(t.Context(), room, client.SubscribeOptions{}))(t)
			push := start(t, s.addr, nil, "push", "--room", room.String(), "--realtime", "--wait=2", path)
			stopped := start(t, s.addr, nil, "sub", room.String())
			written := make(chan []byte, 1)
			go func() {
				b, _ := io.ReadAll(stopped.out)
				written <- b
			}()

			var units []unit
			bytesGot, stopAt, goOnAt := 0, len(video)*3/11, len(video)*8/11
			var stoppedAt time.Time
			goesOn := false
			for {
				e, err := healthy.Next(t.Context())
				if err != nil {
					t.Fatalf("the healthy viewer: %v", err)
				}
				if _, ok := e.(*client.Left); ok {
					break
				}
				switch e := e.(type) {
				case *client.Gap:
					t.Fatalf("the healthy viewer has a gap, frames %d to %d (%v)", e.From, e.To, e.Reason)
				case *client.Message:
					n := len(e.Payload)
					units = append(units, unit{e.First, e.Last, e.Kind, bytes.Clone(e.Payload)})
					switch {
					case stoppedAt.IsZero() && bytesGot+n >= stopAt:
						stopped.signal(syscall.SIGSTOP)
						stoppedAt = time.Now()
					case !goesOn && bytesGot+n >= goOnAt && time.Since(stoppedAt) >= stoppedFor:
						stopped.signal(syscall.SIGCONT)
						goesOn = true
					}
					bytesGot += n
				}
			}
			push.end()
			remove := start(t, s.addr, nil, "remove", room.String())
			remove.end()
			got := <-written
			said := stopped.endMissing()

			missed := noticed(t, said)
			if bytesGot != len(video) || len(missed) == 0 {
				t.Fatalf("the healthy viewer has %d of %d bytes; the stopped one missed %d frames: %q", bytesGot, len(video), len(missed), said)
			}
			var want []byte
			for _, u := range units {
				gone := missed[u.first]
				for seq := u.first; seq <= u.last; seq++ {
					if missed[seq] != gone {
						t.Errorf("a part of message %d-%d is missing", u.first, u.last)
					}
					delete(missed, seq)
				}
				if !gone {
					want = append(want, u.data...)
				}
			}
			if len(missed) > 0 {
				t.Errorf("notices name frames that never were: %v", missed)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("the stopped viewer wrote %d bytes; without the frames that its notices name the video has %d\n%s",
					len(got), len(want), said)
			}

			all, err := decode(video)
			if err != nil {
				t.Fatal(err)
			}
			seen, err := decode(got)
			if err != nil {
				t.Fatalf("what the stopped viewer wrote: %v", err)
			}
			head := 0
			for head < len(seen) && seen[head] == all[head] {
				head++
			}
			tail := len(seen) - head
			t.Logf("%d pictures, %d before the gap and %d after it; %d of %d bytes written; said %q",
				len(all), head, tail, len(got), len(video), said)
			if head == 0 || tail == 0 || len(seen) >= len(all) || !slices.Equal(seen[head:], all[len(all)-tail:]) {
				t.Errorf("%d of %d pictures that are not the video's beginning and its end", len(seen), len(all))
			}
		})
	}
}

// stoppedFor is how long a viewer is stopped at least. A pusher that got no processor for a while sends all that is due
// at once, and who misses but that moment keeps up.
const stoppedFor = 4 * time.Second

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

var notice = regexp.MustCompile(`^timedge: missing: frames? (\d+)(?: to (\d+))? of alice's stream 0: this subscriber did not keep up$`)

// noticed returns the frames that the notices on standard error name. Nothing else may stand there but the line that
// sums them up.
func noticed(t *testing.T, said string) map[uint64]bool {
	t.Helper()
	missed := make(map[uint64]bool)
	sum := ""
	defer func() {
		if want := fmt.Sprintf("timedge: not all has come: %d frames missing", len(missed)); sum != want {
			t.Errorf("the stopped viewer sums up %q, want %q", sum, want)
		}
	}()
	for line := range strings.Lines(said) {
		if strings.HasPrefix(line, "timedge: not all has come") {
			sum = strings.TrimSpace(line)
			continue
		}
		m := notice.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			t.Errorf("the stopped viewer says %q", line)
			continue
		}
		from, _ := strconv.ParseUint(m[1], 10, 64)
		to := from
		if m[2] != "" {
			to, _ = strconv.ParseUint(m[2], 10, 64)
		}
		for seq := from; seq <= to; seq++ {
			if missed[seq] {
				t.Errorf("frame %d is named twice", seq)
			}
			missed[seq] = true
		}
	}
	return missed
}
