package client

import "sync/atomic"

// A Phase is what a client is doing about its connection.
type Phase uint8

// The phases of a client.
const (
	Connecting   Phase = iota // a server is being looked for
	Connected                 // there is a connection
	Disconnected              // it was lost
	Draining                  // its server is about to go away: another is looked for while it lasts
	Ended                     // the client has ended
)

var phases = [...]string{"connecting", "connected", "disconnected", "draining", "ended"}

func (p Phase) String() string {
	if int(p) < len(phases) {
		return phases[p]
	}
	return "unknown"
}

// State is what Options.OnState is told.
type State struct {
	Phase  Phase
	Server Server // the connection that this is about; empty while connecting
	Err    error  // why, where Phase is Disconnected or Ended
}

// Server is a connection's other end.
type Server struct {
	Addr    string // as in Options.Servers, or as another server named it
	Node    string // the server's name of itself
	Session uint64 // the server's number of the connection
}

// Server returns where the client is connected, and false while it is not.
func (c *Client) Server() (Server, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link == nil {
		return Server{}, false
	}
	return c.link.describe(), true
}

func (l *link) describe() Server {
	return Server{Addr: l.server, Node: l.welcome.Node, Session: l.welcome.Session}
}

// tell calls OnState. Dial, then the goroutine that keeps the client connected.
func (c *Client) tell(p Phase, l *link, err error) {
	if c.opts.OnState == nil {
		return
	}
	st := State{Phase: p, Err: err}
	if l != nil {
		st.Server = l.describe()
	}
	c.opts.OnState(st)
}

// Stats are sums since the client began, for metrics, and what is held at present.
type Stats struct {
	Connections       uint64 // made; all but the first are reconnections
	BytesIn, BytesOut uint64
	Dropped           uint64 // frames that subscriptions dropped because they were not read, told by Gaps

	Requests   int // not answered yet
	Unacked    int // bytes pushed and not acknowledged
	Waiting    int // bytes that subscriptions hold for Next
	Unfinished int // bytes of messages whose last piece has not come
}

// counters are what Stats sums up.
type counters struct {
	connections, bytesIn, bytesOut, dropped atomic.Uint64
}

// Stats returns the client's figures.
func (c *Client) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Stats{
		Connections: c.stats.connections.Load(), BytesIn: c.stats.bytesIn.Load(), BytesOut: c.stats.bytesOut.Load(),
		Dropped: c.stats.dropped.Load(), Requests: len(c.requests), Unfinished: int(c.unfinished.held.Load()),
	}
	for _, p := range c.pubs {
		s.Unacked += p.window.used
	}
	for _, sub := range c.subs {
		s.Waiting += sub.Pending()
	}
	return s
}
