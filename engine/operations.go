package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/timedge/timedge/admin"
	"github.com/timedge/timedge/carry"
	"github.com/timedge/timedge/codec"
)

// Any node's API answers for all: what is asked of one for another goes over the link between them as the wish "api" (see
// rebalance.go), and is done there as if that one had been asked. The node that was asked has checked who may.

const (
	operationTimeout = 15 * time.Second // for another node's answer
	maxEvents        = 64               // that are remembered
	maxBusiest       = 40               // rooms that Figures names
)

// operations are this node's part in that, and what has happened that operators look at.
type operations struct {
	do atomic.Pointer[Operator]

	mu     sync.Mutex
	seq    uint64
	events []event // the newest last; at most maxEvents
}

// Operator does an operation, and returns HTTP's status and body, which is JSON or empty. ctx is done when the server ends.
type Operator func(ctx context.Context, o admin.Operation) (status int, body []byte)

type event struct {
	admin.Event
	at int64
}

// apiAnswer is what the wish "api" is answered with.
type apiAnswer struct {
	Status int             `json:"status"`
	Body   json.RawMessage `json:"body,omitempty"`
	Error  string          `json:"error,omitempty"` // of a node that does not know the wish
}

// Operated has do answer what operators ask of this node by way of others. Until then they are told to try again.
func (e *Engine) Operated(do Operator) { e.operations.do.Store(&do) }

// answerAPI does the wish "api".
func (e *Engine) answerAPI(w wish) ([]byte, error) {
	do := e.operations.do.Load()
	if do == nil || w.API == nil {
		return json.Marshal(apiAnswer{Status: http.StatusServiceUnavailable, Body: json.RawMessage(`{"error":"the node is about to start"}`)})
	}
	o := *w.API
	o.By = w.By
	a := apiAnswer{Status: http.StatusInternalServerError, Body: json.RawMessage(`{"error":"a fault of this server; its log says more"}`)}
	e.try(inAdmin, func() { a.Status, a.Body = (*do)(e.ending, o) })
	b, err := json.Marshal(a)
	if len(b) > codec.MaxReport {
		const text = `{"error":"too long an answer for the way between nodes: ask for less (per_page)"}`
		b, err = json.Marshal(apiAnswer{Status: http.StatusRequestEntityTooLarge, Body: json.RawMessage(text)})
	}
	return b, err
}

// Operate asks another node what an operator wants of its API, and returns what that answers.
func (e *Engine) Operate(ctx context.Context, node string, o admin.Operation) (status int, body []byte, err error) {
	if do := e.operations.do.Load(); node == e.cfg.Node && do != nil {
		status, body = (*do)(ctx, o)
		return status, body, nil
	}
	if !slices.ContainsFunc(e.Nodes(), func(n admin.Node) bool { return n.Name == node }) {
		return 0, nil, fmt.Errorf("node %s: %w", node, admin.ErrNotFound)
	}
	var a apiAnswer
	err = e.elsewhere(ctx, node, wish{Do: "api", By: o.By, API: &o}, operationTimeout, &a)
	switch {
	case errors.Is(err, errTooLong):
		return 0, nil, fmt.Errorf("%w: %w", admin.ErrTooLong, err)
	case err != nil:
		return 0, nil, fmt.Errorf("%w: node %s: %w", admin.ErrUnreachable, node, err)
	case a.Status == 0:
		return 0, nil, fmt.Errorf("%w: node %s: %s", admin.ErrUnreachable, node, cmp.Or(a.Error, "no answer"))
	}
	return a.Status, a.Body, nil
}

// happened remembers a note for operators. Any goroutine.
func (x *operations) happened(n carry.Note, now int64) {
	v := event{admin.Event{Text: n.Text, Warning: n.Warn, Node: n.Peer, Epoch: n.Epoch, Rooms: n.Rooms, Members: n.Count}, now}
	if n.Room != 0 {
		v.Room = n.Room.String()
	}
	if n.Err != nil {
		v.Text += ": " + n.Err.Error()
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.seq++
	v.Seq = x.seq
	if len(x.events) == maxEvents {
		x.events = slices.Delete(x.events, 0, 1)
	}
	x.events = append(x.events, v)
}

// list returns what has happened lately, the newest last.
func (x *operations) list(now int64) []admin.Event {
	x.mu.Lock()
	defer x.mu.Unlock()
	all := make([]admin.Event, 0, len(x.events))
	for _, v := range x.events {
		v.AgoMillis = max(0, now-v.at) / int64(time.Millisecond)
		all = append(all, v.Event)
	}
	return all
}

// Figures returns what a page that draws the cluster wants of this node: rooms that something has flowed through lately
// come first, of those the largest. Overview's Version, UptimeMillis and ClockMillis are the caller's.
func (e *Engine) Figures() admin.Figures {
	f := admin.Figures{Overview: e.Overview(), Events: e.operations.list(e.now()), Busiest: []admin.FlowingRoom{}}
	all := e.RoomList()
	for _, r := range all {
		if r.Role == "relay" {
			f.Relayed++
		}
	}
	f.Mirrored = len(all) - f.Relayed
	recent := func(r admin.Room) int {
		if r.IdleMillis < 5000 {
			return 0
		}
		return 1
	}
	slices.SortFunc(all, func(a, b admin.Room) int {
		return cmp.Or(cmp.Compare(recent(a), recent(b)), cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.ID, b.ID))
	})
	for _, r := range all[:min(len(all), maxBusiest)] {
		f.Busiest = append(f.Busiest, admin.FlowingRoom{Room: r, Chain: []string{e.cfg.Node}})
	}
	if c := e.cluster; c != nil {
		c.on(func() {
			for i := range f.Busiest {
				if id, err := codec.ParseRoomID(f.Busiest[i].ID); err == nil {
					f.Busiest[i].Chain = append([]string{}, c.node.Core().Chain(id)...)
				}
			}
		})
	}
	return f
}
