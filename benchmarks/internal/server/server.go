// Package server builds, starts and stops the servers that the benchmarks compare, each set up as its own documentation
// advises for many subscribers and nothing stored. Start at [Kind.Start].
package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/timedge/timedge/internal/testcert"
	"github.com/timedge/timedge/tools/loadgen/over"
)

// Settings are what a start may choose.
type Settings struct {
	Dir     string    // for configuration files and logs; the caller removes it
	Loops   int       // timedge: event loops; limit: threads; redis: I/O threads. 0 is the server's default
	Read    int       // limit: bytes of one read
	Binary  string    // timedge and limit: the program
	MaxConn int       // connections expected at most
	Admin   string    // timedge: the admin address; empty: a free port
	Args    []string  // timedge: further flags
	Over    over.Kind // timedge and nats: listen with this as well
}

// Kind is one kind of server.
type Kind struct {
	Name    string
	command func(port int, s Settings) (*exec.Cmd, error)
	version func(s Settings) (string, error)
}

// Kinds are all kinds of servers, in the order in which tables show them.
var Kinds = []Kind{
	{"limit", limitCommand, func(Settings) (string, error) { return firstLine("gcc", "--version") }},
	{"timedge", timedgeCommand, func(s Settings) (string, error) { return s.Revision() }},
	{"nats", natsCommand, func(Settings) (string, error) { return firstLine("nats-server", "--version") }},
	{"redis", redisCommand, func(Settings) (string, error) { return firstLine("redis-server", "--version") }},
	{"centrifugo", centrifugoCommand, func(Settings) (string, error) { return moduleVersion("centrifugo") }},
	{"mosquitto", mosquittoCommand, func(Settings) (string, error) { return firstLine("mosquitto", "-h") }},
}

// Find returns the kind of the given name.
func Find(name string) (Kind, error) {
	for _, k := range Kinds {
		if k.Name == name {
			return k, nil
		}
	}
	return Kind{}, fmt.Errorf("unknown server %q", name)
}

// Running is a server that has been started and accepts connections.
type Running struct {
	Addr string
	Over map[over.Kind]string // if it listens otherwise, too
	PID  int

	cmd    *exec.Cmd
	log    *os.File
	exited chan struct{}
	front  net.Listener // for plain publishers, of a server that speaks TLS alone; nil: none
}

// Version returns what the server says of itself.
func (k Kind) Version(s Settings) (string, error) { return k.version(s) }

// startTimeout bounds the wait for a server to accept connections.
const startTimeout = 10 * time.Second

// Start starts the server on a free port of 127.0.0.1 and waits until it accepts connections. The caller stops it.
func (k Kind) Start(ctx context.Context, s Settings) (*Running, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	var further map[over.Kind]string
	if s.Over != over.Plain {
		if further, err = s.listenOver(k.Name, port); err != nil {
			return nil, err
		}
	}
	cmd, err := k.command(port, s)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.Name, err)
	}
	log, err := os.Create(filepath.Join(s.Dir, k.Name+".log"))
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		_ = log.Close()
		return nil, fmt.Errorf("%s: %w (the Debian packages are nats-server, redis-server, mosquitto)", k.Name, err)
	}
	r := &Running{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Over: further, PID: cmd.Process.Pid, cmd: cmd, log: log, exited: make(chan struct{})}
	go func() { _ = cmd.Wait(); close(r.exited) }()
	if err := r.await(ctx); err != nil {
		r.Stop()
		b, _ := os.ReadFile(log.Name())
		return nil, fmt.Errorf("%s: %w\n%s", k.Name, err, bytes.TrimSpace(b))
	}
	if k.Name == "centrifugo" && s.Over == over.TLS {
		if r.front, err = frontOf(r.Addr); err != nil {
			r.Stop()
			return nil, err
		}
		r.Addr = r.front.Addr().String()
	}
	return r, nil
}

// await dials until the server accepts.
func (r *Running) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", r.Addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-r.exited:
			return errors.New("ended at once")
		case <-ctx.Done():
			return fmt.Errorf("does not accept connections: %w", err)
		case <-tick.C:
		}
	}
}

// Stop ends the server, at the latest after a few seconds by force, and returns when it has ended.
func (r *Running) Stop() {
	_ = r.cmd.Process.Signal(os.Interrupt)
	select {
	case <-r.exited:
	case <-time.After(3 * time.Second):
		_ = r.cmd.Process.Kill()
		<-r.exited
	}
	_ = r.log.Close()
	if r.front != nil {
		_ = r.front.Close()
	}
}

// frontOf listens for plain connections and hands on what comes to a server that speaks TLS. It is the generator's part
// of a publisher, not the server's.
func frontOf(addr string) (net.Listener, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
			if err != nil {
				_ = near.Close()
				continue
			}
			go func() { _, _ = io.Copy(far, near); _ = far.Close() }()
			go func() { _, _ = io.Copy(near, far); _ = near.Close() }()
		}
	}()
	return ln, nil
}

