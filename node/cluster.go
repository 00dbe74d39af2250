package node

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/rs/zerolog"

	"github.com/timedge/timedge/ring"
)

// Config is what makes a process a member of a cluster.
type Config struct {
	Name string   // unique in the cluster
	Bind string   // host:port for gossip (UDP, TCP) and links (TCP)
	Join []string // members to ask first; may be empty for the first node
	Key  Key
	Log  zerolog.Logger

	JoinTimeout time.Duration // how long to ask Join before giving up; 0: 10 s

	// Neither is called before Join has succeeded.
	OnView func(*View)          // called for every new view, in order, on one goroutine
	OnLink func(net.Conn, Peer) // called with a link, a *tls.Conn, which is the callee's then, on a goroutine that Shutdown waits for
}

// Member is a node as the others see it.
type Member struct {
	Name     string
	Addr     string // host:port of gossip and links
	Draining bool
	Birth    uint64 // random per process, so that a node restarted under its name is told from the one before
}

// View is what this node knows of the cluster at a moment. It does not change.
type View struct {
	Members []Member // by name, this node among them
	Ring    *ring.Ring
}

// Find returns a member by name.
func (v *View) Find(name string) (Member, bool) {
	i, ok := slices.BinarySearchFunc(v.Members, name, func(m Member, n string) int { return strings.Compare(m.Name, n) })
	if !ok {
		return Member{}, false
	}
	return v.Members[i], true
}

func newView(ms []Member) *View {
	slices.SortFunc(ms, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	v := &View{Members: ms}
	var rm []ring.Member
	for _, m := range ms {
		rm = append(rm, ring.Member{Name: m.Name, Draining: m.Draining})
	}
	v.Ring = ring.New(rm)
	return v
}

// NewView makes a view of the given members, as tests and simulations need.
func NewView(ms []Member) *View { return newView(slices.Clone(ms)) }

// Cluster is this process's membership.
type Cluster struct {
	cfg   Config
	list  *memberlist.Memberlist
	trans *transport
	creds *Credentials
	birth uint64

	mu       sync.Mutex
	members  map[string]Member
	lost     map[string]absentee // who died, by name
	rival    string              // address of another process under this node's name, if one was heard of since join asked last
	draining bool
	changed  chan struct{} // capacity 1: the members changed since the last view
	joined   chan struct{} // closed when Join has succeeded
	stop     chan struct{}
	done     sync.WaitGroup
	once     sync.Once
}

// Join makes this process a member. It returns once it has reached one of cfg.Join, or at once if there is none.
func Join(cfg Config) (*Cluster, error) {
	if cfg.Name == "" || len(cfg.Name) > maxName {
		return nil, errors.New("node: a name of 1 to 128 bytes is needed")
	}
	c := &Cluster{
		cfg: cfg, creds: cfg.Key.Credentials(),
		members: make(map[string]Member), lost: make(map[string]absentee),
		changed: make(chan struct{}, 1), joined: make(chan struct{}), stop: make(chan struct{}),
	}
	var b [8]byte
	_, _ = rand.Read(b[:])
	c.birth = binary.BigEndian.Uint64(b[:])
	var err error
	if c.trans, err = newTransport(cfg.Bind, cfg.Log, c.link); err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	mc := memberlist.DefaultLANConfig()
	mc.Name, mc.Transport = cfg.Name, c.trans
	mc.SecretKey = cfg.Key.derive("gossip", nil, 32)
	// A death is known in 0.35 to 0.7 s instead of 6 to 7 (measured); links know a killed process at once.
	mc.ProbeInterval, mc.ProbeTimeout = 100*time.Millisecond, 50*time.Millisecond
	mc.SuspicionMult, mc.SuspicionMaxTimeoutMult = 2, 1
	mc.GossipInterval = 20 * time.Millisecond
	mc.TCPTimeout = 2 * time.Second
	mc.DeadNodeReclaimTime = time.Millisecond // a node restarted under its name may come back at another address
	mc.Delegate, mc.Events, mc.Alive, mc.Conflict = (*delegate)(c), (*events)(c), aliveFilter{cfg.Log}, (*conflicts)(c)
	mc.LogOutput, mc.Logger = nil, stdlog.New(&logWriter{log: cfg.Log}, "", 0)
	if c.list, err = memberlist.Create(mc); err != nil {
		_ = c.trans.Shutdown()
		return nil, fmt.Errorf("cluster: %w", err)
	}
	if len(cfg.Join) > 0 {
		if err := c.join(); err != nil {
			_ = c.Shutdown()
			return nil, err
		}
	}
	close(c.joined)
	c.done.Add(2)
	go c.tell()
	go c.rejoin()
	return c, nil
}

func (c *Cluster) self() Peer { return Peer{c.cfg.Name, c.birth} }

// Name returns this node's name.
func (c *Cluster) Name() string { return c.cfg.Name }

// Self returns this node as the others see it.
func (c *Cluster) Self() Member { return Member{Name: c.cfg.Name, Addr: c.Addr(), Birth: c.birth} }

// Addr returns where gossip and links listen.
func (c *Cluster) Addr() string { return c.trans.tcp.Addr().String() }

// Drain tells the others that this node is about to leave, so that no room is placed on it.
func (c *Cluster) Drain() error {
	c.mu.Lock()
	c.draining = true
	c.mu.Unlock()
	return c.list.UpdateNode(time.Second)
}

// Leave says goodbye, so that the others need not find out.
func (c *Cluster) Leave() error { return c.list.Leave(500 * time.Millisecond) }

// Shutdown ends the membership. It blocks until its goroutines have ended; it must not be called from OnView or OnLink. Calling it
// again does nothing.
func (c *Cluster) Shutdown() (err error) {
	c.once.Do(func() {
		close(c.stop)
		err = errors.Join(c.list.Shutdown(), c.trans.Shutdown())
		c.done.Wait()
	})
	return err
}

// Dial opens a link to a member and shakes hands. It returns a *tls.Conn: what is written to it crosses the network encrypted.
func (c *Cluster) Dial(m Member, timeout time.Duration) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", m.Addr, timeout)
	if err != nil {
		return nil, err
	}
	link, err := Client(conn, c.creds, c.self(), Peer{m.Name, m.Birth})
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("link to %s at %s: %w", m.Name, m.Addr, err)
	}
	return link, nil
}

