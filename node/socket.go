package node

import (
	"crypto/tls"
	"errors"
	"net"
)

// errNotLink says that a connection was not made by Client or Server over TCP.
var errNotLink = errors.New("node: not a link over TCP")

// Lift takes a link off its socket: from now on it reads and writes below, and who calls moves the bytes between
// below and the socket that is returned. Nobody reads or writes the link meanwhile. What the link has read and not
// yet returned stays with it.
func Lift(link *Link, below net.Conn) (t *tls.Conn, socket *net.TCPConn, err error) {
	b, ok := link.NetConn().(*bounded)
	if !ok {
		return nil, nil, errNotLink
	}
	c := b.Conn
	if p, ok := c.(*peeked); ok {
		if len(p.head) > 0 {
			return nil, nil, errNotLink // the handshake is not over
		}
		c = p.Conn
	}
	if g, ok := c.(*guest); ok {
		c = g.Conn
	}
	if socket, ok = c.(*net.TCPConn); !ok {
		return nil, nil, errNotLink
	}
	b.Conn = below
	return link.Conn, socket, nil
}
