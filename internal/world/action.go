package world

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/node"
)

// Action is one thing that is done to the world from outside. Its text form is what stories are written in:
//
//	1250ms kill n2
//	1250ms +2 kill n2      two events after somebody has asked for something, the first time from 1250 ms on
//
// Names say what they are: n1 a node, r1 a room, o1 the owner of r1, p1 a publisher, s1 a subscriber,
// h1 a hostile client. verbs lists what there is.
type Action struct {
	At     time.Duration
	Strike int // so many events after a request; 0: at once
	Verb   string
	Args   []string
}

func (a Action) String() string {
	strike := ""
	if a.Strike > 0 {
		strike = fmt.Sprintf("+%d ", a.Strike)
	}
	return fmt.Sprintf("%dms %s%s %s", a.At.Milliseconds(), strike, a.Verb, strings.Join(a.Args, " "))
}

// ParseAction reads the text form.
func ParseAction(line string) (a Action, err error) {
	words := strings.Fields(line)
	if len(words) < 2 {
		return a, errors.New("an action is a time, a verb and its arguments")
	}
	if a.At, err = time.ParseDuration(words[0]); err != nil {
		return a, err
	}
	words = words[1:]
	if strings.HasPrefix(words[0], "+") && len(words) > 1 {
		if a.Strike, err = strconv.Atoi(words[0][1:]); err != nil {
			return a, err
		}
		words = words[1:]
	}
	a.Verb, a.Args = words[0], words[1:]
	v, known := verbs[a.Verb]
	switch {
	case !known:
		return a, fmt.Errorf("there is no verb %q", a.Verb)
	case len(a.Args) < v.least:
		return a, fmt.Errorf("%s takes: %s", a.Verb, v.args)
	}
	return a, nil
}

// verb is something that can be done. What it is done to need not be there: then nothing happens.
type verb struct {
	args  string
	least int
	do    func(w *World, a *Action)
}

var verbs map[string]verb

func init() {
	verbs = map[string]verb{
		"register":  {"OWNER ROOM POLICY NODE", 4, register},
		"grant":     {"ROOM PUBLISHER", 2, func(w *World, a *Action) { w.right(a, true) }},
		"revoke":    {"ROOM PUBLISHER", 2, func(w *World, a *Action) { w.right(a, false) }},
		"remove":    {"ROOM", 1, remove},
		"publish":   {"PUBLISHER ROOM NODE SHAPE PAUSE", 5, publish},
		"subscribe": {"SUBSCRIBER ROOM NODE", 3, subscribe},
		"abuse":     {"HOSTILE ROOM NODE", 3, abuse},
		"break":     {"CLIENT [NODE]", 1, breakOff},
		"quit":      {"CLIENT", 1, func(w *World, a *Action) { w.with(a.Args[0], func(c *client) { c.quit() }) }},
		"rest":      {"PUBLISHER TIME", 2, rest},
		"stall":     {"SUBSCRIBER TIME", 2, stall},
		"start":     {"NODE [SKEW [old]]", 1, start},
		"kill":      {"NODE", 1, kill},
		"freeze":    {"NODE TIME [stands]", 2, freeze},
		"hiccup":    {"NODE TIME", 2, freeze},
		"leave": {"NODE", 1, func(w *World, a *Action) {
			w.up(a.Args[0], func(p *Process) { w.troubles(time.Second, p.name); p.leave() })
		}},
		"sever":  {"NODE NODE", 2, sever},
		"cut":    {"NODE NODE TIME", 3, cut},
		"oneway": {"NODE NODE TIME", 3, cut},
		"part":   {"NODE TIME", 2, part},
		"slow":   {"NODE NODE DELAY BYTES-PER-MS TIME", 5, slow},
		// sockets take so many bytes from now on
		"sockets": {"BYTES", 1, sockets},
	}
}

// strike is an action that waits for a request.
type strike struct {
	a      *Action
	counts int // events until then; -1: no request has been seen yet
}

// act does an action, now or when it strikes. Its cause is its own text: it does not depend on what else is done.
func (w *World) act(a *Action) {
	if a.Strike > 0 {
		w.armed = append(w.armed, strike{a, -1})
		return
	}
	w.perform(a)
}

