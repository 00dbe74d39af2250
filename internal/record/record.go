package record

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

// Sizes of records, in bytes.
const (
	HeadBytes = 5
	// MaxData is the most that a record carries of its content.
	MaxData = 16 << 10
	// maxSealed is the most that may follow a header (section 5.2).
	maxSealed = MaxData + 256
	// Overhead is what a record of ours has beside its content: the header, the content's type and the tag, which has 16
	// bytes in each of the suites.
	Overhead = HeadBytes + 1 + 16
)

// content is what a record holds: the last byte of what is sealed.
type content byte

const (
	changeCipherSpec content = 20
	alert            content = 21
	handshake        content = 22
	data             content = 23
)

// Data is the byte behind the content of what [Conn.Seal] takes.
const Data = byte(data)

// rekeyAfter is how many records one key seals: AES-GCM is good for 2^24.5 full ones (section 5.5).
const rekeyAfter = 1 << 24

// newSessionTicket is the type of the message with which a server sends a session ticket (section 4.6.1).
const newSessionTicket = 4

// keyUpdate is the message with which new keys come, but for its last byte: 1 asks for new keys of the peer's (section
// 4.6.3).
var keyUpdate = [...]byte{24, 0, 0, 1}

// Alert is why a connection cannot go on (section 6).
type Alert struct {
	Code   byte
	Remote bool // the peer says so
}

// The alerts that this layer tells from others.
const (
	closeNotify       = 0
	unexpectedMessage = 10
	badRecordMAC      = 20
	recordOverflow    = 22
	decodeError       = 50
	userCanceled      = 90
)

func (a *Alert) Error() string {
	who := "local"
	if a.Remote {
		who = "remote"
	}
	name, ok := map[byte]string{unexpectedMessage: "unexpected message", badRecordMAC: "bad record MAC",
		recordOverflow: "record overflow", decodeError: "decode error"}[a.Code]
	if !ok {
		name = "see RFC 8446, section 6"
	}
	return fmt.Sprintf("TLS: %s alert %d (%s)", who, a.Code, name)
}

// Conn seals and opens the records of one connection.
type Conn struct {
	in, out half
	cut     []byte // of a record whose rest is still to come; from pool
	over    error  // why nothing more is opened
	owes    bool   // the peer has asked for new keys of ours
	tickets bool   // the peer is a server, which may send session tickets: they are passed over
	alert   byte   // to be said; 0: none
	closed  bool   // an alert was the last word: nothing more is sealed
}

// pool holds room for records that a read has cut.
var pool = sync.Pool{New: func() any { b := make([]byte, 0, HeadBytes+maxSealed); return &b }}

// Cut reports whether the rest of a record is still to come.
func (c *Conn) Cut() bool { return len(c.cut) > 0 }

// Open takes the first record off b, or what there is of it, appends what it carries to dst, and returns what of b
// comes behind it. b is read only, and not kept. After an error there is nothing more to open: io.EOF if the peer has
// ended in good order, an [Alert] otherwise. What is to be answered is due then: see [Conn.Answer].
func (c *Conn) Open(dst, b []byte) (out, rest []byte, err error) {
	if c.over != nil {
		return dst, nil, c.over
	}
	if len(c.cut) == 0 && len(b) >= HeadBytes {
		n, err := c.size(b)
		if err != nil {
			return dst, nil, err
		}
		if n <= len(b) {
			dst, err = c.open(dst, b[:n])
			return dst, b[n:], err
		}
	}
	for len(b) > 0 {
		n := HeadBytes
		if len(c.cut) >= HeadBytes {
			if n, err = c.size(c.cut); err != nil {
				return dst, nil, err
			}
		}
		if c.cut == nil {
			c.cut = *pool.Get().(*[]byte)
		}
		k := min(n-len(c.cut), len(b))
		c.cut = append(c.cut, b[:k]...)
		b = b[k:]
		if n > HeadBytes && len(c.cut) == n {
			dst, err = c.open(dst, c.cut)
			c.dropCut()
			return dst, b, err
		}
	}
	return dst, nil, nil
}

func (c *Conn) dropCut() {
	if c.cut != nil {
		b := c.cut[:0]
		pool.Put(&b)
		c.cut = nil
	}
}

// Release gives back what is kept of a cut record. The connection is over.
func (c *Conn) Release() {
	c.dropCut()
	c.over = io.ErrClosedPipe
}

// size is how long the record is that begins with head. What no record may be is told before any of it is kept.
func (c *Conn) size(head []byte) (int, error) {
	n := int(binary.BigEndian.Uint16(head[3:]))
	switch {
	case content(head[0]) != data: // also a change_cipher_spec, which ends with the handshake
		return 0, c.fail(unexpectedMessage)
	case n > maxSealed:
		return 0, c.fail(recordOverflow)
	case n == 0:
		return 0, c.fail(badRecordMAC)
	}
	return HeadBytes + n, nil
}

