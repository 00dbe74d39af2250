package drills

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// network is a switch with a port for each node, each in a network namespace of its own, and one for the test. Nothing
// of it can reach, or be reached from, anywhere else.
type network struct {
	t   *testing.T
	tag string // of the names, which are the system's
	net string // the first three bytes of all addresses
}

// newNetwork makes a network for n nodes, or skips the test where that is not possible.
func newNetwork(t *testing.T, n int) *network {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces take root")
	}
	w := &network{t: t, tag: fmt.Sprintf("td%d", os.Getpid()%100000), net: fmt.Sprintf("10.%d.%d", 64+os.Getpid()%64, os.Getpid()/64%250)}
	t.Cleanup(w.close)
	w.close() // what a test that was killed has left
	bridge := w.tag + "b"
	w.must("ip", "netns", "add", w.tag+"sw")
	w.must("ip", "-n", w.tag+"sw", "link", "add", bridge, "type", "bridge")
	w.must("ip", "-n", w.tag+"sw", "link", "set", bridge, "up")
	for i := range n + 1 {
		port := fmt.Sprintf("%sp%d", w.tag, i)
		if i == n { // the test's own
			w.must("ip", "link", "add", w.tag+"t", "type", "veth", "peer", "name", port, "netns", w.tag+"sw")
			w.must("ip", "addr", "add", w.net+".254/24", "dev", w.tag+"t")
			w.must("ip", "link", "set", w.tag+"t", "up")
		} else {
			w.must("ip", "netns", "add", w.space(i))
			w.must("ip", "link", "add", "eth0", "netns", w.space(i), "type", "veth", "peer", "name", port, "netns", w.tag+"sw")
			w.must("ip", "-n", w.space(i), "addr", "add", w.ip(i)+"/24", "dev", "eth0")
			w.must("ip", "-n", w.space(i), "link", "set", "eth0", "up")
			w.must("ip", "-n", w.space(i), "link", "set", "lo", "up")
		}
		w.must("ip", "-n", w.tag+"sw", "link", "set", port, "master", bridge)
		w.must("ip", "-n", w.tag+"sw", "link", "set", port, "up")
	}
	return w
}

func (w *network) space(i int) string { return fmt.Sprintf("%sn%d", w.tag, i) }
func (w *network) ip(i int) string    { return fmt.Sprintf("%s.%d", w.net, i+1) }

func (w *network) must(args ...string) {
	w.t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		w.t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// cut has node i drop what comes from the others, and what it sends to them, silently; clients reach it as before.
func (w *network) cut(i int, others ...int) {
	for _, o := range others {
		w.deafen(i, o)
		w.deafen(o, i)
	}
}

// deafen has node i drop what comes from node from: one direction only.
func (w *network) deafen(i, from int) {
	w.must("ip", "netns", "exec", w.space(i), "iptables", "-A", "INPUT", "-s", w.ip(from), "-j", "DROP")
}

// heal ends all that cut and deafen did to node i.
func (w *network) heal(is ...int) {
	for _, i := range is {
		w.must("ip", "netns", "exec", w.space(i), "iptables", "-F", "INPUT")
	}
}

// narrow lets node i send so many kilobits a second by TCP to node to. Gossip, by UDP, passes.
func (w *network) narrow(i, to, kbit int) {
	tc := func(args ...string) { w.must(append([]string{"tc", "-n", w.space(i)}, args...)...) }
	tc("qdisc", "replace", "dev", "eth0", "root", "handle", "1:", "htb", "default", "10")
	tc("class", "replace", "dev", "eth0", "parent", "1:", "classid", "1:10", "htb", "rate", "10gbit", "quantum", "60000")
	tc("class", "replace", "dev", "eth0", "parent", "1:", "classid", "1:20", "htb", "rate", fmt.Sprintf("%dkbit", kbit))
	tc("filter", "replace", "dev", "eth0", "parent", "1:", "protocol", "ip", "prio", "1", "u32",
		"match", "ip", "dst", w.ip(to)+"/32", "match", "ip", "protocol", "6", "0xff", "flowid", "1:20")
}

func (w *network) close() {
	spaces, _ := exec.Command("ip", "netns", "list").Output()
	for line := range strings.Lines(string(spaces)) {
		if name, _, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(name, w.tag) {
			_ = exec.Command("ip", "netns", "del", name).Run()
		}
	}
	_ = exec.Command("ip", "link", "del", w.tag+"t").Run()
}

// address gives node i another address instead of its own: the last byte, or the last group of IPv6's.
func (w *network) address(i, last int) string {
	w.t.Helper()
	ip := fmt.Sprintf("%s.%d", w.net, last)
	w.must("ip", "-n", w.space(i), "addr", "flush", "dev", "eth0")
	w.must("ip", "-n", w.space(i), "addr", "add", ip+"/24", "dev", "eth0")
	return ip
}

// alsoAddress gives node i one more address.
func (w *network) alsoAddress(i, last int) string {
	w.t.Helper()
	ip := fmt.Sprintf("%s.%d", w.net, last)
	w.must("ip", "-n", w.space(i), "addr", "add", ip+"/24", "dev", "eth0")
	return ip
}

// only6 leaves the nodes and the test with addresses of IPv6, and returns those of the nodes.
func (w *network) only6(n int) (ips []string) {
	w.t.Helper()
	add := func(args ...string) { w.must(append([]string{"ip"}, args...)...) }
	add("addr", "add", "fd77::254/64", "dev", w.tag+"t", "nodad")
	for i := range n {
		ip := fmt.Sprintf("fd77::%d", i+1)
		add("-n", w.space(i), "addr", "flush", "dev", "eth0", "scope", "global")
		add("-n", w.space(i), "addr", "add", ip+"/64", "dev", "eth0", "nodad")
		ips = append(ips, ip)
	}
	return ips
}

// mtu has packets of nodes be of so many bytes at most.
func (w *network) mtu(n, bytes int) {
	w.t.Helper()
	for i := range n {
		w.must("ip", "-n", w.space(i), "link", "set", "eth0", "mtu", fmt.Sprint(bytes))
	}
}

// blockUDP has node i drop what comes by UDP, but for answers of name servers.
func (w *network) blockUDP(i int) {
	w.must("ip", "netns", "exec", w.space(i), "iptables", "-A", "INPUT", "-p", "udp", "!", "--sport", "53", "-i", "eth0", "-j", "DROP")
}

// unplug takes node i off the network, as a switch does that fails; plug puts it back.
func (w *network) unplug(i int) {
	w.must("ip", "-n", w.tag+"sw", "link", "set", fmt.Sprintf("%sp%d", w.tag, i), "down")
}

func (w *network) plug(i int) {
	w.must("ip", "-n", w.tag+"sw", "link", "set", fmt.Sprintf("%sp%d", w.tag, i), "up")
}
