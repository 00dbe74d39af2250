package main

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/client/media"
	"github.com/timedge/timedge/codec"
)

// TestPacer lets units go at their times; the clock is synctest's.
func TestPacer(t *testing.T) {
	const none = media.NoTime
	for _, test := range []struct {
		name  string
		units []time.Duration // times of the units
		gone  []time.Duration // when they go, from the first on
	}{
		{"from anywhere", ms(5000, 5040, 5080), ms(0, 40, 80)},
		{"without times", []time.Duration{none, none}, ms(0, 0)},
		{"header first", []time.Duration{none, 7 * time.Second, 8 * time.Second}, ms(0, 0, 1000)},
		{"key frames far apart", ms(0, 15_000, 30_000), ms(0, 15_000, 30_000)},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var p pacer
				begin := time.Now()
				for i, u := range test.units {
					if err := p.until(t.Context(), u); err != nil {
						t.Fatal(err)
					}
					if got := time.Since(begin); got != test.gone[i] {
						t.Errorf("unit %d goes at %v, want %v", i, got, test.gone[i])
					}
				}
			})
		})
	}
}

func ms(ns ...int) (ds []time.Duration) {
	for _, n := range ns {
		ds = append(ds, time.Duration(n)*time.Millisecond)
	}
	return ds
}

// TestDescribe: one line says what an input is.
func TestDescribe(t *testing.T) {
	for _, test := range []struct {
		info     media.Info
		realtime bool
		want     string
	}{
		{media.Info{Format: media.MPEGTS, Framing: "packets of 192 bytes", Tracks: "H.264 (256)", Keys: 3, Timed: true}, true,
			"MPEG-TS in packets of 192 bytes; H.264 (256); key frames so far: 3; keeps to its times"},
		{media.Info{Format: media.WebM}, true, "WebM; no tracks known yet; key frames so far: 0; no times known yet"},
		{media.Info{Format: media.FLV, Tracks: "AAC", Keys: 1, Timed: true}, false, "FLV; AAC; key frames so far: 1; goes as fast as it can"},
		{media.Info{Format: media.MP4, Tracks: "H.264 (1)", Timed: true, Late: "it counts"}, true,
			"fragmented MP4; H.264 (1); key frames so far: 0; keeps to its times; who joins late cannot play it, for it counts"},
		{media.Info{Format: media.OrdinaryMP4}, false,
			"MP4 that is not fragmented; who joins late cannot play it; '" + fragmented + "' makes one that can be joined"},
		{media.Info{Format: media.Raw}, false, "not recognised, goes as it comes; who joins late begins anywhere in it"},
	} {
		if got := (&input{Realtime: test.realtime}).describe(test.info); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

// TestLatecomer: only who lacks the beginning of a stream, and finds that its fragments count from there, is told,
// once.
func TestLatecomer(t *testing.T) {
	box := func(typ, body string) string {
		return string(binary.BigEndian.AppendUint32(nil, uint32(8+len(body)))) + typ + body
	}
	fragment := func(flags string) []byte {
		return []byte(box("styp", "msdh") + box("moof", box("mfhd", "\x00\x00\x00\x00\x00\x00\x00\x01")+
			box("traf", box("tfhd", "\x00"+flags+"\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x64"))) + box("mdat", "data"))
	}
	fixed, floating := fragment("\x00\x00\x01"), fragment("\x02\x00\x00")
	joined := &client.Gap{Pub: 1, Dtype: 2, From: 1, To: 9, Reason: codec.GapJoined}
	for _, test := range []struct {
		name     string
		gap      *client.Gap
		messages [][]byte
		want     []bool
	}{
		{"in the midst of data", joined, [][]byte{[]byte("data"), fixed, fixed}, []bool{false, true, false}},
		{"offsets from the fragment", joined, [][]byte{floating, floating}, []bool{false, false}},
		{"another stream", &client.Gap{Pub: 1, Dtype: 3, Reason: codec.GapJoined}, [][]byte{fixed}, []bool{false}},
		{"a gap in the midst", &client.Gap{Pub: 1, Dtype: 2, Reason: codec.GapSlow}, [][]byte{fixed}, []bool{false}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var late latecomer
			late.gap(test.gap)
			for i, b := range test.messages {
				if got := late.tell(&client.Message{Pub: 1, Dtype: 2, Payload: b}); got != test.want[i] {
					t.Errorf("message %d: %v", i, got)
				}
			}
		})
	}
}

func TestPacerStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var p pacer
		if err := p.until(ctx, 0); err != nil {
			t.Fatal(err)
		}
		if err := p.until(ctx, 5*time.Second); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a unit due after the end goes with %v", err)
		}
	})
}

func TestDescribeGap(t *testing.T) {
	for _, test := range []struct {
		gap  client.Gap
		want string
	}{
		{client.Gap{Publisher: "ann", From: 1, To: 699, Reason: codec.GapJoined},
			"missing: frames 1 to 699 of ann's stream 0: pushed before this subscriber joined"},
		{client.Gap{Publisher: "bob", Dtype: 3, From: 7, To: 7, Reason: codec.GapSlow},
			"missing: frame 7 of bob's stream 3: this subscriber did not keep up"},
		{client.Gap{Publisher: "bob", From: 9, To: 12, Interrupted: 8, Reason: codec.GapExpired},
			"missing: frames 9 to 12, and with them the start of a message from frame 8 on, of bob's stream 0: " +
				"not kept long enough to go on where the connection broke"},
	} {
		if got := describeGap(&test.gap); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

// TestEveryReason: no reason and no code is told as a number.
func TestEveryReason(t *testing.T) {
	for r := codec.GapJoined; !strings.HasPrefix(r.String(), "gap_"); r++ {
		if gapReasons[r] == "" {
			t.Errorf("gap reason %v has no words", r)
		}
	}
	for code, name := range codec.Codes() {
		ends := code >= 400 || code.Retry()
		if _, ok := plainCodes[code]; ends && !ok {
			t.Errorf("code %s has no words", name)
		}
	}
}

func TestUnknownVariables(t *testing.T) {
	parser := newParser()
	for _, test := range []struct {
		name    string
		environ []string
		want    string // the names, or nothing
	}{
		{"none", []string{"HOME=/", "TIME=1"}, ""},
		{"known", []string{"TIMEDGE_SERVER=x", "TIMEDGE_LISTEN=y", "TIMEDGE_LOG_LEVEL=z"}, ""},
		{"misspelt", []string{"TIMEDGE_SEVER=x", "TIMEDGE_LISTN="}, "TIMEDGE_LISTN (is TIMEDGE_LISTEN meant?), TIMEDGE_SEVER (is TIMEDGE_SERVER meant?)"},
		{"those of Kubernetes", []string{"TIMEDGE_SERVICE_HOST=10.0.0.1", "TIMEDGE_PORT=tcp://10.0.0.1:7400"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := unknownVariables(parser, test.environ)
			if (err != nil) != (test.want != "") || err != nil && !strings.Contains(err.Error(), ": "+test.want+";") {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestNotes(t *testing.T) {
	said, err := os.Create(filepath.Join(t.TempDir(), "said"))
	if err != nil {
		t.Fatal(err)
	}
	defer said.Close()
	log := slog.New(&notes{std: &streams{err: said}, level: slog.LevelWarn})
	log.Info("connected")
	log.Warn("connection lost", "server", "a:1")
	for range 3 {
		log.Warn("no server to be had", "reason", errors.New("refused"))
	}
	const want = "timedge: connection lost; server: a:1\ntimedge: no server to be had; reason: refused\n"
	got, err := os.ReadFile(said.Name())
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
