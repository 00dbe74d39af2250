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
	t := time.NewTicker(rejoinEvery)
	defer t.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-t.C:
		}
		for _, addr := range c.absent() {
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

// absent returns whom to ask. A node that is alone also asks who it was told to join.
func (c *Cluster) absent() (addrs []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, a := range c.lost {
		if time.Since(a.since) > rejoinFor {
			delete(c.lost, name)
			continue
		}
		addrs = append(addrs, a.addr)
	}
	if len(c.members) <= 1 && len(addrs) == 0 {
		addrs = append(addrs, c.cfg.Join...)
	}
	return addrs
}
