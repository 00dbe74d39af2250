package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/timedge/timedge/admin"
	"github.com/timedge/timedge/carry"
	"github.com/timedge/timedge/codec"
)

// What operators want of a node, by way of any node: to say how it is, to drain, to send some of its clients elsewhere.
// PROTOCOL.md, section "Links", has the frame.

// wish is what an operator wants of a node.
type wish struct {
	Do        string           `json:"do"` // status, drain, undrain, rebalance, stay, api
	By        string           `json:"by,omitempty"`
	Moves     int              `json:"moves,omitempty"`
	PerSecond int              `json:"per_second,omitempty"`
	API       *admin.Operation `json:"api,omitempty"`
}

// fulfil does it, and returns how the node is then.
func (e *Engine) fulfil(w wish) admin.NodeStatus {
	var err error
	switch w.Do {
	case "status":
	case "drain":
		err = e.Drain(w.By)
	case "undrain":
		err = e.Undrain(w.By)
	case "rebalance":
		err = e.sendElsewhere(w)
	case "stay":
		e.stay(w.By)
	default:
		err = fmt.Errorf("%w: this version does not know how to %s", admin.ErrRefused, w.Do)
	}
	s := admin.NodeStatus{Node: e.cfg.Node, Clients: e.clients()}
	s.State, _ = e.state()
	if err != nil {
		s.Error = err.Error()
	}
	return s
}

// on has a node of the cluster do what an operator wants, and returns how it is then; its name may be empty for this
// one.
func (e *Engine) on(ctx context.Context, name string, w wish) (s admin.NodeStatus, err error) {
	if name == "" || name == e.cfg.Node {
		s = e.fulfil(w)
	} else if err = e.elsewhere(ctx, name, w, inspectTimeout, &s); err != nil {
		return admin.NodeStatus{Node: name}, fmt.Errorf("%w: node %s: %w", admin.ErrRefused, name, err)
	}
	if s.Error != "" {
		err = fmt.Errorf("%w: node %s: %s", admin.ErrRefused, s.Node, s.Error)
	}
	return s, err
}

