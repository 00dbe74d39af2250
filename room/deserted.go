package room

// deserted reports whether nobody publishes into the room or is a member of it, and nothing is kept of who did or was:
// time brings it nothing but its end. Of rooms that come from another node, maybe a million at once, nearly all are so,
// and no sweep looks at them every time, nor do they have a seating. Room's mutex.
func (r *Room) deserted() bool {
	return len(r.pubs) == 0 && len(r.outlets) == 0 && r.seats == nil && !r.kind.inbox
}

// rouse is called before somebody comes to a room that may be deserted: from now on it is held, if it is to be, and
// watched while it settles. Room's mutex.
func (r *Room) rouse() {
	if r.held != 0 {
		r.seated().hold, r.held = r.held, 0
	}
	if r.settling {
		r.table.watch(r)
	}
}

// calm does what time brings to a deserted room that has come from another node. Room's mutex.
func (r *Room) calm(now int64) {
	if r.held != 0 && now >= r.held {
		r.held = 0
	}
	if r.settling && now >= r.keeps && r.deserted() {
		r.settling = false
	}
}
