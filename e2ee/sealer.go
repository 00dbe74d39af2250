package e2ee

import (
	"crypto/rand"
	"encoding/binary"
	"sync"

	"github.com/timedge/timedge/client"
)

// Sealer seals the messages of one account in one room. It is one session of a sender: its number is random, and so its
// keys are its own and its counters may begin at 0. Whoever starts anew makes a new Sealer.
type Sealer struct {
	keys    *Keys
	room    client.RoomID
	account string

	mu      sync.Mutex
	session uint64 // 60 random bits, never 0
	epoch   *epoch
	streams map[uint8]*sealing
}

type sealing struct {
	stream
	kid  uint64
	key  frameKey
	next uint64 // counter of the next message
}

// Sealer begins a session of an account in a room.
func (k *Keys) Sealer(room client.RoomID, account string) *Sealer {
	var b [8]byte
	session := uint64(0)
	for session == 0 {
		_, _ = rand.Read(b[:]) // never fails
		session = binary.BigEndian.Uint64(b[:]) >> epochBits
	}
	return k.sealer(room, account, session)
}

func (k *Keys) sealer(room client.RoomID, account string, session uint64) *Sealer {
	return &Sealer{keys: k, room: room, account: account, session: session}
}

// Seal appends a message, sealed. Messages of a dtype have to be pushed in the order of the calls: receivers take what
// comes before its turn for a replay. What was sealed is pushed once; to send it again is the client's own business.
func (s *Sealer) Seal(dst []byte, dtype uint8, kind client.Kind, plain []byte) ([]byte, error) {
	s.mu.Lock()
	st, err := s.stream(dtype)
	if err != nil {
		s.mu.Unlock()
		return dst, err
	}
	ctr := st.next
	st.next++
	s.mu.Unlock()
	return st.key.seal(dst, st.kid, ctr, st.metadata(kind), plain), nil
}

// stream returns what a dtype is sealed with at present. s.mu held.
func (s *Sealer) stream(dtype uint8) (*sealing, error) {
	if now := s.keys.newest(); now != s.epoch {
		s.epoch, s.streams = now, make(map[uint8]*sealing)
	}
	if st := s.streams[dtype]; st != nil {
		return st, nil
	}
	st := &sealing{
		stream: stream{s.room, s.account, dtype},
		kid:    s.session<<epochBits | s.epoch.number&(1<<epochBits-1),
	}
	var err error
	if st.key, err = s.epoch.key(st.kid, st.stream); err != nil {
		return nil, err
	}
	s.streams[dtype] = st
	return st, nil
}
