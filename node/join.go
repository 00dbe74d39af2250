package node

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	joinFor   = 10 * time.Second
	joinEvery = 200 * time.Millisecond
	// rivalFor is how long another process under this node's name may go on before this one gives up: one that was killed is known to be dead
	// within a second.
	rivalFor = 3 * time.Second
)

// join asks those whom this node was told to join until one of them is a member of its view. What time does not mend is said at once: a node that
// holds another cluster key, or speaks another version. It also returns if this node itself is one of those: all nodes were given the same
// list, and this is the first of them to run.
func (c *Cluster) join() error {
	begun, limit := time.Now(), cmp.Or(c.cfg.JoinTimeout, joinFor)
	var rivalSince time.Time
	for told := false; ; {
		c.mu.Lock()
		c.rival = ""
		c.mu.Unlock()
		_, _ = c.list.Join(c.cfg.Join) // what is wrong is seen by asking one after the other
		c.mu.Lock()
		alone, rival := len(c.members) <= 1, c.rival
		c.mu.Unlock()
		switch {
		case rival == "":
			rivalSince = time.Time{}
			if !alone {
				return nil
			}
		case rivalSince.IsZero():
			rivalSince = time.Now()
		case time.Since(rivalSince) > min(rivalFor, limit):
			return fmt.Errorf("cluster: a node named %s runs at %s already; a name is for one node only", c.cfg.Name, rival)
		}
		first, hopeless, err := c.ask()
		if rival == "" && (first || hopeless) {
			return err
		}
		if !told && err != nil {
			told = true
			c.cfg.Log.Warn().Err(err).Dur("within", limit).Msg("nobody to join yet; asking on")
		}
		if rival == "" && time.Since(begun) > limit {
			return fmt.Errorf("cluster: nobody to join: %w", cmp.Or(err, errors.New("those asked do not take this node in")))
		}
		time.Sleep(joinEvery)
	}
}

// ask finds out what is wrong with those whom this node was told to join: gossip that it cannot read, or does not want to, a node leaves without
// an answer. It takes this node itself off the list, and reports whether it was on it; and whether asking again is hopeless.
func (c *Cluster) ask() (self, hopeless bool, err error) {
	var errs []string
	for _, addr := range slices.Clone(c.cfg.Join) {
		switch why := c.probe(addr); {
		case why == nil || errors.Is(why, ErrNotMember):
		case errors.Is(why, ErrSelf):
			self = true
			c.cfg.Join = slices.DeleteFunc(slices.Clone(c.cfg.Join), func(a string) bool { return a == addr })
		case errors.Is(why, ErrStranger):
			return false, true, fmt.Errorf("cluster: joining %s: it does not hold the cluster key that this node has", addr)
		case errors.Is(why, ErrVersion):
			return false, true, fmt.Errorf("cluster: joining %s: %w", addr, why)
		default:
			errs = append(errs, why.Error())
		}
	}
	if len(errs) > 0 && !self {
		err = errors.New(strings.Join(errs, ", "))
	}
	return self, false, err
}

// probe shakes hands with a node and leaves.
func (c *Cluster) probe(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, HandshakeTimeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = Client(conn, c.creds, c.self(), anybody)
	return err
}

// conflicts hears of nodes of one name at two addresses. memberlist calls it under its lock: note and leave.
type conflicts Cluster

// NotifyConflict implements memberlist.ConflictDelegate.
func (s *conflicts) NotifyConflict(_, other *memberlist.Node) {
	if other.Name == s.cfg.Name {
		s.mu.Lock()
		s.rival = other.Address()
		s.mu.Unlock()
	}
}
