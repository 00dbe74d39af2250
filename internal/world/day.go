package world

import (
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/timedge/timedge/node"
)

// Day is what is done to a world, and the seed from which all else follows.
type Day struct {
	Seed    uint64
	Actions []Action // in order of time
	Length  time.Duration
	Plant   Plant  // a fault that is planted, to see that it is found
	Only    string // the one invariant to look at; "": all
}

// Result is how a day went.
type Result struct {
	Fault  *Fault
	Events int
	Story  []string // what happened, if it was asked for
}

// night is how long nothing happens at the end of a day before everything must be where it belongs.
const night = 9 * time.Second

// Play lets a day happen, and the night after it.
func (d *Day) Play(story bool) (res Result) {
	w := &World{
		seed: d.Seed, only: d.Only, plant: d.Plant, nodes: make(map[string]*Process), births: make(map[string]uint64),
		views: make(map[uint64]*node.View), clients: make(map[string]actor), rooms: make(map[string]*roomRecord),
		net: network{
			part: make(map[string]int), holes: make(map[[2]string]int), slow: make(map[[2]string]slowness),
			conns: make(map[string][]*socketEnd), buffer: socketBuffer,
		},
	}
	if story {
		w.story = &res.Story
	}
	defer func() {
		if r := recover(); r != nil { // a panic of the product is a fault like any
			w.only = ""
			w.fail("I10", "panic: %v, %s", r, panicked(debug.Stack()))
			res.Fault, res.Events = w.fault, w.events
		}
	}()
	for i := range d.Actions {
		a := &d.Actions[i]
		w.cause, w.kids = mix(uint64(i)), 0
		w.push(event{a.At, 0, 0, func() { w.act(a) }})
	}
	w.after(time.Second, w.census)
	w.run(d.Length)
	w.rest()
	w.run(d.Length + night)
	if w.fault == nil {
		w.cause, w.kids = 1, 0
		w.settled()
	}
	if w.fault == nil {
		w.emptied(d.Length + night)
	}
	return Result{w.fault, w.events, res.Story}
}

// panicked returns where a panic came from.
func panicked(stack []byte) string {
	lines := strings.Split(string(stack), "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, "panic(") && i+3 < len(lines) {
			return strings.TrimSpace(lines[i+2]) + " at " + strings.Join(strings.Fields(lines[i+3])[:1], "")
		}
	}
	return ""
}

// rest is the beginning of the night: nobody pushes any more, and nothing goes wrong.
func (w *World) rest() {
	w.tell("# night")
	w.quiet, w.armed = true, nil
	clear(w.net.slow)
	for _, name := range w.cast {
		if h, is := w.clients[name].(*hostile); is {
			h.quit()
		}
	}
	w.heal()
	for _, name := range w.names {
		if p := w.nodes[name]; p.frozen && !p.dead {
			p.thaw(false)
		}
	}
}

// Shrink leaves out what a day's fault does not need: it returns a day with as few actions as it finds in which the
// same invariant fails. tries bounds the days that are played.
func (d *Day) Shrink(invariant string, tries int) *Day {
	small := *d
	small.Only = invariant
	fails := func(as []Action) bool {
		if tries--; tries < 0 {
			return false
		}
		day := small
		day.Actions = as
		f := day.Play(false).Fault
		return f != nil && f.Invariant == invariant
	}
	for size := len(small.Actions) / 2; size > 0; {
		cut := false
		for i := 0; i+size <= len(small.Actions); {
			less := slices.Concat(small.Actions[:i], small.Actions[i+size:])
			if fails(less) {
				small.Actions, cut = less, true
			} else {
				i += size
			}
		}
		if !cut || size > len(small.Actions) {
			size /= 2
		}
	}
	return &small
}

// String is the day as a story: its seed, its length, and its actions, one on a line.
func (d *Day) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d\nlength %v\n", d.Seed, d.Length)
	for _, a := range d.Actions {
		fmt.Fprintln(&b, a)
	}
	return b.String()
}

// Alone draws a day of one node: rooms of all policies, publishers and subscribers that come, break off, stall, rest
// and leave.
func Alone(seed uint64) *Day {
	g := newDraw(seed)
	g.length = 10 * time.Second
	g.add(0, 0, "start", "n1")
	g.people([]string{"n1"})
	for range 40 {
		g.client([]string{"n1"})
	}
	return g.day(seed)
}

// Cluster draws three days of three to seven nodes, one after the other: nodes are killed, restarted, drained and held
// up, links break, are cut and slow, and clients do what they do. The nodes agree on who is there but for a moment.
func Cluster(seed uint64) *Day { return cluster(seed, false) }

// Parted draws days like those of Cluster in which the nodes are also of two minds: the network is parted, and nodes
// stand still for longer than the others wait.
func Parted(seed uint64) *Day { return cluster(seed, true) }

