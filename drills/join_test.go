package drills

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Operators' days: names that show other addresses than the true ones, seeds that are away, networks that let through
// some of it. Each ends with one cluster, and a log that a person can read.

const headless = "timedge.svc.test"

// newPods makes n nodes that know each other by one name, in namespaces of their own, and starts none.
func newPods(t *testing.T, n int) (*fleet, *nameServer) {
	t.Helper()
	f := &fleet{t: t, extra: []string{"--insecure-open"}, net: newNetwork(t, n)}
	f.begin(0)
	dns := newNameServer(t, f.net)
	for i := range n {
		f.add(fmt.Sprintf("n%d", i+1))
		dns.resolve(i)
		f.nodes[i].join = []string{headless + ":7500"}
		f.nodes[i].bind = "0.0.0.0:7500"
	}
	return f, dns
}

// move gives node i another address.
func (f *fleet) move(i, last int) string {
	ip := f.net.address(i, last)
	f.at(i, ip)
	return ip
}

// at says where node i is.
func (f *fleet) at(i int, ip string) {
	n := f.nodes[i]
	n.listen, n.admin, n.cluster = net.JoinHostPort(ip, "7400"), net.JoinHostPort(ip, "7401"), net.JoinHostPort(ip, "7500")
}

// one waits until all nodes that run are one cluster and miss nobody, and logs how long it took.
func (f *fleet) one(what string) {
	f.t.Helper()
	begun := time.Now()
	f.await(len(f.running()))
	f.t.Logf("%s: one cluster after %v", what, time.Since(begun).Round(time.Millisecond))
}

// complete waits until no node that runs misses anybody.
func (f *fleet) complete() {
	f.t.Helper()
	for _, i := range f.running() {
		f.until(f.nodes[i].name+" misses nobody", func() bool { return f.ready(i) == "ready\n" })
	}
}

// readable checks that no node's log says the same more often than a person wants to read it.
func (f *fleet) readable() {
	f.t.Helper()
	for _, n := range f.nodes {
		b, err := os.ReadFile(n.log)
		if err != nil {
			continue
		}
		if warned := strings.Count(string(b), `"level":"warn"`) + strings.Count(string(b), `"level":"error"`); warned > 40 {
			f.t.Errorf("%s warns %d times", n.name, warned)
		}
	}
}

func (f *fleet) log(i int) string {
	b, _ := os.ReadFile(f.nodes[i].log)
	return string(b)
}

// A headless service: three pods start at once, and the name shows nobody, each pod itself, addresses at which nobody
// is any more, or all of them. Each is ready at once; as soon as the name is right they are one cluster.
func TestHeadless(t *testing.T) {
	for _, c := range []struct {
		name  string
		first func(netip.Addr) []string
		miss  string
	}{
		{"nobody", func(netip.Addr) []string { return nil }, "the name has no address"},
		{"each itself", func(a netip.Addr) []string { return []string{a.String()} }, ""},
		{"old addresses", func(a netip.Addr) []string {
			return []string{a.Prev().Prev().String(), netip.AddrFrom4([4]byte{a.As4()[0], a.As4()[1], a.As4()[2], 99}).String()}
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, dns := newPods(t, 3)
			dns.showEach(headless, c.first)
			for i := range f.nodes {
				f.launch(i)
			}
			for i := range f.nodes {
				f.until("it is ready", func() bool { said := f.ready(i); return said != "" && strings.Contains(said, c.miss) })
			}
			dns.show(headless, f.net.ip(0), f.net.ip(1), f.net.ip(2))
			f.one(c.name)
			f.complete()
			f.readable()
		})
	}
}

