package world

import "github.com/timedge/timedge/codec"

// shape is what a publisher pushes.
type shape func(p *publisher, n uint64)

// shapes are the kinds of streams that there are.
var shapes = map[string]shape{
	// A picture that begins with a header, which is repeated in another form now and then, and sound beside it.
	"video": func(p *publisher, n uint64) {
		switch {
		case n%40 == 0:
			p.message(1, codec.FlagInit, 60, 1)
			p.message(1, codec.FlagKey, 900, 1)
		case n%8 == 0:
			p.message(1, codec.FlagKey, 900, 1)
		default:
			p.message(1, 0, 200, 1)
		}
		p.message(2, 0, 40, 1)
	},
	"cursor": func(p *publisher, n uint64) { p.message(uint8(3+n%2), 0, 30, 1) },
	// Messages of several pieces, so large that the window binds.
	"file": func(p *publisher, n uint64) {
		if n%10 == 0 {
			p.message(5, codec.FlagInit, 30, 2)
		}
		p.message(5, 0, 9000, 1+int(n%3))
	},
	// A header once, then key messages only: who joins late depends on it.
	"slides": func(p *publisher, n uint64) {
		if n == 0 {
			p.message(6, codec.FlagInit, 100, 1)
		}
		p.message(6, codec.FlagKey, 400, 1)
	},
}
