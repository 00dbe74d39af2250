package room

import "github.com/timedge/timedge/codec"

// Replay is what a new member gets before live frames: announcements of the publishers, retained init messages, the
// newest group of each stream or what it missed, and a gap frame for whatever lies between. The outlet owns it and its
// references.
type Replay struct {
	Items []ReplayItem
	// Midway lists streams that stand in the middle of a message or group whose beginning is gone; the member takes them
	// up at the next message, or key message where there are such.
	Midway []Midway
	// Fresh lists publishers whose streams begin wherever their next frames say: the room has just come to this node. None
	// does so that the member gets after FreshUntil.
	Fresh      []uint16
	FreshUntil int64
	// Mute is the number under which the same client publishes, which the member is not to be sent; 0 if there is none or
	// echoes are wanted.
	Mute uint16

	now   int64           // when the member joined
	share *Share          // the member's
	why   codec.GapReason // of a gap in the stream that is being replayed, as its member sees it
	words *Batch          // the last of Items, if it is frames about the room that more may be added to
}

// ReplayItem is a part of a batch.
type ReplayItem struct {
	B        *Batch
	Off, End int
}

// Midway is a stream to be taken up at the start of its next message. From is the next frame's number. Init says that
// the replay ends within an init message, which goes on. With Ahead set it is taken up at From, which the room has not
// reached: what comes before it the member has already. With Known set the member is told all of it from here on,
// though other streams of its publisher may begin anywhere.
type Midway struct {
	Key   codec.StreamKey
	From  uint64
	Init  bool
	Ahead bool
	Torn  bool // with Ahead: what it has ends with a gap, so that it may not be able to go on there
	Known bool
	Why   codec.GapReason // of what is left out until then
}

// Conclude adds the frame that says that the replay is over, for a member of r. It is part of the replay: who is cut
// off before it has had it all does not get this either.
func (rp *Replay) Conclude(r *Room, c codec.Control) { rp.control(r, c) }

// Release drops the references of a replay.
func (rp *Replay) Release() {
	for _, it := range rp.Items {
		it.B.Release()
	}
	rp.Items = nil
}

// control adds a frame about the room. Frames in a row share a batch.
func (rp *Replay) control(r *Room, c codec.Control) {
	if n := len(rp.Items); rp.words != nil && rp.Items[n-1].B == rp.words {
		var err error
		if rp.words.B, err = c.Append(rp.words.B); err != nil {
			panic("room: " + err.Error()) // what a room says of its own state fits
		}
		if rp.Items[n-1].End = len(rp.words.B); rp.Items[n-1].End > wordsBytes {
			rp.words = nil
		}
		b := rp.Items[n-1].B
		b.charge(b.cost())
		return
	}
	b := r.table.pool.encodeOwn(c, rp.share)
	rp.Items = append(rp.Items, ReplayItem{b, 0, len(b.B)})
	rp.words = b
}

// wordsBytes is about how long a batch of frames about a room gets.
const wordsBytes = 8 << 10

func (rp *Replay) gap(s *stream, from, to uint64, reason codec.GapReason) {
	if from <= to {
		rp.control(s.pub.room, &codec.Gap{Room: s.pub.room.ID, StreamKey: s.key, From: from, To: to, Reason: reason})
	}
}

// span adds the frames of sp that lie between from and to, both included.
func (rp *Replay) span(s *stream, sp *span, from, to uint64) {
	from, to = max(from, sp.first), min(to, sp.last)
	switch {
	case from > to:
	case sp.b.Kind != KindStream:
		reason := sp.b.reason()
		if reason == codec.GapJoined || reason == codec.GapExpired {
			reason = rp.why // this node came too late for it; the member may not have
		}
		rp.gap(s, from, to, reason)
	default:
		off := sp.off + offsetOf(sp.bytes(), sp.first, from)
		end := sp.end
		if to < sp.last {
			end = off + offsetOf(sp.b.B[off:sp.end], from, to+1)
		}
		rp.Items = append(rp.Items, ReplayItem{sp.b.Retain(), off, end})
	}
}

