//go:build linux

package main

import (
	"net/http"
	"slices"

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

// webIfFree reports whether the server does without its pages where another has their address: the default is a
// courtesy.
func (c *serveSettings) webIfFree() bool { return slices.Equal(c.Web, []string{defaultWeb}) }

// pages are what browsers get.
func (c *serveSettings) pages(who auth.Authenticator) http.Handler {
	return web.Handler(web.About{Version: version, Open: who != nil && auth.IsOpen(who), Guests: c.Guests == "subscribe"})
}
