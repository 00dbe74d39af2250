package doctor

import (
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// healthy is a machine with nothing to change, of which each case changes one thing.
func healthy() Readings {
	return Readings{
		Now: now, Files: Files{Open: 100, Most: 1 << 20}, Conns: 20_000, Ping: 20 * time.Second, Memory: 1 << 30, Available: 4 << 30,
		Backlog: 4096, SynBacklog: 4096, PortsFrom: 32768, PortsTo: 60999, Listening: []int{7400, 7401},
		TCPWrite: 4 << 20, TCPRead: 6 << 20, UDPRead: 212992,
		Conntrack: &Conntrack{Entries: 10, Most: 262144, Forgets: 5 * 24 * time.Hour},
		Clock:     Clock{Known: true, Synced: true, Error: 10 * time.Millisecond},
		Clocks:    []NodeClock{{Node: "two", Ahead: -20 * time.Millisecond, Within: time.Millisecond}},
		Names:     []Name{{Entry: "nodes.example.org:7500", Addrs: []string{"192.0.2.1", "192.0.2.2"}}},
		Peers:     []Peer{{Addr: "192.0.2.2:7500", RTT: time.Millisecond, MTU: 1500}},
		Certs:     []Cert{{File: "cert.pem", Of: "example.org", NotBefore: now.AddDate(0, -1, 0), NotEnd: now.AddDate(0, 2, 0)}},
	}
}

func TestChecks(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Readings)
		check  string // that finds it; all others find nothing
		level  Level
		text   string // in what is found
		do     string // in what is to be changed
	}{
		{"nothing", func(*Readings) {}, "", OK, "", ""},
		{"a wrong setting", func(r *Readings) { r.Settings = []string{"--auth: no such file"} }, "settings", Fault, "--auth: no such file", ""},

		{"too few descriptors for conns", func(r *Readings) { r.Files.Most, r.ConnsSet = 1024, true }, "descriptors", Fault, "may open 1024 descriptors; 20000 connections need 20128", "LimitNOFILE"},
		{"just enough", func(r *Readings) { r.Files.Most, r.ConnsSet = 20_128, true }, "", OK, "", ""},
		{"one too few", func(r *Readings) { r.Files.Most, r.ConnsSet = 20_127, true }, "descriptors", Fault, "need 20128", "20128"},
		{"the system allows less than the default", func(r *Readings) { r.Files.Most = 4096 }, "descriptors", Note, "a process of this shell", "LimitNOFILE"},
		{"the node has nearly all open", func(r *Readings) { r.Files = Files{Open: 19_900, Most: 20_500, Running: true} }, "descriptors", Fault, "19900 descriptors of 20500 are open", "spread clients"},

		{"a container that is too small", func(r *Readings) { r.Available = 1 << 30 }, "memory", Fault, "1344 MiB; it may have 1024 MiB", "set memory to 768 MiB"},
		{"a tiny container", func(r *Readings) { r.Available = 64 << 20 }, "memory", Fault, "64 MiB", "give the machine"},
		{"a container that just fits", func(r *Readings) { r.Available = 1344 << 20 }, "", OK, "", ""},

		{"a short backlog", func(r *Readings) { r.Backlog = 128 }, "backlog", Fault, "somaxconn is 128", "net.core.somaxconn=4096"},
		{"a middling backlog", func(r *Readings) { r.Backlog = 2048 }, "backlog", Note, "somaxconn is 2048", "net.core.somaxconn=4096"},
		{"few half open", func(r *Readings) { r.SynBacklog = 256 }, "backlog", Note, "tcp_max_syn_backlog is 256", "net.ipv4.tcp_max_syn_backlog=4096"},

		{"few ports", func(r *Readings) { r.PortsTo = 40_000 }, "ports", Note, "7233 ports", "ip_local_port_range"},
		{"a port that others may have", func(r *Readings) { r.Listening = []int{40_000, 7400, 40_000} }, "ports", Note, "(40000)", "ip_local_reserved_ports=40000"},
		{"a port that is kept free", func(r *Readings) { r.Listening, r.Reserved = []int{40_000}, "1234,39999-40001" }, "", OK, "", ""},

		{"small write buffers", func(r *Readings) { r.TCPWrite = 1 << 20 }, "buffers", Note, "tcp_wmem goes up to 1024 KiB", "4194304"},
		{"small read buffers", func(r *Readings) { r.TCPRead = 1 << 20 }, "buffers", Note, "tcp_rmem goes up to 1024 KiB", "4194304"},
		{"small buffers of UDP", func(r *Readings) { r.UDPRead = 64 << 10 }, "buffers", Note, "rmem_default is 64 KiB", "rmem_default"},

		{"no table of connections", func(r *Readings) { r.Conntrack = nil }, "", OK, "", ""},
		{"a small table", func(r *Readings) { r.Conntrack.Most = 30_000 }, "conntrack", Fault, "30000 connections", "nf_conntrack_max=60000"},
		{"a table that is nearly full", func(r *Readings) { r.Conntrack.Entries = 250_000 }, "conntrack", Fault, "250000 connections of 262144", "nf_conntrack_max=524288"},
		{"a table that forgets", func(r *Readings) { r.Conntrack.Forgets = 30 * time.Second }, "conntrack", Fault, "after 30s", "set ping lower"},

		{"pings that come too late", func(r *Readings) { r.Ping = 3 * time.Minute }, "ping", Note, "3m0s", "below half"},

		{"nobody keeps the clock", func(r *Readings) { r.Clock.Synced = false }, "clock", Note, "nothing keeps the clock right", "chrony"},
		{"... and tokens go by it", func(r *Readings) { r.Clock.Synced, r.ClockMatters = false, "clients' tokens" }, "clock", Fault, "nothing keeps the clock right", "chrony"},
		{"a clock that is far off", func(r *Readings) { r.Clock.Error = 8 * time.Second }, "clock", Note, "wrong by 8s", "chrony"},
		{"a kernel that does not say", func(r *Readings) { r.Clock = Clock{} }, "", OK, "", ""},

		{"a node's clock that is behind", func(r *Readings) { r.Clocks[0].Ahead = -2 * time.Second }, "clocks", Note, "node two is behind this machine's by 2s", "chrony"},
		{"one that is far ahead", func(r *Readings) { r.Clocks[0].Ahead = time.Hour }, "clocks", Fault, "node two is ahead of this machine's by 1h0m0s", "both"},
		{"one that is, or whose answer was late", func(r *Readings) { r.Clocks[0].Ahead, r.Clocks[0].Within = 2*time.Second, 1200*time.Millisecond }, "", OK, "", ""},

		{"a certificate that has ended", func(r *Readings) { r.Certs[0].NotEnd = now.Add(-time.Minute) }, "certificates", Fault, "cert.pem (example.org) ended on 2026-11-30", "renew"},
		{"one that ends within days", func(r *Readings) { r.Certs[0].NotEnd = now.AddDate(0, 0, 3) }, "certificates", Fault, "in 3 days", "renew"},
		{"one that ends within weeks", func(r *Readings) { r.Certs[0].NotEnd = now.AddDate(0, 0, 14) }, "certificates", Note, "in 14 days", "renew"},
		{"one that has not begun", func(r *Readings) { r.Certs[0].NotBefore = now.Add(time.Hour) }, "certificates", Fault, "not valid before 2026-11-30 13:00", "clock"},
		{"one that cannot be read", func(r *Readings) { r.Certs[0].Err = "no such file" }, "certificates", Fault, "cert.pem: no such file", ""},

		{"a name that nobody knows", func(r *Readings) { r.Names[0].Err = "no such host" }, "names", Fault, "nodes.example.org:7500: no such host", "resolver"},
		{"a name without an address", func(r *Readings) { r.Names[0].Addrs = nil }, "names", Fault, "has no address", "resolver"},

		{"a node that is down", func(r *Readings) { r.Peers[0].TCP, r.Peers[0].UDP = "connection refused", "no answer" }, "nodes", Fault, "by TCP: connection refused", "TCP through to port 7500"},
		{"UDP that does not pass", func(r *Readings) { r.Peers[0].UDP = "no answer" }, "nodes", Fault, "by UDP: no answer", "UDP through to port 7500"},
		{"a way that is narrower than it seems", func(r *Readings) { r.Peers[0].Large = "no answer" }, "nodes", Fault, "whole packets of 1500 bytes", "ICMP"},
		{"a narrow way", func(r *Readings) { r.Peers[0].MTU = 1200 }, "nodes", Note, "MTU of 1200", "1280"},
		{"a node far away", func(r *Readings) { r.Peers[0].RTT = 80 * time.Millisecond }, "nodes", Note, "after 80ms", "region"},
		{"a node by IPv6", func(r *Readings) { r.Peers[0].Addr, r.Peers[0].UDP = "[2001:db8::1]:7500", "no answer" }, "nodes", Fault, "[2001:db8::1]:7500", "port 7500"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := healthy()
			c.change(&r)
			found := false
			for _, f := range r.Examine() {
				if f.Check == "" || f.Text == "" || (f.Level == OK) != (f.Why == "") {
					t.Errorf("half a finding: %+v", f)
				}
				if f.Level == OK {
					continue
				}
				if f.Check != c.check || f.Level != c.level || !strings.Contains(f.Text, c.text) || !strings.Contains(f.Do, c.do) {
					t.Errorf("%+v", f)
				}
				found = true
			}
			if found != (c.check != "") {
				t.Errorf("found: %v", found)
			}
			if worst := Worst(r.Examine()); worst != c.level {
				t.Errorf("the worst is %v", worst)
			}
		})
	}
}

// What could not be read nobody complains of.
func TestNothingRead(t *testing.T) {
	if all := (&Readings{Now: now}).Examine(); len(all) > 0 {
		t.Errorf("%+v", all)
	}
}
