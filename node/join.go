package node

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// A node looks for the others for as long as it runs. It asks those that it was told to join, whose names it looks up
// anew each time, and those that it had and lost: memberlist forgets the dead, so two halves of a parted cluster would
// never hear of each other again, nor would a node that was frozen for long. It never waits for any of them: a node
// serves as soon as it runs, says who is missing, and takes them in when they come.

const (
	// askFirst is the pause after the first time that somebody was asked in vain; it doubles until askMissing. Nobody is
	// missing: askAgain.
	askFirst   = 100 * time.Millisecond
	askMissing = time.Second
	askAgain   = 5 * time.Second
	// askAtFirst is how long a node goes on asking those that have taken it in: they do not take in one that was restarted
	// at another address before they know that it had died.
	askAtFirst = 3 * time.Second
	// askLost is as askMissing for members that died. Within the first lostFresh they are asked every half a second.
	askLost   = 10 * time.Second
	lostFresh = 10 * time.Second
	// lostFor is how long a member that died is asked for, and lostMissing how long it counts as missing. One that left is
	// not asked at all.
	lostFor     = 24 * time.Hour
	lostMissing = 10 * time.Minute
	// maxLost bounds how many are remembered.
	maxLost = 1024
	// startWait is how long Join waits for an answer of those that it was told of.
	startWait = 500 * time.Millisecond
	// lookupFor bounds a lookup, dialFor a connection.
	lookupFor = 5 * time.Second
	dialFor   = time.Second
	// maxAddresses bounds the addresses of a name that are asked.
	maxAddresses = 64
	// introduceMax is how many members there may be for a new one to call on all of them; in larger clusters gossip alone
	// spreads the word.
	introduceMax = 32
	// missingAfter is how long somebody may be missing before the log says so: nodes that start together miss each other
	// for a moment.
	missingAfter = 2 * time.Second
)

// search is what this node knows of those that it looks for. Guarded by Cluster.mu.
type search struct {
	missing map[string]string   // why, by who: an entry of Config.Join, or a lost member's name
	lost    map[string]absentee // who died, by name
	since   time.Time           // somebody has been missing for so long; zero: nobody is
	said    string              // what the log said last
	saidAt  time.Time

	rival    Member // another process under this node's name, while that is being decided: see hearsay.go
	accepted bool   // the others have taken this node in, or it has nobody to ask
	failed   bool   // OnFail was called
}

// absentee is a member that died.
type absentee struct {
	addr  string
	since time.Time
}

// errFault is what came of a call that panicked.
var errFault = errors.New("a fault of this node")

// seek asks one entry of Config.Join for as long as the cluster runs. first is called when it was asked for the first
// time.
func (c *Cluster) seek(entry string, first func()) {
	defer c.done.Done()
	for pause := askFirst; ; {
		why := errFault.Error()
		c.guard(func() { why = c.askEntry(entry) })
		first()
		c.note(entry, why)
		c.mu.Lock()
		alone := len(c.members) <= 1
		c.mu.Unlock()
		switch {
		case why != "" || alone:
			pause = min(2*pause, askMissing)
		case time.Since(c.begun) < askAtFirst:
			pause = askFirst * 5
		default:
			pause = askAgain
		}
		if !c.sleep(pause) {
			return
		}
	}
}

// seekLost asks for a member that died until it is back, or has been away for too long.
func (c *Cluster) seekLost(name string, a absentee) {
	defer c.done.Done()
	for pause := 500 * time.Millisecond; c.sleep(pause); {
		c.mu.Lock()
		is := c.lost[name] == a
		if is && time.Since(a.since) > lostFor {
			delete(c.lost, name)
			is = false
		}
		c.mu.Unlock()
		if !is {
			return
		}
		err := errFault
		c.guard(func() { err = c.askAddr(a.addr) })
		if time.Since(a.since) > lostFresh {
			pause = min(2*pause, askLost)
		}
		c.mu.Lock()
		_, still := c.lost[name]
		c.mu.Unlock()
		if why := ""; still && time.Since(a.since) < lostMissing {
			if why = "it died"; err != nil {
				why += ": " + plain(err)
			}
			c.note(name, why)
		} else {
			c.note(name, "")
		}
	}
}