// log adds what the log holds from frame number from on. The log of what was a mirror may go on within a message behind
// a gap: a node that has nothing is given it as it is, since it may have subscribers with the beginning. Anybody else
// who is given such a gap goes on with the next message.
func (rp *Replay) log(j *Join, s *stream, from uint64) {
	log, gapped := s.spans(), false
	for i := range log {
		sp, at := &log[i], from
		switch {
		case sp.last < from:
			continue
		case sp.b.Kind != KindStream:
			gapped = !j.New
		case gapped:
			at = sp.message()
			rp.gap(s, sp.first, at-1, rp.why)
			gapped = at > sp.last
		}
		rp.span(s, sp, at, sp.last)
	}
	if gapped && s.within() {
		rp.Midway = append(rp.Midway, Midway{Key: s.key, From: s.next, Why: rp.why})
	}
}

// replay adds what a joining or resuming member needs of one stream.
func (r *Room) replay(rp *Replay, j *Join, s *stream, have positions, seat *seat) {
	pos, reason := uint64(1), codec.GapJoined
	if j.Resumes || j.Link != "" && !j.New { // neither it nor its subscribers have joined late
		reason = codec.GapExpired
	}
	adrift := false // goes on where a decoder can start only, in a lossless room with a message
	if h := have.of(s.key); h != nil {
		pos, reason, adrift = h.last+1, codec.GapExpired, h.gapped
	}
	rp.why = reason
	start := s.recall(r.kind.start(s), rp.now)
	lowest := s.next
	if j.New {
		lowest = s.recall(r.kind.lowest(s), rp.now)
	}
	// A node that is not new has subscribers who were there before the streams that it does not name.
	if j.before() || j.Link != "" && !j.New {
		switch {
		case pos >= s.next:
			rp.heads(j, s, lowest)
			rp.log(j, s, lowest)
			if adrift && (s.grouped() || s.within()) {
				rp.Midway = append(rp.Midway, Midway{Key: s.key, From: s.next, Why: reason})
			}
			if seat.start(s, s.next-1); pos > s.next && !j.New { // it has been ahead of this node elsewhere
				rp.Midway = append(rp.Midway, Midway{Key: s.key, From: pos, Ahead: true, Torn: adrift, Why: codec.GapLost})
				seat.claims(s, pos-1)
			}
			return
		case adrift:
			start = s.startFrom(pos)
		case s.has(pos):
			rp.heads(j, s, min(pos, lowest))
			rp.log(j, s, min(pos, lowest))
			seat.start(s, pos-1)
			return
		}
		start = max(start, pos)
		rp.heads(j, s, pos)
	}
	owes := r.kind.owes(s, start)
	start = max(pos, min(start, lowest)) // others will come to a node who have less than who is late
	kept := s.headOf(start)
	for i := range kept {
		from, to := max(kept[i].first, pos), min(kept[i].last, start-1)
		if from <= to {
			rp.gap(s, pos, from-1, reason)
			rp.span(s, &kept[i], from, to)
			pos = to + 1
		}
	}
	rp.gap(s, pos, start-1, reason)
	rp.log(j, s, start)
	// A node that has nothing goes on within a message, too: see log.
	if start == s.next && (s.within() && !j.New || s.grouped() && (s.groupSeq == 0 || adrift)) {
		rp.Midway = append(rp.Midway, Midway{Key: s.key, From: s.next, Init: s.open() && pos == s.next, Why: reason})
	}
	seat.start(s, owes-1)
}

// heads adds, for a node that has nothing of the room, the init messages before frame from, in their places: others
// will join there whom its first subscriber's position does not serve. If nothing else is given of the stream it adds
// how far that has come.
func (rp *Replay) heads(j *Join, s *stream, from uint64) {
	if !j.New {
		return
	}
	pos := uint64(0)
	kept := s.headOf(from)
	for i := range kept {
		if kept[i].first >= from {
			break
		}
		if pos > 0 {
			rp.gap(s, pos, kept[i].first-1, codec.GapExpired)
		}
		pos = min(kept[i].last, from-1) + 1
		rp.span(s, &kept[i], kept[i].first, pos-1)
	}
	if pos > 0 || from == s.next {
		rp.gap(s, max(pos, 1), from-1, codec.GapExpired)
	}
}
