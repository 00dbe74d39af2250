package room

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/timedge/timedge/codec"
)

// An inbox is a room whose number is that of its owner's account: others send to the account by publishing into it. Who
// is accepted are its grants, who is blocked are those taken back, and codec.Everyone among them stands for all of whom
// they say nothing. To others than the owner it is no room at all: they are answered ErrNotAccepted whatever they ask.
// codec/PROTOCOL.md, section "Inboxes".

// untold is the tally of a link from which none has come yet: there may be sessions behind it.
const untold = -1

// IsInbox reports whether the room is its owner's inbox.
func (r *Room) IsInbox() bool { return r.kind.inbox }

// NewInbox makes an account's inbox. The grants are those of the same inbox before it ended; they count for more than
// what m says.
func (t *Table) NewInbox(owner string, m *codec.Inbox, grants []codec.GrantState, now int64) (*Room, error) {
	if m.Room != codec.InboxOf(owner) {
		return nil, ErrOption.With("not the number of the account's inbox")
	}
	set, err := t.conf().settings(&codec.Register{Policy: m.Policy})
	if err != nil {
		return nil, err
	}
	if err := t.claim(owner); err != nil {
		return nil, err
	}
	r := t.newRoom(owner, set, now)
	r.ID, r.counted, r.gone, r.vacant = m.Room, true, now, true
	for _, g := range grants {
		r.setGrant(g.Account, grant{g.Version, g.Granted})
	}
	// A client that resumes knows publishers of the inbox as it was before: their numbers are not to mean others.
	var num [2]byte
	if _, err = io.ReadFull(t.rand, num[:]); err != nil {
		err = fmt.Errorf("room: draw a publisher's number: %w", err)
	}
	r.nextPub = binary.BigEndian.Uint16(num[:])
	if err == nil {
		err = r.list(m)
	}
	for err == nil && !t.insert(r) {
		err = t.makeRoom(m.Room)
	}
	if err != nil {
		t.disclaim(owner)
		return nil, err
	}
	return r, nil
}

// makeRoom takes a room that has ended off the table; ErrNotRelay if it lives.
func (t *Table) makeRoom(id codec.RoomID) error {
	r, err := t.Get(id)
	if err != nil {
		return nil
	}
	if r.lives() {
		return ErrNotRelay
	}
	t.remove(r)
	return nil
}

func (r *Room) lives() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended == 0
}

// Open does what m asks of an inbox that this node relays. One that is open under another policy is refused while
// somebody is in it; otherwise it ends and is made anew; in a cluster, where that is not for this node to do, Open
// returns ErrUnknown.
func (t *Table) Open(r *Room, by string, m *codec.Inbox, now int64) error {
	over, err := r.open(by, m, now)
	if over {
		t.ended(r, codec.CodeIdle)
		t.told(r, codec.CodeIdle)
		if err = ErrUnknown; !t.conf().Clustered {
			_, err = t.NewInbox(by, m, r.State().Grants, now)
		}
	}
	return err
}

// open does Open's part under the room's mutex, and reports whether the inbox has ended.
func (r *Room) open(by string, m *codec.Inbox, now int64) (over bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.ownedBy(by); err != nil {
		return false, err
	}
	other := r.set.Policy != m.Policy
	switch {
	case !r.kind.inbox:
		return false, ErrOption.With("not the number of the account's inbox")
	case other && r.present():
		return false, ErrOption.With("the inbox is open with another policy")
	case other:
		r.away(now)
		r.end(codec.CodeIdle)
		return true, nil
	}
	return false, r.list(m)
}

// list adds whom m accepts and blocks, where the inbox says nothing of them yet. Room's mutex.
func (r *Room) list(m *codec.Inbox) error {
	fresh := 0
	for _, list := range [...][]string{m.Accept, m.Block} {
		for _, account := range list {
			if len(account) == 0 || len(account) > codec.MaxAccount {
				return ErrAccount
			}
			if _, said := r.grants[account]; !said {
				fresh++
			}
		}
	}
	if fresh > 0 && len(r.grants)+fresh > r.table.conf().MaxGrants {
		return ErrManyGrants.With("the inbox names as many accounts as it may")
	}
	for i, list := range [...][]string{m.Block, m.Accept} {
		for _, account := range list {
			if _, said := r.grants[account]; !said && account != r.Owner {
				r.setGrant(account, grant{r.grantRev + 1, i == 1})
			}
		}
	}
	return nil
}

// attended reports whether one of the owner's sessions is there, or may be: those of a room that has come from another
// node are given the time to come back. Room's mutex.
func (r *Room) attended() bool { return r.settling || r.present() }

// present reports whether one of the owner's sessions is there, or may be behind a link that has just come. Room's
// mutex.
func (r *Room) present() bool {
	if r.subs+r.tallied > 0 {
		return true
	}
	for _, n := range r.links {
		if n == untold {
			return true
		}
	}
	return false
}

// attend notes whether somebody is in an inbox. While nobody is, nothing counts as arrived but what somebody had who
// has left. When nobody has been for half the stall time, who sends is told: later the places of who was there are
// given up. No-op for other rooms. Room's mutex.
func (r *Room) attend(now int64) {
	vacant := r.subs+r.tallied == 0
	switch {
	case !r.kind.inbox:
		return
	case vacant != r.vacant && !(vacant && r.kind.mirror):
		r.vacant = vacant
		r.seated().updateAll(r)
	}
	switch {
	case r.kind.mirror:
	case r.attended():
		r.gone = 0
	case r.gone == 0:
		r.gone = now
	case now-r.gone > int64(r.table.conf().Stall)/2:
		r.away(now)
	}
}

// parted notes what a session had that has left an inbox, or one behind a link, before its seat is given up: in a
// lossless one what it has consumed, of one elsewhere what its node has said of that, and of one here all that was
// sent. No-op for other rooms. Room's mutex.
func (r *Room) parted(m Member) {
	if !r.kind.inbox {
		return
	}
	seat := r.seated().byMember[m]
	for _, p := range r.pubs {
		for _, st := range p.streams {
			had := st.next - 1
			if seat != nil {
				had = 0
				if at := seat.places[st.key]; at != nil {
					had = min(at.acked, st.next-1)
				}
			}
			st.left = max(st.left, had)
		}
	}
	if r.kind.mirror && r.subs+r.tallied == 0 {
		r.vacant = true
		r.seats.updateAll(r)
	}
}

// Deserted reports whether the last session has left a mirror of an inbox since Vacated was called.
func (r *Room) Deserted() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.kind.mirror && r.vacant
}

// Vacated says that the relay knows of a mirror that the last session has left, and how far that was: what comes now is
// nobody's here.
func (r *Room) Vacated() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kind.mirror && r.vacant {
		r.vacant = false
		r.seats.updateAll(r)
	}
}

// away ends all publishers of an inbox that nobody is in, and lets go of what they sent: nothing is kept for later.
// Room's mutex.
func (r *Room) away(now int64) {
	for _, p := range r.pubs {
		if p.ended != 0 {
			continue
		}
		h := p.holder.Load()
		r.endPublisher(p, codec.CodeGone, now)
		p.empty()
		for _, s := range p.streams {
			s.told = codec.MaxSeq // what nobody waits for any more has not arrived
		}
		if h != nil {
			(*h).Cut(p, codec.CodeAway)
		}
	}
}
