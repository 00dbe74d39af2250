package codec

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
)

// TypeInbox is the type of Inbox. PROTOCOL.md, section "Inboxes".
const TypeInbox = 0x32 // client -> server, answered by ok: the session's account receives what others send to it

// Everyone stands for all accounts where an inbox says whom it accepts. It is no account's name.
const Everyone = "*"

// InboxOf returns the number of an account's inbox. A room of that account with that number is one, and no other room.
func InboxOf(account string) RoomID {
	sum := sha256.Sum256(append([]byte("timedge inbox\x00"), account...))
	return max(1, RoomID(binary.BigEndian.Uint64(sum[:]))) // 0 is no room
}

// Inbox asks for the session's account's own inbox, which is made if it is not there. The lists say who is accepted and
// who is blocked where the inbox itself says nothing of them yet. The frame is at most MaxRequest bytes long, each list
// at most MaxEntries.
type Inbox struct {
	Req    uint32
	Room   RoomID // InboxOf the account
	Policy Policy
	Accept []string // accounts, or Everyone
	Block  []string
}

// Type returns TypeInbox.
func (*Inbox) Type() byte { return TypeInbox }

// Append implements Control.
func (m *Inbox) Append(dst []byte) ([]byte, error) {
	w := beginReq(dst, TypeInbox, m.Req)
	w.anyRoom(m.Room)
	w.u8(byte(m.Policy))
	for _, list := range [...][]string{m.Accept, m.Block} {
		if w.list(len(list), MaxEntries) {
			for _, account := range list {
				w.string(MaxAccount, account)
			}
		}
	}
	return w.endWithin(MaxRequest)
}

// Fits reports whether the frame can be written, whatever the number that the request gets.
func (m *Inbox) Fits() bool {
	x := *m
	x.Req = math.MaxUint32
	_, err := x.Append(nil)
	return err == nil
}

// Parse implements Control.
func (m *Inbox) Parse(b []byte) error {
	if len(b) > MaxRequest {
		return errTooLong
	}
	r := body(b)
	m.Req, m.Room, m.Policy = r.varint32(), RoomID(r.u64()), Policy(r.u8())
	m.Accept, m.Block = r.accounts(), r.accounts()
	return r.done()
}

func (r *reader) accounts() (list []string) {
	for n := r.count(1, MaxEntries); n > 0 && r.err == nil; n-- {
		list = append(list, r.string(MaxAccount))
	}
	return list
}
