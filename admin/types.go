package admin

import (
	"context"
	"errors"

	"github.com/timedge/timedge/codec"
)

// Server is what the API shows and does. Its methods may be called from any goroutine, and may block for about a second
// where other nodes are asked.
type Server interface {
	Overview() Overview
	Nodes() []Node
	Rooms() []Room // those that this node has something to do with
	Room(ctx context.Context, id codec.RoomID) (RoomDetail, error)
	Sessions() []Session
	Session(id uint64) (SessionDetail, error)

	CloseRoom(ctx context.Context, id codec.RoomID, by string) error
	Grant(ctx context.Context, id codec.RoomID, account, by string) error
	Revoke(ctx context.Context, id codec.RoomID, account, by string) error
	CutSession(id uint64, by string) error
	DrainNode(ctx context.Context, node, by string) error // an empty name is this one's
	UndrainNode(ctx context.Context, node, by string) error
	Statuses(ctx context.Context) []NodeStatus
	Rebalance(ctx context.Context, perSecond int, dry bool, by string) ([]NodeStatus, error)
	Stay(ctx context.Context, by string) error
	SetLogLevel(level, by string) error
	Reload(by string) (Reloaded, error)

	// Figures is this node's part of what a page draws of the cluster.
	Figures() Figures
	// Operate asks another node for what an operator wants of it, and returns that one's answer as its API gives it.
	Operate(ctx context.Context, node string, o Operation) (status int, body []byte, err error)
}

// ErrNotFound is returned for a room, session or node that is not there; ErrRefused, wrapped, for what cannot be done;
// ErrUnreachable for a node that does not answer, and ErrTooLong for a request that is too long for the way to it.
var (
	ErrNotFound    = errors.New("not found")
	ErrRefused     = errors.New("refused")
	ErrUnreachable = errors.New("unreachable")
	ErrTooLong     = errors.New("too long")
)

// Operation is a request to the API of a node that has come to another one.
type Operation struct {
	Method string `json:"method"`
	Path   string `json:"path"` // with the query
	By     string `json:"-"`    // the operator, as the audit names it
	Body   []byte `json:"body,omitempty"`
}

// Overview is the node in figures; counters grow from its start.
type Overview struct {
	Node         string   `json:"node"`
	Version      string   `json:"version"`
	UptimeMillis int64    `json:"uptime_ms"`
	ClockMillis  int64    `json:"clock_unix_ms"` // what the computer's clock said, ms since 1970; 0: a node that does not tell
	State        string   `json:"state"`         // ready, draining, leaving, over_limits
	Reasons      []string `json:"reasons"`       // why not ready
	Sessions     int64    `json:"sessions"`      // of clients
	Rooms        int64    `json:"rooms"`
	MemoryBytes  int64    `json:"memory_bytes"`
	MemoryBound  int64    `json:"memory_bound"`
	QueuedBytes  int64    `json:"queued_bytes"`
	FramesIn     uint64   `json:"frames_in"`
	BytesIn      uint64   `json:"bytes_in"`
	Deliveries   uint64   `json:"deliveries"`
	BytesOut     uint64   `json:"bytes_out"`
	Dropped      uint64   `json:"dropped_frames"`
	CutOff       uint64   `json:"cut_off"`
	Takeovers    uint64   `json:"takeovers"`
	Panics       uint64   `json:"panics"`
}

// Node is a member of the cluster as this one sees it; of a node on its own there is one.
type Node struct {
	Name     string `json:"name"`
	Addr     string `json:"addr,omitempty"`
	Self     bool   `json:"self"`
	State    string `json:"state"` // linked, draining, out_of_reach; of this node itself: its Overview's
	Relayed  *int   `json:"rooms_relayed,omitempty"`
	Mirrored *int   `json:"rooms_mirrored,omitempty"`
}

// NodeStatus is a member of the cluster as it says itself.
type NodeStatus struct {
	Node    string `json:"node"`
	State   string `json:"state"`   // its Overview's
	Clients int    `json:"clients"` // sessions of clients that connect from outside
	Moves   int    `json:"moves"`   // of these, how many a rebalance sends elsewhere
	Error   string `json:"error,omitempty"`
}

// Room is a room as one node has it.
type Room struct {
	ID          string `json:"id"`
	Owner       string `json:"owner"`
	Policy      string `json:"policy"`
	Role        string `json:"role"` // of this node: relay, edge
	Subscribers int64  `json:"subscribers"`
	Publishers  int64  `json:"publishers"`
	Frames      uint64 `json:"frames"`
	Bytes       uint64 `json:"bytes"`
	AgeMillis   int64  `json:"age_ms"`
	IdleMillis  int64  `json:"idle_ms"`
}