// Crashes draws days of three nodes of which one is killed and restarted, and as soon as it is back the next one, again
// and again: rooms move before their edges have come after them.
func Crashes(seed uint64) *Day {
	g := newDraw(seed)
	g.length = 30 * time.Second
	nodes := []string{"n1", "n2", "n3"}
	for _, name := range nodes {
		g.add(0, 0, "start", name, g.ms(-10000, 10000))
	}
	g.people(nodes)
	g.people(nodes)
	g.late()
	for range 30 {
		g.client(nodes)
	}
	for at := 2 * time.Second; at < g.length-3*time.Second; at += time.Duration(1500+g.IntN(3000)) * time.Millisecond {
		i, next := g.IntN(3), at
		for range 1 + g.IntN(2) {
			g.add(next, 0, "kill", nodes[i])
			next += time.Duration(20+g.IntN(150)) * time.Millisecond
			g.add(next, 0, "start", nodes[i])
			next += time.Duration(10+g.IntN(500)) * time.Millisecond
			i = (i + 1) % 3
		}
	}
	return g.day(seed)
}

// Mixed draws days like those of Cluster on which every other node is of the version before, as to the others: they
// send it what that understands.
func Mixed(seed uint64) *Day {
	d := cluster(seed, false)
	old := 0
	for i := range d.Actions {
		if a := &d.Actions[i]; a.Verb == "start" {
			if len(a.Args) == 1 {
				a.Args = append(a.Args, "0s")
			}
			if old++; old%2 == 0 {
				a.Args = append(a.Args, "old")
			}
		}
	}
	return d
}

// Hostile draws days like those of Cluster on which two clients do what they can to hurt the others.
func Hostile(seed uint64) *Day {
	d := cluster(seed, false)
	g := newDraw(^seed)
	var nodes, rooms []string
	for _, a := range d.Actions {
		switch a.Verb {
		case "start":
			if !slices.Contains(nodes, a.Args[0]) {
				nodes = append(nodes, a.Args[0])
			}
		case "register":
			rooms = append(rooms, a.Args[1])
		}
	}
	for i := range 2 {
		at := time.Duration(500+g.IntN(3000)) * time.Millisecond
		g.add(at, 0, "abuse", fmt.Sprintf("h%d", i+1), g.one(rooms), g.one(nodes))
	}
	d.Actions = append(d.Actions, g.actions...)
	slices.SortStableFunc(d.Actions, func(a, b Action) int { return int(a.At - b.At) })
	return d
}

func cluster(seed uint64, parted bool) *Day {
	g := newDraw(seed)
	g.parted = parted
	g.length = 30 * time.Second
	var nodes []string
	for i := range 3 + g.IntN(5) {
		name := fmt.Sprintf("n%d", i+1)
		nodes = append(nodes, name)
		g.add(0, 0, "start", name, fmt.Sprintf("%dms", g.IntN(20000)-10000))
	}
	g.people(nodes)
	g.late()
	for range 60 {
		g.client(nodes)
	}
	for range 60 {
		g.fault(nodes)
	}
	return g.day(seed)
}

// fault draws something that befalls nodes, or the network.
func (g *generator) fault(nodes []string) {
	at, strike := g.when()
	a, b := g.one(nodes), g.one(nodes)
	for b == a {
		b = g.one(nodes)
	}
	switch g.IntN(14) {
	case 0, 1, 2:
		g.add(at, strike, "kill", a)
		g.add(at+time.Duration(200+g.IntN(2500))*time.Millisecond, g.IntN(2), "start", a)
	case 3:
		g.add(at, strike, "leave", a)
		g.add(at+time.Duration(1500+g.IntN(2500))*time.Millisecond, 0, "start", a)
	case 4, 5:
		longest := 250
		if g.parted {
			longest = 2500
		}
		stands := []string{a, g.ms(20, longest)}
		if g.IntN(2) == 0 {
			stands = append(stands, "stands")
		}
		g.add(at, strike, "freeze", stands...)
	case 6, 7:
		g.add(at, strike, "sever", a, b)
	case 8, 9:
		g.add(at, strike, "cut", a, b, g.ms(50, 2500))
	case 10:
		g.add(at, strike, "oneway", a, b, g.ms(50, 2500))
	case 11:
		if !g.parted {
			g.add(at, strike, "kill", a)
			g.add(at+time.Duration(5+g.IntN(300))*time.Millisecond, g.IntN(2), "start", a)
			break
		}
		g.add(at, strike, "part", a, g.ms(300, 4000))
	case 12:
		g.add(at, strike, "slow", a, b, g.ms(5, 120), fmt.Sprint(1+g.IntN(400)), g.ms(200, 3000))
	default:
		g.add(at, strike, "hiccup", a, g.ms(1, 40))
	}
}

