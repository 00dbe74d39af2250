package engine

import (
	"errors"

	"github.com/timedge/timedge/carry"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// push routes a run of frames to its room. An error closes the session.
func (client) push(s *session, run room.Run) error {
	if e := s.loop.eng; s.share.Over() && e.pool.Held() > e.memoryBound()/4*5 {
		return room.ErrOverloaded // it has not waited for acknowledgements
	}
	l, ps := s.loop, s.pushes()
	l.stats.framesIn.Add(uint64(run.Frames))
	l.stats.bytesIn.Add(uint64(len(run.Raw)))
	pub, err := ps.part.Push(run, l.now)
	if pub != nil {
		s.charge(ps, run.Frames, len(run.Raw))
	}
	if err != nil {
		return s.refused(err, run.Room, run.Key.Pub, run.Frames)
	}
	return s.withhold(pub, len(run.Raw))
}

// pushGap routes a publisher's gap, which counts as a frame that it pushes.
func (s *session) pushGap(g codec.Gap, size int) error {
	ps := s.pushes()
	if err := ps.part.Gap(g, s.loop.now); err != nil {
		return s.refused(err, g.Room, g.Pub, 1)
	}
	s.charge(ps, 1, size)
	if pub := s.published(g.Room); pub != nil {
		return s.withhold(pub, size)
	}
	return nil
}

// published returns the client's publication in a room; nil if there is none.
func (s *session) published(id codec.RoomID) *carry.Publication {
	ps := s.pushing()
	if ps == nil {
		return nil
	}
	return ps.part.Of(id, s.account(), s.instance)
}

// refused tells the publisher of frames that were not taken; only a broken window closes the connection.
func (s *session) refused(err error, id codec.RoomID, pub uint16, frames int) error {
	var re *room.Error
	if !errors.As(err, &re) || re.Code == codec.CodeFlowViolation {
		return err
	}
	return s.refuse(id, pub, re.Code, frames)
}

// maxRefusals bounds the refusals of one session that wait for the tick: one for each room, publisher number and
// reason.
const maxRefusals = 64

// refuse counts frames that were not taken. The next tick tells the publisher; the connection stays open, unless that
// happens too often.
func (s *session) refuse(id codec.RoomID, pub uint16, code codec.Code, frames int) error {
	l, ps := s.loop, s.pushes()
	l.stats.refused.Add(uint64(frames))
	for i := range ps.refusals {
		if r := &ps.refusals[i]; r.Room == id && r.Pub == pub && r.Code == code {
			r.Frames += uint64(frames)
			return s.spend(costOther)
		}
	}
	if len(ps.refusals) == maxRefusals {
		ps.refusals[maxRefusals-1].Frames += uint64(frames)
		return s.spend(costOther)
	}
	if len(ps.refusals) == 0 {
		l.refusing = append(l.refusing, s)
		l.eng.hot(l)
	}
	ps.refusals = append(ps.refusals, codec.PushRefused{Room: id, Pub: pub, Code: code, Frames: uint64(frames)})
	return s.spend(costOther)
}
