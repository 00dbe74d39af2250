//go:build linux

package main

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pires/go-proxyproto"

	"github.com/timedge/timedge/engine"
)

// balance passes connections on to an address behind a PROXY header, until the test ends. It returns where.
func balance(t *testing.T, to string, version byte) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				return
			}
			if _, err := proxyproto.HeaderProxyFromAddrs(version, near.RemoteAddr(), near.LocalAddr()).WriteTo(far); err != nil {
				near.Close()
			}
			pass := func(dst, src net.Conn) { _, _ = io.Copy(dst, src); _ = dst.(*net.TCPConn).CloseWrite() }
			go pass(far, near)
			go pass(near, far)
		}
	}()
	return ln.Addr().String()
}

// TestVideoByEveryWayIn pushes a video at its own speed, and receives it, by TLS, WebSocket, both and neither, with a
// balancer before and without: every copy is the very file, and decodes.
func TestVideoByEveryWayIn(t *testing.T) {
	if os.Getenv("TIMEDGE_NO_FFMPEG") != "" {
		t.Skip("TIMEDGE_NO_FFMPEG is set")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "video.ts")
	ffmpeg(t, "", nil, append(strings.Fields("-v error -f lavfi -i testsrc2=size=160x120:rate=25:duration=3 -f lavfi -i sine=duration=3 "+
		"-c:v libx264 -preset veryfast -g 25 -pix_fmt yuv420p -c:a aac"), path)...)
	video, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cert, key := writeCertificate(t, dir, 1)
	const two = "127.0.0.1:0,127.0.0.1:0" + engine.ProxyOption
	s := serve(t, "--listen", two, "--listen-tls", two, "--listen-ws", two, "--listen-wss", two, "--tls-cert", cert, "--tls-key", key,
		"--proxy-from", "127.0.0.1")
	var servers []string
	for i, name := range strings.Split(s.addr, ",")[1:] { // serve has a listener of its own
		if i%2 == 1 { // behind a balancer
			scheme, addr, found := strings.Cut(name, "://")
			if !found {
				scheme, addr = "", name
			}
			name = balance(t, addr, byte(1+i/2%2))
			if scheme != "" {
				name = scheme + "://" + name
			}
		}
		servers = append(servers, name)
	}
	if len(servers) != 8 {
		t.Fatalf("the server is at %q", s.addr)
	}
	for i, from := range servers {
		t.Run(from[:strings.LastIndex(from, ":")], func(t *testing.T) {
			t.Parallel()
			trust := []string{"--tls-ca", cert}
			plain := func(name string) []string { // --tls-ca without a scheme means TLS
				if strings.Contains(name, "://") {
					return trust
				}
				return nil
			}
			push := s.run(t, nil, append([]string{"push", "--realtime", "--wait", "2", "--server", from, path}, plain(from)...)...)
			room := roomLine(t, push)
			var subs []*process
			for _, to := range []string{from, servers[(i+3)%len(servers)]} {
				subs = append(subs, s.run(t, nil, append([]string{"sub", "--server", to, room}, plain(to)...)...))
			}
			for _, sub := range subs {
				got, status := sub.end()
				expect(t, "a subscriber", sub, status, exitOK)
				if !bytes.Equal(got, video) {
					t.Errorf("%d bytes that are not those %d of the video", len(got), len(video))
				}
				ffmpeg(t, "", got, "-v", "error", "-xerror", "-i", "pipe:0", "-f", "null", "-")
			}
			_, status := push.end()
			expect(t, "the publisher", push, status, exitOK)
		})
	}
}