// The name server answers late, then not at all, then with a node of another cluster, and then well.
func TestNamesInTrouble(t *testing.T) {
	f, dns := newPods(t, 4)
	alien := f.nodes[3]
	alien.join = []string{}
	key, err := exec.Command(f.program, "key").Output()
	if err != nil {
		t.Fatal(err)
	}
	ours := f.key
	f.key = f.file("alien", string(key))
	f.start(3)
	f.key = ours
	dns.trouble(2*time.Second, false)
	dns.show(headless, f.net.ip(3))
	for i := range 3 {
		f.start(i)
	}
	f.until("it says whom the name leads to", func() bool { return strings.Contains(f.ready(0), "does not hold the cluster key") })
	dns.trouble(0, true)
	f.until("it says that the name server fails", func() bool { return strings.Contains(f.ready(1), "name server") })
	dns.trouble(time.Second, false)
	dns.show(headless, f.net.ip(2), f.net.ip(1), f.net.ip(0))
	begun := time.Now()
	for i := range 3 {
		f.until("all three are members", func() bool { return len(f.view(i)) == 3 })
	}
	t.Logf("one cluster after %v", time.Since(begun).Round(time.Millisecond))
	f.readable()
}

// The first node, which joins nobody and whom all others join by name, comes back with another address.
func TestFirstNodeMoves(t *testing.T) {
	f, dns := newPods(t, 3)
	f.nodes[0].join = []string{}
	dns.show(headless, f.net.ip(0))
	for i := range f.nodes {
		f.start(i)
	}
	f.one("at first")
	f.kill(0)
	dns.show(headless, f.move(0, 41))
	f.start(0)
	f.one("the first node has moved")
	f.complete()
}

// All nodes come back with other addresses at once, and the name tells some seconds later; then one of them comes back
// with another name, too.
func TestAllMove(t *testing.T) {
	f, dns := newPods(t, 3)
	dns.show(headless, f.net.ip(0), f.net.ip(1), f.net.ip(2))
	for i := range f.nodes {
		f.start(i)
	}
	f.one("at first")
	var ips []string
	for i := range f.nodes {
		f.kill(i)
		ips = append(ips, f.move(i, 51+i))
	}
	for i := range f.nodes {
		f.start(i)
	}
	dns.show(headless, ips...)
	f.one("all have moved")
	f.kill(1)
	f.nodes[1].name = "another"
	dns.show(headless, f.move(1, 61), ips[0], ips[2])
	f.start(1)
	f.one("one has moved and changed its name")
}

// The address of a running node changes: it ends, saying so, as soon as it is clear that the old one does not come back, and
// when it is started again it is one of the cluster, at the new address.
func TestAddressChanges(t *testing.T) {
	if *kills < 10 {
		t.Skip("takes 25 seconds: give -kills=10")
	}
	f, dns := newPods(t, 3)
	dns.show(headless, f.net.ip(0), f.net.ip(1), f.net.ip(2))
	for i := range f.nodes {
		f.start(i)
	}
	f.one("at first")
	s := f.run(place{relay: 0, publisher: 1, subscribers: []int{1, 1}}, pace)
	s.reach(50)
	ended := make(chan error, 1)
	go func() { ended <- f.nodes[0].cmd.Wait() }()
	ip := f.move(0, 71)
	select {
	case err := <-ended:
		if err == nil {
			t.Error("it ends as if nothing had happened")
		}
	case <-time.After(patience):
		t.Fatal("it goes on at an address that it does not have")
	}
	f.nodes[0].cmd = nil
	if b, err := os.ReadFile(f.nodes[0].log); err != nil || !strings.Contains(string(b), "has not the address any more") {
		t.Errorf("its log does not say why it ended: %v", err)
	}
	s.reach(50)
	dns.show(headless, ip, f.net.ip(1), f.net.ip(2))
	f.start(0)
	f.one("it is back at another address")
	s.reach(50)
	s.finish()
}

