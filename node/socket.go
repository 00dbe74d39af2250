package node

import (
	"errors"
	"net"
)

// errNotLink says that a connection was not made by Client or Server over TCP.
var errNotLink = errors.New("node: not a link over TCP")

// Socket returns the connection below a link's records. Who goes on with it and with the records themselves neither
// reads nor writes the link any more; what that has read too far its Rest tells.
func (l *Link) Socket() (*net.TCPConn, error) {
	b, ok := l.Stream.Conn.(*bounded)
	if !ok {
		return nil, errNotLink
	}
	c := b.Conn
	if p, ok := c.(*peeked); ok {
		if len(p.head) > 0 {
			return nil, errNotLink // the handshake is not over
		}
		c = p.Conn
	}
	if g, ok := c.(*guest); ok {
		c = g.Conn
	}
	socket, ok := c.(*net.TCPConn)
	if !ok {
		return nil, errNotLink
	}
	return socket, nil
}
