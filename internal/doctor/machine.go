package doctor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What one machine's kernel allows.

func descriptors(r *Readings) []Finding {
	f := r.Files
	if f.Most == 0 {
		return nil
	}
	whose := "a process of this shell"
	if f.Running {
		whose = "the node that runs here"
	}
	want := r.Conns
	if !r.ConnsSet {
		want = DefaultConns
	}
	need := want + SpareFiles
	text := fmt.Sprintf("%s may open %d descriptors; %d connections need %d", whose, f.Most, want, need)
	do := fmt.Sprintf("allow %d: LimitNOFILE= of its systemd unit, ulimits: nofile of Compose, or ulimit -n before it starts", need)
	switch {
	case f.Most < need && r.ConnsSet:
		return one(Fault, text, "clients beyond it are turned away", do+"; or set conns lower")
	case f.Running && f.Open > f.Most/10*9:
		return one(Fault, fmt.Sprintf("%d descriptors of %d are open", f.Open, f.Most), "the next clients will be turned away", "allow more, or spread clients over more nodes")
	case f.Most < need:
		return one(Note, text, fmt.Sprintf("conns is %d instead, what the system allows", max(0, f.Most-SpareFiles)), do)
	}
	return ok("%s", text)
}

// memory: a process stays below its bound, a quarter of it, and 64 MiB.
func memory(r *Readings) []Finding {
	if r.Memory == 0 || r.Available == 0 {
		return nil
	}
	need := r.Memory + r.Memory/4 + 64<<20
	text := fmt.Sprintf("memory of %s may make the process take %s; it may have %s", mib(r.Memory), mib(need), mib(r.Available))
	if need > r.Available {
		fits := (r.Available - 64<<20) / 5 * 4
		do := "give the machine or container more"
		if fits > 16<<20 {
			do = fmt.Sprintf("set memory to %s, or give the machine or container more", mib(fits))
		}
		return one(Fault, text, "the kernel kills it when clients make use of that", do)
	}
	return ok("%s", text)
}

func mib(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }

const (
	fewBacklog  = 1024
	goodBacklog = 4096
)

func backlog(r *Readings) []Finding {
	if r.Backlog == 0 {
		return nil
	}
	why := "when a node has died its clients reconnect at once: those that find no place here try again a second later, and again"
	do := func(name string) string { return fmt.Sprintf("sysctl -w net.%s=%d", name, goodBacklog) }
	level := func(n int) Level {
		if n < fewBacklog {
			return Fault
		}
		return Note
	}
	var all []Finding
	if r.Backlog < goodBacklog {
		text := fmt.Sprintf("net.core.somaxconn is %d: so many connections wait to be accepted", r.Backlog)
		all = append(all, one(level(r.Backlog), text, why, do("core.somaxconn"))...)
	}
	if r.SynBacklog != 0 && r.SynBacklog < fewBacklog {
		text := fmt.Sprintf("net.ipv4.tcp_max_syn_backlog is %d: so many connections are half open", r.SynBacklog)
		all = append(all, one(Note, text, why, do("ipv4.tcp_max_syn_backlog"))...)
	}
	if all == nil {
		return ok("%d connections may wait to be accepted", r.Backlog)
	}
	return all
}

// fewPorts is below what Linux has by default (28,232) by as much as is seldom meant.
const fewPorts = 16_000

func ports(r *Readings) []Finding {
	if r.PortsTo == 0 {
		return nil
	}
	var all []Finding
	if n := r.PortsTo - r.PortsFrom + 1; n < fewPorts {
		all = append(all, Finding{Level: Note, Text: fmt.Sprintf("connections from this machine may have %d ports (%d to %d)", n, r.PortsFrom, r.PortsTo),
			Why: "a balancer on this machine holds as many connections to one address of a node at most",
			Do:  `sysctl -w net.ipv4.ip_local_port_range="10240 65535"`})
	}
	var taken []string
	for _, p := range r.Listening {
		if p >= r.PortsFrom && p <= r.PortsTo && !reserved(r.Reserved, p) {
			taken = append(taken, strconv.Itoa(p))
		}
	}
	if slices.Sort(taken); taken != nil {
		list := strings.Join(slices.Compact(taken), ",")
		all = append(all, Finding{Level: Note, Text: fmt.Sprintf("ports to listen at (%s) are among those that connections from this machine are given (%d to %d)", list, r.PortsFrom, r.PortsTo),
			Why: "one of these may have it when the server starts, which then fails",
			Do:  "sysctl -w net.ipv4.ip_local_reserved_ports=" + list + ", or listen at lower ones"})
	}
	if all == nil {
		return ok("connections from this machine have ports %d to %d; none to listen at is among them", r.PortsFrom, r.PortsTo)
	}
	return all
}

