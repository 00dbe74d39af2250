package drills

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
	links "github.com/timedge/timedge/node"
)

// The relay is cut off from the other nodes, silently: packets are dropped, nothing is refused.
func TestRelayCutOff(t *testing.T) {
	f := newFleetApart(t, 3)
	var g figures
	for k := range *kills {
		relay := k % 3
		a, b := (relay+1)%3, (relay+2)%3
		s := f.run(place{relay: relay, publisher: a, subscribers: []int{a, b, b}}, pace)
		s.reach(50)
		f.net.cut(relay, a, b)
		s.reach(100)
		f.net.heal(relay, a, b)
		s.reach(100)
		s.finish()
		g.add(s)
		f.await(3)
	}
	t.Log("relay cut off:", &g)
}

// The relay is cut off from one of two edges only; the others count it alive, and that edge gets the stream by way of
// one of them.
func TestRelayCutOffFromOneEdge(t *testing.T) {
	f := newFleetApart(t, 3)
	var g figures
	for k := range *kills {
		relay := k % 3
		a, b := (relay+1)%3, (relay+2)%3
		s := f.run(place{relay: relay, publisher: a, subscribers: []int{a, b}}, pace)
		s.reach(50)
		f.net.cut(relay, b)
		s.reach(200)
		f.net.heal(relay, b)
		s.reach(100)
		s.finish()
		g.add(s)
		f.await(3)
	}
	t.Log("relay cut off from one edge:", &g)
}

// What the relay sends to the publisher's node is dropped, in this direction only.
func TestRelayCutOffOneWay(t *testing.T) {
	f := newFleetApart(t, 3)
	s := f.run(place{relay: 0, publisher: 1, subscribers: []int{1, 2}}, pace)
	s.reach(50)
	f.net.deafen(1, 0)
	s.reach(200)
	f.net.heal(1)
	s.reach(100)
	s.finish()
	f.await(3)
}

// The cluster is parted in two halves, with publishers and subscribers of the same room in both; then it heals. Within
// each half the stream goes on; afterwards everybody gets both again.
func TestPartition(t *testing.T) {
	f := newFleetApart(t, 4)
	s := f.run(place{relay: 0, publisher: 1, subscribers: []int{0, 1}}, pace)
	other := f.join(s, 3, []int{2, 3})
	s.reach(50)
	other.reach(50)
	f.net.cut(0, 2, 3)
	f.net.cut(1, 2, 3)
	s.reach(300)
	other.reach(300)
	f.net.heal(0, 1, 2, 3)
	f.await(4)
	s.reach(100)
	other.reach(100)
	s.finish()
	other.finish()
}

// Node links that can carry less than the stream, the way round by the third node included: their subscribers are told
// what they miss, all others have everything.
func TestSlowLink(t *testing.T) {
	f := newFleetApart(t, 3)
	s := f.run(place{relay: 0, publisher: 0, subscribers: []int{0, 1}, slow: []int{2}}, pace)
	s.reach(50)
	f.net.narrow(0, 2, 200) // the stream takes four times as much
	f.net.narrow(1, 2, 200)
	s.untilSlow()
	s.reach(50)
	s.finish()
}

// A node with another key, one that speaks a newer version, and strangers that speak to the link port get nowhere, and
// disturb nobody.
func TestStrangers(t *testing.T) {
	f := newFleet(t, 2)
	s := f.run(place{relay: 0, publisher: 1, subscribers: []int{0, 1}}, pace)
	s.reach(20)
	f.strangers(newerProgram(t), 0)
	s.reach(50)
	s.finish()
	f.await(2)
}

// strangers has everybody call at node i's link port who has no business there, and checks that each is turned away.
func (f *fleet) strangers(newer string, i int) {
	f.t.Helper()
	addr := f.nodes[i].cluster
	key, err := exec.Command(program, "key").Output()
	if err != nil {
		f.t.Fatal(err)
	}
	f.turnedAway(program, f.file("other", string(key)), addr, "cluster key")
	f.turnedAway(newer, f.key, addr, "another version")
	for _, hello := range []string{"GET / HTTP/1.1\r\n\r\n", "TDGL", links.LinkMagic + "\xff" + strings.Repeat("x", 200), strings.Repeat("\x00", 4096)} {
		f.knock(i, hello)
	}
}

