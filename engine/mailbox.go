package engine

import (
	"sync"
	"sync/atomic"

	"github.com/timedge/timedge/carry"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/room"
)

// mailbox is how other goroutines speak to a loop. Posting never blocks for long: the lock is a leaf, held to append.
// What is posted under a room's mutex is in the room's order.
type mailbox struct {
	mu    sync.Mutex
	items []item
	awake bool // the loop has been woken and will look
}

// item is one thing for a loop to do; which fields are set depends on the kind.
type item struct {
	kind   itemKind
	code   codec.Code
	outlet *outlet
	batch  *room.Batch
	member *member
	replay *room.Replay
	pub    *carry.Publication
	of     room.Pusher // what pub held when the item was posted
	sess   *session    // whom batch is for, whose turn it is, or whose pub is
	id     uint64
	count  codec.Count
	do     func()
}

type itemKind uint8

const (
	itemBatch    itemKind = iota // frames for the members of outlet
	itemAdmit                    // member joins outlet, with replay
	itemLeave                    // member leaves at its own wish; id is the request's number
	itemCut                      // member is cut off with code
	itemMute                     // member gets nothing more of publisher id
	itemPubCut                   // the publication ended with code
	itemAck                      // the publication has acknowledgements to send now
	itemPubCount                 // the publication asked for count
	itemWritable                 // the socket of session id takes bytes again
	itemTick                     // time has passed
	itemExpire                   // more connections have had their time
	itemSend                     // batch goes to sess, which no policy touches
	itemRelieve                  // accounts that hold too much give up something: step id
	itemDo                       // call do
)

// put appends an item and reports whether the loop must be woken. A loop that is behind from here on is counted,
// before it can have caught up.
func (m *mailbox) put(it item, behind *atomic.Int32) (wake bool) {
	m.mu.Lock()
	m.items = append(m.items, it)
	wake = !m.awake
	m.awake = true
	if len(m.items) == behindAt {
		behind.Add(1)
	}
	m.mu.Unlock()
	return wake
}

// len returns how many items wait. Any goroutine.
func (m *mailbox) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.items)
}

// take swaps the waiting items for an empty slice. With nothing waiting the loop counts as asleep from here on.
func (m *mailbox) take(empty []item) []item {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.items) == 0 {
		m.awake = false
		return empty
	}
	items := m.items
	m.items = empty
	return items
}
