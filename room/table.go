package room

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"github.com/timedge/timedge/codec"
)

// Table holds the rooms of a node in lock-striped maps.
type Table struct {
	cfg     atomic.Pointer[Config]
	rand    io.Reader
	pool    *Pool
	stripes [stripes]stripe
	rooms   atomic.Int64
	lives   atomic.Uint64 // the last version given to a publisher's life
	stats   Stats

	accounts struct {
		sync.Mutex
		rooms map[string]int
	}
	counts struct { // rooms whose count is to be told
		sync.Mutex
		rooms []*Room
	}
	hot struct { // rooms that every sweep looks at: with seats, or settling
		sync.Mutex
		rooms shelf
	}
	suspects struct { // rooms that a panic has left half done
		sync.Mutex
		rooms []*Room
	}
	onChange func(*Room, codec.Code)
	left     struct { // rooms that publishers have left of which the standbys are to hear
		sync.Mutex
		rooms []*Room
	}
	onFault func(fault any)
	swept   int // stripe at which the next sweep starts; Sweep's only caller owns it
}

// Stats counts what happened in all rooms.
type Stats struct {
	Replays        atomic.Uint64 // frames that a publisher sent again and the room had
	CacheOverflows atomic.Uint64 // logs emptied because a bound on caches was reached
	CutOff         atomic.Uint64 // subscribers of lossless rooms cut off for not moving
	TakenOver      atomic.Uint64 // rooms that another node relayed before
	Ended          [8]atomic.Uint64
}

const stripes = 256

// stripe is one of the maps. Its lock is a leaf: nothing is called and no other lock taken while it is held.
type stripe struct {
	sync.RWMutex
	rooms map[codec.RoomID]*Room
	list  shelf    // the same rooms
	_     [24]byte // keep neighbours' locks off this cache line
}

// shelf holds rooms in an order that follows from what happened, as a map does not: a simulation repeats. Of each kind
// of shelf a room knows its place there, plus one; 0: it is not there.
type shelf []*Room

func (s *shelf) add(r *Room, at func(*Room) *int) {
	if *at(r) == 0 {
		*s = append(*s, r)
		*at(r) = len(*s)
	}
}

func (s *shelf) remove(r *Room, at func(*Room) *int) {
	i := *at(r) - 1
	if i < 0 {
		return
	}
	last := len(*s) - 1
	(*s)[i], (*s)[last] = (*s)[last], nil
	*s = (*s)[:last]
	if i < last {
		*at((*s)[i]) = i + 1
	}
	*at(r) = 0
}

func listedAt(r *Room) *int  { return &r.listed }
func watchedAt(r *Room) *int { return &r.watched }

// NewTable returns an empty table. Room numbers are drawn from rand, which should be crypto/rand's Reader; batches come
// from pool.
func NewTable(cfg Config, rand io.Reader, pool *Pool) *Table {
	cfg.fill()
	t := &Table{rand: rand, pool: pool}
	t.cfg.Store(&cfg)
	for i := range t.stripes {
		t.stripes[i].rooms = make(map[codec.RoomID]*Room)
	}
	t.accounts.rooms = make(map[string]int)
	return t
}

// Config returns the table's bounds with defaults filled in.
func (t *Table) Config() Config { return *t.conf() }

// conf returns the bounds that hold now.
func (t *Table) conf() *Config { return t.cfg.Load() }

// Reload puts other bounds in force. What clients have been told (the largest payload, the window) and what else is
// fixed for the life of a table stays; rooms that are there keep what they were registered with.
func (t *Table) Reload(cfg Config) {
	cfg.fill()
	now := t.Config()
	now.Idle, now.QueueBytes, now.QueueAge, now.Stall = cfg.Idle, cfg.QueueBytes, cfg.QueueAge, cfg.Stall
	now.MaxRooms, now.MaxRoomsPerAccount = cfg.MaxRooms, cfg.MaxRoomsPerAccount
	now.MaxPublishersPerAccount, now.MaxStreamsPerAccount, now.MaxGrants = cfg.MaxPublishersPerAccount,
		cfg.MaxStreamsPerAccount, cfg.MaxGrants
	t.cfg.Store(&now)
}

// Stats returns the table's counters.
func (t *Table) Stats() *Stats { return &t.stats }

// Len returns the number of rooms.
func (t *Table) Len() int { return int(t.rooms.Load()) }

// CacheBytes returns the bytes that all logs hold.
func (t *Table) CacheBytes() int64 { return t.pool.Cached() }

func (t *Table) stripe(id codec.RoomID) *stripe {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(id))
	return &t.stripes[xxhash.Sum64(b[:])%stripes]
}