// stopped reports whether Shutdown was called. c.mu held, if a goroutine is to be started.
func (c *Cluster) stopped() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

// sleep reports false when the cluster has stopped.
func (c *Cluster) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c.stop:
		return false
	case <-t.C:
		return true
	}
}

// askEntry asks all whom an entry of Config.Join names. It returns who is missing and why; "" if nobody is.
func (c *Cluster) askEntry(entry string) string {
	host, port, err := net.SplitHostPort(entry)
	if err != nil {
		return err.Error()
	}
	ctx, cancel := context.WithTimeout(c.life, lookupFor)
	as, err := c.net.lookup(ctx, host)
	cancel()
	switch {
	case err != nil:
		return plain(err)
	case len(as) == 0:
		return "the name has no address"
	}
	_, err = netip.ParseAddr(host)
	literal := err == nil
	var mu sync.Mutex
	var all sync.WaitGroup
	var errs []string
	for _, a := range as[:min(len(as), maxAddresses)] {
		all.Go(func() {
			addr := net.JoinHostPort(a.Unmap().String(), port)
			err := errors.New("asking it failed")
			c.guard(func() { err = c.askAddr(addr) })
			if err == nil {
				return
			}
			if literal && (errors.Is(err, ErrStranger) || errors.Is(err, ErrVersion)) {
				c.hopeless(&joinError{addr, err})
			}
			why := plain(err)
			if !literal {
				why = addr + ": " + why
			}
			mu.Lock()
			errs = append(errs, why)
			mu.Unlock()
		})
	}
	all.Wait()
	slices.Sort(errs)
	return strings.Join(errs, ", ")
}

// joinError is why a node that was named by its address can never take this one in.
type joinError struct {
	addr string
	err  error
}

func (e *joinError) Error() string { return "cluster: joining " + e.addr + ": " + plain(e.err) }
func (e *joinError) Unwrap() error { return e.err }

// errNotTaken says that a node was asked and did not become a member of this node's view.
var errNotTaken = errors.New("it does not take this node in")

// askAddr sees to it that who answers at an address is a member of this node's view, or is this node itself.
func (c *Cluster) askAddr(addr string) error {
	c.mu.Lock()
	accepted := c.accepted && time.Since(c.begun) > askAtFirst // until then a member of the view need not have this node in its own
	c.mu.Unlock()
	if addr == c.Addr() || accepted && c.isMember(func(m Member) bool { return m.Addr == addr }) {
		return nil
	}
	peer, err := c.probe(addr)
	switch {
	case errors.Is(err, ErrSelf):
		return nil
	case err != nil:
		return err
	}
	is := func(m Member) bool { return m.Name == peer.Name && m.Birth == peer.Birth }
	if accepted && c.isMember(is) {
		return nil
	}
	defer c.meeting(peer)()
	if _, err := c.list.Join([]string{addr}); err != nil {
		return err
	}
	c.mu.Lock()
	contested := c.rival != Member{}
	c.mu.Unlock()
	if contested || !c.isMember(is) {
		return errNotTaken
	}
	c.mu.Lock()
	again := c.accepted
	c.accepted = true
	c.mu.Unlock()
	if !again || accepted {
		c.cfg.Log.Info().Str("node", peer.Name).Str("addr", addr).Msg("joined")
	}
	c.introduce()
	return nil
}

func (c *Cluster) isMember(is func(Member) bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		if is(m) {
			return true
		}
	}
	return false
}

// introduce calls on all members by TCP: where UDP does not pass, gossip tells them nothing.
func (c *Cluster) introduce() {
	var all sync.WaitGroup
	c.mu.Lock()
	if len(c.members) <= introduceMax {
		for _, m := range c.members {
			if m.Name != c.cfg.Name {
				all.Go(func() { _, _ = c.list.Join([]string{m.Addr}) })
			}
		}
	}
	c.mu.Unlock()
	all.Wait()
}

