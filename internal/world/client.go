package world

import (
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/timedge/timedge/codec"
)

// actor is a client, whatever it does.
type actor interface {
	base() *client
	opened()                 // there is a connection, and the server has said welcome
	ready()                  // the connection takes more
	lost()                   // it has ended
	control(m codec.Control) // what is no answer to a request
	stream(f *codec.Stream, raw []byte)
}

// client is what all clients have in common: it knows the protocol and the addresses of the nodes.
type client struct {
	w        *World
	me       actor
	name     string
	account  string
	instance uint64
	room     *roomRecord
	rude     bool // it may be told that it breaks the protocol

	node  string // where it is, or tries to be
	end   *socketEnd
	in    framed
	open  bool
	since time.Duration // when the connection opened
	gone  time.Duration // when it left for good; 0: it did not
	dials int           // connection attempts, to tell old from new
	heard time.Duration

	asked map[uint32]*request
	req   uint32
}

// request is what a client has asked for.
type request struct {
	m    codec.Control
	at   time.Duration
	done func(answer codec.Control) // nil answer: the connection ended
}

func (c *client) base() *client { return c }

// newClient returns a client whose account has its name.
func newClient(name string, r *roomRecord) client {
	return client{name: name, account: name, instance: mix(xxhash.Sum64String(name)), room: r}
}

// enlist makes a client known to the world.
func (w *World) enlist(c *client, me actor) {
	c.w, c.me = w, me
	c.asked = make(map[uint32]*request)
	w.clients[c.name] = me
	w.cast = append(w.cast, c.name)
}

// dial connects to a node; to another if it is not there.
func (c *client) dial(node string) {
	c.hangUp()
	c.node = node
	c.dials++
	this := c.dials
	c.w.after(c.w.between(time.Millisecond, 8*time.Millisecond), func() {
		if c.dials != this || c.gone != 0 {
			return
		}
		p := c.w.nodes[node]
		if p == nil || p.dead {
			c.elsewhere(5*time.Millisecond, 100*time.Millisecond)
			return
		}
		mine, theirs := c.w.connect(c.name, node, nil, p)
		mine.reader = c
		c.end, c.in, c.heard = mine, framed{}, c.w.now
		p.run(func() { p.accept(theirs) })
		c.send(&codec.Hello{Account: c.account, Instance: c.instance})
		c.w.after(c.w.between(2*time.Second, 4*time.Second), func() { c.watch(this) })
	})
}

// watch leaves a node that says nothing for too long. Whatever a client waits for, it has its patience.
func (c *client) watch(this int) {
	if c.dials != this || c.gone != 0 || c.end == nil {
		return
	}
	if silent := c.w.now - c.heard; silent > 1500*time.Millisecond && (!c.open || len(c.asked) > 0) {
		c.w.tell("%s has waited for %s long enough", c.name, c.node)
		c.elsewhere(0, 20*time.Millisecond)
		return
	}
	c.send(&codec.Ping{Echo: uint64(c.w.now)})
	c.w.after(c.w.between(2*time.Second, 4*time.Second), func() { c.watch(this) })
}

// elsewhere connects to some node a moment later.
func (c *client) elsewhere(low, high time.Duration) {
	c.hangUp()
	c.dials++
	this := c.dials
	c.w.after(c.w.between(low, high), func() {
		if c.dials != this || c.gone != 0 {
			return
		}
		var up []string
		for _, name := range c.w.names {
			if !c.w.nodes[name].dead {
				up = append(up, name)
			}
		}
		if len(up) == 0 {
			c.elsewhere(50*time.Millisecond, 200*time.Millisecond)
			return
		}
		c.dial(up[c.w.draw(int64(len(up)))])
	})
}

// hangUp ends the connection without a word.
func (c *client) hangUp() {
	if c.end != nil {
		c.end.close()
		c.over()
	}
}

// quit ends the client.
func (c *client) quit() {
	if c.gone == 0 {
		c.gone = c.w.now
		c.hangUp()
	}
}

