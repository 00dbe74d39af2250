package drills

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/quick"
	"time"

	oldrand "math/rand"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/internal/beside"
	links "github.com/timedge/timedge/node"
)

// A member with the right key says on its links what no node says: the rest of the cluster closes these, counts them,
// says so now and then, does not dial it without end, and serves everybody else as ever.
func TestMemberSpeaksNonsense(t *testing.T) {
	f := newFleet(t, 2)
	s := f.run(place{relay: 0, publisher: 1, subscribers: []int{0, 1}}, pace)
	s.reach(20)
	keys, err := links.ReadKeys(f.key)
	if err != nil {
		t.Fatal(err)
	}
	room, err := codec.ParseRoomID(fmt.Sprint(s.room))
	if err != nil {
		t.Fatal(err)
	}
	o := &odd{t: t, rnd: rand.New(rand.NewPCG(1, uint64(*kills)))}
	o.sayings = o.nonsense(room, 40**kills)
	members := make(chan []links.Member, 1)
	c, err := links.Join(links.Config{
		Name: "odd", Bind: "127.0.0.1:0", Join: []string{f.nodes[0].cluster, f.nodes[1].cluster}, Keys: keys, Log: zerolog.Nop(),
		OnView: func(v *links.View) {
			if len(v.Members) == 3 {
				select {
				case members <- v.Members:
				default:
				}
			}
		},
		OnLink: func(l *links.Link, _ links.Peer) { go o.say(l) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Shutdown() })
	var all []links.Member
	select {
	case all = <-members:
	case <-time.After(patience):
		t.Fatal("the odd one is no member")
	}
	for range o.sayings {
		for _, m := range all {
			if m.Name == "odd" {
				continue
			}
			l, err := c.Dial(m, patience)
			if err != nil {
				t.Fatal(err)
			}
			o.say(l)
		}
	}
	s.reach(50)
	for i := range f.nodes {
		const breaches = `timedge_members_refused_total{what="link"}`
		if n := f.metric(i, breaches); n < 10 {
			t.Errorf("%s counts %v links that break the protocol", f.nodes[i].name, n)
		}
		b, _ := os.ReadFile(f.nodes[i].log)
		if n := strings.Count(string(b), "breaks the protocol"); n == 0 || n > 4 {
			t.Errorf("the log of %s tells %d times of it", f.nodes[i].name, n)
		}
		if n := f.metric(i, `timedge_panics_total{where="link"}`); n > 0 {
			t.Errorf("%v panics", n)
		}
		if strings.Contains(string(b), `"panic"`) {
			t.Errorf("a panic in the log of %s", f.nodes[i].name)
		}
	}
	_ = c.Leave()
	_ = c.Shutdown()
	f.await(2)
	s.reach(50)
	s.finish()
}

// odd is a member that makes no sense.
type odd struct {
	t       *testing.T
	mu      sync.Mutex
	rnd     *rand.Rand
	next    int
	sayings [][]byte
}

// say says the next of its sayings, and leaves.
func (o *odd) say(l *links.Link) {
	o.mu.Lock()
	b := o.sayings[o.next%len(o.sayings)]
	o.next++
	o.mu.Unlock()
	_, _ = l.Write(b)
	_ = l.SetReadDeadline(time.Now().Add(20 * time.Millisecond)) // what makes sense by chance has no end by itself
	_, _ = io.Copy(io.Discard, l)
	_ = l.Close()
}

// nonsense returns n times what a node may be told: noise, frames with noise in them, and good ones that nobody has
// asked for. Only states are none of a room that there is: what members say of rooms is believed.
func (o *odd) nonsense(room codec.RoomID, n int) (all [][]byte) {
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(o.rnd.Uint32())
		}
		return b
	}
	length := func(n int) []byte { return []byte{byte(n >> 8), byte(n)} }
	all = [][]byte{{}, length(0), length(1), length(65535), make([]byte, 100_000), append(length(3), codec.TypeState, 0xff, 0xff)}
	for len(all) < n {
		switch typ := byte(o.rnd.IntN(256)); o.rnd.IntN(3) {
		case 0:
			all = append(all, noise(o.rnd.IntN(2000)))
		case 1:
			b := append([]byte{typ}, noise(o.rnd.IntN(200))...)
			all = append(all, append(length(len(b)), b...))
		case 2:
			var b []byte
			for range 1 + o.rnd.IntN(5) {
				b = o.random(b, typ, room)
				typ = byte(0x40 + o.rnd.IntN(0x10))
			}
			all = append(all, b)
		}
	}
	return all
}