func freePort() (int, error) {
	addr, err := FreeAddr()
	if err != nil {
		return 0, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(port)
}

// FreeAddr returns an address of this machine that nobody listens on.
func FreeAddr() (addr string, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

const certFile, keyFile = "cert.pem", "key.pem"

// listenOver adds flags for a listener with a carrier, and returns where it is. Its certificate is its own authority.
func (s *Settings) listenOver(kind string, plain int) (map[over.Kind]string, error) {
	cert, key := filepath.Join(s.Dir, certFile), filepath.Join(s.Dir, keyFile)
	if err := testcert.Write(testcert.New(1), cert, key); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	at := fmt.Sprintf("127.0.0.1:%d", port)
	switch kind {
	case "timedge":
		s.Args = append(append([]string{}, s.Args...), "--listen-"+string(s.Over), at)
		if s.Over != over.WS {
			s.Args = append(s.Args, "--tls-cert", cert, "--tls-key", key)
		}
	case "nats":
		// TLS behind a first line, on the port of plain clients: it has no other.
		tls := fmt.Sprintf("tls { cert_file: %q, key_file: %q", cert, key)
		conf := fmt.Sprintf("websocket { listen: %q, no_tls: true }\n", at)
		switch s.Over {
		case over.TLS:
			conf, at = tls+" }\nallow_non_tls: true\n", fmt.Sprintf("127.0.0.1:%d", plain)
		case over.WSS:
			conf = fmt.Sprintf("websocket { listen: %q, %s } }\n", at, tls)
		}
		file := filepath.Join(s.Dir, "nats.conf")
		if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
			return nil, err
		}
		s.Args = []string{"--config", file}
	case "centrifugo": // one port, whatever it speaks
		at = fmt.Sprintf("127.0.0.1:%d", plain)
	default:
		return nil, fmt.Errorf("%s: not with %s here", kind, s.Over)
	}
	return map[over.Kind]string{s.Over: at}, nil
}

func limitCommand(port int, s Settings) (*exec.Cmd, error) {
	return exec.Command(s.Binary, strconv.Itoa(port), strconv.Itoa(s.Read), strconv.Itoa(max(s.Loops, 1))), nil
}

func timedgeCommand(port int, s Settings) (*exec.Cmd, error) {
	if s.Admin == "" {
		admin, err := freePort()
		if err != nil {
			return nil, err
		}
		s.Admin = fmt.Sprintf("127.0.0.1:%d", admin)
	}
	args := append([]string{"serve", "--listen", fmt.Sprintf("127.0.0.1:%d", port), "--admin", s.Admin}, s.Args...)
	if s.Loops > 0 {
		args = append(args, "--loops", strconv.Itoa(s.Loops))
	}
	// All clients of a load are one account's. A release before v0.4.0 does not limit these and serves no pages, and
	// refuses settings that it does not know.
	settings := map[string]string{"--web": "off"}
	if s.MaxConn > 0 {
		settings["--limit-account-conns"] = strconv.Itoa(s.MaxConn)
	}
	help, err := exec.Command(s.Binary, "serve", "--help").CombinedOutput()
	for flag, value := range settings {
		if err == nil && strings.Contains(string(help), flag+"=") {
			args = append(args, flag, value)
		}
	}
	return exec.Command(s.Binary, args...), nil
}

// NATS stores nothing and limits nothing here by default but 64 MiB pending per connection, more than any run's window.
func natsCommand(port int, s Settings) (*exec.Cmd, error) {
	return exec.Command("nats-server", append([]string{"--addr", "127.0.0.1", "--port", strconv.Itoa(port)}, s.Args...)...), nil
}

// Redis is told to store nothing, and not to cut off subscribers that lag, since the others do not either. It keeps its
// single I/O thread: on two cores, two of them cost twice as much at 64 B x 100 subscribers; at 1,000 the rates were
// mixed.
func redisCommand(port int, s Settings) (*exec.Cmd, error) {
	args := []string{"--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--save", "", "--appendonly", "no", "--dir", s.Dir,
		"--maxclients", strconv.Itoa(max(s.MaxConn, 10000)), "--client-output-buffer-limit", "pubsub", "0", "0", "0"}
	if s.Loops > 1 {
		args = append(args, "--io-threads", strconv.Itoa(s.Loops))
	}
	return exec.Command("redis-server", args...), nil
}

// Mosquitto is told to store nothing, log nothing, drop nothing, and not to wait for more before it sends.
func mosquittoCommand(port int, s Settings) (*exec.Cmd, error) {
	conf := filepath.Join(s.Dir, "mosquitto.conf")
	text := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\npersistence false\nlog_dest none\nset_tcp_nodelay true\n"+
		"max_queued_messages 0\nmax_inflight_messages 0\nmax_connections -1\n", port)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, err
	}
	return exec.Command("mosquitto", "-c", conf), nil
}

// centrifugoCommand has Centrifugo let everybody do everything, and wait for slow subscribers as long as the others do.
func centrifugoCommand(port int, s Settings) (*exec.Cmd, error) {
	var tls string
	if s.Over == over.TLS {
		tls = fmt.Sprintf(`, "tls": {"enabled": true, "cert_pem": %q, "key_pem": %q}`,
			filepath.Join(s.Dir, certFile), filepath.Join(s.Dir, keyFile))
	}
	text := fmt.Sprintf(`{"http_server": {"address": "127.0.0.1", "port": "%d"%s}, "log": {"level": "error"},
		"client": {"insecure": true, "queue_max_size": 268435456}}`, port, tls)
	conf := filepath.Join(s.Dir, "centrifugo.json")
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, err
	}
	return exec.Command("centrifugo", "--config", conf), nil
}

// moduleVersion returns the version that go install has built a program of.
func moduleVersion(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", err
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return "", err
	}
	return name + " " + info.Main.Version, nil
}

// firstLine runs a program and returns the first line of what it prints. Exit codes are ignored: mosquitto -h ends with 3.
func firstLine(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if line == "" {
		return "", err
	}
	return line, nil
}

// Revision names the commit of the tree that the working directory is in.
func (s Settings) Revision() (string, error) {
	return firstLine("git", "describe", "--tags", "--always", "--dirty=+", "--abbrev=12")
}
