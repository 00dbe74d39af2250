package engine

import (
	"errors"
	"net"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/node"
)

// Connections to and from the other members: dialed and kept up while they are members, adopted by the event loops, followed when they end.

// dial keeps a link to a member until it is one no more.
func (c *cluster) dial(p *peer, m node.Member) {
	defer c.done.Done()
	again := dialAgainMin
	for {
		conn, err := c.member.Dial(m, dialTimeout)
		if err == nil {
			err = c.enroll(conn, p.peerID, true)
		}
		if err == nil {
			again = dialAgainMin
			select {
			case <-p.lost: // dial again at once: whether the port refuses tells whether the process is gone
				continue
			case <-p.gone:
				return
			case <-c.stop:
				return
			}
		}
		c.post(func() { c.dialFailed(p, err) })
		select {
		case <-time.After(again):
		case <-p.gone:
			return
		case <-c.stop:
			return
		}
		again = min(2*again, dialAgainMax)
	}
}

func (c *cluster) dialFailed(p *peer, err error) {
	if c.peers[p.name] != p {
		return
	}
	if text := err.Error(); text != p.lastFail {
		p.lastFail = text
		c.log.Warn().Str("peer", p.name).Err(err).Msg("no link to a node")
	}
	if errors.Is(err, unix.ECONNREFUSED) {
		c.down(p)
	}
}

// down says that a process is gone: its port refuses connections.
func (c *cluster) down(p *peer) {
	c.core.Down(p.name)
	c.placed()
	c.e.rooms.Vacate(p.name)
}

// enroll makes a session of an authenticated connection. It takes the connection over.
func (c *cluster) enroll(conn net.Conn, p peerID, dialed bool) error {
	e := c.e
	s := &session{id: e.nextID.Add(1), link: newLink(c, p, dialed)}
	s.account = p.name
	mem := &memory{}
	over, socket, err := node.Lift(conn, mem)
	if err != nil {
		_ = conn.Close()
		return err
	}
	s.carrier = &carrier{tls: over, mem: mem}
	e.conns.Add(1)
	if err := e.hand(socket, s); err != nil {
		e.conns.Add(-1)
		return err
	}
	return nil
}

// linkUp takes a link that a loop has begun to read.
func (c *cluster) linkUp(s *session) {
	k := s.link
	p := c.peers[k.peer.name]
	if p == nil || p.peerID != k.peer {
		if k.dialed {
			s.closeSoon()
			return
		}
		c.strangers = append(c.strangers, s)
		time.AfterFunc(strangerFor, func() { c.post(func() { c.turnOut(s) }) })
		return
	}
	if !k.dialed {
		if p.down != nil {
			p.down.closeSoon()
		}
		p.down = s
		early := k.early
		k.early = nil
		for _, m := range early {
			c.got(s, m)
			c.settle()
		}
		return
	}
	p.up, p.lastFail = s, ""
	c.log.Info().Str("peer", p.name).Msg("linked")
	c.core.Away(p.name, false)
	c.placed()
	for _, e := range c.edges {
		if e.target == p.name {
			c.drive(e)
		}
	}
}

// turnOut closes the link of a node that has not become a member.
func (c *cluster) turnOut(s *session) {
	if i := slices.Index(c.strangers, s); i >= 0 {
		c.strangers = slices.Delete(c.strangers, i, i+1)
		c.log.Warn().Str("peer", s.link.peer.name).Msg("a link of a node that is no member is closed")
		s.closeSoon()
	}
}

// linkDown follows a link's end.
func (c *cluster) linkDown(s *session) {
	k := s.link
	if i := slices.Index(c.strangers, s); i >= 0 {
		c.strangers = slices.Delete(c.strangers, i, i+1)
	}
	p := c.peers[k.peer.name]
	switch {
	case p == nil || p.peerID != k.peer: // its seats were not given up yet when the process left the view
		c.e.rooms.Vacate(k.peer.name)
	case p.up == s:
		c.log.Info().Str("peer", p.name).Msg("link lost")
		c.unlinked(p)
		p.lost <- struct{}{}
		c.core.Away(p.name, true)
	case p.down == s:
		p.down = nil
	}
}

// unlinked ends what was on the link that this node had dialed.
func (c *cluster) unlinked(p *peer) {
	up := p.up
	p.up = nil
	c.broken.Add(1)
	for _, e := range c.edges {
		if e.at == up {
			c.unplug(e)
		}
	}
	for req, call := range c.calls {
		if call.peer == p {
			delete(c.calls, req)
			call.done(nil)
		}
	}
}
