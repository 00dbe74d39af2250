//go:build linux

package main

import (
	"net"
	"net/http"
	"slices"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/auth"
	"github.com/timedge/timedge/web"
)

// defaultWeb is where the pages for browsers are when nothing else is said.
const defaultWeb = "127.0.0.1:7402"

// web returns where the pages are to be.
func (c *serveSettings) web() []string {
	if slices.Equal(c.Web, []string{"off"}) {
		return nil
	}
	return c.Web
}

// freeWeb returns the same addresses, or none if they are the default and another server has that: it is a courtesy,
// which a second server on the machine does without.
func freeWeb(addrs []string, log zerolog.Logger) []string {
	if !slices.Equal(addrs, []string{defaultWeb}) {
		return addrs
	}
	ln, err := net.Listen("tcp", defaultWeb)
	if err != nil {
		log.Info().Err(err).Msg("no pages for browsers: name an address with --web")
		return nil
	}
	_ = ln.Close()
	return addrs
}

// pages are what browsers get.
func (c *serveSettings) pages(who auth.Authenticator) http.Handler {
	return web.Handler(web.About{Version: version, Open: who != nil && auth.IsOpen(who), Guests: c.Guests == "subscribe"})
}
