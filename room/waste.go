package room

import "sync"

// waste is batches that their last holders have let go of all at once, and that are still to be released. Releasing one
// costs about as much as taking it in, and an acknowledgement, the end of a room or of a session may let go of hundreds
// of thousands that were pushed over many turns. Whoever lets go of that many holds up neither its loop nor, with the
// room's mutex, anybody else's: the loops release them a few at a time (Pool.Tidy).
type waste struct {
	mu    sync.Mutex
	lists [][]*Batch
}

// wasteFrom is how many batches are too many to be released at once.
const wasteFrom = 256

// discard takes over a reference to each batch of a list, and the list.
func (p *Pool) discard(list []*Batch) {
	if len(list) < wasteFrom {
		for _, b := range list {
			b.Release()
		}
		return
	}
	p.waste.mu.Lock()
	defer p.waste.mu.Unlock()
	p.waste.lists = append(p.waste.lists, list)
}

// Tidy releases up to n batches that were let go of, and reports whether there are more. Any goroutine; call it without
// a room's mutex.
func (p *Pool) Tidy(n int) (more bool) {
	p.waste.mu.Lock()
	last := len(p.waste.lists) - 1
	if last < 0 {
		p.waste.mu.Unlock()
		return false
	}
	list := p.waste.lists[last]
	rest := list[:max(0, len(list)-n)]
	list = list[len(rest):]
	if p.waste.lists[last] = rest; len(rest) == 0 {
		p.waste.lists[last] = nil
		p.waste.lists = p.waste.lists[:last]
	}
	more = len(p.waste.lists) > 0
	p.waste.mu.Unlock()
	for _, b := range list {
		b.Release()
	}
	return more
}
