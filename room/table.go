package room

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"github.com/timedge/timedge/codec"
)

// Table holds the rooms of a node in lock-striped maps.
type Table struct {
	cfg      Config
	rand     io.Reader
	pool     *Pool
	stripes  [stripes]stripe
	rooms    atomic.Int64
	cacheAll atomic.Int64
	stats    Stats

	accounts struct {
		sync.Mutex
		rooms map[string]int
	}
	counts struct { // rooms whose count is to be told
		sync.Mutex
		rooms []*Room
	}
	swept int // stripe at which the next sweep starts; Sweep's only caller owns it
}

// Stats counts what happened in all rooms.
type Stats struct {
	Replays        atomic.Uint64 // frames that a publisher sent again and the room had
	CacheOverflows atomic.Uint64 // logs emptied because a bound on caches was reached
	CutOff         atomic.Uint64 // subscribers of lossless rooms cut off for not moving
	Ended          [8]atomic.Uint64
}

const stripes = 256

// stripe is one of the maps. Its lock is a leaf: nothing is called and no other lock taken while it is held.
type stripe struct {
	sync.RWMutex
	rooms map[codec.RoomID]*Room
	_     [24]byte // keep neighbours' locks off this cache line
}

// NewTable returns an empty table. Room numbers are drawn from rand, which should be crypto/rand's Reader; batches come
// from pool.
func NewTable(cfg Config, rand io.Reader, pool *Pool) *Table {
	cfg.fill()
	t := &Table{cfg: cfg, rand: rand, pool: pool}
	for i := range t.stripes {
		t.stripes[i].rooms = make(map[codec.RoomID]*Room)
	}
	t.accounts.rooms = make(map[string]int)
	return t
}

// Config returns the table's bounds with defaults filled in.
func (t *Table) Config() Config { return t.cfg }

// Stats returns the table's counters.
func (t *Table) Stats() *Stats { return &t.stats }

// Len returns the number of rooms.
func (t *Table) Len() int { return int(t.rooms.Load()) }

// CacheBytes returns the bytes that all logs hold.
func (t *Table) CacheBytes() int64 { return t.cacheAll.Load() }

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
	set, err := t.cfg.settings(m)
	if err != nil {
		return nil, err
	}
	if err := t.claim(owner); err != nil {
		return nil, err
	}
	r := &Room{Owner: owner, table: t, set: set, created: now}
	if set.Policy == codec.PolicyLossless {
		r.loss = &lossless{byMember: make(map[any]*seat)}
	}
	r.lastPush.Store(now)
	for {
		var b [8]byte
		if _, err := io.ReadFull(t.rand, b[:]); err != nil {
			t.disclaim(owner)
			return nil, fmt.Errorf("room: draw a number: %w", err)
		}
		r.ID = codec.RoomID(binary.BigEndian.Uint64(b[:]))
		if r.ID != 0 && t.insert(r) {
			return r, nil
		}
	}
}

func (t *Table) insert(r *Room) bool {
	s := t.stripe(r.ID)
	s.Lock()
	defer s.Unlock()
	if s.rooms[r.ID] != nil {
		return false
	}
	s.rooms[r.ID] = r
	return true
}

// claim counts a room for an account, within the bounds.
func (t *Table) claim(owner string) error {
	if t.rooms.Add(1) > int64(t.cfg.MaxRooms) {
		t.rooms.Add(-1)
		return ErrRooms
	}
	t.accounts.Lock()
	defer t.accounts.Unlock()
	if t.accounts.rooms[owner] >= t.cfg.MaxRoomsPerAccount {
		t.rooms.Add(-1)
		return ErrRooms.With("the account has as many rooms as it may have")
	}
	t.accounts.rooms[owner]++
	return nil
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
	r.mu.Lock()
	err = r.ownedBy(by)
	r.mu.Unlock()
	if err != nil {
		return err
	}
	if !t.end(r, codec.CodeRemoved) {
		return ErrUnknown
	}
	return nil
}

// end closes a room and forgets it. It reports false if somebody else did.
func (t *Table) end(r *Room, code codec.Code) bool {
	if !r.end(code) {
		return false
	}
	s := t.stripe(r.ID)
	s.Lock()
	delete(s.rooms, r.ID)
	s.Unlock()
	t.disclaim(r.Owner)
	if i := int(code - codec.CodeRemoved); i >= 0 && i < len(t.stats.Ended) {
		t.stats.Ended[i].Add(1)
	}
	return true
}

// EndAll ends every room with a code, when the node goes away.
func (t *Table) EndAll(code codec.Code) {
	for i := range t.stripes {
		for _, r := range t.list(i) {
			t.end(r, code)
		}
	}
}

func (t *Table) list(stripe int) []*Room {
	s := &t.stripes[stripe]
	s.RLock()
	defer s.RUnlock()
	if len(s.rooms) == 0 {
		return nil
	}
	rs := make([]*Room, 0, len(s.rooms))
	for _, r := range s.rooms {
		rs = append(rs, r)
	}
	return rs
}

// Sweep does what time brings for a tenth of the rooms, and tells all counts that changed. Call it every 100 ms or so, from
// one goroutine at a time.
func (t *Table) Sweep(now int64) {
	for range stripes/10 + 1 {
		for _, r := range t.list(t.swept) {
			if code := r.sweep(now); code != 0 {
				t.end(r, code)
			}
		}
		t.swept = (t.swept + 1) % stripes
	}
	t.counts.Lock()
	rooms := t.counts.rooms
	t.counts.rooms = nil
	t.counts.Unlock()
	for _, r := range rooms {
		r.tellCount()
	}
}

// markCount makes the next sweep tell a room's count. Called under the room's mutex; the list's lock is a leaf.
func (t *Table) markCount(r *Room) {
	t.counts.Lock()
	defer t.counts.Unlock()
	t.counts.rooms = append(t.counts.rooms, r)
}
