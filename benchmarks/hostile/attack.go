package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/tools/loadgen/over"
)

// An attacker is this program again, with what it is to do in the environment. It attacks until its standard input
// ends, and then prints what it was told, as JSON.
const (
	attackEnv      = "TIMEDGE_HOSTILE_ADDR"
	attackNameEnv  = "TIMEDGE_HOSTILE_ATTACK"
	attackTokenEnv = "TIMEDGE_HOSTILE_TOKEN"
	attackOverEnv  = "TIMEDGE_HOSTILE_OVER"
)

// attack is one attacker's state.
type attack struct {
	addr  string
	over  over.Kind
	token []byte
	stop  chan struct{} // closed at the end

	mu    sync.Mutex
	told  map[string]int
	conns map[net.Conn]struct{}
}

// attacks are what there is: so many workers do so, again and again.
var attacks = map[string]struct {
	workers int
	work    func(a *attack)
	holds   bool // on a server without limits on what is pushed in a time, with a bound on memory
}{
	"silence": {workers: 10_000, work: func(a *attack) { // 10,000 connections, each made anew every ten seconds
		a.session(nil, nil)
		select {
		case <-time.After(10 * time.Second):
		case <-a.stop:
		}
	}},
	"storm": {workers: 10_000, work: func(a *attack) { a.session(nil, nil) }}, // the same, as fast as they can
	"drip": {workers: 1000, work: func(a *attack) {
		hello := a.hello(a.token)
		a.session(nil, func(i int) []byte {
			time.Sleep(50 * time.Millisecond) // its pace
			return hello[i%len(hello):][:1]
		})
	}},
	"churn": {workers: 8, work: func(a *attack) { a.session(a.hello(a.token), func(int) []byte { return nil }) }},
	"forged": {workers: 8,
		work: func(a *attack) { a.session(a.hello(append(a.token[:len(a.token)-4:len(a.token)-4], "AAAA"...)), nil) }},
	"guess": {workers: 2, work: func(a *attack) {
		a.session(a.hello(a.token), func(int) (b []byte) {
			for range 500 {
				b = enc((&codec.Subscribe{Req: rand.Uint32(), Room: codec.RoomID(rand.Uint64() | 1)}).Append(b))
			}
			return b
		})
	}},
	"pings": {workers: 2, work: func(a *attack) {
		a.session(a.hello(a.token), func(int) (b []byte) {
			for range 500 {
				b = enc((&codec.Ping{Echo: rand.Uint64()}).Append(b))
			}
			return b
		})
	}},
	"garbage": {workers: 2, work: func(a *attack) {
		a.session(a.hello(a.token), func(int) []byte {
			b := make([]byte, 3+rand.IntN(200))
			for i := range b {
				b[i] = byte(rand.Uint32())
			}
			b[0], b[1] = 0, byte(len(b)-codec.LengthSize)
			return b
		})
	}},
	"flood": {workers: 1, work: (*attack).flood},
	"handshakes": {workers: 16, work: func(a *attack) { // with -over tls: the dearest thing that a stranger may ask for
		if c := a.dial(); c != nil {
			a.count("handshake")
			a.drop(c)
		}
	}},
	// every byte by itself: with -over tls a record each, with -over ws a message
	"bytes": {workers: 2, work: func(a *attack) {
		ping := enc((&codec.Ping{Echo: 1}).Append(nil))
		c := a.dial()
		if c == nil {
			return
		}
		defer a.drop(c)
		go a.listen(c, func(codec.Control) {})
		if _, err := c.Write(a.hello(a.token)); err != nil {
			return
		}
		for {
			for i := range ping {
				if _, err := c.Write(ping[i : i+1]); err != nil {
					return
				}
			}
		}
	}},

	"tiny":     {4, (*attack).tiny, true},
	"caches":   {1, (*attack).caches, true},
	"partials": {4000, (*attack).partials, true},
	"streams":  {4, (*attack).streams, true},
	"grants":   {4, (*attack).grants, true},
	"have":     {4, (*attack).have, true},
	"stalled":  {1, (*attack).stalled, true},
	"acks":     {1, (*attack).acks, true},
	"deaf":     {8, (*attack).deaf, true},
	"flutter":  {4, (*attack).flutter, true},
	"come":     {4, (*attack).come, true},
	"names":    {2, (*attack).names, true},
	"pieces":   {2, (*attack).pieces, true},
	"halves":   {4000, (*attack).halves, true},

	// No attack: what the same machine's good clients notice of somebody who only pushes a lot, and keeps to all rules.
	"innocent": {1, (*attack).innocent, true},
}

