package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/rs/zerolog"

	"github.com/timedge/timedge/ring"
)

// Config is what makes a process a member of a cluster.
type Config struct {
	Name string   // unique in the cluster
	Bind string   // host:port for gossip (UDP, TCP) and links (TCP); a host that is empty, or 0.0.0.0, or ::, means all addresses
	Join []string // host:port of members to ask, for as long as the node runs; may be empty for the first node
	Keys Keys
	Log  zerolog.Logger

	// Advertise is the host, or host:port, that the others are told. Empty: that of Bind, or the host's only address.
	Advertise string

	// None but OnFail is called before Join has succeeded.
	OnView func(*View)       // called for every new view, in order, on one goroutine
	OnLink func(*Link, Peer) // called with a link, which is the callee's then, on a goroutine that Shutdown waits for
	OnKeys func()            // called when Keys have changed: ask for each link whether it is Current; may be nil
	// Guard calls f and reports whether it came back: it ends a panic over what strangers send and what gossip brings.
	// nil: a panic goes on.
	Guard  func(f func()) bool
	OnFail func(error) // called once at most, maybe before Join returns: this node can never be a member; may be nil

	net network // nil: the system's
}

// Level is what this version understands on links, beyond what LinkVersion says: 0 is v0.3.0. What came with a level
// goes only to members that have it, so that versions can be mixed, and a rolling upgrade undone.
const Level = 2

// LevelChanges is the level from which on a node takes what has changed of a state, and what another has of a room in
// frames of their own.
const LevelChanges = 1

// LevelOperate is the level from which on a node does what operators want of it by way of another.
const LevelOperate = 2

// Member is a node as the others see it.
type Member struct {
	Name     string
	Addr     string // host:port of gossip and links
	Draining bool
	Birth    uint64 // random per process, so that a node restarted under its name is told from the one before
	Level    uint8  // what it understands on links: see Level
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
	cfg    Config
	list   *memberlist.Memberlist
	trans  *transport
	net    network
	creds  atomic.Pointer[Credentials]
	keys   *memberlist.Keyring // of gossip
	birth  uint64
	begun  time.Time
	quiet  repeats
	rumors rumors

	mu       sync.Mutex
	members  map[string]Member
	doubted  map[string]Member // of these, those that memberlist counts as dead: see opinion.go
	claims   map[string]Member // those that memberlist counts as alive and that have not answered yet: see hearsay.go
	met      map[Peer]int      // processes that have answered and are being asked to take this one in
	draining bool
	search
	changed chan struct{} // capacity 1: the members changed since the last view
	joined  chan struct{} // closed when Join has succeeded
	stop    chan struct{}
	life    context.Context // ends with stop
	end     context.CancelFunc
	done    sync.WaitGroup
	once    sync.Once
}

// Join makes this process a member, and goes on looking for the others (see Missing). It waits for no more than a
// moment for those of cfg.Join: a node that finds nobody is a cluster of one until it does. It fails if something is
// wrong with this node itself.
func Join(cfg Config) (*Cluster, error) {
	if cfg.Name == "" || len(cfg.Name) > maxName {
		return nil, errors.New("node: a name of 1 to 128 bytes is needed")
	}
	if len(cfg.Keys) == 0 {
		return nil, ErrKey
	}
	c := &Cluster{
		cfg: cfg, net: cfg.net, begun: time.Now(), members: make(map[string]Member), doubted: make(map[string]Member),
		claims: make(map[string]Member), met: make(map[Peer]int),
		search:  search{lost: make(map[string]absentee), missing: make(map[string]string), accepted: len(cfg.Join) == 0},
		changed: make(chan struct{}, 1), joined: make(chan struct{}), stop: make(chan struct{}),
	}
	if c.net == nil {
		c.net = system{}
	}
	if cfg.OnKeys == nil {
		c.cfg.OnKeys = func() {}
	}
	if cfg.OnFail == nil {
		c.cfg.OnFail = func(error) {}
	}
	c.life, c.end = context.WithCancel(context.Background())
	c.creds.Store(cfg.Keys.Credentials())
	var b [8]byte
	_, _ = rand.Read(b[:])
	c.birth = binary.BigEndian.Uint64(b[:])
	within, cancel := context.WithTimeout(c.life, lookupFor)
	defer cancel()
	var err error
	keys := cfg.Keys.gossip()
	c.keys, _ = memberlist.NewKeyring(keys, keys[0]) // they are of the right length
	if c.trans, err = newTransport(within, c.net, cfg.Bind, cfg.Advertise, c.keys, cfg.Log); err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	c.trans.onLink, c.trans.odd = c.greet, c.nonsense
	c.trans.begin()
	if c.trans.told.Addr().IsLoopback() {
		cfg.Log.Warn().Stringer("addr", c.trans.told).Msg("the other nodes are told a loopback address, at which only those on this machine reach it; " +
			"see --advertise")
	}
	if c.list, err = memberlist.Create(c.gossip()); err != nil {
		_ = c.trans.Shutdown()
		return nil, fmt.Errorf("cluster: %w", err)
	}
	close(c.joined)
	asked := make(chan struct{}, len(cfg.Join))
	c.done.Add(2 + len(cfg.Join))
	go c.tell()
	go c.guard(c.watchAddress)
	for _, entry := range cfg.Join {
		first := sync.OnceFunc(func() { asked <- struct{}{} })
		go c.guard(func() { c.seek(entry, first) })
	}
	c.await(asked, len(cfg.Join))
	return c, nil
}

