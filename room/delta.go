package room

import (
	"slices"

	"github.com/timedge/timedge/codec"
)

// Delta is what has changed of a room's state: grants, the last for an account counting, and publishers that have left
// and then come.
type Delta struct {
	Grants  []codec.GrantState
	Came    []codec.PublisherState
	Left    []uint16
	NextPub uint16 // as in codec.RoomHead; 0: as it was
	Ended   codec.Code
}

// Empty reports whether nothing has changed that a standby must know.
func (d *Delta) Empty() bool { return d.Len() == 0 && d.Ended == 0 }

// Len returns how many entries there are.
func (d *Delta) Len() int { return len(d.Grants) + len(d.Came) + len(d.Left) }

// Add adds what has changed afterwards.
func (d *Delta) Add(o Delta) {
	d.Grants = append(d.Grants, o.Grants...)
	for _, num := range o.Left {
		d.left(num)
	}
	d.Came = append(d.Came, o.Came...)
	d.NextPub = max(d.NextPub, o.NextPub)
	if o.Ended != 0 {
		d.Ended = o.Ended
	}
}

// left notes that a publisher has left, maybe one that has come since the delta began.
func (d *Delta) left(num uint16) {
	d.Came = slices.DeleteFunc(d.Came, func(p codec.PublisherState) bool { return p.Num == num })
	if !slices.Contains(d.Left, num) {
		d.Left = append(d.Left, num)
	}
}

// Changes returns what has changed since it was asked for last. The caller owns it.
func (r *Room) Changes() Delta {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := r.delta
	r.delta = Delta{}
	d.NextPub = r.nextPub + 1
	return d
}

// noted reports whether changes of the room's state are kept for its standbys. Room's mutex.
func (r *Room) noted() bool { return r.table.conf().Clustered && r.kind.decides() }

// Reigned says in which reign of this node's the room is now: those that are admitted bear it.
func (r *Room) Reigned(epoch uint32, birth uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.epoch, r.birth = epoch, birth
}

// newLife returns the life of a publisher that is being admitted. Room's mutex.
func (r *Room) newLife() codec.Life {
	if r.epoch == 0 {
		return codec.Life{}
	}
	return codec.Life{Epoch: r.epoch, Birth: r.birth, Version: r.table.lives.Add(1)}
}