// attacker is the process's whole work; it returns its exit status.
func attacker(addr string) int {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) == nil {
		lim.Cur = lim.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &lim)
	}
	a := &attack{
		addr: addr, over: over.Kind(os.Getenv(attackOverEnv)), token: []byte(os.Getenv(attackTokenEnv)),
		stop: make(chan struct{}),
		told: make(map[string]int), conns: make(map[net.Conn]struct{}),
	}
	how, ok := attacks[os.Getenv(attackNameEnv)]
	if !ok {
		fmt.Fprintln(os.Stderr, "hostile: no such attack")
		return 1
	}
	var done sync.WaitGroup
	for range how.workers {
		done.Go(func() {
			for {
				select {
				case <-a.stop:
					return
				default:
					how.work(a)
				}
			}
		})
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	a.mu.Lock()
	close(a.stop)
	for c := range a.conns {
		_ = c.Close()
	}
	a.mu.Unlock()
	done.Wait()
	if err := json.NewEncoder(os.Stdout).Encode(a.told); err != nil {
		return 1
	}
	return 0
}

// dialer connects from an address of the attacker's own, on this machine.
var dialer = net.Dialer{
	LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)},
	Control: func(_, _ string, c syscall.RawConn) (err error) {
		err2 := c.Control(func(fd uintptr) { // ports may be shared, as without an address
			err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		})
		return errors.Join(err, err2)
	},
}

func (a *attack) count(what string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.told[what]++
}

// dial connects, nil if that fails or the attack is over. The attack's end closes the connection.
func (a *attack) dial() net.Conn {
	c, err := dialer.Dial("tcp", a.addr)
	if err == nil {
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		sock := c
		if c, err = over.Wrap(c, a.over); err != nil {
			_ = sock.Close()
		} else {
			_ = sock.SetDeadline(time.Time{})
		}
	}
	if err != nil {
		a.count("not connected")
		time.Sleep(10 * time.Millisecond) // its pace
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-a.stop:
		_ = c.Close()
		return nil
	default:
	}
	a.conns[c] = struct{}{}
	return c
}

func (a *attack) drop(c net.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_ = c.Close()
	delete(a.conns, c)
}

func (a *attack) hello(token []byte) []byte {
	hello := codec.Hello{Account: "mallory", Token: token, Instance: rand.Uint64()}
	return enc(hello.Append(codec.AppendClientPreface(nil, codec.VersionMin, codec.VersionMax)))
}

// session is one connection: it says first, and then what next returns, until that is nothing or the server closes;
// without a next it says nothing more and waits for that.
func (a *attack) session(first []byte, next func(i int) []byte) {
	c := a.dial()
	if c == nil {
		return
	}
	defer a.drop(c)
	heard := make(chan struct{})
	go func() { defer close(heard); a.listen(c, func(codec.Control) {}) }()
	_, err := c.Write(first)
	for i := 0; next != nil && err == nil; i++ {
		b := next(i)
		if b == nil {
			return
		}
		_, err = c.Write(b)
	}
	<-heard
}

// listen reads until the end, and counts what the server refuses and why it closes.
func (a *attack) listen(c net.Conn, also func(codec.Control)) {
	r := bufio.NewReaderSize(c, 4096)
	if _, err := r.Discard(codec.PrefaceSize); err != nil {
		return
	}
	var frame []byte
	for {
		head, err := r.Peek(codec.LengthSize)
		if err != nil {
			return
		}
		n := codec.LengthSize + int(head[0])<<8 + int(head[1])
		frame = append(frame[:0], make([]byte, n)...)
		if _, err := io.ReadFull(r, frame); err != nil {
			return
		}
		m, err := codec.ParseControl(frame)
		if err != nil {
			continue // a stream frame
		}
		switch m := m.(type) {
		case *codec.Error:
			a.count("closed: " + m.Code.String())
		case *codec.Refused:
			a.count("refused: " + m.Code.String())
		case *codec.PushRefused:
			a.count("push refused: " + m.Code.String())
		}
		also(m)
	}
}

// flood pushes ten times as many frames as a session may, waiting for no acknowledgement.
func (a *attack) flood() {
	c := a.dial()
	if c == nil {
		return
	}
	defer a.drop(c)
	room, pub, heard := make(chan codec.RoomID, 1), make(chan uint16, 1), make(chan struct{})
	go func() {
		defer close(heard)
		a.listen(c, func(m codec.Control) {
			switch m := m.(type) {
			case *codec.Registered:
				room <- m.Room
			case *codec.Published:
				pub <- m.Pub
			case *codec.Refused:
				_ = c.Close()
			}
		})
	}()
	if _, err := c.Write(enc((&codec.Register{Req: 1}).Append(a.hello(a.token)))); err != nil {
		return
	}
	f := codec.Stream{Flags: codec.FlagKey, Payload: make([]byte, 1000)}
	select {
	case f.Room = <-room:
	case <-heard:
		return
	}
	if _, err := c.Write(enc((&codec.Publish{Req: 2, Room: f.Room}).Append(nil))); err != nil {
		return
	}
	select {
	case f.Pub = <-pub:
	case <-heard:
		return
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		var b []byte
		for range 200 { // 20,000 a second
			f.Seq++
			b = enc(f.Append(b))
		}
		if _, err := c.Write(b); err != nil {
			break
		}
	}
	<-heard
}

// enc returns what an Append has written. What an attack encodes is well formed; what is not it makes of bytes.
func enc(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
