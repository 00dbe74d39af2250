package media

// startPicture decides what a unit is that begins with a picture, or with audio where there is no video.
func (c *tsCutter) startPicture(in *input) Kind {
	if !c.video {
		c.seen.key()
		return Key
	}
	if c.halved {
		c.halved = false
		if c.opening {
			return Init
		}
		return Delta
	}
	if c.opening && c.pictures > 0 && (c.settled() || c.pictures > 16) {
		c.opening, c.follows = false, true
	}
	p, halved := c.lookAt(in, 0, c.tables.stream(c.clock))
	c.halved = halved
	if p.key {
		c.seen.key()
	}
	switch {
	case c.opening:
		c.pictures++
		return Init
	case c.follows:
		c.follows = false
		return Key
	case !p.key:
		return Delta
	case p.sets:
		c.clean = true
		return Key
	}
	c.lacked = true
	if c.rich {
		return Key
	}
	return Delta
}

// settled reports whether no packet of another stream is in the midst of being sent.
func (c *tsCutter) settled() bool {
	for i := range c.tables.streams {
		if s := &c.tables.streams[i]; s.pid != c.clock && s.left > 0 {
			return false
		}
	}
	return true
}

// nextPicture finds the next picture of a stream and looks at it.
func (c *tsCutter) nextPicture(in *input, off int, s *tsStream) (p picture, ok bool) {
	if s == nil || s.class != videoTrack {
		return p, false
	}
	for pos := off; pos-off < pictureWindow; pos += c.stride {
		b := c.packet(in, pos)
		if b == nil {
			return p, false
		}
		if h := parsePacket(b); h.start && h.pid == s.pid {
			p, _ = c.lookAt(in, pos, s)
			return p, true
		}
	}
	return p, false
}

// lookAt looks at the picture that starts in the packet at off. It waits for as much of it as tells what it is, or the
// next one. What the bitstream does not say it takes from the container. halved: the picture itself comes in the next
// PES packet.
func (c *tsCutter) lookAt(in *input, off int, s *tsStream) (p picture, halved bool) {
	c.head = c.head[:0]
	random, skip, whole, tried := false, 0, false, 0
	for pos := off; ; pos += c.stride {
		b := c.packet(in, pos)
		whole = b == nil || pos-off >= pictureWindow
		if !whole {
			h := parsePacket(b)
			if h.pid != s.pid {
				continue
			}
			payload := h.payload
			switch {
			case pos == off:
				random = h.random
				if skip = pesHeader(payload); skip < 0 {
					return picture{key: random, sets: true}, false
				}
			case h.start && !halved && s.codec.hasSets() && s.codec.onlySets(c.head):
				halved = true
				skip = max(0, pesHeader(payload))
			case h.start:
				whole = true
				payload = nil
			}
			n := min(skip, len(payload))
			skip -= n
			c.head = append(c.head, payload[n:]...)
		}
		if !whole && len(c.head) < 2*tried {
			continue // looking at it each time would cost the square
		}
		tried = len(c.head)
		if s.codec == codecUnknown {
			c.identify(s)
		}
		if p = s.codec.look(c.head, startCodes, whole); p.known || whole {
			break
		}
	}
	if !p.known && s.codec != codecUnknown {
		if was := s.codec; c.identify(s) && s.codec != was { // the map is wrong
			p = s.codec.look(c.head, startCodes, true)
		}
	}
	switch {
	case !p.known:
		p.key, p.sets = random, true
	case random && p.intra:
		p.key = true
	}
	if !s.codec.hasSets() {
		p.sets = true
	}
	return p, halved
}

// identify tells a stream's codec by what its picture looks like, and reports whether that worked.
func (c *tsCutter) identify(s *tsStream) bool {
	found := sniff(c.head)
	if found == codecUnknown {
		return false
	}
	s.codec, s.name = found, found.String()
	if s.pid == c.clock {
		c.codec = found
	}
	return true
}

func isPES(b []byte) bool { return len(b) >= 9 && b[0] == 0 && b[1] == 0 && b[2] == 1 }

// pesHeader returns the length of a PES packet's header; -1 if b does not start with one.
func pesHeader(b []byte) int {
	if !isPES(b) {
		return -1
	}
	return 9 + int(b[8])
}