// link shakes hands with a node that dialed.
func (c *Cluster) link(conn net.Conn) {
	link, peer, err := Server(conn, c.creds, c.self())
	if errors.Is(err, errProbe) {
		_ = conn.Close()
		return
	}
	if err != nil {
		c.cfg.Log.Warn().Err(err).Stringer("peer_addr", conn.RemoteAddr()).Msg("link refused")
		_ = conn.Close()
		return
	}
	select {
	case <-c.joined:
		c.cfg.OnLink(link, peer)
	case <-c.stop:
		_ = link.Close()
	}
}

// tell hands on views, the newest only, outside of memberlist's locks.
func (c *Cluster) tell() {
	defer c.done.Done()
	for {
		select {
		case <-c.stop:
			return
		case <-c.changed:
		}
		c.mu.Lock()
		ms := make([]Member, 0, len(c.members))
		for _, m := range c.members {
			ms = append(ms, m)
		}
		c.mu.Unlock()
		c.cfg.OnView(newView(ms))
	}
}

func (c *Cluster) update(n *memberlist.Node, alive bool) {
	c.mu.Lock()
	c.lostOrFound(n, alive)
	if alive {
		m := Member{Name: n.Name, Addr: n.Address()}
		if len(n.Meta) >= 10 {
			m.Draining = n.Meta[1]&1 != 0
			m.Birth = binary.BigEndian.Uint64(n.Meta[2:])
		}
		c.members[n.Name] = m
	} else {
		delete(c.members, n.Name)
	}
	c.mu.Unlock()
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// events receives memberlist's callbacks, which run under its lock: note and leave.
type events Cluster

func (e *events) NotifyJoin(n *memberlist.Node)   { (*Cluster)(e).update(n, true) }
func (e *events) NotifyUpdate(n *memberlist.Node) { (*Cluster)(e).update(n, true) }
func (e *events) NotifyLeave(n *memberlist.Node)  { (*Cluster)(e).update(n, false) }

// delegate gives memberlist this node's metadata: link version, flags (bit 0: draining), birth. The link address is the
// member's own.
type delegate Cluster

func (d *delegate) NodeMeta(int) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	meta := []byte{LinkVersion, 0}
	if d.draining {
		meta[1] = 1
	}
	return binary.BigEndian.AppendUint64(meta, d.birth)
}

func (d *delegate) NotifyMsg([]byte)                {}
func (d *delegate) GetBroadcasts(int, int) [][]byte { return nil }
func (d *delegate) LocalState(bool) []byte          { return nil }
func (d *delegate) MergeRemoteState([]byte, bool)   {}

// aliveFilter keeps nodes that say other things on links out of the view: rooms must not be placed on who cannot be reached.
type aliveFilter struct{ log zerolog.Logger }

// NotifyAlive implements memberlist.AliveDelegate.
func (a aliveFilter) NotifyAlive(n *memberlist.Node) error {
	if len(n.Meta) > 0 && n.Meta[0] == LinkVersion {
		return nil
	}
	a.log.Warn().Str("node", n.Name).Str("addr", n.Address()).Hex("meta", n.Meta).Msg("a node of another version is left out")
	return ErrVersion
}

// logWriter turns memberlist's lines into events: "[WARN] memberlist: text". A warning that comes again and again is an event every few seconds.
type logWriter struct {
	log zerolog.Logger

	mu   sync.Mutex
	last string
	at   time.Time
}

// sameAgain is how long the same warning is left out.
const sameAgain = 5 * time.Second

func (w *logWriter) Write(b []byte) (int, error) {
	line := strings.TrimSpace(string(b))
	e := w.log.Debug()
	for prefix, ev := range map[string]func() *zerolog.Event{"[ERR]": w.log.Warn, "[WARN]": w.log.Warn} {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			if w.again(rest) {
				return len(b), nil
			}
			e, line = ev(), strings.TrimSpace(rest)
		}
	}
	e.Str("from", "memberlist").Msg(strings.TrimPrefix(line, "memberlist: "))
	return len(b), nil
}

// again reports whether a warning is the last one once more.
func (w *logWriter) again(line string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if line == w.last && time.Since(w.at) < sameAgain {
		return true
	}
	w.last, w.at = line, time.Now()
	return false
}
