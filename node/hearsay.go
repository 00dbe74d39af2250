package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/memberlist"
)

// Gossip is hearsay: it may be old, recorded by whoever listens and sent again, or from a member that has lost its mind.
// A handshake is not: it is made anew each time. So what gossip says of a process that is new in the view, or instead of
// the one in it, counts when that process answers a call, and not while another answers at its address, or nothing
// listens there. That a member has died is looked at likewise (opinion.go); who cannot be asked is believed.

const (
	// meetFor is how long a process that is new has for a handshake, meetAgain the pause until it is called again if another
	// has answered.
	meetFor   = time.Second
	meetAgain = time.Second
	// rivalFor is how long another process under this node's name may go on before this one ends, unless it is to stay: see
	// contest.
	rivalFor   = time.Second
	rivalAgain = 100 * time.Millisecond
)

// Rumors counts what members have said that was left out.
type Rumors struct {
	Nonsense uint64 // gossip that means nothing
	Stale    uint64 // processes that are not there any more, or never were
	Rivals   uint64 // processes under this node's name
	Breaches uint64 // links on which came what no node sends
}

// rumors is Rumors while it counts.
type rumors struct{ nonsense, stale, rivals, breaches atomic.Uint64 }

// Rumors returns what was left out until now.
func (c *Cluster) Rumors() Rumors {
	return Rumors{c.rumors.nonsense.Load(), c.rumors.stale.Load(), c.rumors.rivals.Load(), c.rumors.breaches.Load()}
}

// Breach notes that a link is closed because of what has come by it; dialed says that this node had opened it. The log
// tells of a node now and then. Any goroutine.
func (c *Cluster) Breach(p Peer, dialed bool, err error) {
	c.rumors.breaches.Add(1)
	if left, ok := c.quiet.allow("breach "+p.Name, time.Now()); ok {
		c.cfg.Log.Error().Err(err).Str("peer", p.Name).Bool("dialed", dialed).Int("left_out", left).
			Msg("a node breaks the protocol; its link is closed")
	}
}

// nonsense notes gossip that means nothing.
func (c *Cluster) nonsense(from net.Addr, err error) {
	c.rumors.nonsense.Add(1)
	if left, ok := c.quiet.allow("nonsense "+origin(from).String(), time.Now()); ok {
		c.cfg.Log.Warn().Err(err).Stringer("peer_addr", from).Int("left_out", left).Msg("gossip is left out")
	}
}

// memberOf reads what memberlist says of a member.
func memberOf(n *memberlist.Node) Member {
	m := Member{Name: n.Name, Addr: n.Address()}
	if len(n.Meta) >= minMeta {
		m.Draining = n.Meta[1]&1 != 0
		m.Birth = binary.BigEndian.Uint64(n.Meta[2:])
	}
	if len(n.Meta) > minMeta {
		m.Level = n.Meta[minMeta]
	}
	return m
}

// minMeta is the length of the metadata of level 0: see delegate.
const minMeta = 10

// sensible says what is wrong with a member; nil if it can be one.
func sensible(n *memberlist.Node) error {
	ip, _ := netip.AddrFromSlice(n.Addr)
	switch ip = ip.Unmap(); {
	case n.Name == "", len(n.Name) > maxName, !utf8.ValidString(n.Name):
		return fmt.Errorf("%w: a name of %d bytes", errNonsense, len(n.Name))
	case !ip.IsValid(), ip.IsUnspecified(), ip.IsMulticast(), n.Port == 0:
		return fmt.Errorf("%w: nobody can be reached at %s", errNonsense, n.Address())
	case len(n.Meta) < minMeta:
		return fmt.Errorf("%w: metadata of %d bytes", errNonsense, len(n.Meta))
	}
	for _, r := range n.Name {
		if unicode.IsControl(r) {
			return fmt.Errorf("%w: a name with control characters", errNonsense)
		}
	}
	return nil
}

// memberLives takes what memberlist says of a member. It runs under memberlist's lock.
func (c *Cluster) memberLives(n *memberlist.Node) {
	m := memberOf(n)
	c.mu.Lock()
	defer c.mu.Unlock()
	old, was := c.members[m.Name]
	delete(c.claims, m.Name)
	known := was && old.Birth == m.Birth && old.Addr == m.Addr
	if known || m.Name == c.cfg.Name || c.met[Peer{m.Name, m.Birth}] > 0 || len(c.members) >= opinionMax || c.stopped() {
		c.take(m)
		return
	}
	c.claims[m.Name] = m
	c.done.Add(1)
	go c.guard(func() { c.meet(m) })
}

