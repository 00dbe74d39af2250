package engine

import (
	"slices"
	"testing"
	"unsafe"

	"pgregory.net/rapid"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// Whatever a session subscribes to and leaves, in whatever order: it finds each of its memberships by its room, and no
// other.
func TestMembershipsAreFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var mem room.Memory
		s := &session{share: mem.Share("alice")}
		var all []*member
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			if n := len(all); n == 0 || rapid.IntRange(0, 24).Draw(t, "fewer or more") >= n {
				m := &member{s: s, o: &outlet{room: &room.Room{ID: codec.RoomID(rapid.Uint64Min(1).Draw(t, "room"))}}}
				if s.member(m.o.room.ID) != nil {
					continue
				}
				all = append(all, m)
				s.enlist(m)
			} else {
				i := rapid.IntRange(0, n-1).Draw(t, "which leaves")
				s.forget(all[i])
				if s.member(all[i].o.room.ID) != nil {
					t.Fatal("a membership that has ended is found")
				}
				all = slices.Delete(all, i, i+1)
			}
			if got := s.members(); len(got) != len(all) {
				t.Fatalf("%d memberships are listed, want %d", len(got), len(all))
			}
			for _, m := range all {
				if s.member(m.o.room.ID) != m || !slices.Contains(s.members(), m) {
					t.Fatalf("a membership of %d is not found", len(all))
				}
			}
			if only := s.only[0] != nil; only != (len(all) == 1) {
				t.Fatalf("an only one: %v, of %d", only, len(all))
			}
		}
		if got := mem.Held(); got != int64(len(all)*memberCost) {
			t.Fatalf("%d bytes are counted for %d memberships", got, len(all))
		}
	})
}

// An idle subscriber is a session and a member, in these of Go's size classes.
func TestIdleSubscriberIsSmall(t *testing.T) {
	if n := unsafe.Sizeof(session{}); n > 160 {
		t.Errorf("a session has %d bytes, more than the size class of 160", n)
	}
	if n := unsafe.Sizeof(member{}); n > 96 {
		t.Errorf("a member has %d bytes, more than the size class of 96", n)
	}
}
