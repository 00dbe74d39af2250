//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTimListeners: accounts of the server's own, TLS, and a balancer that says who its clients are. What clients do
// beyond that is tested in package tim.
func TestTimListeners(t *testing.T) {
	dir := t.TempDir()
	accounts := filepath.Join(dir, "accounts")
	token, err := exec.Command("timedge", "token", "add", accounts, "alice").Output()
	if err != nil {
		t.Fatal(err)
	}
	cert, key := writeCertificate(t, dir, 1)
	s := serve(t, "--auth", "file:"+accounts, "--tls-cert", cert, "--tls-key", key, "--log-level", "debug",
		"--tim", "127.0.0.1:0", "--tim", "127.0.0.1:0/proxy", "--proxy-from", "127.0.0.0/8", "--tim-tls", "127.0.0.1:0")
	var addrs []string
	for len(addrs) < 3 {
		line, err := s.line()
		if err != nil {
			t.Fatal(err)
		}
		if addr, is := strings.CutPrefix(line, "tim clients connect to "); is {
			addrs = append(addrs, addr)
		}
	}
	header := ""
	transport := &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err == nil {
				_, err = io.WriteString(c, header)
			}
			return c, err
		},
	}
	// A login for a token (WIRE: TOKEN), with the account's own token as the password.
	call := func(url, password string) (answer []byte, err error) {
		frame := append([]byte{15, 0x18, 5}, "alice"...)
		frame = append(append(frame, 0x18, byte(len(password))), password...)
		r, err := (&http.Client{Transport: transport}).Post(url+"/tim2", "application/octet-stream", bytes.NewReader(append(frame, 0)))
		if err != nil {
			return nil, err
		}
		defer r.Body.Close()
		return io.ReadAll(r.Body)
	}
	password := strings.TrimSpace(string(token))
	if at := strings.LastIndexAny(password, " \n"); at >= 0 {
		password = password[at+1:]
	}
	for _, test := range []struct {
		name, url, header, password string
		ok                          bool
	}{
		{"plain", "http://" + addrs[0], "", password, true},
		{"another's token", "http://" + addrs[0], "", "guessed", false},
		{"behind a balancer", "http://" + addrs[1], "PROXY TCP4 192.0.2.7 127.0.0.1 1234 80\r\n", password, true},
		{"another's token behind a balancer", "http://" + addrs[1], "PROXY TCP4 192.0.2.7 127.0.0.1 1234 80\r\n", "guessed", false},
		{"TLS", "https://" + addrs[2], "", password, true},
	} {
		header = test.header
		answer, err := call(test.url, test.password)
		if err != nil || len(answer) < 2 || answer[0] != 12 || (answer[1] == 0x11) != test.ok {
			t.Errorf("%s: %q %v", test.name, answer, err)
		}
	}
	header = ""
	if answer, err := call("http://"+addrs[1], password); err == nil && len(answer) > 0 {
		t.Errorf("without what a balancer says: %q", answer)
	}
	if status := s.stop(); status != 0 {
		t.Errorf("ended with %d", status)
	}
	if said := s.errors.String(); !strings.Contains(said, `"peer_addr":"192.0.2.7:1234"`) {
		t.Errorf("the log does not say where the client is:\n%s", said)
	}
	if p, err := start(nil, nil, "serve", "--tim", "0.0.0.0:0", "--listen", "127.0.0.1:0", "--admin", ""); err != nil {
		t.Fatal(err)
	} else if _, status := p.end(); status == 0 || !strings.Contains(p.errors.String(), "anybody may be anyone") {
		t.Errorf("an open server for everybody: %d, %s", status, p.errors.String())
	}
}
