package codec

import (
	"crypto/sha256"
	"encoding/binary"
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

// Inbox asks for the session's account's own inbox, which is made if it is not there. The lists say who is accepted and who is blocked
// where the inbox itself says nothing of them yet.
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
func (m *Inbox) Append(dst []byte) []byte {
	dst, at := appendReq(dst, TypeInbox, m.Req)
	dst = append(appendRoom(dst, m.Room), byte(m.Policy))
	for _, list := range [...][]string{m.Accept, m.Block} {
		dst = binary.AppendUvarint(dst, uint64(len(list)))
		for _, account := range list {
			dst = appendString(dst, account)
		}
	}
	return end(dst, at)
}

// Size returns how many bytes Append adds at most: a frame longer than MaxFrame cannot be sent.
func (m *Inbox) Size() int {
	n := LengthSize + 1 + 5 + 8 + 1 + 2*10
	for _, list := range [...][]string{m.Accept, m.Block} {
		for _, account := range list {
			n += varintSize(uint64(len(account))) + len(account)
		}
	}
	return n
}

// Parse implements Control.
func (m *Inbox) Parse(b []byte) error {
	r := body(b)
	m.Req, m.Room, m.Policy = r.varint32(), RoomID(r.u64()), Policy(r.u8())
	m.Accept, m.Block = r.accounts(), r.accounts()
	return r.done()
}

func (r *reader) accounts() (list []string) {
	for n := r.count(1); n > 0 && r.err == nil; n-- {
		list = append(list, r.string(MaxAccount))
	}
	return list
}
