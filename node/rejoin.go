package node

import (
	"time"

	"github.com/hashicorp/memberlist"
)

// memberlist forgets the dead: two halves of a parted cluster would never hear of each other again, nor would a node that was frozen for long.
// So each node goes on asking those that it lost, and those that it was told to join, until they are back or have been away for too long.

const (
	rejoinEvery = 500 * time.Millisecond
	// rejoinFor is how long a member that died is asked for. One that left is not asked at all.
	rejoinFor = 24 * time.Hour
	// rejoinAtFirst is how long a node goes on asking those that it joined: they do not take in one that was restarted at another address before
	// they know that it had died.
	rejoinAtFirst = 3 * time.Second
	// maxLost bounds how many are remembered.
	maxLost = 1024
)

// lostOrFound notes a member that is one no more, or is one again. c.mu held.
func (c *Cluster) lostOrFound(n *memberlist.Node, alive bool) {
	if alive || n.State == memberlist.StateLeft {
		delete(c.lost, n.Name)
		return
	}
	if len(c.lost) < maxLost {
		c.lost[n.Name] = absentee{n.Address(), time.Now()}
	}
}

// absentee is a member that died.
type absentee struct {
	addr  string
	since time.Time
}

// rejoin asks one absent member after the other.
func (c *Cluster) rejoin() {
	defer c.done.Done()
	begun := time.Now()
	t := time.NewTicker(rejoinEvery)
	defer t.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-t.C:
		}
		lost, told := c.absent()
		if time.Since(begun) < rejoinAtFirst {
			told = true
		}
		if told {
			_, _ = c.list.Join(c.cfg.Join)
		}
		for _, addr := range lost {
			if n, err := c.list.Join([]string{addr}); err == nil && n > 0 {
				c.cfg.Log.Info().Str("addr", addr).Msg("asked a lost member back")
			}
			select {
			case <-c.stop:
				return
			default:
			}
		}
	}
}

// absent returns whom to ask, and whether to ask those that this node was told to join, as one does that is alone.
func (c *Cluster) absent() (addrs []string, told bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, a := range c.lost {
		if time.Since(a.since) > rejoinFor {
			delete(c.lost, name)
			continue
		}
		addrs = append(addrs, a.addr)
	}
	return addrs, len(c.members) <= 1 && len(addrs) == 0
}
