package doctor

import (
	"fmt"
	"strings"
	"time"
)

// What people give: settings and certificates; then names, and the other nodes.

func settings(r *Readings) (all []Finding) {
	for _, wrong := range r.Settings {
		all = append(all, one(Fault, wrong, "the server does not start, or does not reload", "")...)
	}
	return all
}

const (
	soonEnds     = 21 * 24 * time.Hour
	verySoonEnds = 7 * 24 * time.Hour
)

func certificates(r *Readings) (all []Finding) {
	for _, c := range r.Certs {
		left := c.NotEnd.Sub(r.Now)
		of := c.File
		if c.Of != "" {
			of += " (" + c.Of + ")"
		}
		end := c.NotEnd.Format("2006-01-02 15:04 MST")
		renew := "renew it: a changed file is taken up without a restart"
		switch {
		case c.Err != "":
			all = append(all, one(Fault, c.File+": "+c.Err, "nobody can connect with TLS", "")...)
		case left <= 0:
			all = append(all, one(Fault, of+" ended on "+end, "clients refuse it, or are refused by it", renew)...)
		case c.NotBefore.After(r.Now):
			all = append(all, one(Fault, of+" is not valid before "+c.NotBefore.Format("2006-01-02 15:04 MST"), "clients refuse it", "look at the clock, or wait")...)
		case left < soonEnds:
			l := Note
			if left < verySoonEnds {
				l = Fault
			}
			all = append(all, one(l, fmt.Sprintf("%s ends on %s, in %.0f days", of, end, left.Hours()/24), "from then on clients refuse it", renew)...)
		default:
			all = append(all, ok("%s lasts until %s", of, end)...)
		}
	}
	return all
}

func names(r *Readings) (all []Finding) {
	for _, n := range r.Names {
		switch {
		case n.Err != "":
			all = append(all, one(Fault, "join: "+n.Entry+": "+n.Err, "a node that finds nobody is a cluster of one", "look at the name and at the resolver; for a headless service publish addresses that are not ready")...)
		case len(n.Addrs) == 0:
			all = append(all, one(Fault, "join: "+n.Entry+" has no address", "a node that finds nobody is a cluster of one", "look at the name and at the resolver")...)
		default:
			all = append(all, ok("join: %s is %s", n.Entry, strings.Join(n.Addrs, ", "))...)
		}
	}
	return all
}

const (
	// leastMTU is that of IPv6, into which gossip's packets fit.
	leastMTU = 1280
	// slowWay is half the time that a node has to answer before others are asked about it.
	slowWay = 22 * time.Millisecond
)

func nodes(r *Readings) (all []Finding) {
	for _, p := range r.Peers {
		port := p.Addr[strings.LastIndexByte(p.Addr, ':')+1:]
		said := len(all)
		bad := func(text, why, do string) { all = append(all, one(Fault, "node "+p.Addr+" "+text, why, do)...) }
		if p.TCP != "" {
			bad("does not answer by TCP: "+p.TCP, "no room's frames get there or come from there", "start it, or let TCP through to port "+port)
		}
		switch {
		case p.UDP != "" && p.TCP != "":
		case p.UDP != "":
			bad("does not answer by UDP: "+p.UDP, "deaths are noticed later, and nodes count as dead that are not",
				"let UDP through to port "+port+", and its answers back; and look whether both have the same cluster key")
		case p.Large != "":
			bad(fmt.Sprintf("does not get whole packets of %d bytes: %s", p.MTU, p.Large), "a link that carries much stands still",
				"the way is narrower than this machine's interface says (a tunnel?): give the interface the way's MTU, or let ICMP through")
		case p.MTU != 0 && p.MTU < leastMTU:
			all = append(all, one(Note, fmt.Sprintf("node %s is behind an MTU of %d", p.Addr, p.MTU), "packets of gossip are cut in two, and lost if one part is",
				fmt.Sprintf("give the way between the nodes an MTU of %d at least", leastMTU))...)
		}
		if p.UDP == "" && p.RTT > slowWay {
			all = append(all, one(Note, fmt.Sprintf("node %s answers after %v", p.Addr, p.RTT.Round(100*time.Microsecond)),
				"nodes so far apart count as dead when the way is slow for a moment", "keep a cluster within a region")...)
		}
		if len(all) == said {
			all = append(all, ok("node %s answers by TCP and UDP, after %v", p.Addr, p.RTT.Round(10*time.Microsecond))...)
		}
	}
	return all
}

// apartClock is how far apart the clocks of nodes may be. Whoever keeps them right keeps them within milliseconds.
const apartClock = time.Second

// clocks compares the other nodes' with this machine's.
func clocks(r *Readings) (all []Finding) {
	for _, c := range r.Clocks {
		off, way := c.Ahead, "ahead of"
		if off < 0 {
			off, way = -off, "behind"
		}
		text := fmt.Sprintf("the clock of node %s is %s this machine's by %v", c.Node, way, off.Round(time.Millisecond))
		do := "see which of the two is wrong (timedatectl, chronyc tracking), and run chrony, ntpd or systemd-timesyncd on both"
		switch sure := off - c.Within; { // by so much at least
		case sure > badClock:
			all = append(all, one(Fault, text, "one of them takes tokens and certificates that the other refuses, and a room with a time limit ends at the wrong time when it moves between them", do)...)
		case sure > apartClock:
			all = append(all, one(Note, text, "lines of their logs do not stand in their order", do)...)
		default:
			all = append(all, ok("the clock of node %s is this machine's, within %v", c.Node, (off+c.Within).Round(time.Millisecond))...)
		}
	}
	return all
}
