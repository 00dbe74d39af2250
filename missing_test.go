package main

import (
	"testing"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// TestLedger: what counts as missing, and what is said of it at the end.
func TestLedger(t *testing.T) {
	gap := func(from, to uint64, reason codec.GapReason) *client.Gap {
		return &client.Gap{Publisher: "ann", Pub: 1, From: from, To: to, Reason: reason}
	}
	message := func(kind client.Kind) *client.Message { return &client.Message{Pub: 1, Kind: kind} }
	resumed := new(client.Resumed)
	for _, test := range []struct {
		name   string
		whole  bool
		events []any
		want   string
	}{
		{"nothing", false, []any{message(client.Key), message(client.Delta)}, ""},
		{"joined late", false, []any{gap(1, 699, codec.GapJoined), message(client.Key)}, ""},
		{"joined late, with a header", false, []any{message(client.Init), gap(2, 699, codec.GapJoined), message(client.Key)}, ""},
		{"joined late where all is wanted", true, []any{gap(1, 699, codec.GapJoined)}, "not all has come: 699 frames missing"},
		{"joined, it says, in the middle", false, []any{message(client.Delta), gap(2, 5, codec.GapJoined)}, "not all has come: 4 frames missing"},
		{"joined after the publisher's number began anew", false,
			[]any{message(client.Delta), &client.Left{Pub: 1}, gap(1, 5, codec.GapJoined)}, ""},
		{"began while the connection was lost", false, []any{resumed, gap(1, 5, codec.GapJoined)}, "not all has come: 5 frames missing"},
		{"newer ones", false, []any{message(client.Delta), gap(2, 900, codec.GapNewer), message(client.Delta)}, ""},
		{"slow", false, []any{gap(1, 1, codec.GapSlow)}, "not all has come: 1 frame missing"},
		{"expired", false, []any{gap(1, 2, codec.GapExpired)}, "not all has come: 2 frames missing"},
		{"lost", false, []any{gap(1, 1200, codec.GapLost), gap(2000, 2000, codec.GapLost)}, "not all has come: 1,201 frames missing, in 2 places"},
		{"given up by the publisher", false, []any{gap(4, 4, codec.GapPublisher)}, "not all has come: 1 frame missing"},
		{"a reason of a later version", false, []any{gap(1, 2, 77)}, "not all has come: 2 frames missing"},
		{"a message cut off", false, []any{&client.Gap{Pub: 1, From: 9, To: 9, Reason: codec.GapSlow, Interrupted: 4}},
			"not all has come: 6 frames missing"},
		{"nobody knows how many", false, []any{gap(1, codec.MaxSeq, codec.GapExpired)}, "not all has come: an unknown number of frames missing"},
		{"more than that", false, []any{gap(1, 2, codec.GapSlow), gap(3, codec.MaxSeq, codec.GapExpired)},
			"not all has come: more than 2 frames missing, in 2 places"},
		{"a fault of the server", false, []any{&client.StreamError{Pub: 1}},
			"not all has come: the server broke the order of a stream 1 times"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := ledger{whole: test.whole}
			for _, e := range test.events {
				switch e := e.(type) {
				case *client.Message:
					l.message(e)
				case *client.Gap:
					l.gap(e)
				case *client.StreamError:
					l.fault(e)
				case *client.Left:
					l.left(e.Pub)
				case *client.Resumed:
					l.resumed = true
				}
			}
			got := ""
			if err := l.err(everybody); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
