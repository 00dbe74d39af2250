//go:build linux

package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/admin"
	"github.com/timedge/timedge/internal/doctor"
	"github.com/timedge/timedge/node"
)

// read has a look at all that doctor's checks go by. What cannot be read stays zero.
func (c *doctorCmd) read(ctx context.Context) *doctor.Readings {
	r := &doctor.Readings{Now: time.Now(), Ping: c.Ping, Memory: int64(c.Memory), Available: available()}
	if err := c.check(); err != nil {
		for line := range strings.Lines(err.Error()) {
			r.Settings = append(r.Settings, strings.TrimSpace(line))
		}
	}
	r.Files = c.files(ctx)
	if r.Conns, r.ConnsSet = c.Conns, c.Conns != 0; !r.ConnsSet {
		r.Conns = min(doctor.DefaultConns, max(0, r.Files.Most-doctor.SpareFiles))
	}
	r.Backlog, r.SynBacklog = sysctl("net/core/somaxconn"), sysctl("net/ipv4/tcp_max_syn_backlog")
	r.UDPRead = sysctl("net/core/rmem_default")
	if tuned := sysctls("net/ipv4/tcp_wmem"); len(tuned) == 3 {
		r.TCPWrite = tuned[2]
	}
	if tuned := sysctls("net/ipv4/tcp_rmem"); len(tuned) == 3 {
		r.TCPRead = tuned[2]
	}
	if ports := sysctls("net/ipv4/ip_local_port_range"); len(ports) == 2 {
		r.PortsFrom, r.PortsTo = ports[0], ports[1]
	}
	b, _ := os.ReadFile("/proc/sys/net/ipv4/ip_local_reserved_ports")
	r.Reserved = strings.TrimSpace(string(b))
	r.Listening = c.listening()
	if most := sysctl("net/netfilter/nf_conntrack_max"); most != 0 {
		r.Conntrack = &doctor.Conntrack{
			Entries: sysctl("net/netfilter/nf_conntrack_count"), Most: most,
			Forgets: time.Duration(sysctl("net/netfilter/nf_conntrack_tcp_timeout_established")) * time.Second,
		}
	}
	r.Clock = kernelClock()
	switch {
	case strings.HasPrefix(c.Auth, "jwt:"):
		r.ClockMatters = "clients' tokens"
	case c.Cert != "":
		r.ClockMatters = "certificates"
	}
	for _, file := range []string{c.Cert, c.ClientCA} {
		if file != "" {
			r.Certs = append(r.Certs, certsOf(file)...)
		}
	}
	c.readCluster(ctx, r)
	return r
}

func sysctl(name string) int {
	if all := sysctls(name); len(all) == 1 {
		return all[0]
	}
	return 0
}

func sysctls(name string) (all []int) {
	b, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return nil
	}
	for word := range strings.FieldsSeq(string(b)) {
		n, err := strconv.Atoi(word)
		if err != nil {
			return nil
		}
		all = append(all, n)
	}
	return all
}

// available returns what memory the process may take: of the machine, or of the control groups that it is in.
func available() int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	least := int64(info.Totalram) * int64(info.Unit)
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return least
	}
	_, group, _ := strings.Cut(strings.TrimSpace(string(b)), "0::")
	for at := filepath.Join("/sys/fs/cgroup", group); len(at) >= len("/sys/fs/cgroup"); at = filepath.Dir(at) {
		b, err := os.ReadFile(filepath.Join(at, "memory.max"))
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil {
			least = min(least, n)
		}
	}
	return least
}