// elsewhere asks another node, and puts its answer into into. It blocks for so long at most.
func (e *Engine) elsewhere(ctx context.Context, name string, w wish, within time.Duration, into any) error {
	c := e.cluster
	if c == nil {
		return errors.New("this node is in no cluster")
	}
	w.By = e.cfg.Node + " for " + w.By
	b, err := json.Marshal(w)
	if err != nil {
		return err
	}
	if len(b) > codec.MaxOperate {
		return errTooLong
	}
	answer := make(chan []byte, 1)
	if !c.on(func() { err = c.node.Operate(name, b, e.now(), func(b []byte) { answer <- b }) }) {
		err = errGoingAway
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	select {
	case b := <-answer:
		if b == nil {
			return carry.ErrNode
		}
		return json.Unmarshal(b, into)
	case <-ctx.Done():
		return errors.New("no answer")
	}
}

// errTooLong says that a wish is longer than what goes to other nodes.
var errTooLong = fmt.Errorf("more than %d bytes go to no other node", codec.MaxOperate)

// Operate implements carry.Effects.
func (x *effects) Operate(l carry.LinkID, req uint32, b []byte) {
	c := (*cluster)(x)
	c.done.Add(1)
	go func() {
		defer c.done.Done()
		defer c.e.rescue(inAdmin)
		var w wish
		s := admin.NodeStatus{Node: c.self, Error: "the wish is no JSON"}
		var out []byte
		var err error
		switch bad := json.Unmarshal(b, &w); {
		case bad == nil && w.Do == "api":
			out, err = c.e.answerAPI(w)
		case bad == nil:
			s = c.e.fulfil(w)
			fallthrough
		default:
			out, err = json.Marshal(s)
		}
		if err != nil {
			return
		}
		c.decide(func(int64) { x.Send(l, &codec.Report{Req: req, JSON: out}) })
	}()
}

// DrainNode is Drain of a node of the cluster, UndrainNode Undrain; an empty name is this one.
func (e *Engine) DrainNode(ctx context.Context, name, by string) error {
	_, err := e.on(ctx, name, wish{Do: "drain", By: by})
	return err
}

// UndrainNode takes a drain back: see DrainNode.
func (e *Engine) UndrainNode(ctx context.Context, name, by string) error {
	_, err := e.on(ctx, name, wish{Do: "undrain", By: by})
	return err
}

// Statuses asks all nodes of the cluster how they are. One that does not answer has an Error.
func (e *Engine) Statuses(ctx context.Context) []admin.NodeStatus {
	return e.onAll(ctx, e.all(), func(admin.NodeStatus) wish { return wish{Do: "status"} })
}

// all returns the members of the cluster, of which nothing is known yet.
func (e *Engine) all() (list []admin.NodeStatus) {
	for _, n := range e.Nodes() {
		list = append(list, admin.NodeStatus{Node: n.Name})
	}
	return list
}

// onAll asks every node of a list for what of says.
func (e *Engine) onAll(ctx context.Context, list []admin.NodeStatus, of func(admin.NodeStatus) wish) []admin.NodeStatus {
	all := slices.Clone(list)
	var busy sync.WaitGroup
	for i := range all {
		busy.Go(func() {
			s, err := e.on(ctx, list[i].Node, of(list[i]))
			if s.Moves = list[i].Moves; err != nil && s.Error == "" {
				s.Error = err.Error()
			}
			all[i] = s
		})
	}
	busy.Wait()
	return all
}

// Rebalance has every node that has more clients than the mean send what it has above that elsewhere, so many a second
// at most. It returns how many each sends, and does nothing if dry is set.
func (e *Engine) Rebalance(ctx context.Context, perSecond int, dry bool, by string) ([]admin.NodeStatus, error) {
	if e.cluster == nil {
		return nil, fmt.Errorf("%w: a node on its own has nobody to send clients to", admin.ErrRefused)
	}
	all := e.Statuses(ctx)
	var have []int
	var who []int
	for i, s := range all {
		switch {
		case s.Error != "":
		case s.State != "ready" && s.State != "over_limits":
			all[i].Error = "takes no part: " + s.State
		default:
			have, who = append(have, s.Clients), append(who, i)
		}
	}
	var moving []admin.NodeStatus
	for i, n := range excess(have) {
		if all[who[i]].Moves = n; n > 0 {
			moving = append(moving, all[who[i]])
		}
	}
	if dry {
		return all, nil
	}
	for _, s := range e.onAll(ctx, moving, func(s admin.NodeStatus) wish {
		return wish{Do: "rebalance", By: by, Moves: s.Moves, PerSecond: perSecond}
	}) {
		i := slices.IndexFunc(all, func(n admin.NodeStatus) bool { return n.Node == s.Node })
		all[i].Error = s.Error
	}
	return all, nil
}

// Stay ends what Rebalance has begun, on all nodes.
func (e *Engine) Stay(ctx context.Context, by string) error {
	for _, s := range e.onAll(ctx, e.all(), func(admin.NodeStatus) wish { return wish{Do: "stay", By: by} }) {
		if s.Error != "" {
			return fmt.Errorf("%w: %s", admin.ErrRefused, s.Error)
		}
	}
	return nil
}

// slack is by which part of the mean a node may be above it before anything moves.
const slack = 20

// excess returns how many of its clients each of several nodes is to send elsewhere: what it has above the mean, if that
// is more than the slack.
func excess(have []int) []int {
	sum := 0
	for _, n := range have {
		sum += n
	}
	moves := make([]int, len(have))
	for i, n := range have {
		mean := (sum + len(have) - 1) / len(have)
		if n > mean+max(1, mean/slack) {
			moves[i] = n - mean
		}
	}
	return moves
}

// moveWithin is how long a client that is told to go elsewhere may take before its session is ended.
const moveWithin = 5 * time.Second

// moving is what sends clients elsewhere.
type moving struct {
	mu   sync.Mutex
	end  context.CancelFunc // of what runs; nil: nothing has run
	done sync.WaitGroup
}

// halt ends what runs.
func (m *moving) halt() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.end != nil {
		m.end()
	}
	m.done.Wait()
}

