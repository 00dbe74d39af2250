package room

import (
	"errors"
	"time"

	"github.com/timedge/timedge/codec"
)

// A room of a cluster has one relay, the node that decides; every other node with subscribers has a mirror of it: a
// Room, too, which a link to the relay feeds. Late joiners and those who resume are served from its log. A mirror
// grants nothing and ends nothing by itself.

// ErrRelayed says that this node relays the room itself. It is no refusal: nobody outside is told.
var ErrRelayed = errors.New("room: this node relays the room")

// ErrFed says that a newer feed of the mirror has begun: see Room.Feed. It is no refusal either.
var ErrFed = errors.New("room: another link feeds the mirror")

// Mirror returns the mirror of a room that another node relays, making it if need be. The head is the relay's word;
// nothing in it is refused. It returns ErrRelayed if this node relays the room.
func (t *Table) Mirror(h *codec.RoomHead, now int64) (*Room, error) {
	for {
		r, err := t.Get(h.Room)
		if err != nil {
			r = t.newRoom(h.Owner, settingsOf(&h.RoomSettings), now)
			r.ID, r.kind.mirror, r.part = h.Room, true, true
			r.created = int64(min(h.Created, 1<<43)) * int64(time.Millisecond)
			if t.insert(r) {
				return r, nil
			}
			continue
		}
		switch {
		case !r.lives():
		case r.IsMirror():
			return r, nil
		default:
			return nil, ErrRelayed
		}
		t.remove(r)
	}
}

func settingsOf(m *codec.RoomSettings) Settings {
	ms := func(v uint64) time.Duration { return time.Duration(min(v, 1<<40)) * time.Millisecond }
	policy := m.Policy
	if !policy.Valid() { // of a later version
		policy = codec.PolicyLive
	}
	s := Settings{
		Policy: policy, Idle: ms(m.IdleMillis), Expire: ms(m.ExpireMillis),
		QueueBytes: int(min(m.QueueBytes, 1<<40)), QueueAge: ms(m.QueueMillis), MaxSubs: int(min(m.MaxSubs, 1<<40)),
	}
	s.keepOf(m.Keep)
	return s
}

// IsMirror reports whether another node relays the room.
func (r *Room) IsMirror() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.kind.mirror
}

// IsWhole reports whether the room may admit clients: it is no mirror, or holds all that the relay had when it was
// asked for.
func (r *Room) IsWhole() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.part
}

// Feed notes that a link begins to feed a mirror. Feeds have numbers that rise: this node gives an older one up when it
// asks for a newer, of which another link, on another loop, may hear first. So the newest alone counts. It reports
// whether this is the one.
func (r *Room) Feed(feed uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.feed = max(r.feed, feed)
	return feed == r.feed
}

// Whole says that a mirror holds all that the relay had: clients may come.
func (r *Room) Whole(feed uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if feed >= r.feed {
		r.part = false
	}
}

// Told makes a publisher of whom the relay tells: h feeds it from now on, and all that has arrived of it is
// acknowledged to h anew. Under a number that meant another account or life, or a publisher that has left, it is a new
// one. It returns ErrFed if a newer feed has begun. The mark is the client's: see codec.ClientMark.
func (r *Room) Told(feed uint64, h Holder, num uint16, account string, life codec.Life, mark uint64,
) (*Publisher, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended != 0 {
		return nil, ErrUnknown
	}
	if r.kind.decides() {
		return nil, ErrRelayed
	}
	if feed < r.feed {
		return nil, ErrFed
	}
	var p *Publisher
	for _, q := range r.pubs {
		switch {
		case q.Num != num || q.ended != 0:
		case q.who.account == account && q.life.Is(life):
			if p = q; life.Epoch != 0 {
				p.life = life
			}
			if mark != 0 {
				p.mark = mark
			}
		default:
			r.endPublisher(q, codec.CodeGone, r.lastPush.Load())
		}
	}
	if p == nil {
		r.vacateNum(num)
		p = r.add(num, who{account: account}, life, mark)
	}
	p.holder.Store(&h)
	p.since = 0
	p.nudging.Store(false)
	for _, s := range p.streams {
		s.told = 0
	}
	if len(p.streams) > 0 {
		p.told.Store(-1)
		p.nudging.Store(true)
		h.AckNow(p)
	}
	return p, nil
}

// ToldLeft ends a publisher at the relay's word, if no newer feed has begun.
func (r *Room) ToldLeft(feed uint64, num uint16, code codec.Code, now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended != 0 || r.kind.decides() || feed < r.feed {
		return
	}
	for _, p := range r.pubs {
		if p.Num == num && p.ended == 0 {
			r.endPublisher(p, code, now)
		}
	}
}

// ToldCount takes the relay's word of how many are in the room.
func (r *Room) ToldCount(c codec.Count) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended == 0 && !r.kind.decides() {
		r.total, r.totalPubs, r.toldOf = int32(min(c.Subscribers, 1<<31-1)), c.Publishers, int32(r.subs+r.tallied)
		r.recount = true
		r.changed()
	}
}

// Positions returns what a mirror has, publisher by publisher: the last frame of every stream that has arrived with all
// who are in the room here, among them nodes that get it by way of this one, for what is named counts as acknowledged;
// in a lossless room the last that all have consumed; and of a publisher without any stream that it is known. And the
// publishers' lives.
func (r *Room) Positions() (have []codec.Position, lives map[uint16]codec.Life) {
	lives = make(map[uint16]codec.Life)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.pubs {
		if p.ended != 0 {
			continue
		}
		lives[p.Num] = p.life
		if len(p.streams) == 0 {
			have = append(have, codec.Position{StreamKey: codec.StreamKey{Pub: p.Num}})
		}
		for _, s := range p.streams {
			have = append(have, codec.Position{StreamKey: s.key, Last: r.kind.has(s)})
		}
	}
	return have, lives
}

// Empty reports whether nobody is in the room, nor is awaited back.
func (r *Room) Empty() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.empty()
}

// Stale reports whether the room is a mirror that has let go of what nobody here needed, though somebody who comes back
// may: that of a lossless room, with nobody in it or on the way.
func (r *Room) Stale() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended == 0 && r.kind.goesStale() && r.empty() && r.seats.hold == 0
}

func (r *Room) empty() bool {
	if r.subs > 0 || len(r.links) > 0 || len(r.outlets) > 0 {
		return false
	}
	return r.seats == nil || len(r.seats.seats) == 0
}

// Forget drops a mirror that nobody is in, without a word. It reports false if somebody is.
func (t *Table) Forget(r *Room) bool {
	unused, ended := r.forget()
	if unused {
		t.remove(r)
	}
	return unused || ended
}

// forget ends a mirror that nobody is in.
func (r *Room) forget() (unused, ended bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended != 0 || r.kind.decides() || !r.empty() {
		return false, r.ended != 0
	}
	r.ended = codec.CodeMoved
	for _, p := range r.pubs {
		p.release()
	}
	r.seats.dissolve()
	r.pubs, r.seats = nil, nil
	return true, false
}

// Publishers calls yield for every publisher that has not left, under the room's mutex.
func (r *Room) Publishers(yield func(num uint16, account string, h Holder) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.pubs {
		var h Holder
		if held := p.holder.Load(); held != nil {
			h = *held
		}
		if p.ended == 0 && !yield(p.Num, p.who.account, h) {
			return
		}
	}
}
