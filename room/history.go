package room

import (
	"time"

	"github.com/timedge/timedge/codec"
)

// History is how far back in each stream somebody begins who joins late, in bytes of frames and in time; where both are
// set, the nearer one counts. The zero value is none: as policy.start says.
//
// What it asks for is kept as far as the bounds on logs leave room. The oldest goes first, and all of it before any log
// is emptied. Age counts from when this node was given a frame.
type History struct {
	Bytes int
	Age   time.Duration
}

// keepOf reads the wishes about what the room keeps.
func (s *Settings) keepOf(k codec.Keep) {
	s.History = History{int(min(k.HistoryBytes, 1<<40)), time.Duration(min(k.HistoryMillis, 1<<40)) * time.Millisecond}
	s.Occupied = k.Occupied
}

// keep writes them.
func (s *Settings) keep() codec.Keep {
	bytes, age := uint64(s.History.Bytes), uint64(s.History.Age.Milliseconds())
	return codec.Keep{HistoryBytes: bytes, HistoryMillis: age, Occupied: s.Occupied}
}

// checkHistory checks the bounds on what may be asked for.
func (c *Config) checkHistory(s *Settings) error {
	h := s.History
	switch {
	case h == (History{}):
		return nil
	case s.Policy == codec.PolicyLatest:
		return ErrOption.With("a latest room has no history")
	case h.Bytes > c.CacheRoom:
		return ErrOption.With("more history than a room may keep")
	case h.Age > c.IdleMax:
		return ErrOption.With("history longer than " + c.IdleMax.String())
	}
	return nil
}

// reaches reports whether the history goes back to a span, at a moment, with so many bytes behind it.
func (h History) reaches(sp *span, behind int, now int64) bool {
	return h != (History{}) && (h.Bytes == 0 || behind < h.Bytes) && (h.Age == 0 || now-sp.at <= int64(h.Age))
}

// recalls reports whether the history wants a span of the log kept that the stream needs no more, with so many bytes
// behind it, when the room's logs hold so much.
func (s *stream) recalls(sp *span, behind, held int, now int64) bool {
	r := s.pub.room
	return r.set.History.reaches(sp, behind, now) && held <= r.table.conf().CacheRoom
}

// recall returns where somebody begins who joins late and would begin at frame start without the history: not later
// than that, at a frame where a decoder can start, and behind the init messages by which the newest of the stream goes.
func (s *stream) recall(start uint64, now int64) uint64 {
	h, log := s.pub.room.set.History, s.spans()
	if h == (History{}) || len(log) == 0 {
		return start
	}
	from, behind, i := s.next, 0, len(log)-1
	for ; i >= 0 && h.reaches(&log[i], behind, now); i-- {
		size := log[i].size()
		if h.Bytes > 0 && behind+size > h.Bytes {
			from = log[i].last + 1 - uint64(log[i].fits(h.Bytes-behind))
			break
		}
		from, behind = log[i].first, behind+size
	}
	return min(start, s.startFrom(max(from, s.inits.last+1)))
}

// fits returns how many frames at the end of a span have no more than so many bytes.
func (s *span) fits(bytes int) (n int) {
	if s.b.Kind != KindStream {
		return 0
	}
	b := s.bytes()
	for n = int(s.last - s.first + 1); len(b) > bytes; n-- {
		size, _, _ := frameAt(b)
		b = b[size:]
	}
	return n
}

// outlived lets go of what was kept for a time that has passed. Room's mutex.
func (r *Room) outlived(now int64) {
	age, windows := r.set.History.Age, r.kind.keepsWindows(r.table.conf().Clustered)
	if windows && (age == 0 || age > windowsFor) {
		age = windowsFor
	}
	if age == 0 {
		return
	}
	for _, p := range r.pubs {
		for _, s := range p.streams {
			if log := s.spans(); len(log) > 0 && now-log[0].at > int64(age) {
				s.trimAt(now)
			}
		}
	}
}

// occupy notes, where that keeps the room, that somebody is there. Room's mutex.
func (r *Room) occupy(now int64) {
	if r.set.Occupied && r.kind.decides() && r.present() {
		r.gone = now
	}
}
