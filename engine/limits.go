package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/timedge/timedge/carry"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// Limits are bounds on how much in a time. docs/limits.md has all limits of a server.
//
// Who goes over one is slowed or refused, and nobody else. What a session or an account pushes is slowed by its
// acknowledgements: they are held back until the rate has caught up, so that the publisher's window stops it. Nothing
// is lost, subscribers get what was taken, and only a client that does not keep to its window is cut off.
type Limits struct {
	// connections a second of one address, of one /64 with IPv6; default 200, below 0: no limit
	ConnRate     int
	ConnBurst    int            // of these at once; default ten seconds' worth
	ConnAtOnce   int            // connections that one address has at once; default half of MaxConns, 64 at least
	ConnExempt   []netip.Prefix // addresses that these do not hold for, as those of load balancers; default loopback
	AccountConns int            // connections that one account has at once; default half of MaxConns, 64 at least

	SessionFrames int64 // stream frames a second that a session pushes; 0: no limit
	SessionBytes  int64 // bytes of these, headers included
	AccountFrames int64 // likewise, of all sessions of an account on this node
	AccountBytes  int64

	// requests and pings a second of one session, and ten times as many other control frames; default 10,000, below 0: no
	// limit
	Requests int
}

func (c *Limits) fill(conns int) error {
	half := max(conns/2, min(conns, 64), 1)
	def(&c.ConnAtOnce, half)
	def(&c.AccountConns, half)
	def(&c.ConnRate, 200)
	def(&c.ConnBurst, 10*max(c.ConnRate, 0))
	def(&c.Requests, 10_000)
	if c.ConnExempt == nil {
		c.ConnExempt = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	}
	var errs []error
	if c.ConnRate > 0 && c.ConnBurst < 1 {
		errs = append(errs, fmt.Errorf("connections of an address at once: %d is below 1", c.ConnBurst))
	}
	for name, v := range map[string]int64{
		"connections of an address": int64(c.ConnAtOnce), "connections of an account": int64(c.AccountConns),
		"frames of a session": c.SessionFrames, "bytes of a session": c.SessionBytes,
		"frames of an account": c.AccountFrames, "bytes of an account": c.AccountBytes,
	} {
		if v < 0 {
			errs = append(errs, fmt.Errorf("%s: %d is below 0", name, v))
		}
	}
	return errors.Join(errs...)
}

// rate is a bound of so many in a second, and so many at once.
//
// Its state is a single number, the clock: the time up to which what was taken is paid for. It may lie in the past, by
// burst at most, which is what may be taken at once. Where it lies in the future the bound is exceeded, until then.
type rate struct {
	perSecond int64 // 0: no bound
	burst     int64 // ns
}

func newRate(perSecond int64, burst time.Duration) rate { return rate{perSecond, int64(burst)} }

// pay moves a clock on by n.
func (r rate) pay(clock, n, now int64) int64 {
	if r.perSecond == 0 {
		return 0
	}
	return max(clock, now-r.burst) + n*int64(time.Second)/r.perSecond
}

// payShared is pay for a clock that several loops move.
func (r rate) payShared(clock *atomic.Int64, n, now int64) {
	if r.perSecond == 0 {
		return
	}
	for {
		was := clock.Load()
		if clock.CompareAndSwap(was, r.pay(was, n, now)) {
			return
		}
	}
}

// limited says which limit was met, for the metrics.
type limited uint8

const (
	limitedSession limited = iota
	limitedAccount
	limitedRequests
	limitedControl
	limitedAnswers
	limitedKinds
)

var limitedNames = [limitedKinds]string{"session", "account", "requests", "control", "answers"}

// limits is what an engine keeps of its limits' state.
type limits struct {
	rates atomic.Pointer[rates]
	addrs *addrLimiter

	mu     sync.Mutex
	meters map[string]*accountMeter

	met     [limitedKinds]atomic.Uint64
	refused codeCounts // requests, by code
	closed  codeCounts // sessions, by code
}

// rates are what Reload exchanges of limits.
type rates struct {
	sessionFrames, sessionBytes, accountFrames, accountBytes rate
	pushes                                                   bool // any of these is set
	accounts                                                 bool // one of an account is
	requests                                                 rate // tenths of requests
}