// sendElsewhere begins to tell clients to go elsewhere, in the place of what was begun before.
func (e *Engine) sendElsewhere(w wish) error {
	switch {
	case w.Moves < 0 || w.PerSecond < 1 || w.PerSecond > 10_000:
		return fmt.Errorf("%w: 1 to 10000 clients a second", admin.ErrRefused)
	case e.leaving.Load() || e.parting.Load():
		return fmt.Errorf("%w: the node drains", admin.ErrRefused)
	}
	e.moving.halt()
	e.moving.mu.Lock()
	defer e.moving.mu.Unlock()
	ctx, cancel := context.WithCancel(e.ending)
	e.moving.end = cancel
	e.moving.done.Go(func() { e.try(inAdmin, func() { e.move(ctx, w) }) })
	e.Operator("rebalance", w.By).Int("moves", w.Moves).Int("per_second", w.PerSecond).Send()
	e.log.Info().Str("operator", w.By).Int("clients", w.Moves).Msg("sending clients elsewhere")
	return nil
}

// stay ends what sendElsewhere has begun. Who is told to go already goes.
func (e *Engine) stay(by string) {
	e.moving.halt()
	e.Operator("stay", by).Send()
}

// move tells clients to go elsewhere, one at a time, and ends the sessions of those that do not.
func (e *Engine) move(ctx context.Context, w wish) {
	type told struct {
		id uint64
		at int64
	}
	var going []told // oldest first
	t := time.NewTicker(time.Second / time.Duration(w.PerSecond))
	defer t.Stop()
	for left := w.Moves; left > 0 || len(going) > 0; {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		for ; len(going) > 0 && e.now()-going[0].at > int64(moveWithin); going = going[1:] {
			e.onSession(going[0].id, (*session).finish)
		}
		if left--; left >= 0 {
			id, ok := e.sendOne()
			if !ok {
				left = 0
				continue
			}
			going = append(going, told{id, e.now()})
		}
	}
}

// sendOne tells one client to go elsewhere: of the loop that has most, one that publishes nothing if there is such a
// one. It returns false if there is nobody to be told.
func (e *Engine) sendOne() (id uint64, ok bool) {
	byNumber := slices.Clone(e.loops)
	slices.SortStableFunc(byNumber, func(a, b *loop) int { return int(b.stats.sessions.Load() - a.stats.sessions.Load()) })
	for _, l := range byNumber {
		l.onLoop(func() {
			var pick *session
			for _, s := range l.sessions {
				if !s.movable() || s.sent {
					continue
				}
				if silent := !s.publishes(); silent || pick == nil {
					if pick = s; silent {
						break
					}
				}
			}
			if pick != nil {
				id, ok, pick.sent = pick.id, true, true
				pick.queueControl(&codec.GoAway{Code: codec.CodeGoingAway, WithinMillis: uint32(moveWithin.Milliseconds())})
				l.settle()
			}
		})
		if ok {
			break
		}
	}
	return id, ok
}

// movable reports whether the session is that of a client that connects from outside. Loop only.
func (s *session) movable() bool {
	return s.phase == phaseOpen && s.role.client() && !s.inner && !s.gone()
}

// publishes reports whether the session publishes anything. Loop only.
func (s *session) publishes() bool {
	ps := s.pushing()
	return ps != nil && ps.part.Len() > 0
}

// clients returns how many sessions are those of clients that connect from outside.
func (e *Engine) clients() (n int) {
	for _, l := range e.loops {
		l.onLoop(func() {
			for _, s := range l.sessions {
				if s.movable() {
					n++
				}
			}
		})
	}
	return n
}
