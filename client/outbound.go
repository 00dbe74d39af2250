package client

import (
	"time"

	"github.com/timedge/timedge/codec"
)

// What the server tells a publisher, and how it goes on from there. All of it is called with the client's mutex held.

// maxWindow is how much of what is not acknowledged is kept for a server, whatever window it gives.
const maxWindow = 16 << 20

// published takes the server's answer: the streams are brought in line with what it has, and go on. An error is a
// fault of the server.
func (p *Publisher) published(m *codec.Published, l *link) error {
	if m.Window < codec.MaxFrame {
		return &codec.ProtocolError{Code: codec.CodeMalformed, Text: "window smaller than a frame"}
	}
	fresh := p.answered && m.Pub != p.pub // the server had given this publisher up and counts a new one
	if fresh && p.on == l {
		return &codec.ProtocolError{Code: codec.CodeMalformed, Text: "another publisher number on the same connection"}
	}
	next := make(map[uint8]uint64, len(m.Streams))
	for _, s := range m.Streams {
		next[s.Dtype] = s.Next
		p.stream(s.Dtype)
	}
	was := p.pub
	p.on, p.pub, p.policy, p.maxPayload = l, m.Pub, m.Policy, l.maxPayload()
	p.inflight = 0
	p.since = time.Now()
	freed, lost := 0, false
	for _, st := range p.all {
		var n, kept int
		var broken bool
		if fresh {
			n, broken = st.restart(was, m.Pub, next[st.dtype])
		}
		freed, lost = freed+n, lost || broken
		from := st.oldest() // a stream that the server does not know begins with the oldest frame there is
		if known := next[st.dtype]; known != 0 {
			from = known
		}
		var begin uint64
		begin, kept, n, broken = st.resume(from, p.headless)
		freed, lost = freed+n, lost || broken
		p.inflight += kept
		if begin > from {
			l.send(st.gap(from, begin-1))
		}
	}
	p.headless = false
	if lost {
		p.fault = &ClosedError{p.room, codec.CodeGone}
	}
	p.live = true
	p.window.resize(int(min(m.Window, maxWindow)))
	p.window.release(freed)
	for _, st := range p.all {
		p.c.enqueue(st)
	}
	if !p.answered {
		p.answered = true
		close(p.opened)
	}
	p.progressed()
	return nil
}

// publishRefused takes a refusal as the answer to publish.
func (p *Publisher) publishRefused(code codec.Code, text string) {
	if p.err != nil {
		return
	}
	switch {
	case !p.answered && code != codec.CodeMoved:
		p.end(&RefusedError{code, text})
		return
	case !code.Retry(), code == codec.CodeAway: // the recipient has gone while the connection was broken
		p.end(&ClosedError{p.room, code})
		return
	}
	p.askLater(code)
}

// pushRefused takes a refusal of frames. What may succeed when tried again, and a server that has lost the thread, are
// met with another publish, whose answer tells what the server has; the rest ends p.
func (p *Publisher) pushRefused(code codec.Code, l *link) {
	thread := code == codec.CodeSequence || code == codec.CodeBadPieces
	switch {
	case p.err != nil:
	case (code == codec.CodeNotPublishing || code == codec.CodeSuperseded) && p.movedOn == l:
		// Frames that were on their way, told late: they are sent again.
	case code == codec.CodeMoved || code == codec.CodeSuperseded || code == codec.CodeNotPublishing:
		p.moved(l) // or the server has forgotten the publisher: whatever ends it for good is told by closed
	case !code.Retry() && !thread || thread && p.astray == maxAstray:
		p.end(&ClosedError{p.room, code})
	case !p.live: // asked already
	case thread:
		p.headless = code == codec.CodeBadPieces
		p.astray++
		p.pause()
		p.c.askPublish(p)
	default:
		p.askLater(code)
	}
}

// maxAstray is how often a publisher is brought in line with the server again before anything is acknowledged in
// between.
const maxAstray = 3

// moved takes the word that the publisher's part in the room has ended on l though nobody wants it to: another node
// relays the room now, an older publish of this client overtook the last one, or the server has forgotten it. It
// publishes again, as on a new connection, and may be given another number. The first time that is done at once, and
// only later if nothing was acknowledged meanwhile.
func (p *Publisher) moved(l *link) {
	if p.err != nil || p.c.link != l {
		return
	}
	p.on, p.movedOn = nil, l
	switch {
	case !p.live: // asked already
	case p.retries > 0 && time.Since(p.since) < p.c.opts.BackoffMax:
		p.askLater(codec.CodeMoved)
	default:
		p.retries = 1
		p.pause()
		p.c.askPublish(p)
	}
}

// pause stops the publisher's streams until the server has answered the next publish.
func (p *Publisher) pause() {
	p.c.dequeue(p)
	p.live = false
}

// askLater publishes again after a pause, if the connection is still the same then: a new one begins with that anyhow.
func (p *Publisher) askLater(code codec.Code) {
	c, l := p.c, p.c.link
	c.opts.Logger.Warn("publisher refused, will try again", "room", p.room.String(), "reason", code.String())
	p.pause()
	p.retries++
	time.AfterFunc(c.patience(code, p.retries), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if p.err == nil && !p.live && l != nil && c.link == l {
			c.askPublish(p)
		}
	})
}

// acknowledged takes an ack.
func (p *Publisher) acknowledged(dtype uint8, seq uint64) {
	st := p.streams[dtype]
	if st == nil {
		return
	}
	n := st.acknowledge(seq)
	if n == 0 {
		return
	}
	p.astray = 0
	// Otherwise a node that acknowledges and sends away in turn would be asked without a pause.
	if time.Since(p.since) > p.c.opts.BackoffMin {
		p.retries = 0
	}
	p.inflight -= n
	p.window.release(n)
	for _, st := range p.all { // those that the window held back
		p.c.enqueue(st)
	}
	p.progressed()
}

func (p *Publisher) progressed() {
	if p.progress != nil {
		close(p.progress)
		p.progress = nil
	}
}

// counted passes a count on, in the place of one that was not taken.
func (p *Publisher) counted(n codec.Count) {
	if p.flags&codec.PubCount == 0 || p.err != nil {
		return
	}
	select {
	case <-p.counts:
	default:
	}
	p.counts <- Count{n.Room, n.Subscribers, n.Publishers}
}
