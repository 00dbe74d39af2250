package node

import (
	"cmp"
	"slices"
	"strings"

	"github.com/timedge/timedge/codec"
)

// The state of a room is written by its relay alone, and yet two relays may write at once: after a partition, or because a new
// one began before it knew all of what the old one wrote. So states merge. A reign (epoch, relay, birth) orders the writers, a
// version the writes of one; what must not get lost, whoever wrote it, merges by rules of its own: grants and ends.

// Newer reports whether a supersedes b: a later reign, or a later version of the same.
func Newer(a, b *codec.RoomState) bool {
	if c := reignOrder(a, b); c != 0 {
		return c > 0
	}
	return a.Version > b.Version
}

// reignOrder is the order of all reigns of a room. Of two that have the same epoch the name decides, since something must.
func reignOrder(a, b *codec.RoomState) int {
	return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), strings.Compare(a.Relay, b.Relay), cmp.Compare(a.Birth, b.Birth))
}

// final reports whether a room that ended so stays ended whatever another relay says. Only idleness is in the eye of the
// beholder: while one half of a cluster saw nothing of the room, somebody may have pushed in the other.
func final(c codec.Code) bool { return c != 0 && c != codec.CodeIdle }

// merge returns what follows from two states of a room. It changes neither, and the order of the two does not matter.
func merge(a, b *codec.RoomState) *codec.RoomState {
	hi, lo := a, b
	if Newer(b, a) {
		hi, lo = b, a
	}
	m := *hi
	m.Grants = mergeGrants(hi.Grants, lo.Grants)
	m.NextPub = max(hi.NextPub, lo.NextPub)
	switch {
	case final(hi.Ended) && final(lo.Ended):
		m.Ended = min(hi.Ended, lo.Ended) // any rule does that all follow
	case final(lo.Ended):
		m.Ended = lo.Ended
	}
	return &m
}

// mergeGrants merges two lists that are sorted by account. The higher version wins; of two alike, a grant and a revocation that
// were made at once in two halves of a cluster, the revocation.
func mergeGrants(a, b []codec.GrantState) []codec.GrantState {
	out := make([]codec.GrantState, 0, max(len(a), len(b)))
	for len(a) > 0 && len(b) > 0 {
		switch c := strings.Compare(a[0].Account, b[0].Account); {
		case c < 0:
			out, a = append(out, a[0]), a[1:]
		case c > 0:
			out, b = append(out, b[0]), b[1:]
		default:
			g := a[0]
			if b[0].Version > g.Version || b[0].Version == g.Version && !b[0].Granted {
				g = b[0]
			}
			out, a, b = append(out, g), a[1:], b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// sortGrants brings a list from elsewhere into the form that mergeGrants needs. It returns a copy.
func sortGrants(gs []codec.GrantState) []codec.GrantState {
	gs = slices.Clone(gs)
	slices.SortFunc(gs, func(a, b codec.GrantState) int {
		return cmp.Or(strings.Compare(a.Account, b.Account), -cmp.Compare(a.Version, b.Version), btoi(a.Granted)-btoi(b.Granted))
	})
	return slices.CompactFunc(gs, func(a, b codec.GrantState) bool { return a.Account == b.Account })
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// addPublishers adds those of another reign whose number and identity are free. If their nodes do not come back they leave as
// any publisher whose connection broke. The others publish anew, under another number.
func addPublishers(mine, others []codec.PublisherState) []codec.PublisherState {
	mine = slices.Clone(mine)
	for _, o := range others {
		taken := func(p codec.PublisherState) bool {
			return p.Num == o.Num || p.Account == o.Account && p.Instance == o.Instance
		}
		if !slices.ContainsFunc(mine, taken) {
			mine = append(mine, o)
		}
	}
	return mine
}

func equal(a, b *codec.RoomState) bool {
	return a.RoomHead == b.RoomHead && slices.Equal(a.Grants, b.Grants) && slices.Equal(a.Publishers, b.Publishers)
}

// SetGrant returns the list, sorted by account, with the account's grant or revocation. The version is one above all others of the
// room, so that it wins over whatever had been seen when it was made. The list given is not changed.
func SetGrant(gs []codec.GrantState, account string, granted bool) []codec.GrantState {
	version := uint64(0)
	for _, g := range gs {
		version = max(version, g.Version)
	}
	return mergeGrants(sortGrants(gs), []codec.GrantState{{Account: account, Version: version + 1, Granted: granted}})
}

// Reign is the time of one process as a room's relay. The zero value is below all.
type Reign struct {
	Epoch uint32
	Relay string
	Birth uint64
}

// ReignOf returns the reign in which a state was written.
func ReignOf(h *codec.RoomHead) Reign { return Reign{h.Epoch, h.Relay, h.Birth} }

// Before reports whether a reign is older than another.
func (r Reign) Before(o Reign) bool {
	return cmp.Or(cmp.Compare(r.Epoch, o.Epoch), strings.Compare(r.Relay, o.Relay), cmp.Compare(r.Birth, o.Birth)) < 0
}
