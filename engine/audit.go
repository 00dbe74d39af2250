package engine

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/auth"
	"github.com/timedge/timedge/codec"
)

// The audit stream tells who registered, granted, revoked or removed something, on this node's clients' side, who was
// refused, and what operators did: a line each, in Config.Audit, with the action under "audit". Frames and what is
// asked without changing anything are no matter of it.

// audit begins a line. A nil event, of a server that keeps no audit, may be used like any other. Any goroutine.
func (e *Engine) audit(action string) *zerolog.Event {
	if e.cfg.Audit == nil {
		return nil
	}
	return e.cfg.Audit.Log().Str("audit", action)
}

// Operator begins a line of what an operator did. Any goroutine.
func (e *Engine) Operator(action, by string) *zerolog.Event {
	return e.audit(action).Str("operator", by)
}

// change is a request that changes something, and waits for its answer.
type change struct {
	action string
	room   codec.RoomID
	names  []string // of accounts
}

// maxChanges bounds those of one session that are kept; further ones are audited by their answers alone.
const maxChanges = 1024

// noteChange keeps what a client asks for until it is answered. Loop only.
func (s *session) noteChange(c codec.Control) {
	if s.loop.eng.cfg.Audit == nil {
		return
	}
	var req uint32
	var ch change
	switch m := c.(type) {
	case *codec.Remove:
		req, ch = m.Req, change{action: "removed", room: m.Room}
	case *codec.Grant:
		req, ch = m.Req, change{"granted", m.Room, []string{m.Account}}
	case *codec.Revoke:
		req, ch = m.Req, change{"revoked", m.Room, []string{m.Account}}
	case *codec.Inbox:
		req, ch = m.Req, change{action: "inbox_opened", room: m.Room}
		for _, name := range m.Accept {
			ch.names = append(ch.names, "+"+name)
		}
		for _, name := range m.Block {
			ch.names = append(ch.names, "-"+name)
		}
	default:
		return
	}
	ps := s.pushes()
	if ps.changes == nil {
		ps.changes = make(map[uint32]change)
	}
	if len(ps.changes) < maxChanges {
		ps.changes[req] = ch
	}
}

// auditAnswer writes what an answer has made true, or has refused. Loop only.
func (s *session) auditAnswer(c codec.Control) {
	e := s.loop.eng
	if e.cfg.Audit == nil || !s.role.client() {
		return
	}
	take := func(req uint32) (ch change, ok bool) {
		if ps := s.pushing(); ps != nil {
			if ch, ok = ps.changes[req]; ok {
				delete(ps.changes, req)
			}
		}
		return ch, ok
	}
	switch m := c.(type) {
	case *codec.Registered:
		s.auditLine("registered").Stringer("room", m.Room).Send()
	case *codec.OK:
		if ch, ok := take(m.Req); ok {
			action := ch.action
			ch.action = ""
			s.auditLine(action).EmbedObject(ch).Send()
		}
	case *codec.Refused:
		ch, _ := take(m.Req)
		if e.refusals.allow(e.now()) {
			s.auditLine("refused").Stringer("code", m.Code).EmbedObject(ch).Uint64("left_out", e.refusals.left.Swap(0)).Send()
		}
	}
}

// auditDenied writes that a client is not who it says, or is not any more. Loop only.
func (s *session) auditDenied(account string, err error) {
	e, reason := s.loop.eng, "unknown"
	if ae, ok := errors.AsType[*auth.Error](err); ok {
		reason = ae.Reason
	}
	if e.cfg.Audit != nil && e.refusals.allow(e.now()) {
		s.auditAs(account, "not_authenticated").Str("reason", reason).Uint64("left_out", e.refusals.left.Swap(0)).Send()
	}
}

func (s *session) auditLine(action string) *zerolog.Event { return s.auditAs(s.account(), action) }

func (s *session) auditAs(account, action string) *zerolog.Event {
	return s.loop.eng.audit(action).Str("account", account).Uint64("conn_id", s.id).Stringer("peer_addr", s.peerAddr())
}

// MarshalZerologObject implements zerolog.LogObjectMarshaler.
func (c change) MarshalZerologObject(ev *zerolog.Event) {
	if c.room != 0 {
		ev.Stringer("room", c.room)
	}
	if c.action != "" {
		ev.Str("of", c.action)
	}
	if c.names != nil {
		ev.Strs("names", c.names)
	}
}

// sieve lets so many lines through that who is refused in a loop does not fill a disk.
type sieve struct {
	clock atomic.Int64
	left  atomic.Uint64 // lines left out since the last one
}

// refusalsRate is how many refusals are audited a second, and at once; all are counted in timedge_refused_total.
var refusalsRate = newRate(100, time.Second)

func (v *sieve) allow(now int64) bool {
	if v.clock.Load() > now {
		v.left.Add(1)
		return false
	}
	refusalsRate.payShared(&v.clock, 1, now)
	return true
}