// await returns when all have been asked once, or somebody has taken this node in, or startWait is over.
func (c *Cluster) await(asked <-chan struct{}, n int) {
	limit := time.NewTimer(startWait)
	defer limit.Stop()
	for range n {
		select {
		case <-asked:
		case <-limit.C:
			return
		}
		c.mu.Lock()
		in := c.accepted
		c.mu.Unlock()
		if in {
			return
		}
	}
}

// gossip is memberlist's configuration.
func (c *Cluster) gossip() *memberlist.Config {
	mc := memberlist.DefaultLANConfig()
	mc.Name, mc.Transport = c.cfg.Name, c.trans
	mc.Keyring = c.keys
	// A death is known in 0.35 to 0.6 s instead of 6 to 7 (simulated), a second opinion included; links know a killed
	// process at once.
	mc.ProbeInterval, mc.ProbeTimeout = 90*time.Millisecond, 45*time.Millisecond
	mc.SuspicionMult, mc.SuspicionMaxTimeoutMult = 1, 1
	mc.GossipInterval = mc.ProbeInterval   // one wake for both; what has to be known at once goes by links and TCP: see introduce
	mc.PushPullInterval = 10 * time.Second // what repairs views where UDP does not pass
	mc.UDPBufferSize = 1200                // with its headers within IPv6's least MTU, 1280
	mc.TCPTimeout = 2 * time.Second
	mc.DeadNodeReclaimTime = time.Millisecond // a node restarted under its name may come back at another address
	mc.Delegate, mc.Events, mc.Alive, mc.Conflict = (*delegate)(c), (*events)(c), (*aliveFilter)(c), (*conflicts)(c)
	mc.LogOutput, mc.Logger = nil, stdlog.New(&logWriter{log: c.cfg.Log, quiet: &c.quiet}, "", 0)
	return mc
}

// SetKeys takes other keys than before, at least one. Links that were proved by a key that has gone are the callee's of
// OnKeys to end.
func (c *Cluster) SetKeys(ks Keys) error {
	if len(ks) == 0 {
		return ErrKey
	}
	keys := ks.gossip()
	for _, k := range keys {
		if err := c.keys.AddKey(k); err != nil {
			return err
		}
	}
	if err := c.keys.UseKey(keys[0]); err != nil {
		return err
	}
	for _, old := range c.keys.GetKeys() {
		if !slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, old) }) {
			if err := c.keys.RemoveKey(old); err != nil {
				return err
			}
		}
	}
	c.creds.Store(ks.Credentials())
	c.cfg.OnKeys()
	return nil
}

// Current is Credentials.Current with the keys that this node holds now.
func (c *Cluster) Current(l *Link) (peer, self bool) { return c.creds.Load().Current(l) }

// Probe shakes hands with a member, as Dial does, and leaves. It blocks for at most a second and HandshakeTimeout.
func (c *Cluster) Probe(m Member) error {
	peer, err := c.probe(m.Addr)
	if err == nil && (peer != Peer{m.Name, m.Birth}) {
		err = ErrNotMember
	}
	return err
}

func (c *Cluster) self() Peer { return Peer{c.cfg.Name, c.birth} }

// Name returns this node's name.
func (c *Cluster) Name() string { return c.cfg.Name }

// Self returns this node as the others see it.
func (c *Cluster) Self() Member {
	return Member{Name: c.cfg.Name, Addr: c.Addr(), Birth: c.birth, Level: Level}
}

// Addr returns where the others reach gossip and links, as they are told.
func (c *Cluster) Addr() string { return c.trans.told.String() }

// Drain tells the others that this node is about to leave, so that no room is placed on it. It blocks for some seconds
// at most.
func (c *Cluster) Drain() error { return c.setDraining(true) }

// Undrain tells the others that this node stays after all.
func (c *Cluster) Undrain() error { return c.setDraining(false) }

func (c *Cluster) setDraining(is bool) error {
	c.mu.Lock()
	c.draining = is
	c.mu.Unlock()
	err := c.list.UpdateNode(time.Second)
	c.introduce()
	return err
}

// Leave says goodbye, so that the others need not find out.
func (c *Cluster) Leave() error { return c.list.Leave(500 * time.Millisecond) }

// Shutdown ends the membership. It blocks until its goroutines have ended; it must not be called from OnView or OnLink.
// Calling it again does nothing.
func (c *Cluster) Shutdown() (err error) {
	c.once.Do(func() {
		c.mu.Lock()
		close(c.stop)
		c.mu.Unlock()
		c.end()
		err = errors.Join(c.list.Shutdown(), c.trans.Shutdown())
		c.done.Wait()
	})
	return err
}