// random appends a frame of a type with random contents, if there is one.
func (o *odd) random(b []byte, typ byte, room codec.RoomID) []byte {
	m := codec.NewLink(typ)
	if m == nil {
		m = codec.NewControl(typ)
	}
	if m == nil {
		return b
	}
	v, ok := quick.Value(reflect.TypeOf(m).Elem(), oldrand.New(oldrand.NewSource(o.rnd.Int64())))
	if !ok {
		return b
	}
	p := reflect.New(v.Type())
	p.Elem().Set(v)
	if r := p.Elem().FieldByName("Room"); r.IsValid() && typ != codec.TypeState && typ != codec.TypeChange && o.rnd.IntN(2) == 0 {
		r.Set(reflect.ValueOf(room))
	}
	if all, err := p.Interface().(codec.Control).Append(b); err == nil {
		return all
	}
	return b
}

// Two nodes are started under one name at once: one ends and says why, the other is everybody's member. Streams of the
// rest of the cluster go on.
func TestOneNameTwice(t *testing.T) {
	f := newFleet(t, 2)
	for range max(1, *kills/10) {
		s := f.run(place{relay: 0, publisher: 1, subscribers: []int{0, 1}}, pace)
		s.reach(20)
		type twin struct {
			cmd *exec.Cmd
			at  string
			out *os.File
		}
		var twins [2]twin
		ended := make(chan int, 2)
		for i := range twins {
			w := &twins[i]
			w.at = freeAddr(t)
			var err error
			if w.out, err = os.CreateTemp(f.dir, "twin"); err != nil {
				t.Fatal(err)
			}
			w.cmd = exec.Command(f.program, "serve", "--node", "twin", "--listen", freeAddr(t), "--admin", "", "--cluster", w.at,
				"--join", f.nodes[i].cluster, "--cluster-key-file", f.key)
			w.cmd.Stdout, w.cmd.Stderr = w.out, w.out
		}
		for i := range twins {
			if err := beside.Start(twins[i].cmd); err != nil {
				t.Fatal(err)
			}
			go func() { _ = twins[i].cmd.Wait(); ended <- i }()
		}
		goes := <-ended
		stays := 1 - goes
		said, err := os.ReadFile(twins[goes].out.Name())
		if err != nil || !strings.Contains(string(said), "a node named twin runs at "+twins[stays].at+" already") {
			t.Errorf("one of two has ended: %v\n%s", err, said)
		}
		for i := range f.nodes {
			f.until("the one that stays is a member", func() bool {
				for _, m := range f.view(i) {
					if m.Name == "twin" && m.Linked && m.Addr == twins[stays].at {
						return true
					}
				}
				return false
			})
		}
		s.reach(50)
		_ = twins[stays].cmd.Process.Signal(os.Interrupt)
		<-ended
		f.await(2)
		s.reach(20)
		s.finish()
	}
}

// recorder stands before a node's port and keeps what goes to it.
type recorder struct {
	at, to  string
	tcp     net.Listener
	udp     net.PacketConn
	mu      sync.Mutex
	packets [][]byte
	streams []*[]byte
}

// record has everything that is for a node go by way of a recorder.
func record(t *testing.T, to string) *recorder {
	t.Helper()
	r := &recorder{at: freeAddr(t), to: to}
	var err error
	if r.tcp, err = net.Listen("tcp", r.at); err != nil {
		t.Fatal(err)
	}
	if r.udp, err = net.ListenPacket("udp", r.at); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.tcp.Close(); r.udp.Close() })
	go r.passPackets()
	go r.passStreams()
	return r
}

