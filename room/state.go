package room

import (
	"maps"
	"slices"
	"time"

	"github.com/timedge/timedge/codec"
)

// State returns all that makes the room but its frames, as its standbys have to know it. The fields of the reign are
// zero: who relays the room is the cluster's to say. The caller owns it.
func (r *Room) State() *codec.RoomState {
	r.mu.Lock()
	defer r.mu.Unlock()
	millis := func(d time.Duration) uint64 { return uint64(d.Milliseconds()) }
	st := &codec.RoomState{RoomHead: codec.RoomHead{
		Room: r.ID, Ended: r.ended, Owner: r.Owner, Created: uint64(max(0, r.created)) / uint64(time.Millisecond),
		RoomSettings: codec.RoomSettings{
			Policy: r.set.Policy, IdleMillis: millis(r.set.Idle), ExpireMillis: millis(r.set.Expire),
			QueueBytes: uint64(r.set.QueueBytes), QueueMillis: millis(r.set.QueueAge), MaxSubs: uint64(r.set.MaxSubs),
			Keep: r.set.keep(),
		},
		NextPub: r.nextPub + 1,
	}}
	for _, account := range slices.Sorted(maps.Keys(r.grants)) {
		g := r.grants[account]
		st.Grants = append(st.Grants, codec.GrantState{Account: account, Version: g.version, Granted: g.granted})
	}
	for _, p := range r.pubs {
		if p.ended == 0 {
			st.Publishers = append(st.Publishers, p.state())
		}
	}
	return st
}

// maxJump is how many publisher numbers a new relay leaves out at most.
const maxJump = 1 << 12

// Restore makes this node the relay of a room that another relayed: of its mirror, if there is one, whose members stay,
// otherwise anew. What the state does not say, where the streams stand, the mirror knows or the publishers' nodes tell
// by what they send again. Until Config.Settle is over the room waits for those who are on their way: its logs keep
// everything.
func (t *Table) Restore(st *codec.RoomState, now int64) (*Room, error) {
	r, err := t.Mirror(&st.RoomHead, now)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended != 0 {
		return nil, ErrUnknown
	}
	t.stats.TakenOver.Add(1)
	r.kind.mirror, r.part, r.settles = false, false, now+int64(t.conf().Settle)
	r.keepAll(r.settles)
	r.lastPush.Store(now)
	r.counted = true
	t.count(r.Owner)
	// Two halves of a parted cluster must not give one number to two publishers: each goes on from a place of its own.
	r.nextPub = st.NextPub - 1 + uint16(mix(uint64(st.Epoch)^st.Birth)%maxJump)
	r.epoch, r.birth = st.Epoch, st.Birth
	r.merge(st, now, true)
	for _, p := range r.pubs {
		switch {
		case p.ended != 0:
		case !slices.ContainsFunc(st.Publishers, p.is):
			r.endPublisher(p, codec.CodeGone, now)
		default:
			p.holder.Store(nil)
			p.since, p.restored, p.watched = now, true, len(r.outlets) > 0
			p.elsewhere = p.pushed.Load() - p.done.Load()
			p.nudgeAt.Store(r.kind.nudge(t.conf().Window))
			for _, s := range p.streams {
				s.lenient = true
			}
		}
	}
	r.delta = Delta{}
	for _, o := range st.Publishers { // as far as they may not push any more
		if !slices.ContainsFunc(r.pubs, func(p *Publisher) bool { return p.ended == 0 && p.is(o) }) {
			r.delta.left(o.Num)
		}
	}
	if r.seats != nil {
		r.seats.updateAll(r)
	}
	r.gone = 0
	r.attend(now)
	r.recount = true
	r.changed()
	return r, nil
}

// keepAll has the logs keep everything until a moment, for those who are on their way from another relay and lack more
// than a late joiner.
func (r *Room) keepAll(until int64) {
	r.settling, r.keeps = true, until
	if !r.deserted() {
		r.table.watch(r)
	}
}

// mix spreads a number over all bits (the finalizer of splitmix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Merge takes what another node wrote of a room that this one relays: grants by their versions, and publishers whose
// number and identity are free. Who may not push any more is cut off. Publishers and subscribers of that other relay
// are on their way, maybe from ahead of this one: the logs keep everything for a while.
func (r *Room) Merge(st *codec.RoomState, now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended == 0 && r.kind.decides() {
		r.epoch, r.birth = st.Epoch, st.Birth
		r.bury(st, now)
		r.merge(st, now, false)
		r.keepAll(now + int64(r.table.conf().Settle))
	}
}

// bury ends the publishers that the state has seen and does not name: another relay has seen them leave, while this one
// was suspended or cut off. Their clients publish anew, under other numbers. Those stay that have come since the state
// was written. Room's mutex.
func (r *Room) bury(st *codec.RoomState, now int64) {
	for _, p := range r.pubs {
		if p.ended != 0 || !codec.Covers(st.Seen, p.life) || slices.ContainsFunc(st.Publishers, p.is) ||
			slices.ContainsFunc(r.delta.Came, p.is) {
			continue
		}
		h := p.holder.Load()
		r.endPublisher(p, codec.CodeGone, now)
		if h != nil {
			(*h).Cut(p, codec.CodeMoved)
		}
	}
}

