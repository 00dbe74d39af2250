package room

import (
	"testing"

	"github.com/timedge/timedge/codec"
)

// A publisher that has left is forgotten after the linger time also if its room has moved meanwhile; one that is there stays as long as the
// relay does not say that it left.
func TestDemotedRoomForgetsWhoLeft(t *testing.T) {
	x := newBench(t, Config{}, codec.Register{})
	x.script(1, "1", "2")
	if err := x.pub.Unpublish(x.hold, x.now); err != nil {
		t.Fatal(err)
	}
	x.republish()
	there := x.pub.Num
	x.room.Demote(x.now)
	x.at(x.now + 11e9)
	if pubs := x.room.pubs; len(pubs) != 1 || pubs[0].Num != there {
		t.Errorf("the mirror has %d publishers", len(pubs))
	}
	if n := x.table.CacheBytes(); n != 0 {
		t.Errorf("%d bytes are kept of who has left", n)
	}
}

// A mirror does not end by itself, however long it is idle, and counts for nobody.
func TestDemotedRoomLives(t *testing.T) {
	x := newBench(t, Config{MaxRoomsPerAccount: 1}, codec.Register{ExpireMillis: 1000})
	x.room.Demote(x.now)
	x.at(x.now + 3600e9)
	if r, err := x.table.Get(x.room.ID); r != x.room || err != nil || x.table.Len() != 0 {
		t.Fatal(r, err, x.table.Len())
	}
	other, err := x.table.Register("owner", &codec.Register{}, x.now)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.table.Remove(other.ID, "owner"); err != nil || x.table.Len() != 0 {
		t.Fatal(err, x.table.Len())
	}
	if err := x.table.Remove(x.room.ID, "owner"); err != ErrNotRelay {
		t.Fatal(err)
	}
}

// An ended room takes nothing with it that came after it.
func TestRoomEndsBesideItsSuccessor(t *testing.T) {
	x := newBench(t, Config{MaxRoomsPerAccount: 1}, codec.Register{Policy: codec.PolicyLossless})
	st := x.room.State()
	old := x.room
	old.mu.Lock()
	old.end(codec.CodeRemoved) // ended, and not forgotten yet
	old.mu.Unlock()
	r, err := x.table.Restore(st, x.now)
	if err != nil || r == old {
		t.Fatal(r, err)
	}
	x.table.ended(old, codec.CodeRemoved)
	if got, err := x.table.Get(r.ID); got != r || err != nil {
		t.Fatal("the successor is gone", got, err)
	}
	if _, err := x.table.Register("owner", &codec.Register{}, x.now); err == nil {
		t.Fatal("the successor does not count")
	}
	if n := len(x.table.watched()); n != 1 {
		t.Errorf("%d rooms are watched", n)
	}
	x.table.End(r, codec.CodeRemoved)
	if n := len(x.table.watched()); x.table.Len() != 0 || n != 0 {
		t.Errorf("%d rooms, %d watched", x.table.Len(), n)
	}
}
