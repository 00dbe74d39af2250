//go:build linux

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// writeCertificate makes a certificate for 127.0.0.1 that is its own authority.
func writeCertificate(t *testing.T, dir string, serial int64) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "timedge test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestCertificateIsTakenUpWhenItChanges(t *testing.T) {
	dir := t.TempDir()
	f := tlsFlags{ListenTLS: []string{"127.0.0.1:0"}}
	f.Cert, f.Key = writeCertificate(t, dir, 1)
	cfg, err := f.tlsConfig(zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if cfg.MinVersion != tls.VersionTLS13 {
		t.Error("older TLS than 1.3 is spoken")
	}
	serial := func() int64 {
		c, err := cfg.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.SerialNumber.Int64()
	}
	if n := serial(); n != 1 {
		t.Fatalf("certificate %d, want 1", n)
	}
	writeCertificate(t, dir, 2)
	later := time.Now().Add(time.Minute) // whatever the file system's clock is good for
	for _, path := range []string{f.Cert, f.Key} {
		if err := os.Chtimes(path, later, later); err != nil {
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
		if _, err := f.tlsConfig(zerolog.Nop()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if cfg, err := (&tlsFlags{}).tlsConfig(zerolog.Nop()); cfg != nil || err != nil {
		t.Errorf("without flags: %v, %v", cfg, err)
	}
}
