package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// Who may do what. The token is compared by its digest, in constant time. A page in a browser on this machine comes
// from loopback, too: what names another origin, or reaches us under a name that is not an address or localhost (DNS
// rebinding), is refused, whatever it knows.

// authorized reports whether a request carries the token. Without one configured nobody has it.
func (a *api) authorized(r *http.Request) bool {
	want := a.token()
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if want == "" || !ok {
		return false
	}
	w, g := sha256.Sum256([]byte(want)), sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(w[:], g[:]) == 1
}

// local reports whether a request comes from this machine.
func local(r *http.Request) bool {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && at.Addr().Unmap().IsLoopback()
}

// foreign reports whether a page of another origin has made the request.
func foreign(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return true
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	u, err := url.Parse(origin)
	return err != nil || u.Host == "" || !strings.EqualFold(u.Host, r.Host)
}

// addressed reports whether the request names this server by an address or as localhost.
func addressed(r *http.Request) bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil
}

// guard lets h answer only who may. open says that this machine may without the token.
func (a *api) guard(open bool, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case foreign(r):
			fail(w, http.StatusForbidden, "the request comes from a page of another origin")
		case a.authorized(r), open && local(r) && addressed(r):
			h(w, r)
		case a.token() == "":
			fail(w, http.StatusForbidden, "there is no token: give the server --admin-token-file FILE")
		default:
			w.Header().Set("WWW-Authenticate", `Bearer realm="timedge"`)
			fail(w, http.StatusUnauthorized, "the token of --admin-token-file is needed: Authorization: Bearer TOKEN")
		}
	}
}