// files returns the limits on descriptors of the node that runs here, or else of a process of this shell.
func (c *doctorCmd) files(ctx context.Context) (f doctor.Files) {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) == nil {
		f.Most = int(min(lim.Max, 1<<30)) // Go's runtime takes all that it may
	}
	ctx, cancel := context.WithTimeout(ctx, c.Within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.Admin+"/metrics", nil)
	if c.Admin == "" || err != nil {
		return f
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return f
	}
	defer res.Body.Close()
	var open, most float64
	for s := bufio.NewScanner(res.Body); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), " ")
		switch name {
		case "process_open_fds":
			open, _ = strconv.ParseFloat(value, 64)
		case "process_max_fds":
			most, _ = strconv.ParseFloat(value, 64)
		}
	}
	if most > 0 {
		f = doctor.Files{Open: int(open), Most: int(min(most, 1<<30)), Running: true}
	}
	return f
}

// listening returns the ports that a server with these settings listens at.
func (c *doctorCmd) listening() (ports []int) {
	for _, addr := range slices.Concat(c.Listen, c.ListenTLS, c.ListenWS, c.ListenWSS, c.WebTLS, c.web(), c.Tim, c.TimTLS, []string{c.Admin, c.Cluster}) {
		addr, _, _ = strings.Cut(addr, "/")
		if _, port, err := net.SplitHostPort(addr); err == nil {
			if n, err := strconv.Atoi(port); err == nil && n > 0 {
				ports = append(ports, n)
			}
		}
	}
	return ports
}

// kernelClock asks the kernel whether somebody keeps its clock right.
func kernelClock() (c doctor.Clock) {
	var tx unix.Timex
	if _, err := unix.Adjtimex(&tx); err != nil {
		return c
	}
	return doctor.Clock{Known: true, Synced: tx.Status&unix.STA_UNSYNC == 0, Error: time.Duration(tx.Maxerror) * time.Microsecond}
}

// certsOf reads the certificates of a file.
func certsOf(file string) (all []doctor.Cert) {
	b, err := os.ReadFile(file)
	if err != nil {
		return []doctor.Cert{{File: file, Err: err.Error()}}
	}
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		x, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			all = append(all, doctor.Cert{File: file, Err: err.Error()})
			continue
		}
		of := x.Subject.CommonName
		if len(x.DNSNames) > 0 {
			of = x.DNSNames[0]
		}
		all = append(all, doctor.Cert{File: file, Of: of, NotBefore: x.NotBefore, NotEnd: x.NotAfter})
	}
	if all == nil {
		return []doctor.Cert{{File: file, Err: "there is no certificate in it"}}
	}
	return all
}

// readCluster looks names up and speaks with the nodes behind them, and with those that a node that runs here knows.
func (c *doctorCmd) readCluster(ctx context.Context, r *doctor.Readings) {
	keys, err := node.ReadKeys(c.KeyFile)
	if c.Cluster == "" || err != nil {
		return
	}
	var at []string
	for _, entry := range c.Join {
		name, addrs := c.lookup(ctx, entry)
		r.Names = append(r.Names, name)
		at = append(at, addrs...)
	}
	var nodes []admin.Node
	_ = c.ask(ctx, "nodes", &nodes) // nobody need run here
	for _, n := range nodes {
		if !n.Self {
			at = append(at, n.Addr)
			r.Clocks = append(r.Clocks, c.clockOf(ctx, n.Name)...)
		}
	}
	slices.Sort(at)
	at = slices.DeleteFunc(slices.Compact(at), c.isOwn)
	r.Peers = make([]doctor.Peer, len(at))
	var all sync.WaitGroup
	for i, addr := range at {
		all.Go(func() { r.Peers[i] = visit(ctx, keys, addr, c.Within) })
	}
	all.Wait()
}

// ask has the node that runs here answer, if one does.
func (c *doctorCmd) ask(ctx context.Context, what string, into any) error {
	if c.Admin == "" {
		return errors.New("no address for operators")
	}
	ctx, cancel := context.WithTimeout(ctx, c.Within)
	defer cancel()
	here := adminFlags{Admin: c.Admin, TokenFile: c.AdminTokenFile}
	_, err := here.call(ctx, http.MethodGet, "/api/v1/"+what, into)
	return err
}