// take makes m a member. c.mu held.
func (c *Cluster) take(m Member) {
	delete(c.lost, m.Name)
	delete(c.missing, m.Name)
	delete(c.doubted, m.Name)
	delete(c.claims, m.Name)
	old, was := c.members[m.Name]
	c.members[m.Name] = m
	if !was || old != m {
		c.viewChanged()
	}
}

// meet calls a process that gossip tells of, until it is known whether it is there.
func (c *Cluster) meet(m Member) {
	defer c.done.Done()
	for first := true; ; first = false {
		ctx, cancel := context.WithTimeout(c.life, meetFor)
		peer, err := c.call(ctx, m.Addr)
		cancel()
		another := err == nil && peer != Peer{m.Name, m.Birth} || errors.Is(err, ErrSelf)
		absent := another || errors.Is(err, syscall.ECONNREFUSED)
		c.mu.Lock()
		is := c.claims[m.Name] == m
		if is && !absent {
			c.take(m)
		}
		c.mu.Unlock()
		if first && absent { // whether or not gossip has taken it back meanwhile
			c.rumors.stale.Add(1)
			if left, ok := c.quiet.allow("stale "+m.Name, time.Now()); ok {
				c.cfg.Log.Warn().Str("node", m.Name).Str("addr", m.Addr).Bool("another_answers", another).Int("left_out", left).
					Msg("gossip tells of a process that is not there")
			}
		}
		if !is || !absent {
			return
		}
		if !c.sleep(meetAgain) {
			return
		}
	}
}

// meeting has a process that was just called, and has answered, be believed at once; over ends that.
func (c *Cluster) meeting(p Peer) (over func()) {
	c.mu.Lock()
	c.met[p]++
	c.mu.Unlock()
	return func() {
		c.mu.Lock()
		if c.met[p]--; c.met[p] == 0 {
			delete(c.met, p)
		}
		c.mu.Unlock()
	}
}

// conflicts hears of nodes of one name at two addresses. memberlist calls it under its lock: note and leave.
type conflicts Cluster

// NotifyConflict implements memberlist.ConflictDelegate.
func (s *conflicts) NotifyConflict(_, other *memberlist.Node) {
	c := (*Cluster)(s)
	if other.Name != c.cfg.Name {
		return
	}
	m := memberOf(other)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rival == (Member{}) && !c.stopped() {
		c.rival = m
		c.done.Add(1)
		go c.guard(func() { c.contest(m) })
	}
}

// contest decides between this process and another of the same name at another address, which decides, too. Who is not
// there, as one that was killed, is no rival. One that nobody has taken in goes first, so no newcomer takes a name from
// its bearer; of two alike, as when both were started at once, the one with the higher birth goes.
func (c *Cluster) contest(r Member) {
	defer c.done.Done()
	begun, said := time.Now(), false
	for {
		ctx, cancel := context.WithTimeout(c.life, meetFor)
		peer, err := c.call(ctx, r.Addr)
		cancel()
		c.mu.Lock()
		accepted, patience := c.accepted, rivalFor
		over := err != nil || peer != Peer{c.cfg.Name, r.Birth} || c.failed || c.stopped()
		if over {
			c.rival = Member{}
		}
		c.mu.Unlock()
		if over {
			break
		}
		if !said {
			said = true
			c.rumors.rivals.Add(1)
			if left, ok := c.quiet.allow("rival "+r.Addr, time.Now()); ok {
				c.cfg.Log.Warn().Str("node", r.Name).Str("addr", r.Addr).Bool("stays", accepted && c.birth < r.Birth).Int("left_out", left).
					Msg("another process runs under this node's name; one of the two is to end")
			}
		}
		if c.birth < r.Birth {
			patience *= 2
		}
		if accepted {
			patience *= 4
		}
		if time.Since(begun) > patience && !(accepted && c.birth < r.Birth) {
			c.fail(fmt.Errorf("cluster: a node named %s runs at %s already; a name is for one node only", c.cfg.Name, r.Addr))
		}
		if !c.sleep(rivalAgain) {
			return
		}
	}
	if said && !c.stopped() {
		c.introduce() // those who had taken the other in
	}
}

// fail says once why this node cannot be a member.
func (c *Cluster) fail(err error) {
	c.mu.Lock()
	say := !c.failed
	c.failed = true
	c.mu.Unlock()
	if say {
		c.cfg.OnFail(err)
	}
}
