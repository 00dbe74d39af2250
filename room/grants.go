package room

import "github.com/timedge/timedge/codec"

// Grant lets an account push. Granting twice is not an error.
func (r *Room) Grant(by, account string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.ownedBy(by); err != nil {
		return err
	}
	if len(account) == 0 || len(account) > codec.MaxAccount {
		return ErrAccount
	}
	g, known := r.grants[account]
	if !g.granted && r.granted >= r.table.conf().MaxGrants || !known && len(r.grants) >= 2*r.table.conf().MaxGrants {
		return ErrManyGrants
	}
	if !known && r.share.Over() {
		return ErrOverloaded
	}
	r.setGrant(account, grant{r.grantRev + 1, true})
	return nil
}

// grant is an account's right to push, or that it was revoked. The version orders the two among the nodes of a cluster.
type grant struct {
	version uint64
	granted bool
}

func (r *Room) setGrant(account string, g grant) {
	if r.grants == nil {
		r.grants = make(map[string]grant)
	}
	old, known := r.grants[account]
	if !known {
		r.hold(grantCost + len(account))
	}
	if old := old.granted; old != g.granted {
		if g.granted {
			r.granted++
		} else {
			r.granted--
		}
	}
	r.grants[account] = g
	if r.noted() {
		r.delta.Grants = append(r.delta.Grants, codec.GrantState{Account: account, Version: g.version, Granted: g.granted})
	}
	r.grantRev = max(r.grantRev, g.version)
}

// Revoke takes a grant back and ends the account's publishers at once, also in the middle of a message. The owner
// cannot be revoked.
func (r *Room) Revoke(by, account string, now int64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.ownedBy(by); err != nil {
		return err
	}
	if len(account) == 0 || len(account) > codec.MaxAccount {
		return ErrAccount
	}
	if account == r.Owner {
		return ErrOption.With("a room's owner always may push into it")
	}
	if _, known := r.grants[account]; !known && len(r.grants) >= 2*r.table.conf().MaxGrants {
		if r.takes(account) { // as everybody
			return ErrManyGrants
		}
		return nil // it has nothing to lose
	}
	r.setGrant(account, grant{r.grantRev + 1, false})
	r.expel(now)
	return nil
}

// takes reports whether an account may push.
func (r *Room) takes(account string) bool { return account == r.Owner || r.grantOf(account).granted }

// grantOf returns the grant that holds for an account, maybe that of everybody. Its version is 0 if there is none.
func (r *Room) grantOf(account string) grant {
	g, said := r.grants[account]
	if !said {
		return r.grants[codec.Everyone]
	}
	return g
}

// expel ends the publishers whose right was taken back.
func (r *Room) expel(now int64) {
	for _, p := range r.pubs {
		if g := r.grantOf(p.who.account); p.ended == 0 && g.version > 0 && !g.granted && p.who.account != r.Owner {
			h := p.holder.Load()
			r.endPublisher(p, codec.CodeRevoked, now)
			if h != nil {
				(*h).Cut(p, codec.CodeRevoked)
			}
		}
	}
}

func (r *Room) ownedBy(account string) error {
	switch {
	case r.ended != 0:
		return ErrUnknown
	case !r.kind.decides():
		return ErrNotRelay
	case account != r.Owner:
		return r.kind.stranger()
	}
	return nil
}
