package node

import (
	"cmp"
	"slices"
	"strings"

	"github.com/timedge/timedge/codec"
)

// The state of a room is written by its relay alone, and yet two relays may write at once: after a partition, or
// because a new one began before it knew all of what the old one wrote. So states merge. A reign (epoch, relay, birth)
// orders the writers, a version the writes of one; what must not get lost, whoever wrote it, merges by rules of its
// own: grants and ends.

// Newer reports whether a supersedes b: a later reign, or a later version of the same.
func Newer(a, b *codec.RoomState) bool {
	if c := reignOrder(a, b); c != 0 {
		return c > 0
	}
	return a.Version > b.Version
}

// reignOrder is the order of all reigns of a room. Of two that have the same epoch the name decides, since something
// must.
func reignOrder(a, b *codec.RoomState) int { return a.Reign().Compare(b.Reign()) }

// final reports whether a room that ended so stays ended whatever another relay says. Only idleness is in the eye of
// the beholder: while one half of a cluster saw nothing of the room, somebody may have pushed in the other.
func final(c codec.Code) bool { return c != 0 && c != codec.CodeIdle }

// merge returns what follows from two states of a room, which may be one of them. It changes neither, and the order of
// the two does not matter.
func merge(a, b *codec.RoomState) *codec.RoomState {
	hi, lo := a, b
	if Newer(b, a) {
		hi, lo = b, a
	}
	if holds(hi, lo) {
		return hi
	}
	m := *hi
	m.Grants = mergeGrants(hi.Grants, lo.Grants)
	m.Publishers, m.Seen = tellLives(rightful(hi, lo), lo.Publishers), mergeSeen(hi.Seen, lo.Seen)
	m.NextPub = max(hi.NextPub, lo.NextPub)
	switch {
	case final(hi.Ended) && final(lo.Ended):
		m.Ended = min(hi.Ended, lo.Ended) // any rule does that all follow
	case final(lo.Ended):
		m.Ended = lo.Ended
	}
	return &m
}

// holds reports whether the newer of two states has all that the other could add to it.
func holds(hi, lo *codec.RoomState) bool {
	untold := func(p codec.PublisherState) bool { return p.Life.Epoch == 0 } // see tellLives
	return hi.NextPub >= lo.NextPub && (!final(lo.Ended) || hi.Ended == lo.Ended) &&
		(len(lo.Grants) == 0 || slices.Equal(hi.Grants, lo.Grants)) && slices.Equal(hi.Seen, lo.Seen) &&
		(len(lo.Publishers) == 0 || !slices.ContainsFunc(hi.Publishers, untold))
}

// mergeGrants merges two lists that are sorted by account. The higher version wins; of two alike, a grant and a
// revocation that were made at once in two halves of a cluster, the revocation.
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