// knock says something at a node's link port that no node says, and checks that the connection is closed.
func (f *fleet) knock(i int, hello string) {
	f.t.Helper()
	c, err := net.Dial("tcp", f.nodes[i].cluster)
	if err != nil {
		f.t.Fatal(err)
	}
	defer c.Close()
	_, _ = c.Write([]byte(hello))
	_ = c.SetReadDeadline(time.Now().Add(patience))
	for b := make([]byte, 512); err == nil; { // until the node closes
		_, err = c.Read(b)
	}
	if e, ok := err.(net.Error); ok && e.Timeout() {
		f.t.Errorf("%q: the node keeps the connection", hello[:4])
	}
}

// turnedAway runs a program as a node that is to join, and checks that it ends by itself and says why.
func (f *fleet) turnedAway(program, key, join, why string) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, "serve", "--node", "alien", "--listen", freeAddr(f.t), "--admin", "", "--cluster", freeAddr(f.t),
		"--join", join, "--cluster-key-file", key).CombinedOutput()
	if ctx.Err() != nil || err == nil || !strings.Contains(string(out), why) {
		f.t.Errorf("a node that is to be told of %q: %v\n%s", why, err, out)
	}
}

// newer is where newerProgram has built it, once.
var newer struct {
	sync.Mutex
	path string
}

// newerProgram returns this program with one change: between nodes it speaks the next version.
func newerProgram(t *testing.T) string {
	t.Helper()
	newer.Lock()
	defer newer.Unlock()
	if newer.path == "" {
		newer.path = buildNewer(t, filepath.Dir(program))
	}
	return newer.path
}

func buildNewer(t *testing.T, dir string) string {
	t.Helper()
	source, err := filepath.Abs("../node/handshake.go")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	this, next := fmt.Sprintf("const LinkVersion = %d\n", links.LinkVersion), fmt.Sprintf("const LinkVersion = %d\n", links.LinkVersion+1)
	if !strings.Contains(string(b), this) {
		t.Fatalf("%s does not say %q", source, this)
	}
	changed := filepath.Join(dir, "handshake.go")
	if err := os.WriteFile(changed, []byte(strings.Replace(string(b), this, next, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {source: changed}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "timedge-newer")
	if out, err := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay"), "-o", path, "..").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// What the owner revoked stays revoked, and what it removed stays removed, whoever is killed afterwards.
func TestRevokedAndRemovedStaySo(t *testing.T) {
	f := newFleet(t, 3)
	ctx := t.Context()
	owner := f.client(0, "owner")
	kept, err := owner.Register(ctx, client.RoomOptions{})
	if err != nil {
		t.Fatal(err)
	}
	gone, err := owner.Register(ctx, client.RoomOptions{})
	if err != nil {
		t.Fatal(err)
	}
	guest := f.client(1, "guest")
	for _, room := range []codec.RoomID{kept, gone} {
		if err := owner.Grant(ctx, room, "guest"); err != nil {
			t.Fatal(err)
		}
	}
	p, err := guest.Publish(ctx, kept, client.PublishOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Push(ctx, 0, client.Key, []byte("before")); err != nil {
		t.Fatal(err)
	}
	if err := owner.Revoke(ctx, kept, "guest"); err != nil { // on another node than the publisher's
		t.Fatal(err)
	}
	f.until("the guest cannot push", func() bool { return p.Push(ctx, 0, client.Key, []byte("after")) != nil })
	if err := owner.Remove(ctx, gone); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		for i := range f.nodes {
			c := f.client(i, "guest")
			var err error
			f.until("the room has settled at its relay", func() bool {
				_, err = c.Publish(ctx, kept, client.PublishOptions{})
				return !code(err).Retry()
			})
			if code(err) != codec.CodeNotGranted && code(err) != codec.CodeRevoked {
				t.Errorf("%s, node %d: the revoked guest gets %v", when, i, err)
			}
			if _, err := c.Subscribe(ctx, gone, client.SubscribeOptions{}); code(err) != codec.CodeRoomUnknown {
				t.Errorf("%s, node %d: subscribing to the removed room gets %v", when, i, err)
			}
			c.Close(context.Background())
		}
	}
	check("at first")
	for k := range 3 {
		f.kill(k)
		f.start(k)
		f.await(3)
		check("after node " + f.nodes[k].name + " was killed and restarted")
	}
}

func code(err error) codec.Code {
	if e, ok := err.(*client.RefusedError); ok {
		return e.Code
	}
	return 0
}