// pushBurst is what may be pushed at once before a limit acts; requestBurst is the same of requests: by default enough
// for a client that reconnects and takes up all the rooms that it may.
const (
	pushBurst    = time.Second
	requestBurst = time.Second
)

func (l *limits) init(c *Limits) {
	l.meters = make(map[string]*accountMeter)
	l.addrs = newAddrLimiter(c.connRate(), c.ConnAtOnce, c.ConnExempt)
	l.rates.Store(c.rates())
}

// reload puts other limits in force.
func (l *limits) reload(c *Limits) {
	l.addrs.reload(c.connRate(), c.ConnAtOnce, c.ConnExempt)
	l.rates.Store(c.rates())
}

func (c *Limits) rates() *rates {
	r := &rates{
		sessionFrames: newRate(c.SessionFrames, pushBurst), sessionBytes: newRate(c.SessionBytes, pushBurst),
		accountFrames: newRate(c.AccountFrames, pushBurst), accountBytes: newRate(c.AccountBytes, pushBurst),
		requests: newRate(10*int64(max(c.Requests, 0)), requestBurst),
	}
	r.accounts = c.AccountFrames > 0 || c.AccountBytes > 0
	r.pushes = r.accounts || c.SessionFrames > 0 || c.SessionBytes > 0
	return r
}

func (c *Limits) connRate() rate {
	if c.ConnRate <= 0 {
		return rate{}
	}
	return newRate(int64(c.ConnRate), time.Duration(c.ConnBurst)*time.Second/time.Duration(c.ConnRate))
}

// accountMeter is how much an account has pushed, over all its sessions.
type accountMeter struct {
	frames, bytes atomic.Int64 // clocks
	gone          atomic.Bool  // off the table: look it up again
}

// meter returns the account's, making it if need be.
func (l *limits) meter(account string) *accountMeter {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := l.meters[account]
	if m == nil {
		m = &accountMeter{}
		l.meters[account] = m
	}
	return m
}

// sweep forgets the accounts that have as much to spend as a new one.
func (l *limits) sweep(now int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for account, m := range l.meters {
		if max(m.frames.Load(), m.bytes.Load()) < now-int64(2*pushBurst) {
			m.gone.Store(true)
			delete(l.meters, account)
		}
	}
}

// meter is how much a session has pushed.
type meter struct {
	frames, bytes int64 // clocks
	account       *accountMeter
	over          bool // at the last look
}

// charge counts what the session pushes. The session is of a client.
func (s *session) charge(ps *pushing, frames, bytes int) {
	l := &s.loop.eng.limits
	r := l.rates.Load()
	if !r.pushes {
		return
	}
	m, now := &ps.meter, s.loop.now
	m.frames = r.sessionFrames.pay(m.frames, int64(frames), now)
	m.bytes = r.sessionBytes.pay(m.bytes, int64(bytes), now)
	if !r.accounts {
		m.account = nil
	} else {
		if m.account == nil || m.account.gone.Load() {
			m.account = l.meter(s.account())
		}
		r.accountFrames.payShared(&m.account.frames, int64(frames), now)
		r.accountBytes.payShared(&m.account.bytes, int64(bytes), now)
	}
	which := m.limit(now)
	if which != limitedKinds && !m.over {
		l.met[which].Add(1)
	}
	m.over = which != limitedKinds
}

// limit returns which limit holds up what is pushed now, or limitedKinds if none does.
func (m *meter) limit(now int64) limited {
	switch {
	case max(m.frames, m.bytes) > now:
		return limitedSession
	case m.account != nil && max(m.account.frames.Load(), m.account.bytes.Load()) > now:
		return limitedAccount
	}
	return limitedKinds
}

// overLimit reports whether the session has pushed more than its rates allow by now, or its account holds too much.
func (s *session) overLimit() bool {
	ps := s.pushing()
	return ps != nil &&
		(s.loop.eng.limits.rates.Load().pushes && ps.meter.limit(s.loop.now) != limitedKinds || s.share.Over())
}

// ackDue acknowledges what has arrived, unless the session is over its limit: then a later tick does.
func (s *session) ackDue(p *carry.Publication) {
	if s.overLimit() {
		return
	}
	p.Withheld = 0
	s.Acks(p)
}

