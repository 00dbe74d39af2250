package engine

import (
	"fmt"
	"net/url"
	"path"
	"strings"
)

// Origins are the origins of pages that may connect from a browser, such as https://example.org; a host may be a
// pattern, as https://*.example.org, and * is every origin. A page of the very host that it connects to may always.
// Programs that are no browser send no origin, and may, too: what they may do is up to their tokens.
type Origins []string

// check says what is wrong with them.
func (o Origins) check() error {
	for _, p := range o {
		u, err := url.Parse(p)
		if p == "*" || err == nil && u.Scheme != "" && u.Host != "" && strings.Trim(u.Path, "/") == "" {
			if _, err := path.Match(p, ""); err == nil {
				continue
			}
		}
		return fmt.Errorf("origin: %q is not of the form https://host[:port], nor *", p)
	}
	return nil
}

// allow reports whether a page may connect to the host that it named.
func (o Origins) allow(origin, host string) bool {
	if origin == "" {
		return true
	}
	if u, err := url.Parse(origin); err == nil && u.Host != "" && strings.EqualFold(u.Host, host) {
		return true
	}
	for _, p := range o {
		if p == "*" {
			return true
		}
		p = strings.ToLower(strings.TrimRight(p, "/"))
		if ok, err := path.Match(p, strings.ToLower(origin)); ok && err == nil {
			return true
		}
	}
	return false
}
