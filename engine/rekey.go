package engine

import (
	"math/rand/v2"
	"time"
)

// What becomes of links when the cluster keys change: each is proved anew that would be proved otherwise today. A new
// link takes the place of the old one as if that had broken, so nothing is lost, and the old one stays until the other
// node takes the key of the new.

const (
	// renewSpread is the time over which a node's links are made anew, renewAgain the pause after a try in vain.
	renewSpread = 2 * time.Second
	renewAgain  = time.Second
	// renewFor is how long a link may stay that the other node has proved by a key which this one does not hold any more:
	// it is the other that dials it, and it may learn of the change later.
	renewFor = 10 * time.Second
)

// rekeyed looks at all links after the keys have changed.
func (c *cluster) rekeyed(int64) {
	for _, k := range c.links {
		switch {
		case c.current(k):
		case k.dialed:
			c.renew(k, rand.N(renewSpread))
		default:
			time.AfterFunc(renewFor, func() {
				c.decide(func(int64) {
					if c.links[k.linkID()] == k && !c.current(k) {
						c.log.Info().Str("peer", k.peer.Name).Msg("a link is closed that was proved by an old cluster key")
						(*effects)(c).Hang(k.linkID())
					}
				})
			})
		}
	}
}

// current reports whether a link is proved by the keys of today. Which one the other node should show is for that node
// to say.
func (c *cluster) current(k *link) bool {
	peer, self := c.member.Current(k.proof)
	return peer && (self || !k.dialed)
}

// renew dials a member again after a pause, until there is a link that is proved by the keys of today.
func (c *cluster) renew(k *link, pause time.Duration) {
	time.AfterFunc(pause, func() {
		c.decide(func(int64) {
			m, is := c.node.Core().View().Find(k.peer.Name)
			if c.links[k.linkID()] != k || c.current(k) || !is || m.Birth != k.peer.Birth {
				return
			}
			c.done.Add(1)
			go func() {
				defer c.done.Done()
				err := c.connect(m)
				if err != nil { // it does not hold the key yet
					c.renew(k, renewAgain)
					return
				}
				c.log.Info().Str("peer", m.Name).Msg("a link is proved by the new cluster key")
			}()
		})
	})
}