// sortedState brings a state from elsewhere into the form that merge needs: a copy, unless it has that already.
func sortedState(st *codec.RoomState) *codec.RoomState {
	for i := 1; i < len(st.Grants); i++ {
		if st.Grants[i-1].Account >= st.Grants[i].Account {
			in := *st
			in.Grants = sortGrants(st.Grants)
			return &in
		}
	}
	return st
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

// addPublishers adds those of another reign whose number and identity are free, and of which seen does not say that
// they have left. If their nodes do not come back they leave as any publisher whose connection broke. The others
// publish anew, under another number.
func addPublishers(mine, others []codec.PublisherState, seen []codec.Life) []codec.PublisherState {
	mine = slices.Clone(mine)
	for _, o := range others {
		taken := func(p codec.PublisherState) bool { return p.Num == o.Num || same(p, o) }
		if !codec.Covers(seen, o.Life) && !slices.ContainsFunc(mine, taken) {
			mine = append(mine, o)
		}
	}
	return mine
}

// rightful returns the publishers of a state without those that another state has seen end since their accounts' rights
// have changed. A reign may have begun with a state that was out of date; who was revoked meanwhile, and may push again,
// is another publisher.
func rightful(st, other *codec.RoomState) []codec.PublisherState {
	revoked := func(p codec.PublisherState) bool {
		return codec.Covers(other.Seen, p.Life) && rightsOf(other, p.Account) > rightsOf(st, p.Account) &&
			!slices.ContainsFunc(other.Publishers, func(o codec.PublisherState) bool { return alike(p, o) })
	}
	if !slices.ContainsFunc(st.Publishers, revoked) {
		return st.Publishers
	}
	return slices.DeleteFunc(slices.Clone(st.Publishers), revoked)
}

// rightsOf returns the version of the newest grant or revocation that decides about an account.
func rightsOf(st *codec.RoomState, account string) (version uint64) {
	for _, g := range st.Grants {
		if g.Account == account || g.Account == codec.Everyone {
			version = max(version, g.Version)
		}
	}
	return version
}

// same reports whether two publishers are one client's.
func same(a, b codec.PublisherState) bool { return a.Account == b.Account && a.Instance == b.Instance }

// alike reports whether two entries say the same; a life that one of them does not tell makes no difference.
func alike(a, b codec.PublisherState) bool { return a.Num == b.Num && same(a, b) && a.Life.Is(b.Life) }

// tellLives completes the lives in a list by what another says of the same publishers: a node of level 0 passes none
// on.
func tellLives(mine, others []codec.PublisherState) []codec.PublisherState {
	cloned := false
	for i, p := range mine {
		if p.Life.Epoch != 0 {
			continue
		}
		if j := slices.IndexFunc(others, func(o codec.PublisherState) bool { return alike(p, o) }); j >= 0 && others[j].Life.Epoch != 0 {
			if !cloned {
				mine, cloned = slices.Clone(mine), true
			}
			mine[i].Life = others[j].Life
		}
	}
	return mine
}

// mergeSeen returns what two states have seen: of each reign as far as either, the newest reigns first.
func mergeSeen(a, b []codec.Life) []codec.Life {
	if slices.Equal(a, b) {
		return a
	}
	all := append(slices.Clone(a), b...)
	slices.SortFunc(all, func(a, b codec.Life) int {
		return -cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Birth, b.Birth), cmp.Compare(a.Version, b.Version))
	})
	all = slices.CompactFunc(all, func(a, b codec.Life) bool { return a.Epoch == b.Epoch && a.Birth == b.Birth })
	return all[:min(len(all), codec.MaxSeen)]
}

func equal(a, b *codec.RoomState) bool {
	return a == b || a.RoomHead == b.RoomHead && slices.Equal(a.Grants, b.Grants) && slices.EqualFunc(a.Publishers, b.Publishers, alike)
}

// setGrants returns a list, sorted by account, with changes made to it, the last for each account counting. The list
// given is not changed.
func setGrants(gs, changes []codec.GrantState) []codec.GrantState {
	if len(changes) == 0 {
		return gs
	}
	out := slices.Grow(slices.Clone(gs), len(changes))
	for _, g := range changes {
		i, found := slices.BinarySearchFunc(out, g.Account, func(e codec.GrantState, account string) int { return strings.Compare(e.Account, account) })
		switch {
		case !found:
			out = slices.Insert(out, i, g)
		case g.Version > out[i].Version || g.Version == out[i].Version && !g.Granted:
			out[i] = g
		}
	}
	return out
}

// setPublishers returns a list with those who left taken out and those who came put in, in the order of the changes:
// left first.
func setPublishers(ps, came []codec.PublisherState, left []uint16) []codec.PublisherState {
	if len(came)+len(left) == 0 {
		return ps
	}
	out := make([]codec.PublisherState, 0, len(ps)+len(came))
	for _, p := range ps {
		again := func(c codec.PublisherState) bool { return c.Num == p.Num || same(c, p) }
		if !slices.Contains(left, p.Num) && !slices.ContainsFunc(came, again) {
			out = append(out, p)
		}
	}
	return append(out, came...)
}

// SetGrant returns the list, sorted by account, with the account's grant or revocation. The version is one above all
// others of the room, so that it wins over whatever had been seen when it was made. The list given is not changed.
func SetGrant(gs []codec.GrantState, account string, granted bool) []codec.GrantState {
	version := uint64(0)
	for _, g := range gs {
		version = max(version, g.Version)
	}
	return mergeGrants(sortGrants(gs), []codec.GrantState{{Account: account, Version: version + 1, Granted: granted}})
}