// reserved reports whether a list such as 8080,9000-9010 has a port.
func reserved(list string, port int) bool {
	for part := range strings.SplitSeq(list, ",") {
		from, to, is := strings.Cut(strings.TrimSpace(part), "-")
		if !is {
			to = from
		}
		a, err := strconv.Atoi(from)
		b, err2 := strconv.Atoi(to)
		if err == nil && err2 == nil && a <= port && port <= b {
			return true
		}
	}
	return false
}

const (
	goodBuffer = 4 << 20
	farAway    = 200 * time.Millisecond
	fewUDP     = 128 << 10
)

func buffers(r *Readings) []Finding {
	var all []Finding
	tcp := func(name string, bytes int, who string) {
		if bytes == 0 || bytes >= goodBuffer {
			return
		}
		rate := float64(bytes) * 8 / farAway.Seconds() / 1e6
		all = append(all, Finding{Level: Note, Text: fmt.Sprintf("net.ipv4.%s goes up to %d KiB", name, bytes>>10),
			Why: fmt.Sprintf("%s %v away gets %.0f Mbit/s at most", who, farAway, rate), Do: fmt.Sprintf("raise its last number to %d", goodBuffer)})
	}
	tcp("tcp_wmem", r.TCPWrite, "a subscriber")
	tcp("tcp_rmem", r.TCPRead, "a publisher")
	if r.UDPRead != 0 && r.UDPRead < fewUDP {
		all = append(all, Finding{Level: Note, Text: fmt.Sprintf("net.core.rmem_default is %d KiB", r.UDPRead>>10),
			Why: "gossip of the nodes that comes in a burst is lost, and nodes count as dead that are not", Do: "sysctl -w net.core.rmem_default=212992"})
	}
	if all == nil && r.TCPWrite != 0 {
		return ok("sockets may buffer %d KiB", r.TCPWrite>>10)
	}
	return all
}

func conntrack(r *Readings) []Finding {
	c := r.Conntrack
	if c == nil || c.Most == 0 {
		return nil
	}
	var all []Finding
	bad := func(text, why, do string) { all = append(all, one(Fault, text, why, do)...) }
	need := 2 * r.Conns
	more := fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d, or keep these ports out of the table (iptables -t raw ... -j NOTRACK)", max(need, 2*c.Most))
	switch {
	case c.Entries > c.Most/10*9:
		bad(fmt.Sprintf("the kernel tracks %d connections of %d", c.Entries, c.Most), "it drops packets of new ones when that is full", more)
	case need > c.Most:
		bad(fmt.Sprintf("the kernel tracks %d connections; there may be %d here, and as many from a balancer", c.Most, r.Conns), "it drops packets of new ones when that is full", more)
	}
	if c.Forgets != 0 && r.Ping != 0 && c.Forgets < 2*r.Ping {
		bad(fmt.Sprintf("the kernel forgets a connection after %v of silence; ping is %v", c.Forgets, r.Ping), "silent clients are cut off without a word",
			"sysctl -w net.netfilter.nf_conntrack_tcp_timeout_established=86400, or set ping lower")
	}
	if all == nil {
		return ok("the kernel tracks %d connections of %d", c.Entries, c.Most)
	}
	return all
}

// longPing is half of the shortest idle time-out of clouds' balancers (Azure's, 4 minutes).
const longPing = 2 * time.Minute

func ping(r *Readings) []Finding {
	switch {
	case r.Ping == 0:
		return nil
	case r.Ping > longPing:
		return one(Note, fmt.Sprintf("ping is %v", r.Ping), "balancers and routers on the way forget silent connections, some after 4 minutes", "set ping below half of the shortest time-out on the way")
	}
	return ok("silent connections are pinged after %v: no time-out on the way may be below %v", r.Ping, 2*r.Ping)
}

// badClock is by how much a clock may be wrong before tokens seem not to have begun, or to have ended.
const badClock = 5 * time.Second

func clock(r *Readings) []Finding {
	c := r.Clock
	if !c.Known {
		return nil
	}
	level, why := Note, "lines of several nodes' logs do not stand in their order"
	if r.ClockMatters != "" {
		level, why = Fault, r.ClockMatters+" may count as ended, or as not begun"
	}
	do := "run chrony, ntpd or systemd-timesyncd (timedatectl set-ntp true)"
	switch {
	case !c.Synced:
		return one(level, "nothing keeps the clock right", why, do)
	case c.Error > badClock:
		return one(level, fmt.Sprintf("the clock may be wrong by %v", c.Error.Round(time.Millisecond)), why, do)
	}
	return ok("the clock is kept right, within %v", c.Error.Round(time.Millisecond))
}