// merge takes grants and publishers of a state. A number that means another publisher here means the state's from now
// on if theirs is set, otherwise only if ours has left.
func (r *Room) merge(st *codec.RoomState, now int64, theirs bool) {
	for _, g := range st.Grants {
		old, known := r.grants[g.Account]
		if known && (old.version > g.Version || old.version == g.Version && (!old.granted || g.Granted)) {
			continue
		}
		r.setGrant(g.Account, grant{g.Version, g.Granted})
	}
	for _, o := range st.Publishers {
		r.adopt(o, now, theirs)
	}
	r.expel(now)
}

// adopt makes a publisher of a state known.
func (r *Room) adopt(o codec.PublisherState, now int64, theirs bool) {
	w := who{o.Account, o.Instance}
	for _, p := range r.pubs {
		switch {
		case p.ended != 0:
		case p.Num == o.Num && (p.who == w || p.who == who{account: o.Account}) &&
			p.life.Is(o.Life): // a mirror is not told the instance
			p.who, p.mark = w, codec.ClientMark(r.ID, o.Account, o.Instance)
			if o.Life.Epoch != 0 {
				p.life = o.Life
			}
			return
		case p.Num == o.Num && theirs:
			r.endPublisher(p, codec.CodeGone, now)
		case p.Num == o.Num || p.who == w && !theirs:
			return
		case p.who == w:
			r.endPublisher(p, codec.CodeGone, now)
		}
	}
	r.vacateNum(o.Num)
	p := r.add(o.Num, w, o.Life, codec.ClientMark(r.ID, o.Account, o.Instance))
	p.since, p.restored, p.watched = now, true, len(r.outlets) > 0
}

// is reports whether the publisher is one of a state.
func (p *Publisher) is(o codec.PublisherState) bool {
	return p.Num == o.Num && p.who == who{o.Account, o.Instance} && p.life.Is(o.Life)
}

// vacateNum lets go of a publisher that has left, if it keeps a number that is given anew. Room's mutex.
func (r *Room) vacateNum(num uint16) {
	i := slices.IndexFunc(r.pubs, func(p *Publisher) bool { return p.Num == num })
	if i >= 0 {
		r.pubs[i].release()
		r.pubs = slices.Delete(r.pubs, i, i+1)
	}
}

// Demote makes a mirror of the room: another node relays it now. Who pushes is told to do so there, links are sent
// away, subscribers stay.
func (r *Room) Demote(now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended != 0 || !r.kind.decides() {
		return
	}
	r.kind.mirror, r.settling, r.vacant = true, false, false
	if r.counted {
		r.counted = false
		r.table.disclaim(r.Owner)
	}
	for _, p := range r.pubs {
		if h := p.holder.Load(); h != nil {
			(*h).Cut(p, codec.CodeMoved)
		}
		p.holder.Store(nil)
		p.restored, p.watched = false, false
		if p.ended == 0 { // it may come back as long as the relay says so
			p.since = 0
		}
		p.nudgeAt.Store(r.kind.nudge(r.table.conf().Window))
		r.watch(&p.counts, false)
		for _, s := range p.streams {
			s.fresh, s.lenient = false, false
			s.told = codec.MaxSeq // what arrives without the links' seats is no news for the publisher
		}
	}
	r.total, r.totalPubs, r.toldOf = int32(r.subs+r.tallied), r.count().Publishers, int32(r.subs)
	for m := range r.links { // it serves them no more: their subscribers are the new relay's to count, and to wait for
		r.links[m] = 0
	}
	r.tallied = 0
	if r.seats == nil {
		return
	}
	for i := len(r.seats.seats) - 1; i >= 0; i-- {
		if s := r.seats.seats[i]; s.node != "" {
			if s.member != nil {
				s.member.Cut(codec.CodeMoved)
				delete(r.seats.byMember, s.member)
			}
			r.seats.remove(s)
		}
	}
	r.seats.updateAll(r) // nobody's absence holds anything up any more
}

// sweepSeats does what time brings to who has a seat, and to a room that settles. A room that does not and where nobody
// has a seat is watched no more: what is posted in it costs no look at seats.
func (r *Room) sweepSeats(now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended != 0 {
		return
	}
	if r.settling && now >= r.keeps {
		r.settling = false
		for _, p := range r.pubs {
			for _, s := range p.streams {
				s.trim()
			}
		}
	}
	r.attend(now) // before seats are given up: what was on its way to who had them has not arrived
	if r.seats != nil {
		r.seats.sweep(r, now)
		if len(r.seats.seats) == 0 && r.seats.hold == 0 && !r.vacant && !r.kind.seated() {
			r.seats = nil
		}
	}
	if r.seats == nil && !r.settling {
		r.table.unwatch(r)
	}
}