// withhold counts what is pushed while acknowledgements are held back. A client that keeps to its window can have one
// on its way when that begins and one after it; who pushes more is cut off.
func (s *session) withhold(p *carry.Publication, bytes int) error {
	if !s.overLimit() {
		return nil
	}
	if p.Withheld += bytes; p.Withheld > 2*s.loop.eng.rooms.Config().Window {
		return room.ErrFlow.With("the session pushes more than it may in a time, and does not wait for acknowledgements")
	}
	return nil
}

// mayBegin reports whether a session may publish into a further room: not while it is over its rate, or every room
// would be one more window. A session that has just connected is held to its account's.
func (s *session) mayBegin() bool {
	l := &s.loop.eng.limits
	if l.rates.Load().accounts {
		if m := &s.pushes().meter; m.account == nil || m.account.gone.Load() {
			m.account = l.meter(s.account())
		}
	}
	return !s.overLimit()
}

var errTooFast = &room.Error{Code: codec.CodeRateLimited,
	Text: "the session or its account has pushed more than it may in a time"}

var errSessionFull = &room.Error{Code: codec.CodeSessionFull, Text: "the session takes part in as many rooms as it may"}

var errTooManyRequests = &room.Error{Code: codec.CodeRateLimited, Text: "too many requests in a time"}

// What control frames cost, in tenths of a request.
const (
	costOther   = 1
	costRequest = 10
)

// tokenTime is what a token costs, as time of the clock: to check a signature takes as long as many a request.
const tokenTime = 100 * time.Millisecond

// Who asks for more than it may is told so refusedPerTick times between two ticks, and for large requests less often.
// What it has sent beyond that waits, and its socket is not read until the next tick: refusals cost less than what is
// refused, but they do cost. Of other control frames nothing is refused: who sends more of them than it may waits for
// the next tick at once. Who has been refused for overFor, without calm between, is closed; so is at once who has gone
// as far over its limit as it may be below (spend), by pushes that are refused or where nobody can be held.
//
// Who does not read what it is answered is asked no more of either: while unreadAnswers wait for its socket, what it
// has sent waits, too.
const (
	refusedPerTick = 32
	refusedBytes   = 1 << 10 // of a request that is refused count as one more
	overFor        = 10 * time.Second
	calm           = time.Second
	unreadAnswers  = 256 << 10
)

// hurry is how a session has gone over its rate of requests.
type hurry struct {
	listed      bool  // it is among the loop's hurried
	refused     int   // since the last tick
	first, last int64 // refusals between which there was no calm
}

// tooLong notes a refusal, and reports whether the session has met its limit for too long.
func (h *hurry) tooLong(now int64) bool {
	if now-h.last > int64(calm) {
		h.first = now
	}
	h.last = now
	return now-h.first > int64(overFor)
}

// errHeld says that a frame was not handled, since its session is held.
var errHeld = errors.New("engine: the session is held until the next tick")

// mustWait reports whether the session has to wait for the next tick, before it handles a control frame: it has been
// refused enough, has sent more of what nothing is refused of, or does not read its answers. Where a loop has no poller
// nobody is held.
func (s *session) mustWait(request bool) bool {
	if s.loop.poller == noPoller {
		return false
	}
	over := s.spent > s.loop.now && (!request || s.rare != nil && s.rare.hurry.refused >= refusedPerTick)
	return over || s.deaf()
}

// deaf reports whether the session's answers wait for its socket, more of them than may.
func (s *session) deaf() bool { return s.blocked && s.q != nil && s.q.Answers() > unreadAnswers }

// holdUp has the session wait for the next tick.
func (s *session) holdUp(request bool) {
	s.paused, s.held = true, true
	s.hurries()
	switch met := &s.loop.eng.limits.met; {
	case s.deaf():
		met[limitedAnswers].Add(1)
	case !request:
		met[limitedControl].Add(1)
	}
}

// hurries has the next tick look at the session, and returns its hurry.
func (s *session) hurries() *hurry {
	l, h := s.loop, &s.rarely().hurry
	if !h.listed {
		h.listed = true
		l.hurried = append(l.hurried, s)
		l.eng.hot(l)
	}
	return h
}