// probe shakes hands with a node and leaves. It returns who answered.
func (c *Cluster) probe(addr string) (Peer, error) {
	ctx, cancel := context.WithTimeout(c.life, dialFor)
	defer cancel()
	return c.call(ctx, addr)
}

// call is a probe that ends with ctx.
func (c *Cluster) call(ctx context.Context, addr string) (Peer, error) {
	conn, err := c.net.dial(ctx, addr)
	if err != nil {
		return Peer{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	_, err = Client(conn, c.creds.Load(), c.self(), anybody)
	if other, ok := errors.AsType[*otherPeerError](err); ok {
		return other.is, nil
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return Peer{}, err
}

// hopeless says what time does not mend. It counts only while this node knows nobody.
func (c *Cluster) hopeless(err error) {
	c.mu.Lock()
	alone := !c.accepted && len(c.members) <= 1
	c.mu.Unlock()
	if alone {
		c.fail(err)
	}
}

// note takes who is missing, and why; "": not any more. The log says what changes, and now and then what does not.
func (c *Cluster) note(who, why string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if why == "" {
		delete(c.missing, who)
	} else {
		c.missing[who] = why
	}
	now, all := time.Now(), strings.Join(c.absent(), "; ")
	switch {
	case all == "":
		if c.said != "" {
			c.cfg.Log.Info().Int("members", len(c.members)).Msg("nobody is missing")
		}
		c.since, c.said = time.Time{}, ""
		return
	case c.since.IsZero():
		c.since = now
	}
	if now.Sub(c.since) < missingAfter || all != c.said && now.Sub(c.saidAt) < missingAfter {
		return
	}
	left, ok := c.quiet.allow("missing "+all, now)
	c.said, c.saidAt = all, now
	if ok {
		c.cfg.Log.Warn().Str("missing", all).Int("members", len(c.members)).Int("left_out", left).Msg("not everybody is there; asking on")
	}
}

// absent lists who is missing and why. c.mu held.
func (c *Cluster) absent() []string {
	var list []string
	for who, why := range c.missing {
		list = append(list, who+" ("+why+")")
	}
	slices.Sort(list)
	return list
}

// Missing says who of those that this node looks for is not there, and why, one a line: entries of Config.Join, and
// members that died.
func (c *Cluster) Missing() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.absent()
}

// Lost returns how many members have died not long ago and not come back.
func (c *Cluster) Lost() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.lost {
		if time.Since(a.since) < lostMissing {
			n++
		}
	}
	return n
}

// lose notes a member that is one no more. Who has left was draining (memberlist's Node does not say how it ended).
// c.mu held.
func (c *Cluster) lose(n *memberlist.Node) {
	m, was := c.members[n.Name]
	if !was {
		return
	}
	if m.Draining {
		delete(c.lost, n.Name)
		delete(c.missing, n.Name)
		return
	}
	if c.stopped() {
		return
	}
	if _, was := c.lost[n.Name]; was || len(c.lost) >= maxLost || n.Name == c.cfg.Name {
		return
	}
	a := absentee{n.Address(), time.Now()}
	c.lost[n.Name] = a
	c.done.Add(1)
	name := n.Name
	go c.guard(func() { c.seekLost(name, a) })
}

// plain says what is wrong without ports and addresses that differ from time to time.
func plain(err error) string {
	var name *net.DNSError
	var call *os.SyscallError
	switch {
	case errors.As(err, &name) && name.IsNotFound:
		return "the name has no address"
	case errors.As(err, &name) && name.IsTimeout, errors.As(err, &name) && errors.Is(err, context.DeadlineExceeded):
		return "no answer from the name server"
	case errors.As(err, &name):
		return "the name server does not help"
	case errors.Is(err, ErrStranger):
		return "it does not hold the cluster key that this node has"
	case errors.Is(err, ErrVersion):
		return strings.TrimPrefix(err.Error(), "node: ")
	case errors.Is(err, errNotTaken):
		return err.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer"
	case errors.As(err, &call):
		return call.Err.Error()
	}
	if t, ok := errors.AsType[net.Error](err); ok && t.Timeout() {
		return "no answer"
	}
	return err.Error()
}