// Dial opens a link to a member and shakes hands.
func (c *Cluster) Dial(m Member, timeout time.Duration) (*Link, error) {
	ctx, cancel := context.WithTimeout(c.life, timeout)
	defer cancel()
	conn, err := c.net.dial(ctx, m.Addr)
	if err != nil {
		return nil, err
	}
	link, err := Client(conn, c.creds.Load(), c.self(), Peer{m.Name, m.Birth})
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("link to %s at %s: %w", m.Name, m.Addr, err)
	}
	return link, nil
}

// link shakes hands with a node that dialed.
func (c *Cluster) link(conn net.Conn) {
	link, peer, err := Server(conn, c.creds.Load(), c.self())
	if errors.Is(err, errProbe) {
		_ = conn.Close()
		return
	}
	if err != nil {
		from := origin(conn.RemoteAddr())
		if left, ok := c.quiet.allow("refused "+from.String()+plain(err), time.Now()); ok {
			c.cfg.Log.Warn().Err(err).Stringer("peer_addr", conn.RemoteAddr()).Int("left_out", left).Msg("link refused")
		}
		_ = conn.Close()
		return
	}
	proved(conn)
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
		c.guard(func() { c.cfg.OnView(newView(ms)) })
	}
}

// remove takes a member out of the view.
func (c *Cluster) remove(n *memberlist.Node) {
	c.mu.Lock()
	c.lose(n)
	delete(c.members, n.Name)
	c.mu.Unlock()
	c.viewChanged()
}

func (c *Cluster) viewChanged() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// guard calls f as the configuration wants it.
func (c *Cluster) guard(f func()) bool {
	if c.cfg.Guard == nil {
		f()
		return true
	}
	return c.cfg.Guard(f)
}

// greet is link for a stranger.
func (c *Cluster) greet(conn net.Conn) {
	if !c.guard(func() { c.link(conn) }) {
		_ = conn.Close()
	}
}

// events receives memberlist's callbacks, which run under its lock: note and leave.
type events Cluster

func (e *events) NotifyJoin(n *memberlist.Node)   { (*Cluster)(e).hear((*Cluster).memberLives, n) }
func (e *events) NotifyUpdate(n *memberlist.Node) { (*Cluster)(e).hear((*Cluster).memberLives, n) }
func (e *events) NotifyLeave(n *memberlist.Node)  { (*Cluster)(e).hear((*Cluster).memberDied, n) }

func (c *Cluster) hear(f func(*Cluster, *memberlist.Node), n *memberlist.Node) {
	c.guard(func() { f(c, n) })
}

// delegate gives memberlist this node's metadata: link version, flags (bit 0: draining), birth, level. The link address
// is the member's own.
type delegate Cluster

func (d *delegate) NodeMeta(int) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	meta := []byte{LinkVersion, 0}
	if d.draining {
		meta[1] = 1
	}
	return append(binary.BigEndian.AppendUint64(meta, d.birth), Level)
}

func (d *delegate) NotifyMsg([]byte)                {}
func (d *delegate) GetBroadcasts(int, int) [][]byte { return nil }
func (d *delegate) LocalState(bool) []byte          { return nil }
func (d *delegate) MergeRemoteState([]byte, bool)   {}

// aliveFilter keeps nodes that say other things on links out of the view: rooms must not be placed on who cannot be
// reached.
type aliveFilter Cluster

// NotifyAlive implements memberlist.AliveDelegate.
func (a *aliveFilter) NotifyAlive(n *memberlist.Node) error {
	if len(n.Meta) > 0 && n.Meta[0] == LinkVersion {
		err := sensible(n)
		if err != nil {
			(*Cluster)(a).nonsense(&net.TCPAddr{IP: n.Addr, Port: int(n.Port)}, err)
		}
		return err
	}
	if _, ok := a.quiet.allow("version "+n.Name+n.Address(), time.Now()); !ok {
		return ErrVersion
	}
	a.cfg.Log.Warn().Str("node", n.Name).Str("addr", n.Address()).Hex("meta", n.Meta).Msg("a node of another version is left out")
	return ErrVersion
}

// logWriter turns memberlist's lines into events: "[WARN] memberlist: text". What it warns of again and again is an
// event now and then.
type logWriter struct {
	log   zerolog.Logger
	quiet *repeats
}

// ports are what differs between two warnings of the same.
var ports = regexp.MustCompile(`:\d+`)

func (w *logWriter) Write(b []byte) (int, error) {
	line := strings.TrimSpace(string(b))
	level := zerolog.DebugLevel
	for _, prefix := range []string{"[ERR]", "[WARN]"} {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			level, line = zerolog.WarnLevel, strings.TrimSpace(rest)
		}
	}
	left := 0
	if level == zerolog.WarnLevel {
		var ok bool
		if left, ok = w.quiet.allow(ports.ReplaceAllString(line, ":"), time.Now()); !ok {
			return len(b), nil
		}
	}
	e := w.log.WithLevel(level).Str("from", "memberlist")
	if left > 0 {
		e = e.Int("left_out", left)
	}
	e.Msg(strings.TrimPrefix(line, "memberlist: "))
	return len(b), nil
}
