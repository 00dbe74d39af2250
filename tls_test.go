//go:build linux

package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/rs/zerolog"

	"github.com/timedge/timedge/internal/record"
	"github.com/timedge/timedge/internal/testcert"
)

// writeCertificate makes a certificate for 127.0.0.1 that is its own authority.
func writeCertificate(t *testing.T, dir string, serial int64) (cert, key string) {
	t.Helper()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err := testcert.Write(testcert.New(serial), cert, key); err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func TestCertificateIsTakenUpWhenItChanges(t *testing.T) {
	dir := t.TempDir()
	f := tlsFlags{ListenTLS: []string{"127.0.0.1:0"}}
	f.Cert, f.Key = writeCertificate(t, dir, 1)
	cfg, certs, err := f.tlsConfig(zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if cfg.MinVersion != tls.VersionTLS13 {
		t.Error("older TLS than 1.3 is spoken")
	}
	serial := func() int64 {
		c, err := cfg.GetConfigForClient(nil)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(c.Certificates[0].Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.SerialNumber.Int64()
	}
	if n := serial(); n != 1 {
		t.Fatalf("certificate %d, want 1", n)
	}
	var end dto.Metric
	collected := make(chan prometheus.Metric, 1)
	certs.end().Collect(collected)
	if left := 0.0; (<-collected).Write(&end) != nil {
		t.Error("no metric of its end")
	} else if left = end.Gauge.GetValue() - float64(time.Now().Unix()); left < 0 || left > 86400 { // it lasts a day
		t.Errorf("its end is said to be in %v s", left)
	}
	times := make(map[string]time.Time)
	for _, path := range []string{f.Cert, f.Key} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		times[path] = info.ModTime()
	}
	writeCertificate(t, dir, 2)
	for path, at := range times { // as of an archive: the same time as before
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(10 * certificatesEvery); serial() != 2; {
		if time.Now().After(deadline) {
			t.Fatal("the new certificate was not taken up")
		}
	}
	// One that is not in order leaves the old one in force.
	if err := os.WriteFile(f.Cert, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := serial(); n != 2 {
		t.Fatalf("certificate %d after a broken file, want 2", n)
	}
}

// TestAuthoritiesOfClientsAreTakenUpWhenTheyChange: a client whose authority is new is let in, one whose authority is
// gone is not any more.
func TestAuthoritiesOfClientsAreTakenUpWhenTheyChange(t *testing.T) {
	dir := t.TempDir()
	f := tlsFlags{ListenTLS: []string{"127.0.0.1:0"}, ClientCA: filepath.Join(dir, "ca.pem")}
	f.Cert, f.Key = writeCertificate(t, dir, 1)
	theirs := func(serial int64) (tls.Certificate, []byte) {
		c, k := writeCertificate(t, t.TempDir(), serial)
		pair, err := tls.LoadX509KeyPair(c, k)
		if err != nil {
			t.Fatal(err)
		}
		pem, err := os.ReadFile(c)
		if err != nil {
			t.Fatal(err)
		}
		return pair, pem
	}
	older, olderPEM := theirs(10)
	newer, newerPEM := theirs(11)
	if err := os.WriteFile(f.ClientCA, olderPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := f.tlsConfig(zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	welcome := func(c tls.Certificate) bool {
		near, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		go func() { // reads on: the server says at the end of its handshake what it thinks of the client
			_, _ = io.Copy(io.Discard, tls.Client(far, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{c}}))
		}()
		return tls.Server(near, cfg).Handshake() == nil
	}
	if !welcome(older) || welcome(newer) {
		t.Fatal("the first authority is not the one that counts")
	}
	if err := os.WriteFile(f.ClientCA, newerPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * certificatesEvery); !welcome(newer); {
		if time.Now().After(deadline) {
			t.Fatal("the new authority was not taken up")
		}
	}
	if welcome(older) {
		t.Error("the authority that was taken away still counts")
	}
}

// TestSessionsAreResumedByOtherNodes: a client that has been at one node is known to another that has the same files,
// and not to one with another certificate, or other authorities of clients.
func TestSessionsAreResumedByOtherNodes(t *testing.T) {
	node := func(f tlsFlags) *tls.Config {
		f.ListenTLS = []string{"127.0.0.1:0"}
		cfg, _, err := f.tlsConfig(zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		return record.Config(cfg)
	}
	var files, others tlsFlags
	dir := t.TempDir()
	files.Cert, files.Key = writeCertificate(t, dir, 1)
	others.Cert, others.Key = writeCertificate(t, t.TempDir(), 2)
	asking, askingOthers := files, files
	asking.ClientCA, askingOthers.ClientCA = files.Cert, filepath.Join(dir, "more.pem")
	var both []byte
	for _, path := range []string{files.Cert, others.Cert} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, b...)
	}
	if err := os.WriteFile(askingOthers.ClientCA, both, 0o600); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	own, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name          string
		first, second tlsFlags
		resumed       bool
	}{
		{"the same files", files, files, true},
		{"another certificate", files, others, false},
		{"authorities of clients", asking, asking, true},
		{"others of them", asking, askingOthers, false},
		{"none of them before", files, asking, false},
		{"none of them after", asking, files, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := &tls.Config{InsecureSkipVerify: true, ServerName: "x", ClientSessionCache: tls.NewLRUClientSessionCache(1),
				Certificates: []tls.Certificate{own}}
			var resumed bool
			for _, at := range []*tls.Config{node(c.first), node(c.second)} {
				done := make(chan error, 1)
				go func() {
					near, err := ln.Accept()
					if err != nil {
						done <- err
						return
					}
					defer near.Close()
					records, rest, s, err := record.Server(near, at)
					if resumed = s.DidResume; err == nil {
						_, err = record.NewStream(near, records, rest).Write([]byte{1})
					}
					done <- err
				}()
				far, err := tls.Dial("tcp", ln.Addr().String(), client)
				if err == nil {
					_, err = far.Read(make([]byte, 1)) // the ticket comes before it
					far.Close()
				}
				if err = errors.Join(err, <-done); err != nil {
					t.Fatal(err)
				}
			}
			if resumed != c.resumed {
				t.Errorf("resumed: %v, want %v", resumed, c.resumed)
			}
		})
	}
}

func TestTLSFlagsGoTogether(t *testing.T) {
	dir := t.TempDir()
	cert, key := writeCertificate(t, dir, 1)
	for name, f := range map[string]tlsFlags{
		"no certificate":        {ListenTLS: []string{"127.0.0.1:0"}},
		"no key":                {ListenTLS: []string{"127.0.0.1:0"}, Cert: cert},
		"nowhere to listen":     {Cert: cert, Key: key},
		"missing file":          {ListenTLS: []string{"127.0.0.1:0"}, Cert: cert + "x", Key: key},
		"missing client's file": {ListenTLS: []string{"127.0.0.1:0"}, Cert: cert, Key: key, ClientCA: key},
	} {
		if _, _, err := f.tlsConfig(zerolog.Nop()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if cfg, _, err := (&tlsFlags{}).tlsConfig(zerolog.Nop()); cfg != nil || err != nil {
		t.Errorf("without flags: %v, %v", cfg, err)
	}
}