// open opens a whole record.
func (c *Conn) open(dst, record []byte) ([]byte, error) {
	h := &c.in
	at := len(dst)
	out, err := h.aead.Open(dst, h.nonce(), record[HeadBytes:], record[:HeadBytes])
	if err != nil {
		return dst, c.fail(badRecordMAC)
	}
	h.seq++
	n := len(out)
	for n > at && out[n-1] == 0 { // padding
		n--
	}
	switch {
	case len(out)-at > MaxData+1:
		return dst, c.fail(recordOverflow)
	case n == at:
		return dst, c.fail(unexpectedMessage) // nothing but padding
	}
	said := out[at : n-1]
	switch content(out[n-1]) {
	case data:
		return out[:n-1], nil
	case alert:
		return dst, c.heardAlert(said)
	case handshake:
		return dst, c.heardHandshake(said)
	}
	return dst, c.fail(unexpectedMessage)
}

// heardAlert handles an alert of the peer's. user_canceled precedes close_notify.
func (c *Conn) heardAlert(said []byte) error {
	switch {
	case len(said) != 2:
		return c.fail(decodeError)
	case said[1] == userCanceled:
		return nil
	case said[1] == closeNotify:
		c.over = io.EOF
	default:
		c.over = &Alert{said[1], true}
	}
	return c.over
}

// heardHandshake handles what comes after the handshake: new keys, which fill their record, as the next one has another
// key, and tickets, of which none is in two records.
func (c *Conn) heardHandshake(said []byte) error {
	for c.tickets && len(said) > 4 && said[0] == newSessionTicket {
		n := 4 + (int(said[1])<<16 | int(said[2])<<8 | int(said[3]))
		if n > len(said) {
			return c.fail(unexpectedMessage)
		}
		if said = said[n:]; len(said) == 0 {
			return nil
		}
	}
	if len(said) != len(keyUpdate)+1 || [len(keyUpdate)]byte(said[:len(keyUpdate)]) != keyUpdate {
		return c.fail(unexpectedMessage)
	}
	switch said[len(keyUpdate)] {
	case 0:
	case 1:
		c.owes = true
	default:
		return c.fail(decodeError)
	}
	c.in.roll()
	return nil
}

// fail ends the connection with an alert of our own.
func (c *Conn) fail(code byte) error {
	c.alert, c.over = code, &Alert{Code: code}
	return c.over
}

// Seal appends a record to dst. inner is what it carries, at most MaxData bytes, and behind that the byte Data. It may
// not overlap dst's room. What had to be said before comes first.
func (c *Conn) Seal(dst, inner []byte) []byte {
	if c.owes || c.out.seq >= rekeyAfter {
		dst = c.update(dst)
	}
	h := &c.out
	n := len(inner) + Overhead - HeadBytes - 1
	at := len(dst)
	dst = append(dst, Data, 3, 3, byte(n>>8), byte(n))
	dst = h.aead.Seal(dst, h.nonce(), inner, dst[at:])
	h.seq++
	return dst
}

// Append appends b to dst in as many records as that takes. It copies b once, which Seal does not.
func (c *Conn) Append(dst, b []byte) []byte {
	for len(b) > 0 {
		n := min(len(b), MaxData)
		if c.owes || c.out.seq >= rekeyAfter {
			dst = c.update(dst)
		}
		dst = c.append(dst, data, b[:n]...)
		b = b[n:]
	}
	return dst
}

// append appends a record, sealed where it lies.
func (c *Conn) append(dst []byte, of content, b ...byte) []byte {
	h := &c.out
	n := len(b) + Overhead - HeadBytes
	at := len(dst)
	dst = append(append(append(dst, Data, 3, 3, byte(n>>8), byte(n)), b...), byte(of))
	head, inner := dst[at:at+HeadBytes], dst[at+HeadBytes:]
	dst = h.aead.Seal(dst[:at+HeadBytes], h.nonce(), inner, head)
	h.seq++
	return dst
}

// update says that the next record has another key, and goes on with that.
func (c *Conn) update(dst []byte) []byte {
	c.owes = false
	dst = c.append(dst, handshake, append(keyUpdate[:], 0)...)
	c.out.roll()
	return dst
}

// Answer appends to dst what is due after Open: new keys, or the alert with which a connection ends.
func (c *Conn) Answer(dst []byte) []byte {
	if c.closed {
		return dst
	}
	if c.owes {
		dst = c.update(dst)
	}
	if c.alert != 0 {
		c.closed = true
		dst = c.append(dst, alert, 2, c.alert)
	}
	return dst
}

// Close appends close_notify to dst, unless an alert was said. Nothing may be sealed afterwards.
func (c *Conn) Close(dst []byte) []byte {
	if c.closed {
		return dst
	}
	c.closed = true
	return c.append(dst, alert, 1, closeNotify)
}
