package drills

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// plants are the places at which a build panics when it is told to: by a file of that name in PLANT_DIR, whose content
// is whom it is to cost.
var plants = []struct {
	name, where string // where: the label of the metric
	file        string
	from, to    string // what stands there, and what does in the build
}{
	{"open", "open", "engine/engine.go", "	l.now = l.eng.now()\n	s.loop, s.conn,", "	codec.Plant(\"open\", \"\")\n	l.now = l.eng.now()\n	s.loop, s.conn,"},
	{"opened", "open", "engine/engine.go", "	s.role.open(s)\n}", "	s.role.open(s)\n	codec.Plant(\"opened\", \"\")\n}"},
	{"read", "read", "engine/engine.go", "	l.reading = s\n	var err, end error\n", "	l.reading = s\n	codec.Plant(\"read\", s.account())\n	var err, end error\n"},
	{"push", "read", "room/publisher.go", "	if err := p.mayPush(h); err != nil {\n		return 0, err\n	}\n", "	if err := p.mayPush(h); err != nil {\n		return 0, err\n	}\n	codec.Plant(\"push\", p.who.account)\n"},
	{"outbound", "read", "room/outbound.go", "	if err := o.mayPush(h); err != nil {\n		return 0, err\n	}\n", "	if err := o.mayPush(h); err != nil {\n		return 0, err\n	}\n	codec.Plant(\"outbound\", o.Account)\n"},
	{"mailbox", "mailbox", "engine/loop.go", "		it.member.admit(it.replay)\n", "		codec.Plant(\"mailbox\", it.member.s.account())\n		it.member.admit(it.replay)\n"},
	{"fan_out", "fan_out", "engine/outlet.go", "		l.unit.s = m.s\n", "		l.unit.s = m.s\n		codec.Plant(\"fan_out\", m.s.account())\n"},
	{"write", "write", "engine/loop.go", "		s.dirty = false\n		l.unit = unit{s: s}\n", "		s.dirty = false\n		l.unit = unit{s: s}\n		codec.Plant(\"write\", s.account())\n"},
	{"tick", "tick", "engine/tick.go", "	a.s.ackDue(a.p)\n", "	codec.Plant(\"tick\", a.s.account())\n	a.s.ackDue(a.p)\n"},
	{"leave", "close", "engine/ending.go", "func (s *session) leaveRooms() {\n", "func (s *session) leaveRooms() {\n	if len(s.members()) > 0 {\n		codec.Plant(\"leave\", s.account())\n	}\n"},
	{"sweep", "sweep", "room/room.go", "func (r *Room) sweep(now int64) (end codec.Code) {\n	cfg := r.table.conf()\n	r.mu.Lock()\n	defer r.mu.Unlock()\n", "func (r *Room) sweep(now int64) (end codec.Code) {\n	cfg := r.table.conf()\n	r.mu.Lock()\n	defer r.mu.Unlock()\n	codec.Plant(\"sweep\", r.Owner)\n"},
	{"cluster", "cluster", "carry/request.go", "func (n *Node) ask(a Ask) {\n", "func (n *Node) ask(a Ask) {\n	codec.Plant(\"cluster\", a.Account)\n"},
	{"upkeep", "cluster", "carry/node.go", "func (n *Node) look(e *edge) {\n", "func (n *Node) look(e *edge) {\n	if e.mirror != nil {\n		codec.Plant(\"upkeep\", e.mirror.Owner)\n	}\n"},
	{"accept", "accept", "engine/accept.go", "	e.accepted.Add(1)\n", "	e.accepted.Add(1)\n	codec.Plant(\"accept\", \"\")\n"},
	{"admin", "admin", "engine/admin.go", "		_, _ = w.Write([]byte(\"ok\\n\"))\n", "		codec.Plant(\"admin\", \"\")\n		_, _ = w.Write([]byte(\"ok\\n\"))\n"},
	{"gossip", "gossip", "node/cluster.go", "func (c *Cluster) note", "\x00"}, // replaced below
	{"handshake", "handshake", "engine/shake.go", "	sock := &shaking{TCPConn: c, gate: e.gate, until: until}\n", "	sock := &shaking{TCPConn: c, gate: e.gate, until: until}\n	codec.Plant(\"handshake\", \"\")\n"},
}