func (w *World) perform(a *Action) {
	text := a.String()
	w.under(xxhash.Sum64String(text), func() {
		w.tell("# %s", text)
		verbs[a.Verb].do(w, a)
	})
}

// asked says that somebody has asked for something: faults love that moment.
func (w *World) asked() {
	for i := range w.armed {
		if s := &w.armed[i]; s.counts < 0 {
			s.counts = s.a.Strike
		}
	}
}

// strikes lets an event pass.
func (w *World) strikes() {
	kept := w.armed[:0]
	var due []*Action
	for _, s := range w.armed {
		if s.counts > 0 {
			if s.counts--; s.counts == 0 {
				due = append(due, s.a)
				continue
			}
		}
		kept = append(kept, s)
	}
	w.armed = kept
	for _, a := range due {
		w.perform(a)
	}
}

func (a *Action) time(i int) time.Duration {
	d, err := time.ParseDuration(a.Args[i])
	if err != nil {
		return 0
	}
	return d
}

// with does something with a client that is there.
func (w *World) with(name string, do func(c *client)) {
	if c := w.clients[name]; c != nil && c.base().gone == 0 {
		do(c.base())
	}
}

// up does something with a node that runs.
func (w *World) up(name string, do func(p *Process)) {
	if p := w.nodes[name]; p != nil && !p.dead {
		do(p)
	}
}

func (w *World) roomOf(label string) *roomRecord {
	r := w.rooms[label]
	if r == nil {
		r = &roomRecord{label: label, owner: "o" + label[1:], lives: make(map[uint16][]*life)}
		w.rooms[label] = r
	}
	return r
}

func register(w *World, a *Action) {
	r := w.roomOf(a.Args[1])
	if w.clients[a.Args[0]] != nil {
		return
	}
	r.policy, _ = codec.ParsePolicy(a.Args[2])
	o := &owner{client: client{name: a.Args[0], account: r.owner, instance: mix(xxhash.Sum64String(a.Args[0])), room: r}}
	w.enlist(&o.client, o)
	o.do(&codec.Register{Policy: r.policy}, nil)
	o.dial(a.Args[3])
}

func (w *World) ownerOf(label string, do func(o *owner)) {
	if r := w.rooms[label]; r != nil {
		if o, is := w.clients[r.owner].(*owner); is {
			do(o)
		}
	}
}

func (w *World) right(a *Action, is bool) {
	w.ownerOf(a.Args[0], func(o *owner) { o.grant(a.Args[1], is) })
}

func remove(w *World, a *Action) {
	w.ownerOf(a.Args[0], func(o *owner) {
		if o.room.removed == 0 {
			o.room.removed = w.now
			o.do(&codec.Remove{}, nil)
		}
	})
}

func publish(w *World, a *Action) {
	p, _ := w.clients[a.Args[0]].(*publisher)
	if p == nil {
		p = &publisher{shape: shapes[a.Args[3]], pause: max(a.time(4), time.Millisecond)}
		p.client = newClient(a.Args[0], w.roomOf(a.Args[1]))
		w.enlist(&p.client, p)
	}
	p.come(a.Args[2])
}

func subscribe(w *World, a *Action) {
	s, _ := w.clients[a.Args[0]].(*subscriber)
	if s == nil {
		s = &subscriber{}
		s.client = newClient(a.Args[0], w.roomOf(a.Args[1]))
		w.enlist(&s.client, s)
	}
	s.come(a.Args[2])
}

// breakOff breaks a client's connection: both ends notice, each in its own time. It comes back at once, at the node
// named or any.
func breakOff(w *World, a *Action) {
	w.with(a.Args[0], func(c *client) {
		if c.end != nil {
			c.end.sever(time.Millisecond, 300*time.Millisecond)
		}
		if len(a.Args) > 1 {
			c.dial(a.Args[1])
		}
	})
}

func rest(w *World, a *Action) {
	if p, is := w.clients[a.Args[0]].(*publisher); is {
		p.resting = true
		w.after(a.time(1), func() { p.resting = false })
	}
}

func stall(w *World, a *Action) {
	if s, is := w.clients[a.Args[0]].(*subscriber); is && s.gone == 0 {
		s.stall(a.time(1))
	}
}