func (r *recorder) passPackets() {
	out, err := net.Dial("udp", r.to)
	if err != nil {
		return
	}
	defer out.Close()
	for b := make([]byte, 65536); ; {
		n, _, err := r.udp.ReadFrom(b)
		if err != nil {
			return
		}
		r.mu.Lock()
		if len(r.packets) < 5000 {
			r.packets = append(r.packets, append([]byte(nil), b[:n]...))
		}
		r.mu.Unlock()
		_, _ = out.Write(b[:n])
	}
}

func (r *recorder) passStreams() {
	for {
		in, err := r.tcp.Accept()
		if err != nil {
			return
		}
		go func() {
			defer in.Close()
			out, err := net.Dial("tcp", r.to)
			if err != nil {
				return
			}
			defer out.Close()
			go func() { _, _ = io.Copy(in, out); in.Close() }()
			kept := new([]byte)
			r.mu.Lock()
			r.streams = append(r.streams, kept)
			r.mu.Unlock()
			for b := make([]byte, 65536); ; {
				n, err := in.Read(b)
				r.mu.Lock()
				if len(*kept) < 1<<20 {
					*kept = append(*kept, b[:n]...)
				}
				r.mu.Unlock()
				if _, failed := out.Write(b[:n]); err != nil || failed != nil {
					return
				}
			}
		}()
	}
}

// replay plays what was recorded to the node again.
func (r *recorder) replay(t *testing.T) (packets, streams int) {
	r.mu.Lock()
	ps := append([][]byte(nil), r.packets...)
	var ss [][]byte
	for _, s := range r.streams {
		ss = append(ss, append([]byte(nil), *s...))
	}
	r.mu.Unlock()
	out, err := net.Dial("udp", r.to)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	for i, p := range ps {
		if _, _ = out.Write(p); i%50 == 49 {
			time.Sleep(time.Millisecond) // the socket holds so many
		}
	}
	for _, s := range ss {
		c, err := net.Dial("tcp", r.to)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(s)
		_ = c.(*net.TCPConn).CloseWrite()
		_ = c.SetReadDeadline(time.Now().Add(patience))
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	}
	return len(ps), len(ss)
}

// Everything that nodes have sent each other, gossip and links, is recorded and sent to them again: while they run, and
// when one of them, and then all, have been restarted under their names. Nothing comes of it.
func TestReplayed(t *testing.T) {
	f := &fleet{t: t}
	var rs []*recorder
	f.begin(0)
	for i := range 3 {
		f.add(fmt.Sprintf("n%d", i+1))
		n := f.nodes[i]
		n.bind = n.cluster
		r := record(t, n.bind)
		n.cluster, n.args = r.at, []string{"--advertise", r.at}
		rs = append(rs, r)
		f.start(i)
	}
	f.await(3)
	s := f.run(place{relay: 0, publisher: 1, subscribers: []int{0, 1, 2}}, pace)
	s.reach(50)
	again := func() {
		lost := make([]float64, len(rs))
		for i := range rs {
			lost[i] = f.metric(i, "timedge_links_lost_total")
		}
		for i, r := range rs {
			packets, streams := r.replay(t)
			if packets == 0 || streams == 0 {
				t.Fatalf("%d packets and %d streams were recorded", packets, streams)
			}
			s.reach(10)
			if !f.logged(i, "link refused") {
				t.Errorf("%s says nothing of links that are played to it", f.nodes[i].name)
			}
		}
		f.await(3)
		for i := range rs {
			if n := f.metric(i, "timedge_links_lost_total"); n != lost[i] {
				t.Errorf("%s has lost %v links meanwhile", f.nodes[i].name, n-lost[i])
			}
		}
	}
	again()
	for i := range f.nodes {
		f.stop(i)
		f.start(i)
		f.await(3)
		s.reach(20)
		again()
	}
	s.finish()
}