// A zone is parted; the nodes on the other side are started anew, with the same names at other addresses; then the
// network heals.
func TestMovedBehindAPartition(t *testing.T) {
	f, dns := newPods(t, 3)
	dns.show(headless, f.net.ip(0), f.net.ip(1), f.net.ip(2))
	for i := range f.nodes {
		f.start(i)
	}
	f.one("at first")
	f.net.unplug(0)
	f.kill(1)
	f.kill(2)
	dns.show(headless, f.net.ip(0), f.move(1, 52), f.move(2, 53))
	f.start(1)
	f.start(2)
	for _, i := range []int{1, 2} {
		f.until("two are a cluster", func() bool { return len(f.view(i)) == 2 })
	}
	f.net.plug(0)
	f.one("the network has healed")
	f.complete()
	f.readable()
}

// All seeds are away for a while, the only ones that anybody was told of, and more than that of the nodes are started
// meanwhile.
func TestSeedsAway(t *testing.T) {
	f := newFleetApart(t, 4)
	for i := range f.nodes {
		f.nodes[i].join = []string{f.nodes[0].cluster, f.nodes[1].cluster}
	}
	f.kill(0)
	f.kill(1)
	f.kill(3)
	f.start(3) // it finds nobody: the third is told by the seeds alone
	f.until("it says who is missing", func() bool { return strings.Count(f.ready(3), "missing:") == 2 })
	away := 3 * time.Second
	if *kills > 2 {
		away = time.Minute
	}
	time.Sleep(away) // that they are away for so long is what happens
	f.start(1)
	f.start(0)
	f.one("the seeds are back")
	f.complete()
	f.readable()
}

// UDP does not pass, then at one node only in one direction: gossip goes by TCP, the stream as ever, and the log stays
// short. A node that leaves hands its rooms over all the same.
func TestUDPBlocked(t *testing.T) {
	f := &fleet{t: t, extra: []string{"--insecure-open"}, net: newNetwork(t, 3)}
	for i := range 3 {
		f.net.blockUDP(i)
	}
	f.begin(3)
	s := f.run(place{relay: 0, publisher: 1, subscribers: []int{1, 2}}, pace)
	s.reach(300)
	f.stop(0)
	s.reach(100)
	f.start(0)
	f.one("blocked everywhere, and one restarted")
	f.net.heal(0, 1)
	s.reach(500)
	f.one("one way")
	s.finish()
	f.readable()
}

// Nodes with addresses of IPv6 only, which listen on all.
func TestIPv6Only(t *testing.T) {
	f := &fleet{t: t, extra: []string{"--insecure-open"}, net: newNetwork(t, 3)}
	ips := f.net.only6(3)
	f.begin(0)
	for i := range 3 {
		f.add(fmt.Sprintf("n%d", i+1))
		f.at(i, ips[i])
		f.nodes[i].bind = "[::]:7500"
		f.start(i)
	}
	f.one("IPv6")
	s := f.run(place{relay: 0, publisher: 1, subscribers: []int{1, 2}}, pace)
	s.reach(100)
	f.kill(0)
	s.reach(100)
	s.finish()
}

// Hosts with two addresses: without --advertise a node that listens on all says which there are and ends, with it the
// others reach it at that one; and a port that is another outside is told as such.
func TestTwoAddresses(t *testing.T) {
	f := &fleet{t: t, extra: []string{"--insecure-open"}, net: newNetwork(t, 3)}
	f.begin(0)
	for i := range 3 {
		f.add(fmt.Sprintf("n%d", i+1))
		second := f.net.alsoAddress(i, 101+i)
		n := f.nodes[i]
		n.bind, n.args, n.cluster = "0.0.0.0:7500", []string{"--advertise", second}, second+":7500"
	}
	n := f.nodes[0]
	out, err := exec.Command("ip", "netns", "exec", n.space, f.program, "serve", "--listen", n.listen, "--admin", "", "--insecure-open",
		"--cluster", n.bind, "--cluster-key-file", f.key).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "several addresses ("+f.net.ip(0)+", ") || !strings.Contains(string(out), "--advertise") {
		t.Errorf("two addresses and none is said: %v\n%s", err, out)
	}
	for i := range 3 {
		f.start(i)
	}
	f.one("two addresses each")
	for _, m := range f.view(1) {
		if m.Addr != f.nodes[0].cluster && m.Addr != f.nodes[1].cluster && m.Addr != f.nodes[2].cluster {
			t.Errorf("%s is said to be at %s", m.Name, m.Addr)
		}
	}
	s := f.run(place{relay: 0, publisher: 1, subscribers: []int{1, 2}}, pace)
	s.reach(100)
	s.finish()
}

