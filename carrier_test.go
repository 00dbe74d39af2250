//go:build linux

package main

import (
	"bytes"
	"io"
	"net"
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
