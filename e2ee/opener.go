package e2ee

import (
	"errors"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// Why a message is not opened: it is dropped, and told.
var (
	ErrNotSealed = errors.New("e2ee: the message is not sealed") // or not in this form
	ErrNoKey     = errors.New("e2ee: the message is sealed under a secret that is not here")
	ErrForged    = errors.New("e2ee: the message was changed or moved on its way, or sealed by somebody without the key")
	ErrReplayed  = errors.New("e2ee: the message came before, or behind one that was sealed after it")
)

// maxSessions is how many streams of senders' sessions an Opener follows; beyond it the one heard of longest ago goes.
const maxSessions = 4096

// Opener opens the messages of one subscription. One Next goroutine uses it.
type Opener struct {
	keys   *Keys
	room   client.RoomID
	opened map[session]*opening
	told   map[codec.StreamKey]bool // streams of which a gap came since their last message
	now    uint64                   // messages so far
}

// session is a stream of a sender's session.
type session struct {
	account string
	dtype   uint8
	kid     uint64
}

type opening struct {
	epoch *epoch
	key   frameKey
	next  uint64 // the least counter that is new
	used  uint64
}

// Opener begins to open what a subscription to a room receives.
func (k *Keys) Opener(room client.RoomID) *Opener {
	return &Opener{keys: k, room: room, opened: make(map[session]*opening), told: make(map[codec.StreamKey]bool)}
}

// Gap notes that the server has told of a gap.
func (o *Opener) Gap(g *client.Gap) { o.told[codec.StreamKey{Pub: g.Pub, Dtype: g.Dtype}] = true }

// Left notes that a publisher is gone.
func (o *Opener) Left(l *client.Left) {
	for key := range o.told {
		if key.Pub == l.Pub {
			delete(o.told, key)
		}
	}
}

// Open opens a message in place: its payload becomes what was sealed. With an error the payload is of no use and the
// message is to be dropped. withheld is how many messages were sealed before this one that did not come though no gap
// was told: the server keeps them back, or the sender gave them up before any of them was sent.
func (o *Opener) Open(m *client.Message) (withheld uint64, err error) {
	kid, ctr, size, ok := parseHeader(m.Payload)
	if !ok || kid>>epochBits == 0 || ctr > codec.MaxSeq || len(m.Payload) < size+tagSize {
		return 0, ErrNotSealed
	}
	e := o.keys.of(kid)
	if e == nil {
		return 0, ErrNoKey
	}
	s := stream{o.room, m.Publisher, m.Dtype}
	name := session{m.Publisher, m.Dtype, kid}
	st := o.opened[name]
	known := st != nil && st.epoch == e
	if !known {
		st = &opening{epoch: e}
		if st.key, err = e.key(kid, s); err != nil {
			return 0, err
		}
	} else if ctr < st.next {
		return 0, ErrReplayed
	}
	plain, err := st.key.open(m.Payload, ctr, size, s.metadata(m.Kind))
	if err != nil {
		return 0, ErrForged
	}
	key := codec.StreamKey{Pub: m.Pub, Dtype: m.Dtype}
	if !o.told[key] {
		withheld = ctr - st.next
	}
	delete(o.told, key)
	if !known {
		o.follow(name, st)
	}
	o.now++
	st.next, st.used = ctr+1, o.now
	m.Payload = plain
	return withheld, nil
}

// follow remembers a session, in the place of the one heard of longest ago if there are too many.
func (o *Opener) follow(name session, st *opening) {
	if len(o.opened) >= maxSessions {
		var oldest session
		least := ^uint64(0)
		for n, s := range o.opened {
			if s.used < least {
				oldest, least = n, s.used
			}
		}
		delete(o.opened, oldest)
	}
	o.opened[name] = st
}