func start(w *World, a *Action) {
	if p := w.nodes[a.Args[0]]; p != nil && !p.dead {
		return
	}
	skew := time.Duration(0)
	if len(a.Args) > 1 {
		skew = a.time(1)
	}
	level := uint8(node.Level)
	if len(a.Args) > 2 { // to the others it is of the version before
		level = 0
	}
	w.start(a.Args[0], skew, level)
}

func kill(w *World, a *Action) {
	w.up(a.Args[0], func(p *Process) {
		w.books.killed = append(w.books.killed, w.now)
		w.books.befalls(p.name, w.now, w.now)
		p.kill()
	})
}

func freeze(w *World, a *Action) {
	w.up(a.Args[0], func(p *Process) {
		if p.frozen {
			return
		}
		w.troubles(a.time(1), p.name)
		if a.time(1) > suspicion {
			w.books.splits = append(w.books.splits, trouble{w.now, w.now + a.time(1)})
		}
		p.freeze()
		w.after(a.time(1), func() {
			if !p.dead {
				p.thaw(len(a.Args) > 2)
			}
		})
	})
}

// troubles notes that nodes may lag for a while.
func (w *World) troubles(d time.Duration, names ...string) {
	for _, name := range names {
		w.books.befalls(name, w.now, w.now+d)
	}
}

// sever breaks the links between two nodes, once.
func sever(w *World, a *Action) {
	w.troubles(0, a.Args[0], a.Args[1])
	for _, e := range w.links(a.Args[0]) {
		if e.peer.place == a.Args[1] {
			e.sever(time.Millisecond, 300*time.Millisecond)
		}
	}
}

// cut lets nothing pass between two nodes for a while, in one direction or both. Others still hear both.
func cut(w *World, a *Action) {
	from, to, d := a.Args[0], a.Args[1], a.time(2)
	ways := [][2]string{{from, to}}
	if a.Verb == "cut" {
		ways = append(ways, [2]string{to, from})
	}
	w.troubles(d, from, to)
	w.books.cuts = append(w.books.cuts, trouble{w.now, w.now + d})
	for _, way := range ways {
		w.net.holes[way]++
	}
	w.blackout()
	w.after(d, func() {
		for _, way := range ways {
			if w.net.holes[way] > 0 {
				w.net.holes[way]--
			}
		}
	})
}

// part takes a node out of the network of the others for a while; its clients still reach it.
func part(w *World, a *Action) {
	name, d := a.Args[0], a.time(1)
	w.troubles(d, w.names...)
	w.books.splits = append(w.books.splits, trouble{w.now, w.now + d})
	w.parts++
	w.net.part[name] = w.parts
	w.gossip(name, 350*time.Millisecond, 700*time.Millisecond)
	w.blackout()
	this := w.parts
	w.after(d, func() {
		if w.net.part[name] == this {
			w.net.part[name] = 0
			w.gossip(name, 5*time.Millisecond, 300*time.Millisecond)
		}
	})
}

// heal makes the network whole.
func (w *World) heal() {
	clear(w.net.holes)
	for _, name := range w.names {
		if w.net.part[name] != 0 {
			w.net.part[name] = 0
			w.gossip(name, 5*time.Millisecond, 300*time.Millisecond)
		}
	}
}

// sockets sets how many bytes a connection takes.
func sockets(w *World, a *Action) {
	if n, err := strconv.Atoi(a.Args[0]); err == nil {
		w.net.buffer = max(n, 16<<10) // a client writes whole frames
	}
}

// slow makes the way between two nodes slow for a while.
func slow(w *World, a *Action) {
	rate, _ := strconv.Atoi(a.Args[3])
	s := slowness{max(a.time(2), time.Millisecond), max(rate, 1)}
	w.troubles(a.time(4), a.Args[0], a.Args[1])
	there, back := [2]string{a.Args[0], a.Args[1]}, [2]string{a.Args[1], a.Args[0]}
	w.net.slow[there], w.net.slow[back] = s, s
	w.after(a.time(4), func() {
		delete(w.net.slow, there)
		delete(w.net.slow, back)
	})
}
