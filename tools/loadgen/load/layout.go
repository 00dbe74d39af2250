package load

import (
	"math/rand/v2"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/tools/loadgen/target"
	"github.com/timedge/timedge/tools/loadgen/verify"
)

// layOutStreams numbers the streams and gives them connections: publisher p of every room goes on connections of its
// own, because a connection is one publisher of a room at most.
func (r *run) layOutStreams() {
	c := r.cfg
	r.rooms = make([][]*source, c.Rooms)
	for _, s := range c.Streams {
		r.roomBytes += float64(c.Publishers) * (s.bytesPerSecond() + s.Rate*codec.StreamHeaderSize)
	}
	if c.Idle {
		return
	}
	perPub := max(c.PubConns/c.Publishers, 1)
	for p := range c.Publishers {
		conns := make([]*publisher, min(perPub, c.Rooms))
		for i := range conns {
			conns[i] = &publisher{route: newRoute(r.addrs, p+i)}
		}
		for room := range c.Rooms {
			conn := conns[room%len(conns)]
			for i := range c.Streams {
				spec := &c.Streams[i]
				s := &source{spec: spec, conn: conn, frames: r.frames(spec.Payload)}
				s.Number, s.Room, s.Pub, s.Dtype = uint32(c.First+len(r.sources)), room, p, spec.Dtype
				if c.Mode == Closed {
					s.window = verify.NewWindow(r.windowFrames(spec), c.Subscribers, r.pub.wakeUp)
					r.windows = append(r.windows, s.window)
				}
				conn.sources = append(conn.sources, s)
				r.sources, r.rooms[room] = append(r.sources, s), append(r.rooms[room], s)
			}
		}
		r.pub.conns = append(r.pub.conns, conns...)
	}
	if c.Listen {
		r.pub.conns = nil
		return
	}
	for _, conn := range r.pub.conns {
		streams := make([]*target.Stream, len(conn.sources))
		for i, s := range conn.sources {
			streams[i] = &s.Stream
		}
		conn.wire = r.target.Publisher(streams)
	}
	r.pub.all = r.sources
}

// frames is the number of frames that a payload takes.
func (r *run) frames(payload int) int {
	if piece := r.target.Caps().Piece; piece > 0 {
		return (payload + piece - 1) / piece
	}
	return 1
}

func (r *run) windowFrames(s *Stream) uint64 {
	messages := max(r.cfg.Window/(s.Payload+codec.StreamHeaderSize), minWindow)
	return uint64(messages * r.frames(s.Payload))
}

// layOutSubscribers deals the subscribers of every room out to the loops, and draws who is slow, late or changing.
func (r *run) layOutSubscribers() {
	c := r.cfg
	total := c.Rooms * c.Subscribers
	draw := make([]class, total)
	next := 0
	put := func(cl class, n int) {
		for ; n > 0 && next < total; n, next = n-1, next+1 {
			draw[next] = cl
		}
	}
	put(stalled, int(c.Stalled*float64(total)+0.5))
	put(half, int(c.Half*float64(total)+0.5))
	put(late, int(c.Late*float64(total)+0.5))
	if c.Churn > 0 {
		// Each changing subscriber stays for about a second at least, and no more than half of all change.
		put(changing, min(int(c.Churn+1), total/2+1))
	}
	rng := rand.New(rand.NewPCG(c.Seed, 0))
	rng.Shuffle(total, func(i, j int) { draw[i], draw[j] = draw[j], draw[i] })
	for i, cl := range draw {
		l := r.loops[i%len(r.loops)]
		s := l.newSubscriber(i%c.Rooms, cl, newRoute(r.subs, i/c.Rooms))
		switch cl {
		case late:
			l.joins = append(l.joins, s)
			continue
		case changing:
			l.churn = append(l.churn, s)
		}
		l.begin = append(l.begin, s)
		r.want++
	}
	changers := 0
	for _, l := range r.loops {
		changers += len(l.churn)
	}
	for _, l := range r.loops {
		l.churnRate = c.Churn * float64(len(l.churn)) / float64(max(changers, 1))
	}
}