const plantSource = `package codec

import (
	"os"
	"path/filepath"
)

// Plant panics once if it is told to.
func Plant(at, who string) {
	path := filepath.Join(os.Getenv("PLANT_DIR"), at)
	if b, err := os.ReadFile(path); err == nil && (len(b) == 0 || string(b) == who) && os.Remove(path) == nil {
		panic("planted at " + at)
	}
}
`

func TestPanics(t *testing.T) {
	o := newOverlay(t)
	o.add(filepath.Join(o.root(), "codec", "plant.go"), plantSource)
	for i, p := range plants {
		if p.name == "gossip" {
			p.from = "// greet is link for a stranger.\nfunc (c *Cluster) greet(conn net.Conn) {\n	if !c.guard(func() { c.link(conn) }) {\n"
			p.to = "func (c *Cluster) greet(conn net.Conn) {\n	if !c.guard(func() { codec.Plant(\"gossip\", \"\"); c.link(conn) }) {\n"
			plants[i] = p
		}
		o.change(filepath.Join(o.root(), filepath.FromSlash(p.file)), p.from, p.to)
	}
	o.change(filepath.Join(o.root(), "node", "cluster.go"), "import (\n", "import (\n	\"github.com/timedge/timedge/codec\"\n")
	ws := freeAddr(t)
	f := &fleet{t: t, program: o.build(), env: func(n *node) []string { return []string{"PLANT_DIR=" + n.log + ".plants"} }}
	f.first = []string{"--listen-ws", ws}
	f.begin(3)
	dirs := make([]string, 3)
	for i, n := range f.nodes {
		dirs[i] = n.log + ".plants"
		if err := os.Mkdir(dirs[i], 0o700); err != nil {
			t.Fatal(err)
		}
	}

	// Good clients, and mallory's, whom every fault is to hit: a room that the first node relays, used by way of each
	// node.
	s := f.run(place{relay: 0, publisher: 1, subscribers: []int{0, 1, 2, 2}}, pace)
	ctx, cancel := context.WithCancel(t.Context())
	var mallory sync.WaitGroup
	visits, last := make([]atomic.Int64, 3), make([]atomic.Pointer[string], 3)
	defer func() {
		for i := range visits {
			if text := last[i].Load(); t.Failed() && text != nil {
				t.Logf("%d whole visits at node %d; the last that was not: %s", visits[i].Load(), i, *text)
			}
		}
	}()
	for i := range f.nodes {
		mallory.Go(func() {
			for ctx.Err() == nil {
				if err := f.visit(ctx, i, ws); err == nil {
					visits[i].Add(1)
				} else if text := err.Error(); ctx.Err() == nil {
					last[i].Store(&text)
				}
			}
		})
	}
	defer mallory.Wait()
	defer cancel()
	s.reach(100)

	for _, p := range plants {
		for i := range f.nodes {
			if p.name == "handshake" && i != 0 || // only there is a listener that shakes hands
				i != 0 && (p.name == "push" || p.name == "tick" || p.name == "sweep") || // at the relay
				i == 0 && (p.name == "outbound" || p.name == "cluster" || p.name == "upkeep") { // at the others
				continue
			}
			metric := fmt.Sprintf("timedge_panics_total{where=%q}", p.where)
			before := f.metric(i, metric)
			who := "mallory"
			switch p.name {
			case "open", "opened", "accept", "admin", "gossip", "handshake":
				who = ""
			}
			file := filepath.Join(dirs[i], p.name)
			// What stands at one place may be reached by way of another, under whose name the panic is counted: planted again then.
			plant := func() {
				if err := os.WriteFile(file+".new", []byte(who), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(file+".new", file); err != nil {
					t.Fatal(err)
				}
			}
			plant()
			f.until(fmt.Sprintf("%s panics at %s", f.nodes[i].name, p.name), func() bool {
				if ctx.Err() != nil {
					t.Fatal(ctx.Err())
				}
				if f.metric(i, metric) > before {
					return true
				}
				if _, err := os.Stat(file); os.IsNotExist(err) {
					plant()
				}
				return false
			})
			_ = os.Remove(file) // planted once too often
			s.reach(20)
		}
	}
	cancel()
	mallory.Wait()
	s.reach(100)

	// Nothing is left behind: no lock, no count, no room.
	for i := range f.nodes {
		c := f.clientOf([]int{i}, "later")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		room, err := c.Register(ctx, client.RoomOptions{})
		if err == nil {
			_, err = c.Subscribe(ctx, room, client.SubscribeOptions{})
		}
		cancel()
		if err != nil {
			t.Errorf("a client of %s afterwards: %v", f.nodes[i].name, err)
		}
		c.Close(context.Background())
	}
	f.await(3)
	s.finish()
}

// visit is one visit of mallory's, by way of node i: everything there is to do, in a room that the first node relays
// and in one of that node. What comes of it is no matter.
func (f *fleet) visit(ctx context.Context, i int, ws string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	dial := func(at int) (*client.Client, error) {
		return client.Dial(ctx, client.Options{Servers: []string{f.nodes[at].listen}, Account: "mallory"})
	}
	owner, err := dial(0)
	if err != nil {
		return err
	}
	defer owner.Close(context.Background())
	room, err := owner.Register(ctx, client.RoomOptions{Idle: 5 * time.Second})
	if err != nil {
		return err
	}
	for _, at := range []string{f.nodes[i].cluster, ws} { // strangers
		if conn, err := net.DialTimeout("tcp", at, time.Second); err == nil {
			_, _ = conn.Write([]byte("TDGL"))
			_ = conn.SetDeadline(time.Now().Add(10 * time.Millisecond))
			_, _ = io.Copy(io.Discard, conn)
			conn.Close()
		}
	}
	if res, err := http.Get("http://" + f.nodes[i].admin + "/healthz"); err == nil {
		res.Body.Close()
	}
	if err := hangUp(f.nodes[i].listen, room); err != nil {
		return err
	}
	c, err := dial(i)
	if err != nil {
		return err
	}
	defer c.Close(context.Background())
	sub, err := c.Subscribe(ctx, room, client.SubscribeOptions{})
	if err != nil {
		return err
	}
	pub, err := c.Publish(ctx, room, client.PublishOptions{})
	if err != nil {
		return err
	}
	for n := range 5 {
		if err := pub.Push(ctx, 1, client.Key, []byte{byte(n)}); err != nil {
			return err
		}
		if _, err := sub.Next(ctx); err != nil {
			return err
		}
	}
	if err := pub.Flush(ctx); err != nil {
		return err
	}
	select { // some looks of the upkeep
	case <-time.After(200 * time.Millisecond):
	case <-ctx.Done():
	}
	return owner.Remove(ctx, room)
}

// hangUp subscribes and ends the connection as soon as the answer comes.
func hangUp(addr string, room codec.RoomID) error {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	b := codec.AppendClientPreface(nil, codec.VersionMin, codec.VersionMax)
	for _, m := range []codec.Control{&codec.Hello{Account: "mallory", Instance: 9}, &codec.Subscribe{Req: 1, Room: room}} {
		if b, err = m.Append(b); err != nil {
			return err
		}
	}
	if _, err := conn.Write(b); err != nil {
		return err
	}
	in := bufio.NewReader(conn)
	if _, err := in.Discard(codec.PrefaceSize); err != nil {
		return err
	}
	for {
		head, err := in.Peek(codec.LengthSize + 1)
		if err != nil {
			return err
		}
		switch head[codec.LengthSize] {
		case codec.TypeSubscribed, codec.TypeRefused, codec.TypeError:
			return nil
		}
		if _, err := in.Discard(codec.LengthSize + int(head[0])<<8 + int(head[1])); err != nil {
			return err
		}
	}
}