// clockOf asks a node, by way of the one that runs here, for what its clock says. One that does not answer, or is older
// than the question, has none.
func (c *doctorCmd) clockOf(ctx context.Context, node string) []doctor.NodeClock {
	var o admin.Overview
	began := time.Now()
	if err := c.ask(ctx, "nodes/"+url.PathEscape(node)+"/overview", &o); err != nil || o.ClockMillis == 0 {
		return nil
	}
	half := time.Since(began) / 2
	return []doctor.NodeClock{{Node: node, Ahead: time.UnixMilli(o.ClockMillis).Sub(began.Round(0).Add(half)), Within: half + time.Millisecond}}
}

func (c *doctorCmd) lookup(ctx context.Context, entry string) (n doctor.Name, at []string) {
	n.Entry = entry
	host, port, err := net.SplitHostPort(entry)
	if err != nil {
		n.Err = err.Error()
		return n, nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.Within)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		n.Err = err.Error()
	}
	for _, a := range addrs {
		n.Addrs = append(n.Addrs, a.Unmap().String())
		at = append(at, net.JoinHostPort(a.Unmap().String(), port))
	}
	return n, at
}

// isOwn reports whether an address is that of the node that these settings are for.
func (c *doctorCmd) isOwn(addr string) bool {
	host, port, _ := net.SplitHostPort(addr)
	_, own, _ := net.SplitHostPort(c.Cluster)
	if _, advertised, err := net.SplitHostPort(c.Advertise); err == nil {
		own = advertised
	}
	nets, _ := net.InterfaceAddrs()
	return port == own && slices.ContainsFunc(nets, func(n net.Addr) bool {
		p, err := netip.ParsePrefix(n.String())
		return err == nil && p.Addr().Unmap().String() == host
	})
}

// tries is how often a question by UDP is asked: a packet may get lost.
const tries = 3

// most is the largest packet that doctor sends, as large as networks in data centres have.
const mostPacket = 9001

// visit speaks with a node by TCP and UDP.
func visit(ctx context.Context, keys node.Keys, addr string, within time.Duration) (p doctor.Peer) {
	p.Addr = addr
	d := net.Dialer{Timeout: within}
	if c, err := d.DialContext(ctx, "tcp", addr); err != nil {
		p.TCP = plainDial(err)
	} else {
		_ = c.Close()
	}
	mtu, headers := mtuTo(addr)
	p.MTU = mtu
	ask := func(size int) (took time.Duration, err error) {
		for range tries {
			if took, err = node.Hail(ctx, keys, addr, size, within/tries); err == nil || !errors.Is(err, node.ErrSilent) {
				break
			}
		}
		return took, err
	}
	var err error
	if p.RTT, err = ask(0); err != nil {
		p.UDP = err.Error()
		return p
	}
	if mtu != 0 {
		p.MTU = min(mtu, mostPacket)
		if _, err := ask(p.MTU - headers); err != nil {
			p.Large = err.Error()
		}
	}
	return p
}

// plainDial says why a connection could not be made, without the address again.
func plainDial(err error) string {
	if no, is := errors.AsType[syscall.Errno](err); is {
		return no.Error()
	}
	if op, is := errors.AsType[*net.OpError](err); is {
		return op.Err.Error()
	}
	return err.Error()
}

// mtuTo returns what the kernel knows of the largest packet on the way to an address, and the bytes of headers in it; 0
// if it knows nothing.
func mtuTo(addr string) (mtu, headers int) {
	c, err := net.Dial("udp", addr) // sends nothing
	if err != nil {
		return 0, 0
	}
	defer c.Close()
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		return 0, 0
	}
	level, option, headers := unix.IPPROTO_IP, unix.IP_MTU, 20+8
	if c.RemoteAddr().(*net.UDPAddr).IP.To4() == nil {
		level, option, headers = unix.IPPROTO_IPV6, unix.IPV6_MTU, 40+8
	}
	_ = raw.Control(func(fd uintptr) { mtu, err = unix.GetsockoptInt(int(fd), level, option) })
	if err != nil {
		return 0, 0
	}
	return mtu, headers
}
