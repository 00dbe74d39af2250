//go:build linux

package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// tlsConfig is what the server needs to speak TLS; nil if it is not to.
func (f *tlsFlags) tlsConfig(log zerolog.Logger) (*tls.Config, error) {
	if len(f.ListenTLS) == 0 {
		if f.Cert != "" || f.Key != "" || f.ClientCA != "" {
			return nil, errors.New("--tls-cert, --tls-key and --tls-client-ca need --listen-tls ADDR")
		}
		return nil, nil
	}
	if f.Cert == "" || f.Key == "" {
		return nil, errors.New("--listen-tls needs --tls-cert FILE and --tls-key FILE")
	}
	certs := &certificates{cert: f.Cert, key: f.Key, log: log}
	if err := certs.load(); err != nil {
		return nil, fmt.Errorf("--tls-cert: %w", err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: certs.get}
	if f.ClientCA != "" {
		pool, err := authorities(f.ClientCA)
		if err != nil {
			return nil, fmt.Errorf("--tls-client-ca: %w", err)
		}
		c.ClientCAs, c.ClientAuth = pool, tls.RequireAndVerifyClientCert
	}
	return c, nil
}

// certificates holds the server's certificate and takes up a new one when its files change.
type certificates struct {
	cert, key string
	log       zerolog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	loaded  [2]time.Time // when the files were changed last
	looked  time.Time
}

// certificatesEvery is how often the files are looked at, at most.
const certificatesEvery = time.Second

// get returns the certificate for a handshake. A new one that is not in order is logged, and the old one stays.
func (c *certificates) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.looked) >= certificatesEvery {
		c.looked = now
		if changed, err := c.changed(); err == nil && changed != c.loaded {
			if err := c.load(); err != nil {
				c.loaded = changed // say it once
				c.log.Error().Err(err).Msg("new certificate not taken up")
			} else {
				c.log.Info().Msg("new certificate taken up")
			}
		}
	}
	return c.current, nil
}

func (c *certificates) changed() (at [2]time.Time, err error) {
	for i, path := range []string{c.cert, c.key} {
		info, err := os.Stat(path)
		if err != nil {
			return at, err
		}
		at[i] = info.ModTime()
	}
	return at, nil
}

func (c *certificates) load() error {
	changed, err := c.changed()
	if err != nil {
		return err
	}
	cert, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return err
	}
	c.current, c.loaded = &cert, changed
	return nil
}
