package engine_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/node"
)

// Links that are dialed, here and there, while a node has no descriptors left, or so few that they run out on the way,
// leave nothing behind: neither a descriptor nor a goroutine. Then they come.
func TestLinksOutOfDescriptors(t *testing.T) {
	const limit = 64
	key := node.NewKey()
	srv := spawn(t, "server", fmt.Sprint("NOFILE=", limit), "CLUSTER_KEY="+key.String())
	at := strings.Fields(srv.expect("listening"))
	addr, cluster := at[1], at[2]

	views := make(chan *node.View, 16)
	hold := make(chan bool, 1) // whether the links that the child dials are kept
	hold <- true
	c, err := node.Join(node.Config{
		Name: "z", Bind: "127.0.0.1:0", Join: []string{cluster}, Keys: node.Keys{key}, Log: zerolog.Nop(),
		OnView: func(v *node.View) { views <- v },
		OnLink: func(l *node.Link, _ node.Peer) {
			keep := <-hold
			if hold <- keep; keep {
				go func() { _, _ = io.Copy(io.Discard, l); _ = l.Close() }()
			} else {
				_ = l.Close()
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Leave(); _ = c.Shutdown() })
	var m node.Member
	for m.Name == "" {
		select {
		case v := <-views:
			m, _ = v.Find("child")
		case <-time.After(patience):
			t.Fatal("the cluster is not there")
		}
	}
	open := func() int {
		list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", srv.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	goroutines := func() int {
		srv.tell("goroutines")
		n, err := strconv.Atoi(strings.Fields(srv.expect("goroutines"))[1])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	until := func(what string, is func() bool) {
		t.Helper()
		for deadline := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) { // between two looks
			if time.Now().After(deadline) {
				t.Fatalf("in vain waited until %s", what)
			}
		}
	}
	// linked opens a link and waits for a sign of life by it, with which the node has all of it that it will have.
	linked := func() error {
		l, err := c.Dial(m, patience)
		if err != nil {
			return err
		}
		defer l.Close()
		if _, err := l.Write(enc((&codec.Ping{Echo: 1}).Append(nil))); err != nil {
			return err
		}
		_ = l.SetReadDeadline(time.Now().Add(patience))
		_, err = l.Read(make([]byte, 1))
		return err
	}
	if err := linked(); err != nil {
		t.Fatal(err)
	}
	var before, running int
	until("nothing moves", func() bool { // all that the start leaves is there
		n, g := open(), goroutines()
		same := n == before && g == running
		before, running = n, g
		return same
	})
	for free := range 4 {
		<-hold
		hold <- false
		var crowd []net.Conn
		for open() < limit-free && len(crowd) < 2*limit {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = conn.Write(greeting("crowd"))
			crowd = append(crowd, conn)
			n := open()
			for range 50 { // until it has been taken, if it can be
				if time.Sleep(time.Millisecond); open() > n {
					break
				}
			}
		}
		for range 2 {
			l, err := net.Dial("tcp", cluster) // the kernel takes it, whatever the node has
			if err != nil {
				t.Fatal(err)
			}
			_ = l.Close()
			if l, err := c.Dial(m, 200*time.Millisecond); err == nil {
				_ = l.Close()
			}
		}
		for _, conn := range crowd {
			_ = conn.Close()
		}
		<-hold
		hold <- true
		until("links come again", func() bool { return linked() == nil })
		until(fmt.Sprintf("with %d free, no more descriptors are open than %d", free, before), func() bool { return open() <= before })
		until(fmt.Sprintf("with %d free, no more goroutines run than %d", free, running), func() bool { return goroutines() <= running })
	}
}