// refuseHasty refuses a request, of so many bytes, of a session that is over its rate.
func (s *session) refuseHasty(req uint32, size int) error {
	l, h := s.loop, s.hurries()
	if h.tooLong(l.now) {
		l.eng.limits.met[limitedControl].Add(1)
		return &codec.ProtocolError{Code: codec.CodeRateLimited, Text: "too many requests for too long a time"}
	}
	h.refused += 1 + size/refusedBytes
	l.eng.limits.met[limitedRequests].Add(1)
	s.answer(req, errTooManyRequests)
	return nil
}

// letGo gives those that are held another turn, and all that have hurried a number of refusals. Who does not read its
// answers is held on. Loop only.
func (l *loop) letGo() {
	kept := l.hurried[:0]
	for _, s := range l.hurried {
		h := &s.rare.hurry
		h.refused = 0
		if s.held && s.deaf() && !s.gone() {
			kept = append(kept, s)
			continue
		}
		h.listed = false
		if s.held {
			s.held = false
			l.turns.add(s)
		}
	}
	clear(l.hurried[len(kept):])
	if l.hurried = kept; len(kept) > 0 {
		l.eng.hot(l)
	}
}

// throttle counts a control frame of a client. It reports whether it has refused it: a request over the limit is.
// Whoever goes on all the same is held, or closed, and so is who sends too much of what is no request.
func (s *session) throttle(typ byte, frame []byte) (refused bool, err error) {
	cost, request := int64(costOther), false
	switch typ {
	case codec.TypePing: // it is answered
		cost = costRequest
	case codec.TypeToken:
		cost, request = s.loop.eng.limits.rates.Load().requests.perSecond*int64(tokenTime)/int64(time.Second), true
	case codec.TypeRegister, codec.TypeRemove, codec.TypeGrant, codec.TypeRevoke, codec.TypePublish, codec.TypeSubscribe,
		codec.TypeStat,
		codec.TypeInbox:
		cost, request = costRequest, true
	}
	if s.mustWait(request) {
		s.holdUp(request)
		return false, errHeld
	}
	if err := s.spend(cost); err != nil || !request || s.spent <= s.loop.now {
		return false, err
	}
	req, n := binary.Uvarint(frame[codec.LengthSize+1:])
	if n <= 0 || req > 1<<32-1 {
		return false, nil // whoever parses it says what is wrong
	}
	return true, s.refuseHasty(uint32(req), len(frame))
}

// spend counts tenths of requests. It fails when the session has gone as far over the limit as it may be below it.
func (s *session) spend(tenths int64) error {
	l := &s.loop.eng.limits
	r := l.rates.Load().requests
	if r.perSecond == 0 {
		s.spent = 0
		return nil
	}
	s.spent = r.pay(s.spent, tenths, s.loop.now)
	if s.spent > s.loop.now+r.burst {
		l.met[limitedControl].Add(1)
		return &codec.ProtocolError{Code: codec.CodeRateLimited, Text: "far too many frames in a time"}
	}
	return nil
}

// overheard counts what comes behind the last word of a session that is closed. More than a publisher can have had on
// its way is no accident: the connection is broken off, though the peer may not have read that word.
func (s *session) overheard(n int) {
	r := s.rarely()
	if r.behind += n; r.behind > 2*s.loop.eng.rooms.Config().Window {
		s.doom()
		s.loop.settle()
	}
}

// codeCounts counts by code: 100 to 499.
type codeCounts [400]atomic.Uint64

func (c *codeCounts) add(code codec.Code) {
	if i := int(code) - 100; i >= 0 && i < len(c) {
		c[i].Add(1)
	}
}

var (
	descLimited = desc("limited_total", "Times that a session was slowed or refused because of a rate, by limit.",
		"limit")
	descRefusals  = desc("refused_total", "Requests refused, by code.", "code")
	descClosedFor = desc("closed_total", "Sessions closed with an error, by code.", "code")
)

func (l *limits) collect(counter func(*prometheus.Desc, uint64, ...string)) {
	for i := range l.met {
		counter(descLimited, l.met[i].Load(), limitedNames[i])
	}
	for code, name := range codec.Codes() {
		if i := int(code) - 100; i >= 0 && i < len(l.refused) {
			if n := l.refused[i].Load(); n > 0 {
				counter(descRefusals, n, name)
			}
			if n := l.closed[i].Load(); n > 0 {
				counter(descClosedFor, n, name)
			}
		}
	}
}
