package room

import "slices"

// A log of small batches costs many times what is in it: a frame of 20 bytes some 500. So what has been in a log for a
// while is gathered: small batches in a row become one. That makes the log of whoever sends tiny frames as large as
// they are, and lets somebody who joins be given some large parts instead of many small ones. Each frame is copied once
// more at most.
const (
	gatherEvery = 128      // batches: so many of the newest stay as they are, and so many before them are gathered at once
	gatherSmall = 1 << 10  // bytes of a batch that is worth it
	gatherMost  = 16 << 10 // bytes of what becomes of them
)

// appended counts a batch that was added to the log, and gathers those before the newest when it is time. Room's mutex.
func (s *stream) appended() {
	if s.ungathered++; s.ungathered < gatherEvery {
		return
	}
	s.ungathered = 0
	to := len(s.log) - gatherEvery
	// What a lossless room has counted as arrived, or is counting, stays.
	if from := max(to-gatherEvery, s.head+s.counts+1); from < to {
		s.gather(from, to)
	}
}

// gather makes one of small batches in a row, of those at places from to to in the log.
func (s *stream) gather(from, to int) {
	at := from // where the next one goes
	for i := from; i < to; at++ {
		j, size := i, 0
		for ; j < to && s.log[j].small() && size+s.log[j].size() <= gatherMost; j++ {
			size += s.log[j].size()
		}
		if j-i < 2 {
			s.log[at] = s.log[i]
			i++
			continue
		}
		s.log[at] = s.gathered(s.log[i:j], size)
		i = j
	}
	s.log = slices.Delete(s.log, at, to)
}

// small reports whether the span is a small batch of frames.
func (s *span) small() bool { return s.b.Kind == KindStream && s.size() <= gatherSmall }

// gathered returns one span instead of several, of so many bytes, and lets go of these.
func (s *stream) gathered(parts []span, size int) span {
	first, last := &parts[0], &parts[len(parts)-1]
	b := s.pub.room.table.pool.Get(size, s.pub.share)
	b.Kind, b.Key, b.First, b.Last, b.At = KindStream, s.key, first.first, last.last, last.at
	cost := 0
	for i := range parts {
		p := &parts[i]
		b.B = append(b.B, p.bytes()...)
		b.Keyed = b.Keyed || p.b.Keyed
		cost -= p.cost
		p.b.Release()
	}
	cost += b.cost()
	s.logCost += cost
	s.pub.cached(cost)
	return span{b, 0, len(b.B), first.first, last.last, b.cost(), last.at}
}
