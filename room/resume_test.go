package room

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
)

// TestResumeWithNothing: whose connection broke before anything came was there all the same: it has joined no stream
// late.
func TestResumeWithNothing(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy codec.Policy
		join   Join
		have   uint64 // of another stream; 0: nothing
		want   string
	}{
		{"joins late", 0, Join{}, 0, "1-2 joined 3k 4"},
		{"was there", 0, Join{Resumes: true}, 0, "1k 2 3k 4"},
		{"was there, has another stream", 0, Join{Resumes: true}, 1, "1k 2 3k 4"},
		{"a new node whose subscriber was there", 0, Join{Link: "edge", New: true, Resumes: true}, 0, "1k 2 3k 4"},
		{"was there, lossless", codec.PolicyLossless, Join{Resumes: true}, 0, "1k 2 3k 4"},
		{"joins late, latest", codec.PolicyLatest, Join{}, 0, "1-3 joined 4"},
		{"was there, latest", codec.PolicyLatest, Join{Resumes: true}, 0, "1-3 expired 4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newBench(t, Config{}, codec.Register{Policy: c.policy})
			if c.policy == codec.PolicyLossless { // what is acknowledged is not kept
				x.viewer(Join{Account: "another"})
			}
			x.script(7, strings.Fields("1k 2 3k 4")...)
			x.script(8, "1")
			x.loop.drain()
			c.join.Account = "v"
			v := x.newViewer()
			if c.have > 0 {
				v.stream(x.key(8)).expected = c.have + 1
				c.join.Have = []codec.Position{{StreamKey: x.key(8), Last: c.have}}
			}
			x.join(v, c.join)
			v.take(1 << 30)
			if got := strings.Join(v.stream(x.key(7)).script, " "); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestResumeBehindAGap: whose last word on a stream was a gap goes on where a decoder can start.
func TestResumeBehindAGap(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy codec.Policy
		log    string
		last   uint64 // end of the gap
		after  string
		want   string
	}{
		{"amid a group", 0, "1k 2 3 4", 2, "5 6k", "3-4 expired 5-5 expired 6k"},
		{"nothing since", 0, "1k 2", 2, "3 4k", "3-3 expired 4k"},
		{"before a group in the log", 0, "1k 2 3 4k 5", 2, "6", "3-3 expired 4k 5 6"},
		{"at a group in the log", 0, "1k 2 3k 4", 2, "5", "3k 4 5"},
		{"amid a message, no keys", 0, "1 2> 3<> 4< 5", 2, "6", "3-4 expired 5 6"},
		{"at a message, no keys", 0, "1 2 3", 2, "4", "3 4"},
		{"amid the last message", 0, "1 2> 3<>", 3, "4< 5", "4-4 expired 5"},
		{"latest", codec.PolicyLatest, "1 2> 3<>", 2, "4< 5", "3-3 expired 4-4 expired 5"},
		{"ahead of the room, amid a message", codec.PolicyLossless, "1", 2, "2> 3< 4", "3-3 expired 4"},
		{"ahead of the room, at a message", codec.PolicyLossless, "1", 2, "2 3 4", "3 4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newBench(t, Config{}, codec.Register{Policy: c.policy})
			x.script(7, strings.Fields(c.log)...)
			x.loop.drain()
			v := x.newViewer()
			v.stream(x.key(7)).expected = c.last + 1
			x.join(v, Join{Account: "v", Instance: 5, Have: []codec.Position{{StreamKey: x.key(7), Last: c.last}},
				Gapped: []uint32{0}})
			if got := x.after(v, c.after); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestResume(t *testing.T) {
	for _, c := range []struct {
		name   string
		cfg    Config
		policy codec.Policy
		seen   string // before the connection broke
		missed string
		after  string
		want   string // after the resume
	}{
		{"nothing missed", Config{}, 0, "1k 2", "", "3", "3"},
		{"inside the log", Config{}, 0, "1i 2k 3", "4 5k 6", "7", "4 5k 6 7"},
		{"within a message", Config{}, 0, "1k 2>", "3<> 4<", "5", "3>< 4< 5"},
		{"outside the log", Config{History: 1}, 0, "1i 2k 3", "4 5k 6 7k 8", "9", "4-6 expired 7k 8 9"},
		{"outside the log, new init", Config{History: 1}, 0, "1i 2k 3", "4 5i 6k 7", "8", "4-4 expired 5i 6k 7 8"},
		{"outside the log, no keys", Config{History: 1}, 0, "1 2", "3 4", "5", "3-4 expired 5"},
		{"log emptied", Config{CacheRoom: 1}, 0, "1k 2", "3 4", "5 6k", "3-4 expired 5-5 expired 6k"},
		{"latest", Config{}, codec.PolicyLatest, "1 2", "3 4 5", "6", "3-4 expired 5 6"},
		{"publisher's gap", Config{}, 0, "1k 2", "3-5 6", "7", "3-5 publisher 6 7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newBench(t, c.cfg, codec.Register{Policy: c.policy})
			v := x.viewer(Join{Account: "v", Instance: 5})
			x.script(7, strings.Fields(c.seen)...)
			x.loop.drain()
			v.take(1 << 30)
			x.loop.unsubscribe(v, true)
			x.script(7, strings.Fields(c.missed)...)
			v.reconnect(x.room)
			v.stream(x.key(7)).script = nil
			x.join(v, Join{Account: "v", Instance: 5, Have: v.have()})
			if got := x.after(v, c.after); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestResumeAfterThePublisherLeft(t *testing.T) {
	linger := int64(10 * time.Second)
	for _, c := range []struct {
		name string
		wait int64
		want string
		code codec.Code
	}{
		{"its frames are still there", 0, "[2 3]", codec.CodeLeft},
		{"it is forgotten", linger + 1, "[2-281474976710655 expired]", codec.CodeGone},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newBench(t, Config{}, codec.Register{})
			v := x.viewer(Join{Account: "v"})
			x.script(7, "1k")
			x.loop.drain()
			v.take(1 << 30)
			x.loop.unsubscribe(v, true)
			x.script(7, "2", "3")
			if err := x.pub.Unpublish(x.hold, x.now); err != nil {
				t.Fatal(err)
			}
			x.at(x.now + c.wait)
			v.reconnect(x.room)
			v.stream(x.key(7)).script = nil
			x.join(v, Join{Account: "v", Have: v.have()})
			v.take(1 << 30)
			if got := fmt.Sprint(v.stream(x.key(7)).script); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if len(v.lefts) != 1 || v.lefts[0].Code != c.code {
				t.Errorf("lefts: %v, want one with %v", v.lefts, c.code)
			}
			if late := x.viewer(Join{}); late.q.Bytes() != 0 {
				t.Error("a late joiner is told of a publisher that left")
			}
		})
	}
}

func TestResumeNamesNoStreamTwice(t *testing.T) {
	x := newBench(t, Config{}, codec.Register{})
	v := x.viewer(Join{})
	x.loop.unsubscribe(v, true)
	v.reconnect(x.room)
	k := codec.StreamKey{Pub: 77, Dtype: 1}
	v.stream(k).expected = 6
	x.join(v, Join{Have: []codec.Position{{StreamKey: k, Last: 5}, {StreamKey: k, Last: 5}}})
	v.take(1 << 30)
	if got := fmt.Sprint(v.stream(k).script, len(v.lefts)); got != "[6-281474976710655 expired] 1" {
		t.Error(got)
	}
}