// RoomDetail is a room with what flows through it.
type RoomDetail struct {
	Room
	Relay   string       `json:"relay,omitempty"`
	Epoch   uint32       `json:"epoch,omitempty"`
	Chain   []string     `json:"chain,omitempty"`
	Nodes   []RoomNode   `json:"nodes"`
	Streams []Stream     `json:"streams"`             // as this node has them
	Readers []Subscriber `json:"subscribers_here"`    // those connected to this node, the most behind first
	Writers []Publisher  `json:"publishers_by_relay"` // as the relay has them
}

// RoomNode is one node's part in a room.
type RoomNode struct {
	Node        string `json:"node"`
	Role        string `json:"role"`
	Subscribers int    `json:"subscribers"`
	Publishers  int    `json:"publishers"`
}

// Stream is one stream of a room.
type Stream struct {
	Publisher uint16 `json:"publisher"`
	Account   string `json:"account"`
	Dtype     uint8  `json:"dtype"`
	Next      uint64 `json:"next"` // the number of the frame expected next
	LogBytes  int    `json:"log_bytes"`
	Arrived   uint64 `json:"arrived"` // the number up to which all has arrived with those whom its publisher waits for
	// WaitsFor names, for people, who has acknowledged least of what has not arrived.
	WaitsFor []string `json:"waits_for,omitempty"`
}

// Publisher is one publisher of a room.
type Publisher struct {
	Num     uint16 `json:"num"`
	Account string `json:"account"`
	Node    string `json:"node"` // where its client is connected; empty while it is away
}

// Subscriber is a session that subscribes to a room.
type Subscriber struct {
	Session     uint64 `json:"session"`
	Account     string `json:"account"`
	Addr        string `json:"addr"`
	LagBytes    int    `json:"lag_bytes"` // queued for its session, over all its rooms
	LagMillis   int64  `json:"lag_ms"`    // the age of the oldest of that
	NotTaking   bool   `json:"not_taking"`
	OfOtherNode bool   `json:"of_other_node"` // a link, by which another node gets the room's frames
}

// Session is a client's connection.
type Session struct {
	ID            uint64 `json:"id"`
	Account       string `json:"account"`
	Addr          string `json:"addr"`
	Transport     string `json:"transport"` // tcp, tls, ws, wss
	AgeMillis     int64  `json:"age_ms"`
	Subscriptions int    `json:"subscriptions"`
	Publications  int    `json:"publications"`
	LagBytes      int    `json:"lag_bytes"`
	LagMillis     int64  `json:"lag_ms"`
}

// SessionDetail is a session with its rooms.
type SessionDetail struct {
	Session
	SubscribesTo []string `json:"subscribes_to"`
}

// Reloaded is what a reload has done.
type Reloaded struct {
	Taken   []string `json:"taken"`
	Restart []string `json:"needs_restart"`
}

// Figures is what a page that draws the cluster wants of one node.
type Figures struct {
	Overview
	Relayed  int           `json:"relayed"`  // rooms
	Mirrored int           `json:"mirrored"` // rooms of other relays that clients of this node use
	Busiest  []FlowingRoom `json:"busiest"`  // rooms that something has flowed through lately first, of those the largest
	Events   []Event       `json:"events"`   // what has happened lately, the newest last
}

// FlowingRoom is a room with the nodes that calculation gives it: its relay, then its standbys.
type FlowingRoom struct {
	Room
	Chain []string `json:"chain"`
}

// Event is something that happened to a node and that operators look at. Fields that do not apply are left out.
type Event struct {
	Seq       uint64 `json:"seq"` // rises by one from event to event of a node
	AgoMillis int64  `json:"ago_ms"`
	Text      string `json:"text"`
	Warning   bool   `json:"warning,omitempty"`
	Node      string `json:"node,omitempty"` // another one that it is about
	Room      string `json:"room,omitempty"`
	Epoch     uint32 `json:"epoch,omitempty"`
	Rooms     int    `json:"rooms,omitempty"`   // how many, if more than one
	Members   int    `json:"members,omitempty"` // of the cluster
}

// ClusterNode is a member with its own figures, if it could be asked.
type ClusterNode struct {
	Node
	Figures *Figures `json:"figures,omitempty"`
	Error   string   `json:"error,omitempty"` // why it could not
}

// Page is a part of a list.
type Page[T any] struct {
	Total int `json:"total"`
	Page  int `json:"page"`
	Items []T `json:"items"`
}
