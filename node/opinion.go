package node

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// memberlist's verdict that a member is dead is quick here, 180 ms after its last sign of life at the earliest, and so
// wrong whenever a host stops for a moment. It is not the last word: each node calls the member by TCP and asks for a
// handshake. Who answers within opinionFor lives, so no pause below 300 ms costs a member. A process that was killed
// has its port refused at once; one that is frozen or cut off is out within 0.7 s, as sim_freeze_test.go shows for
// clusters of 3, 5 and 10.

const (
	// opinionFor is how long a member that counts as dead has for a handshake: three times the way there and back, and the
	// rest of a pause.
	opinionFor = 160 * time.Millisecond
	// opinionMax is how many members there may be for a second opinion, which costs each of them, and the one in doubt, a
	// handshake (1.3 ms). In larger clusters verdicts come later.
	opinionMax = 128
	// opinionAgain is the pause between two calls to a member that answers but counts as dead, opinionLast how long that
	// may go on.
	opinionAgain = 100 * time.Millisecond
	opinionLast  = 3 * time.Second
)

// doubt decides on a member that memberlist counts as dead.
func (c *Cluster) doubt(n *memberlist.Node, m Member) {
	defer c.done.Done()
	begun := time.Now()
	for c.lives(m) {
		if time.Since(begun) > opinionLast {
			break
		}
		if time.Since(begun) < opinionAgain {
			c.cfg.Log.Info().Str("node", m.Name).Msg("a member was silent and answers again")
		}
		_, _ = c.list.Join([]string{m.Addr}) // it hears what it counts as, and says that it lives
		if !c.sleep(opinionAgain) {
			return
		}
		c.mu.Lock()
		is := c.doubted[m.Name] == m
		c.mu.Unlock()
		if !is {
			return // memberlist counts it alive again, or another process has its name
		}
	}
	c.mu.Lock()
	is := c.doubted[m.Name] == m
	delete(c.doubted, m.Name)
	c.mu.Unlock()
	if is {
		c.remove(n)
	}
}

// lives reports whether a member answers a call at once.
func (c *Cluster) lives(m Member) bool {
	ctx, cancel := context.WithTimeout(c.life, opinionFor)
	defer cancel()
	peer, err := c.call(ctx, m.Addr)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return false
	}
	return err == nil && peer == Peer{m.Name, m.Birth}
}

// memberDied takes memberlist's verdict. It runs under memberlist's lock.
func (c *Cluster) memberDied(n *memberlist.Node) {
	c.mu.Lock()
	delete(c.claims, n.Name)
	m, is := c.members[n.Name]
	ask := is && !m.Draining && len(c.members) < opinionMax && m.Addr == n.Address() && !c.stopped()
	if ask {
		c.doubted[n.Name] = m
		c.done.Add(1)
	}
	c.mu.Unlock()
	copied := *n
	copied.Addr, copied.Meta = slices.Clone(n.Addr), nil
	if ask {
		go c.guard(func() { c.doubt(&copied, m) })
		return
	}
	c.remove(&copied)
}