// over is the end of the connection.
func (c *client) over() {
	c.end = nil
	c.open = false
	asked := c.asked
	c.asked = make(map[uint32]*request)
	c.me.lost()
	for _, req := range sortedKeys(asked) {
		if r := asked[req]; r.done != nil {
			r.done(nil)
		}
	}
}

// broken implements reader.
func (c *client) broken() {
	c.over()
	if c.gone == 0 {
		c.elsewhere(time.Millisecond, 60*time.Millisecond)
	}
}

func (c *client) writable() { c.me.ready() }

// send writes a control frame. What does not fit into the connection ends it, unless nothing else waits: clients do not
// queue.
func (c *client) send(m codec.Control) {
	if c.end == nil {
		return
	}
	b := c.w.frame(nil, m)
	if len(b) > c.end.space() && len(c.end.out) > 0 {
		c.elsewhere(0, 10*time.Millisecond)
		return
	}
	c.end.write(b)
}

// ask sends a request. done gets its answer, once, or nil when the connection ends.
func (c *client) ask(m codec.Control, done func(answer codec.Control)) {
	c.req++
	setReq(m, c.req)
	c.asked[c.req] = &request{m, c.w.now, done}
	c.w.asked()
	this, req := c.dials, c.req
	c.w.after(answerWithin, func() {
		r := c.asked[req]
		if r == nil || c.dials != this || c.end == nil || c.end.peer.paused {
			return
		}
		if !c.w.books.troubled(c.node, r.at, c.w.now) {
			c.w.fail("I9", "%s has no answer to %T from %s in %v", c.name, r.m, c.node, answerWithin)
		}
	})
	c.send(m)
}

// answerWithin is how long an answer may take while there is a path.
const answerWithin = 11 * time.Second

// readable implements reader.
func (c *client) readable(b []byte) {
	c.heard = c.w.now
	this := c.dials
	err := c.in.read(c.w, b, func(b []byte) (int, error) {
		frame, typ, err := codec.Next(b, codec.MaxFrame)
		if err == codec.ErrIncomplete || c.dials != this || c.end == nil {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		if typ&codec.TypeStream != 0 {
			var f codec.Stream
			if err := codec.ParseStream(frame, &f); err != nil {
				return 0, err
			}
			c.me.stream(&f, frame)
			return len(frame), nil
		}
		if m := c.w.legal(frame); m != nil {
			c.take(m)
		}
		return len(frame), nil
	})
	if err != nil {
		c.w.fail("I10", "%s reads what is no frame: %v", c.name, err)
	}
}

func (c *client) take(m codec.Control) {
	switch m := m.(type) {
	case *codec.Welcome:
		c.open, c.since = true, c.w.now
		c.me.opened()
		return
	case *codec.Pong:
		return
	case *codec.Error:
		if m.Code < 200 && !c.rude {
			c.w.fail("I10", "%s is told %v by %s: %s", c.name, m.Code, c.node, m.Text)
		}
		return
	case *codec.GoAway:
		c.elsewhere(0, 100*time.Millisecond)
		return
	}
	if req, is := answerOf(m); is {
		r := c.asked[req]
		if r == nil {
			c.w.fail("I9", "%s gets an answer to nothing: %T %+v", c.name, m, m)
			return
		}
		delete(c.asked, req)
		if r.done != nil {
			r.done(m)
		}
		return
	}
	c.me.control(m)
}

func setReq(m codec.Control, req uint32) {
	switch m := m.(type) {
	case *codec.Register:
		m.Req = req
	case *codec.Unsubscribe:
		m.Req = req
	default:
		_, n := requestOf(m)
		*n = req
	}
}

// answerOf returns the number of the request that a frame answers.
func answerOf(m codec.Control) (req uint32, is bool) {
	switch m := m.(type) {
	case *codec.OK:
		return m.Req, true
	case *codec.Refused:
		return m.Req, true
	case *codec.Registered:
		return m.Req, true
	case *codec.Published:
		return m.Req, true
	case *codec.Subscribed:
		return m.Req, true
	case *codec.Info:
		return m.Req, true
	}
	return 0, false
}