// Get returns the room of a number, or ErrUnknown, or ErrMalformed for zero.
func (t *Table) Get(id codec.RoomID) (*Room, error) {
	if id == 0 {
		return nil, ErrMalformed
	}
	s := t.stripe(id)
	s.RLock()
	r := s.rooms[id]
	s.RUnlock()
	if r == nil {
		return nil, ErrUnknown
	}
	return r, nil
}

// Register makes a room under a random number that no other room has.
func (t *Table) Register(owner string, m *codec.Register, now int64) (*Room, error) {
	set, err := t.conf().settings(m)
	if err != nil {
		return nil, err
	}
	if err := t.claim(owner); err != nil {
		return nil, err
	}
	r := t.newRoom(owner, set, now)
	r.counted = true
	inbox := codec.InboxOf(owner)
	for {
		if r.ID, err = t.draw(); err != nil {
			t.disclaim(owner)
			return nil, err
		}
		if r.ID != 0 && r.ID != inbox && t.insert(r) {
			return r, nil
		}
	}
}

func (t *Table) newRoom(owner string, set Settings, now int64) *Room {
	r := &Room{Owner: owner, table: t, share: t.pool.Share(owner), set: set, created: now, kind: kindOf(set.Policy)}
	r.mu.room = r
	r.lastPush.Store(now)
	return r
}

// draw draws a room's number.
func (t *Table) draw() (codec.RoomID, error) {
	if t.conf().Draw != nil {
		id, ok := t.conf().Draw()
		if !ok {
			return 0, &Error{codec.CodeGoingAway, "this node takes no new rooms"}
		}
		return id, nil
	}
	var b [8]byte
	if _, err := io.ReadFull(t.rand, b[:]); err != nil {
		return 0, fmt.Errorf("room: draw a number: %w", err)
	}
	return codec.RoomID(binary.BigEndian.Uint64(b[:])), nil
}

// watch has every sweep look at a room. Room's mutex; the list's lock is a leaf.
func (t *Table) watch(r *Room) {
	t.hot.Lock()
	defer t.hot.Unlock()
	t.hot.rooms.add(r, watchedAt)
}

func (t *Table) unwatch(r *Room) {
	t.hot.Lock()
	defer t.hot.Unlock()
	t.hot.rooms.remove(r, watchedAt)
}

// OnChange has f called after a room that this node relays has changed otherwise than by a request: it has ended, with
// the code, by its owner's wish or by itself; or publishers have left it, with code 0, as Changes tells. Call it before
// the table is used.
func (t *Table) OnChange(f func(r *Room, ended codec.Code)) { t.onChange = f }

func (t *Table) insert(r *Room) bool {
	r.mu.Lock() // nobody uses it before it is whole
	defer r.mu.Unlock()
	r.kind.inbox = r.ID == codec.InboxOf(r.Owner)
	s := t.stripe(r.ID)
	s.Lock()
	taken := s.rooms[r.ID] != nil
	if !taken {
		s.rooms[r.ID] = r
		s.list.add(r, listedAt)
	}
	s.Unlock()
	if taken {
		return false
	}
	r.hold(roomCost + len(r.Owner))
	if r.kind.seated() {
		r.seated()
	}
	return true
}

// claim counts a room for an account, within the bounds.
func (t *Table) claim(owner string) error {
	if t.rooms.Add(1) > int64(t.conf().MaxRooms) {
		t.rooms.Add(-1)
		return ErrRooms
	}
	t.accounts.Lock()
	defer t.accounts.Unlock()
	if t.accounts.rooms[owner] >= t.conf().MaxRoomsPerAccount {
		t.rooms.Add(-1)
		return ErrRooms.With("the account has as many rooms as it may have")
	}
	t.accounts.rooms[owner]++
	return nil
}

// count counts a room that came from another node, where it was within the bounds.
func (t *Table) count(owner string) {
	t.rooms.Add(1)
	t.accounts.Lock()
	defer t.accounts.Unlock()
	t.accounts.rooms[owner]++
}

func (t *Table) disclaim(owner string) {
	t.rooms.Add(-1)
	t.accounts.Lock()
	defer t.accounts.Unlock()
	if t.accounts.rooms[owner]--; t.accounts.rooms[owner] <= 0 {
		delete(t.accounts.rooms, owner)
	}
}

// Remove ends a room at its owner's wish.
func (t *Table) Remove(id codec.RoomID, by string) error {
	r, err := t.Get(id)
	if err != nil {
		return err
	}
	if err := r.removedBy(by); err != nil {
		return err
	}
	t.ended(r, codec.CodeRemoved)
	t.told(r, codec.CodeRemoved)
	return nil
}