// generator draws the actions of a day.
type generator struct {
	*rand.Rand
	length  time.Duration
	parted  bool
	actions []Action
	rooms   []string
	pubs    [][2]string // publisher, room
	subs    [][2]string
}

func newDraw(seed uint64) *generator { return &generator{Rand: rand.New(rand.NewPCG(seed, 0x7d6e))} }

func (g *generator) add(at time.Duration, strike int, verb string, args ...string) {
	g.actions = append(g.actions, Action{at, strike, verb, args})
}

// day returns what was drawn. Two of three days have sockets of another size, down to what a kernel gives at least.
func (g *generator) day(seed uint64) *Day {
	if n := []string{"16384", "65536", ""}[g.IntN(3)]; n != "" {
		g.add(0, 0, "sockets", n)
	}
	slices.SortStableFunc(g.actions, func(a, b Action) int { return int(a.At - b.At) })
	return &Day{Seed: seed, Actions: g.actions, Length: g.length}
}

func (g *generator) one(of []string) string { return of[g.IntN(len(of))] }

func (g *generator) ms(low, high int) string { return fmt.Sprintf("%dms", low+g.IntN(high-low)) }

// when is a time of the day, and for every other one a strike.
func (g *generator) when() (at time.Duration, strike int) {
	if g.IntN(2) == 0 {
		strike = 1 + g.IntN(4)
	}
	return time.Duration(300+g.IntN(int(g.length/time.Millisecond)-300)) * time.Millisecond, strike
}

// people draws rooms, and who is in them from the beginning.
func (g *generator) people(nodes []string) {
	policies := []string{"live", "lossless", "live", "latest", "disconnect", "lossless"}
	kinds := []string{"video", "cursor", "file", "slides"}
	at := func() time.Duration { return time.Duration(20+g.IntN(400)) * time.Millisecond }
	np, ns := len(g.pubs), len(g.subs)
	for range 2 + g.IntN(3) {
		i := len(g.rooms)
		r, o := fmt.Sprintf("r%d", i+1), fmt.Sprintf("o%d", i+1)
		g.rooms = append(g.rooms, r)
		g.add(10*time.Millisecond, 0, "register", o, r, policies[(i+g.IntN(2))%len(policies)], g.one(nodes))
		for range 1 + g.IntN(2) {
			np++
			p := fmt.Sprintf("p%d", np)
			g.pubs = append(g.pubs, [2]string{p, r})
			g.add(15*time.Millisecond, 0, "grant", r, p)
			g.add(at(), 0, "publish", p, r, g.one(nodes), g.one(kinds), g.ms(30, 160))
		}
		for range 1 + g.IntN(3) {
			ns++
			s := fmt.Sprintf("s%d", ns)
			g.subs = append(g.subs, [2]string{s, r})
			g.add(at(), 0, "subscribe", s, r, g.one(nodes))
		}
	}
}

// late has people come a moment later: the nodes find each other first.
func (g *generator) late() {
	for i := range g.actions {
		if g.actions[i].Verb != "start" {
			g.actions[i].At += 300 * time.Millisecond
		}
	}
}

// client draws something that a client does.
func (g *generator) client(nodes []string) {
	at, strike := g.when()
	p, s, r := g.pubs[g.IntN(len(g.pubs))], g.subs[g.IntN(len(g.subs))], g.one(g.rooms)
	switch g.IntN(16) {
	case 0, 1, 2:
		g.add(at, strike, "break", s[0])
	case 3, 4:
		g.add(at, strike, "break", p[0])
	case 5:
		g.add(at, strike, "break", p[0], g.one(nodes))
	case 6:
		g.add(at, strike, "break", s[0], g.one(nodes))
	case 7:
		g.add(at, strike, "quit", s[0])
		g.add(at+time.Duration(g.IntN(3000))*time.Millisecond, 0, "subscribe", s[0], s[1], g.one(nodes))
	case 8, 9:
		g.add(at, strike, "quit", p[0])
		g.add(at+time.Duration(g.IntN(3000))*time.Millisecond, 0, "publish", p[0], p[1], g.one(nodes), "video", "50ms")
	case 10:
		g.add(at, 0, "rest", p[0], g.ms(200, 4000))
	case 11, 12:
		g.add(at, 0, "stall", s[0], g.ms(100, 3000))
	case 13:
		g.add(at, strike, "revoke", p[1], p[0])
		g.add(at+time.Duration(g.IntN(1500))*time.Millisecond, g.IntN(2), "grant", p[1], p[0])
	case 14:
		g.add(at, strike, "publish", p[0], p[1], g.one(nodes), "video", "50ms")
	default:
		if g.IntN(6) == 0 {
			g.add(at, strike, "remove", r)
		} else {
			s := fmt.Sprintf("s%d", 20+g.IntN(10))
			g.subs = append(g.subs, [2]string{s, r})
			g.add(at, 0, "subscribe", s, r, g.one(nodes))
		}
	}
}
