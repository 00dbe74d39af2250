// Package doctor says what is to be changed on a machine before it serves, and why.
//
// Start at [Readings.Examine]. Whoever calls it reads the machine; a check is a function of what was read, and looks at
// nothing else. A reading that could not be had is zero, and no check complains of it.
package doctor

import (
	"fmt"
	"time"
)

// Level says how bad a finding is.
type Level uint8

// The levels.
const (
	OK    Level = iota // as it should be
	Note               // works; something else would be better
	Fault              // clients or nodes will suffer
)

// String returns the level's name.
func (l Level) String() string { return [...]string{"ok", "note", "fault"}[l] }

// MarshalText implements encoding.TextMarshaler.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Finding is what a check says.
type Finding struct {
	Check string `json:"check"`
	Level Level  `json:"level"`
	Text  string `json:"text"`             // what there is
	Why   string `json:"why,omitempty"`    // what comes of it
	Do    string `json:"change,omitempty"` // what to change
}

// Readings are what there is, as it was read.
type Readings struct {
	Now time.Time

	Settings []string // what is wrong with them

	Files     Files
	Conns     int  // connections that there may be at once
	ConnsSet  bool // by a setting, not by what the system allows
	Ping      time.Duration
	Memory    int64 // bytes that clients may make the server hold
	Available int64 // bytes that the process may take: of its control group, or the machine's

	Backlog    int // net.core.somaxconn
	SynBacklog int // net.ipv4.tcp_max_syn_backlog
	PortsFrom  int // net.ipv4.ip_local_port_range
	PortsTo    int
	Reserved   string // net.ipv4.ip_local_reserved_ports
	Listening  []int  // the ports that the settings name
	TCPWrite   int    // bytes: the most of net.ipv4.tcp_wmem
	TCPRead    int    // likewise of tcp_rmem
	UDPRead    int    // bytes: net.core.rmem_default
	Conntrack  *Conntrack

	Clock        Clock
	Clocks       []NodeClock
	ClockMatters string // what goes by the computer's clock here; empty: nothing

	Names []Name
	Peers []Peer
	Certs []Cert
}

// Files are the limits on descriptors.
type Files struct {
	Open    int // at the moment
	Most    int
	Running bool // they are those of the node that runs, not of this shell
}

// Conntrack is the kernel's table of connections, of a machine that keeps one.
type Conntrack struct {
	Entries, Most int
	Forgets       time.Duration // after so much silence
}

// Clock is what the kernel knows of its clock.
type Clock struct {
	Known  bool
	Synced bool
	Error  time.Duration // estimated, at most
}

// NodeClock is what a node says of its clock when it is asked.
type NodeClock struct {
	Node   string
	Ahead  time.Duration // of this machine's; negative: behind
	Within time.Duration // by so much that may be wrong: half of the time that the answer took
}

// Name is an entry of the setting join.
type Name struct {
	Entry string
	Addrs []string
	Err   string // why it has none
}

// Peer is a node at an address.
type Peer struct {
	Addr  string
	TCP   string        // why it does not answer by TCP; empty: it does
	UDP   string        // likewise by UDP
	Large string        // likewise a packet that fills the MTU
	RTT   time.Duration // by UDP
	MTU   int           // bytes, of the way as far as the kernel knows
}

// Cert is a certificate.
type Cert struct {
	File, Of          string
	NotBefore, NotEnd time.Time
	Err               string
}

// SpareFiles is how many descriptors a server needs beside those of its clients.
const SpareFiles = 128

// DefaultConns is how many connections there may be at once if nothing else is set and the system allows it.
const DefaultConns = 20_000

// check is one check: its name, and what it says. None that has read nothing says anything.
type check struct {
	name string
	of   func(*Readings) []Finding
}

var checks = []check{
	{"settings", settings}, {"descriptors", descriptors}, {"memory", memory}, {"backlog", backlog}, {"ports", ports}, {"buffers", buffers},
	{"conntrack", conntrack}, {"ping", ping}, {"clock", clock}, {"clocks", clocks}, {"certificates", certificates}, {"names", names}, {"nodes", nodes},
}

// Examine returns what all checks find, in their order.
func (r *Readings) Examine() (all []Finding) {
	for _, c := range checks {
		for _, f := range c.of(r) {
			f.Check = c.name
			all = append(all, f)
		}
	}
	return all
}

// Worst returns the highest level among findings.
func Worst(all []Finding) (worst Level) {
	for _, f := range all {
		worst = max(worst, f.Level)
	}
	return worst
}

func ok(format string, args ...any) []Finding {
	return []Finding{{Text: fmt.Sprintf(format, args...)}}
}

func one(l Level, text, why, do string) []Finding {
	return []Finding{{Level: l, Text: text, Why: why, Do: do}}
}
