package client

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// address is a server's name in Options.Servers, taken apart.
type address struct {
	hostPort  string
	host      string // of hostPort
	path      string // asked for with WebSocket
	tls, sock bool   // TLS; WebSocket, within it if both
}

// parseAddress takes a server's name apart: host:port, tls://host:port, ws://host[:port][/path] or
// wss://host[:port][/path].
func parseAddress(name string) (a address, err error) {
	if !strings.Contains(name, "://") {
		a.hostPort = name
		return a, nil
	}
	u, err := url.Parse(name)
	if err != nil {
		return a, fmt.Errorf("client: server %q: %w", name, errors.Unwrap(err))
	}
	port := ""
	switch u.Scheme {
	case "tls":
		a.tls = true
	case "ws":
		a.sock, port = true, "80"
	case "wss":
		a.tls, a.sock, port = true, true, "443"
	default:
		return a, fmt.Errorf("client: server %q: neither host:port nor tls://, ws:// or wss://", name)
	}
	if a.host = u.Hostname(); a.host == "" || u.User != nil || u.Fragment != "" {
		return a, fmt.Errorf("client: server %q: not of the form %s://host:port", name, u.Scheme)
	}
	if !a.sock && (u.RequestURI() != "" && u.RequestURI() != "/") {
		return a, fmt.Errorf("client: server %q: only WebSocket has a path", name)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	if port == "" {
		return a, fmt.Errorf("client: server %q has no port", name)
	}
	a.hostPort, a.path = net.JoinHostPort(a.host, port), u.RequestURI()
	return a, nil
}

// sibling returns the server at an address that a go-away names, reached as the server that names it: by the same
// scheme and path. So nobody who has come by TLS goes on without it.
func sibling(server, addr string) string {
	scheme, rest, found := strings.Cut(server, "://")
	if !found {
		return addr
	}
	path := ""
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		path = rest[i:]
	}
	return scheme + "://" + addr + path
}

// connect opens a connection to a server, up to the protocol's first byte. ctx bounds all of it.
func (o *Options) connect(ctx context.Context, server string) (net.Conn, error) {
	a, err := parseAddress(server)
	if err != nil {
		return nil, err
	}
	conn, err := o.Dialer(ctx, a.hostPort)
	if err != nil || !a.tls && !a.sock {
		return conn, err
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	raw := conn
	if a.tls {
		cfg := o.TLS.Clone()
		if cfg.ServerName == "" {
			cfg.ServerName = a.host
		}
		cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS13)
		t := tls.Client(conn, cfg)
		if err := t.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, fmt.Errorf("TLS: %w", err)
		}
		conn = &tlsConn{Conn: t}
	}
	if a.sock {
		w, err := upgrade(conn, a)
		if err != nil {
			raw.Close()
			return nil, err
		}
		conn = w
	}
	return conn, nil
}

// vectorWriter is a connection that sends several slices best as one.
type vectorWriter interface{ writeVector(v net.Buffers) error }

// tlsConn is a TLS connection that seals what is written together in as few records as that takes.
type tlsConn struct {
	*tls.Conn
	buf []byte
}

func (c *tlsConn) writeVector(v net.Buffers) error {
	c.buf = c.buf[:0]
	for _, b := range v {
		c.buf = append(c.buf, b...)
	}
	_, err := c.Conn.Write(c.buf)
	if cap(c.buf) > 2*maxBatch {
		c.buf = nil
	}
	return err
}

// connectWithin is how long a server, or a proxy, may take to take a connection of TCP: its system does that, however
// busy the server is.
const connectWithin = 5 * time.Second

var tcp = net.Dialer{Timeout: connectWithin}

// dialTCP is the Dialer for whoever names none: TCP, by way of the HTTP proxy that the environment names
// (HTTPS_PROXY, NO_PROXY).
func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: addr}})
	if err != nil {
		return nil, fmt.Errorf("the proxy that the environment names: %w", err)
	}
	if proxy == nil {
		return tcp.DialContext(ctx, "tcp", addr)
	}
	return dialProxy(ctx, proxy, addr)
}

// dialProxy asks an HTTP proxy for a connection (RFC 9110, section 9.3.6).
func dialProxy(ctx context.Context, proxy *url.URL, addr string) (net.Conn, error) {
	at := proxy.Host
	switch {
	case proxy.Scheme != "http" && proxy.Scheme != "https":
		return nil, fmt.Errorf("proxy %s: only http:// and https:// are spoken", proxy.Redacted())
	case proxy.Port() == "" && proxy.Scheme == "https":
		at = net.JoinHostPort(proxy.Hostname(), "443")
	case proxy.Port() == "":
		at = net.JoinHostPort(proxy.Hostname(), "80")
	}
	conn, err := tcp.DialContext(ctx, "tcp", at)
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", proxy.Redacted(), err)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	raw := conn
	if proxy.Scheme == "https" {
		conn = tls.Client(conn, &tls.Config{ServerName: proxy.Hostname()})
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{}}
	if u := proxy.User; u != nil {
		password, _ := u.Password()
		basic := &http.Request{Header: http.Header{}}
		basic.SetBasicAuth(u.Username(), password)
		req.Header.Set("Proxy-Authorization", basic.Header.Get("Authorization"))
	}
	conn, err = converse(conn, req)
	if err != nil {
		raw.Close()
		return nil, fmt.Errorf("proxy %s: %w", proxy.Redacted(), err)
	}
	return conn, nil
}

// converse sends a CONNECT and reads the answer's header, and nothing beyond it. Any status of success opens the way.
func converse(conn net.Conn, req *http.Request) (net.Conn, error) {
	resp, rest, err := ask(conn, req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		return nil, errors.New(resp.Status)
	}
	if len(rest) > 0 {
		return &early{Conn: conn, rest: rest}, nil
	}
	return conn, nil
}

// ask sends a request and reads the answer's header. rest is what came behind it.
func ask(conn net.Conn, req *http.Request) (resp *http.Response, rest []byte, err error) {
	if err := req.Write(conn); err != nil {
		return nil, nil, err
	}
	const longest = 16 << 10
	r := bufio.NewReaderSize(&bounded{conn, longest}, longest)
	resp, err = http.ReadResponse(r, req)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the answer: %w", err)
	}
	rest, _ = r.Peek(r.Buffered())
	return resp, rest, nil
}

// bounded fails where more comes than an answer's header may have.
type bounded struct {
	net.Conn
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("the answer's header is too long")
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// early is a connection of which something was read already.
type early struct {
	net.Conn
	rest []byte
}

func (e *early) Read(b []byte) (int, error) {
	if len(e.rest) > 0 {
		n := copy(b, e.rest)
		e.rest = e.rest[n:]
		return n, nil
	}
	return e.Conn.Read(b)
}

// NetConn returns the connection below, as *tls.Conn's does.
func (e *early) NetConn() net.Conn { return e.Conn }

// socketOf returns what a connection has at its bottom.
func socketOf(conn net.Conn) net.Conn {
	for {
		over, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = over.NetConn()
	}
}