// Packets of 1,280 bytes at most, which is the least that IPv6 allows.
func TestSmallPackets(t *testing.T) {
	f := &fleet{t: t, extra: []string{"--insecure-open"}, net: newNetwork(t, 5)}
	f.net.mtu(5, 1280)
	f.begin(5)
	s := f.run(place{relay: 0, publisher: 1, subscribers: []int{2, 3, 4}, size: 8000}, pace)
	s.reach(100)
	f.kill(0)
	f.start(0)
	s.reach(100)
	s.finish()
	f.one("MTU 1280")
}

// A node that is told to end while it looks for others does so at once, and has done nothing wrong.
func TestTermWhileJoining(t *testing.T) {
	f := newFleet(t, 1)
	f.stop(0)
	for name, join := range map[string]string{"a closed port": "127.0.0.1:1", "a name without an address": "nobody.invalid:7500", "an address that is silent": "192.0.2.1:7500"} {
		f.nodes[0].join = []string{join}
		f.start(0)
		begun := time.Now()
		f.signal(0, syscall.SIGTERM)
		err := f.nodes[0].cmd.Wait()
		f.nodes[0].cmd = nil
		t.Logf("%s: ended after %v", name, time.Since(begun).Round(time.Millisecond))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The cluster key is changed in three steps while streams run: added everywhere, first everywhere, alone everywhere.
// Nothing is lost, and a node that holds the old one alone is turned away.
func TestKeysChanged(t *testing.T) {
	f := newFleet(t, 3)
	old, err := os.ReadFile(f.key)
	if err != nil {
		t.Fatal(err)
	}
	next, err := exec.Command(f.program, "key").Output()
	if err != nil {
		t.Fatal(err)
	}
	was := f.file("was", string(old))
	s := f.run(place{relay: 0, publisher: 1, subscribers: []int{1, 2}}, pace)
	s.reach(50)
	for step, text := range []string{string(old) + string(next), string(next) + string(old), string(next)} {
		f.file("key", text)
		for i := range f.nodes {
			f.until("the keys are taken up", func() bool { return strings.Count(f.log(i), "other cluster keys taken up") == step+1 })
		}
		s.reach(100)
	}
	for i := range f.nodes {
		f.until("its links are proved anew", func() bool { return strings.Count(f.log(i), "a link is proved by the new cluster key") >= 2 })
	}
	s.reach(100)
	s.finish()
	f.await(3)
	f.turnedAway(f.program, was, f.nodes[0].cluster, "cluster key")
	var g figures
	g.add(s)
	t.Log("keys changed:", &g)
}

// Hosts that stop for a moment, as those of virtual machines do: nobody dies of it, and nothing is lost.
func TestShortFreezes(t *testing.T) {
	f := newFleet(t, 3)
	s := f.run(place{relay: 0, publisher: 1, subscribers: []int{1, 2}}, pace)
	s.reach(50)
	changes := func() (n int) {
		for i := range f.nodes {
			n += strings.Count(f.log(i), "the cluster has changed")
		}
		return n
	}
	before := changes()
	for k := range 5 * *kills {
		i := k % 3
		f.signal(i, syscall.SIGSTOP)
		time.Sleep(time.Duration(100+20*(k%10)) * time.Millisecond) // the pause is what is drilled
		f.signal(i, syscall.SIGCONT)
		s.reach(100)
	}
	s.finish()
	if n := changes() - before; n > 0 {
		t.Errorf("%d views have changed", n)
	}
	var g figures
	g.add(s)
	t.Log("hosts paused 100 to 280 ms:", &g)
}