// forward is an HTTP proxy that opens the way for who has the password, and passes connections on to where the name that
// is asked for would be. It returns where it is.
func forward(t *testing.T, password string, to map[string]string) (at string, asked chan string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	asked = make(chan string, 16)
	serve := func(near net.Conn) {
		defer near.Close()
		r := bufio.NewReader(near)
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		as := &http.Request{Header: http.Header{"Authorization": req.Header["Proxy-Authorization"]}}
		if _, given, _ := as.BasicAuth(); given != password {
			asked <- "refused"
			_, _ = io.WriteString(near, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
			return
		}
		asked <- req.Method + " " + req.RequestURI
		far, err := net.Dial("tcp", to[req.RequestURI])
		if err != nil {
			_, _ = io.WriteString(near, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
			return
		}
		defer far.Close()
		_, _ = io.WriteString(near, "HTTP/1.1 204 it is open\r\nVia: a test\r\n\r\n") // any 2xx is success
		go func() { _, _ = io.Copy(far, r); _ = far.(*net.TCPConn).CloseWrite() }()
		_, _ = io.Copy(near, far)
	}
	go func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			go serve(near)
		}
	}()
	return ln.Addr().String(), asked
}

// TestProxyOfTheEnvironment: the commands go through the HTTP proxy that the environment names, with its password, by
// every carrier, but for names that NO_PROXY has; and nobody is told the password.
func TestProxyOfTheEnvironment(t *testing.T) {
	cert, key := writeCertificate(t, t.TempDir(), 1)
	s := serve(t, "--listen-tls", "127.0.0.1:0", "--listen-ws", "127.0.0.1:0", "--listen-wss", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key)
	to, servers := map[string]string{}, []string{}
	for _, name := range strings.Split(s.addr, ",") {
		scheme, addr, found := strings.Cut(name, "://")
		if !found {
			scheme, addr = "", name
		}
		// 127.0.0.1 itself is never asked for by way of a proxy; TLS wants the certificate's name.
		host := map[string]string{"tls": "timedge.invalid", "wss": "timedge.invalid"}[scheme]
		if host == "" {
			host = "plain.invalid"
		}
		_, port, _ := net.SplitHostPort(addr)
		name = net.JoinHostPort(host, port)
		to[name] = addr
		if scheme != "" {
			name = scheme + "://" + name
		}
		servers = append(servers, name)
	}
	at, asked := forward(t, "secret", to)
	register := func(server string, env ...string) (status int, said string) {
		t.Helper()
		p, err := start(env, nil, "register", "--account", "a", "--server", server)
		if err != nil {
			t.Fatal(err)
		}
		_, status = p.end()
		return status, p.errors.String()
	}
	for _, server := range servers {
		_, name, _ := strings.Cut("://"+server, "://")
		if _, after, found := strings.Cut(name, "://"); found {
			name = after
		}
		status, said := register(server, "HTTPS_PROXY=http://me:secret@"+at)
		if got := <-asked; got != "CONNECT "+name {
			t.Errorf("%s: the proxy was asked %q", server, got)
		}
		// Of TLS the proxy opens the way, and the certificate, which is for another name, is refused by the client.
		if tls := strings.HasPrefix(server, "tls") || strings.HasPrefix(server, "wss"); tls != (status != 0) || tls && !strings.Contains(said, "certificate") {
			t.Errorf("%s: ended with %d:\n%s", server, status, said)
		}
	}
	status, said := register(servers[0], "HTTPS_PROXY=http://me:guess@"+at)
	if got := <-asked; status == 0 || got != "refused" || !strings.Contains(said, "407") || strings.Contains(said, "guess") {
		t.Errorf("with a wrong password: %q, ended with %d:\n%s", got, status, said)
	}
	if status, said = register(servers[0], "HTTPS_PROXY=http://me:secret@"+at, "NO_PROXY=plain.invalid"); status == 0 || len(asked) > 0 {
		t.Errorf("a name of NO_PROXY: ended with %d:\n%s", status, said)
	}
	if status, said = register(servers[0], "HTTPS_PROXY=socks5://"+at); status == 0 || !strings.Contains(said, "http") {
		t.Errorf("a proxy of another kind: ended with %d:\n%s", status, said)
	}
}
