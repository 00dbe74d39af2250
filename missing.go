package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/e2ee"
)

// ledger sums up what has not come of the streams that a command receives.
type ledger struct {
	whole   bool // streams are wanted from their beginning: joining one late is a loss
	begun   map[codec.StreamKey]bool
	resumed bool // the connection was lost once: from then on a stream that begins late began meanwhile

	lost     map[uint16]*losses // by publisher
	replaced uint64             // frames that newer ones replaced, as the room's policy says
}

// losses are those of one publisher's streams.
type losses struct {
	frames, places uint64
	endless        bool   // nobody knows how many frames there were
	faults         int    // times that the server broke the order of streams
	refused        int    // messages that did not open
	withheld       uint64 // messages sealed that did not come, though no gap was told
}

// message notes that something of a stream has come.
func (l *ledger) message(m *client.Message) {
	if m.Kind != client.Init {
		l.begin(codec.StreamKey{Pub: m.Pub, Dtype: m.Dtype})
	}
}

func (l *ledger) begin(key codec.StreamKey) {
	if l.begun == nil {
		l.begun = make(map[codec.StreamKey]bool)
	}
	l.begun[key] = true
}

// gap notes a gap, and returns what to say of it: nothing where nobody asked for what it replaces.
func (l *ledger) gap(g *client.Gap) string {
	key := codec.StreamKey{Pub: g.Pub, Dtype: g.Dtype}
	switch {
	case g.Reason == codec.GapNewer:
		l.replaced += g.To - g.From + 1
		return ""
	case g.Reason == codec.GapJoined && !l.whole && !l.resumed && !l.begun[key]:
		return fmt.Sprintf("%s's stream %d had begun: it comes from frame %d on", g.Publisher, g.Dtype, g.To+1)
	}
	p := l.of(g.Pub)
	p.places++
	if g.To == codec.MaxSeq {
		p.endless = true
	} else {
		p.frames += g.To - g.From + 1
	}
	if g.Interrupted != 0 {
		p.frames += g.From - g.Interrupted
	}
	return describeGap(g)
}

// fault notes that the server broke the order of a stream.
func (l *ledger) fault(e *client.StreamError) { l.of(e.Pub).faults++ }

// sealed notes what became of a sealed message, and returns what to say of it, if anything. The first of a publisher's
// that does not open is told, and the others are counted.
func (l *ledger) sealed(m *client.Message, withheld uint64, err error) string {
	if withheld == 0 && err == nil {
		return ""
	}
	p := l.of(m.Pub)
	if err == nil {
		p.withheld += withheld
		return fmt.Sprintf("missing: %d messages of %s's stream %d, of which the server told nothing", withheld, m.Publisher,
			m.Dtype)
	}
	if p.refused++; p.refused > 1 {
		return ""
	}
	return fmt.Sprintf("dropped: a message of %s's stream %d, frame %d: %s", m.Publisher, m.Dtype, m.First, unopened(err))
}

// unopened says in plain words why a message does not open.
func unopened(err error) string {
	switch {
	case errors.Is(err, e2ee.ErrNotSealed):
		return "it is not encrypted"
	case errors.Is(err, e2ee.ErrNoKey):
		return "it is encrypted under another key"
	case errors.Is(err, e2ee.ErrReplayed):
		return "it is one that came before, or comes behind a later one"
	case errors.Is(err, e2ee.ErrForged):
		return "it is encrypted under another key, or was changed on its way"
	}
	return err.Error()
}

// left notes that a publisher is gone: its number may be another's after it.
func (l *ledger) left(pub uint16) {
	for key := range l.begun {
		if key.Pub == pub {
			delete(l.begun, key)
		}
	}
}

func (l *ledger) of(pub uint16) *losses {
	if l.lost == nil {
		l.lost = make(map[uint16]*losses)
	}
	p := l.lost[pub]
	if p == nil {
		p = new(losses)
		l.lost[pub] = p
	}
	return p
}

// missingError says that a command has ended as it should, but not all has come.
type missingError struct{ losses }

// err returns a *missingError about the streams of some publishers, or nil if nothing of them is missing.
func (l *ledger) err(of func(pub uint16) bool) error {
	var sum losses
	for pub, p := range l.lost {
		if of(pub) {
			sum.frames += p.frames
			sum.places += p.places
			sum.faults += p.faults
			sum.refused += p.refused
			sum.withheld += p.withheld
			sum.endless = sum.endless || p.endless
		}
	}
	if sum.places == 0 && sum.faults == 0 && sum.refused == 0 && sum.withheld == 0 {
		return nil
	}
	return &missingError{sum}
}

func everybody(uint16) bool { return true }

func (e *missingError) Error() string {
	var parts []string
	if e.places > 0 {
		n := humanize.Comma(int64(e.frames)) + " frames"
		switch {
		case e.endless && e.frames > 0:
			n = "more than " + n
		case e.endless:
			n = "an unknown number of frames"
		case e.frames == 1:
			n = "1 frame"
		}
		where := fmt.Sprintf(" missing, in %d places", e.places)
		if e.places == 1 {
			where = " missing"
		}
		parts = append(parts, n+where)
	}
	if e.faults > 0 {
		parts = append(parts, fmt.Sprintf("the server broke the order of a stream %d times", e.faults))
	}
	if e.refused > 0 {
		parts = append(parts, fmt.Sprintf("%d messages did not open under the key", e.refused))
	}
	if e.withheld > 0 {
		parts = append(parts, fmt.Sprintf("%d messages are missing of which the server told nothing", e.withheld))
	}
	return "not all has come: " + strings.Join(parts, ", and ")
}

// describeGap says in plain words what of a stream does not come, and why.
func describeGap(g *client.Gap) string {
	what := fmt.Sprintf("missing: frame %d", g.From)
	switch {
	case g.To == codec.MaxSeq:
		what = fmt.Sprintf("missing: all from frame %d on", g.From)
	case g.To != g.From:
		what = fmt.Sprintf("missing: frames %d to %d", g.From, g.To)
	}
	if g.Interrupted != 0 {
		what += fmt.Sprintf(", and with them the start of a message from frame %d on,", g.Interrupted)
	}
	why, ok := gapReasons[g.Reason]
	if !ok {
		why = g.Reason.String()
	}
	return fmt.Sprintf("%s of %s's stream %d: %s", what, g.Publisher, g.Dtype, why)
}

var gapReasons = map[codec.GapReason]string{
	codec.GapJoined:    "pushed before this subscriber joined",
	codec.GapSlow:      "this subscriber did not keep up",
	codec.GapExpired:   "not kept long enough to go on where the connection broke",
	codec.GapLost:      "lost with a node of the server",
	codec.GapPublisher: "given up by the publisher before it was sent",
	codec.GapNewer:     "replaced by newer ones, as the room's policy is latest",
}