func (r *Room) removedBy(by string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.ownedBy(by); err != nil {
		return err
	}
	if r.kind.inbox {
		return ErrOption.With("an inbox cannot be removed")
	}
	r.end(codec.CodeRemoved)
	return nil
}

func (t *Table) told(r *Room, code codec.Code) {
	if t.onChange != nil {
		t.onChange(r, code)
	}
}

// End closes a room, tells everybody in it, and forgets it. It reports false if somebody else did.
func (t *Table) End(r *Room, code codec.Code) bool {
	if !r.endOnce(code) {
		return false
	}
	t.ended(r, code)
	return true
}

func (r *Room) endOnce(code codec.Code) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended != 0 {
		return false
	}
	r.end(code)
	return true
}

// ended forgets a room that has just ended.
func (t *Table) ended(r *Room, code codec.Code) {
	t.remove(r)
	if i := int(code - codec.CodeRemoved); i >= 0 && i < len(t.stats.Ended) {
		t.stats.Ended[i].Add(1)
	}
}

// remove takes an ended room out of the table. Whoever meets one there may do so; there may be another under its number
// already.
func (t *Table) remove(r *Room) {
	s := t.stripe(r.ID)
	s.Lock()
	if s.rooms[r.ID] == r {
		delete(s.rooms, r.ID)
		s.list.remove(r, listedAt)
	}
	s.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	t.unwatch(r)
	r.hold(-r.holds)
	if r.counted {
		r.counted = false
		t.disclaim(r.Owner)
	}
}

// EndAll ends every room with a code, when the node goes away.
func (t *Table) EndAll(code codec.Code) {
	for i := range t.stripes {
		for _, r := range t.list(i) {
			t.End(r, code)
		}
	}
}

func (t *Table) list(stripe int) []*Room {
	s := &t.stripes[stripe]
	s.RLock()
	defer s.RUnlock()
	return slices.Clone(s.list)
}

// Sweep does what time brings for a tenth of the rooms, and tells all counts that changed. Call it every 100 ms or so,
// from one goroutine at a time.
func (t *Table) Sweep(now int64) {
	for range stripes/10 + 1 {
		t.each(t.list(t.swept), func(r *Room) {
			if code := r.sweep(now); code != 0 {
				t.ended(r, code)
				t.told(r, code)
			}
		})
		t.swept = (t.swept + 1) % stripes
	}
	t.each(t.watched(), func(r *Room) { r.sweepSeats(now) })
	t.counts.Lock()
	rooms := t.counts.rooms
	t.counts.rooms = nil
	t.counts.Unlock()
	t.each(rooms, (*Room).tellCount)
	t.left.Lock()
	rooms = t.left.rooms
	t.left.rooms = nil
	t.left.Unlock()
	t.each(rooms, func(r *Room) { t.told(r, 0) })
}

// each calls f for every room; a panic costs the one that it was called for, and is told by OnFault.
func (t *Table) each(rooms []*Room, f func(r *Room)) {
	for at := 0; at < len(rooms); at++ {
		func() {
			defer func() {
				if fault := recover(); fault != nil {
					t.Suspect(rooms[at])
					if t.onFault == nil {
						panic(fault)
					}
					t.onFault(fault)
				}
			}()
			for ; at < len(rooms); at++ {
				f(rooms[at])
			}
		}()
	}
}

// OnFault has f called, on the goroutine of a sweep, after a panic that one room has caused; without it the panic goes
// on. Call it before the table is used.
func (t *Table) OnFault(f func(fault any)) { t.onFault = f }

func (t *Table) watched() []*Room {
	t.hot.Lock()
	defer t.hot.Unlock()
	return slices.Clone(t.hot.rooms)
}

// Vacate says that a node is gone, and gives up the seats that its broken link has left.
func (t *Table) Vacate(node string) {
	t.each(t.watched(), func(r *Room) { r.vacate(node) })
}

func (r *Room) vacate(node string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seats != nil {
		r.seats.vacate(r, node)
	}
}

// markCount makes the next sweep tell a room's count. Called under the room's mutex; the list's lock is a leaf.
func (t *Table) markCount(r *Room) {
	t.counts.Lock()
	defer t.counts.Unlock()
	t.counts.rooms = append(t.counts.rooms, r)
}

// markLeft makes the next sweep tell that publishers have left a room, unless a request does before. Called under the
// room's mutex; the list's lock is a leaf.
func (t *Table) markLeft(r *Room) {
	t.left.Lock()
	defer t.left.Unlock()
	t.left.rooms = append(t.left.rooms, r)
}
