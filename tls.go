//go:build linux

package main

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// tlsConfig is what the server needs to speak TLS; nil if it is not to.
func (f *tlsFlags) tlsConfig(log zerolog.Logger) (*tls.Config, *certificates, error) {
	if len(f.ListenTLS)+len(f.ListenWSS)+len(f.WebTLS)+len(f.TimTLS) == 0 {
		if f.Cert != "" || f.Key != "" || f.ClientCA != "" {
			return nil, nil, errors.New("--tls-cert, --tls-key and --tls-client-ca need --listen-tls ADDR, --listen-wss ADDR, --web-tls ADDR or --tim-tls ADDR")
		}
		return nil, nil, nil
	}
	if f.Cert == "" || f.Key == "" {
		return nil, nil, errors.New("--listen-tls, --listen-wss, --web-tls and --tim-tls need --tls-cert FILE and --tls-key FILE")
	}
	certs := &certificates{files: []string{f.Cert, f.Key}, log: log}
	if f.ClientCA != "" {
		certs.files = append(certs.files, f.ClientCA)
	}
	contents, err := certs.read()
	if err == nil {
		err = certs.take(contents)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("--tls-cert, --tls-key, --tls-client-ca: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: certs.get}, certs, nil
}

// certificates hold what the server proves itself by, and asks of clients, and take up new ones when the files'
// contents change: whatever their times say, as an archive or a symbolic link that is moved brings a new file with an
// old time.
type certificates struct {
	files []string // certificate, key, and perhaps the authorities of clients
	log   zerolog.Logger

	mu      sync.Mutex
	current *tls.Config
	seen    [][]byte // the files' contents that were looked at last
	looked  time.Time
}

// certificatesEvery is how often the files are looked at, at most.
const certificatesEvery = time.Second

// get returns the configuration for a handshake. What is new and not in order is logged, and the old one stays.
func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.looked) >= certificatesEvery {
		c.looked = now
		c.refresh()
	}
	return c.current, nil
}

// end is the metric of when the certificate in force ends.
func (c *certificates) end() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "timedge_certificate_end_timestamp_seconds", Help: "When the server's certificate ends, in Unix time.",
	}, func() float64 {
		cfg, err := c.get(nil)
		if err != nil || cfg.Certificates[0].Leaf == nil {
			return 0
		}
		return float64(cfg.Certificates[0].Leaf.NotAfter.Unix())
	})
}

// Reload takes up what has changed, now.
func (c *certificates) Reload() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refresh()
}

// refresh takes up what has changed.
func (c *certificates) refresh() {
	contents, err := c.read()
	if err != nil {
		return // in the middle of being replaced, perhaps: the next look tells
	}
	for i := range contents {
		if !bytes.Equal(contents[i], c.seen[i]) {
			if err := c.take(contents); err != nil {
				c.log.Error().Err(err).Msg("new certificate not taken up")
			} else {
				c.log.Info().Msg("new certificate taken up")
			}
			return
		}
	}
}

func (c *certificates) read() ([][]byte, error) {
	contents := make([][]byte, len(c.files))
	for i, path := range c.files {
		var err error
		if contents[i], err = os.ReadFile(path); err != nil {
			return nil, err
		}
	}
	return contents, nil
}

// take puts the files' contents into force. What is not in order changes nothing, and is not tried again.
func (c *certificates) take(contents [][]byte) error {
	c.seen = contents
	cert, err := tls.X509KeyPair(contents[0], contents[1])
	if err != nil {
		return err
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, DynamicRecordSizingDisabled: true}
	if len(contents) > 2 {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(contents[2]) {
			return fmt.Errorf("%s holds no certificate in PEM", c.files[2])
		}
		cfg.ClientCAs, cfg.ClientAuth = pool, tls.RequireAndVerifyClientCert
	}
	key, err := ticketKey(contents)
	if err != nil {
		return err
	}
	cfg.SetSessionTicketKeys([][sha256.Size]byte{key})
	c.current = cfg
	return nil
}

// ticketKey is what session tickets are sealed with: of all nodes that have the same files the same, so that a client
// that comes to another node, as all do when theirs has died, need not be shown the certificate and a signature again.
// Who has the certificate's key can open tickets; what is said over a connection that they resumed stays secret, as
// every handshake agrees on keys anew. Other files, client authorities among them, are another key: who was let in by
// the old ones is looked at again.
func ticketKey(contents [][]byte) (key [sha256.Size]byte, err error) {
	of := sha256.New()
	for _, b := range contents {
		sum := sha256.Sum256(b)
		_, _ = of.Write(sum[:])
	}
	b, err := hkdf.Key(sha256.New, contents[1], of.Sum(nil), "timedge session tickets", len(key))
	copy(key[:], b)
	return key, err
}
