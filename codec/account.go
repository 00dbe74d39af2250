package codec

// Types of the frames about accounts. PROTOCOL.md, section "Tokens".
const (
	TypeToken    = 0x30 // client -> server, answered by ok: a fresh token for the session
	TypeExpiring = 0x31 // server -> client: the session ends soon unless a fresh token comes
)

// Token replaces the token that the session was opened with.
type Token struct {
	Req   uint32
	Token []byte // aliases the input when parsed
}

// Type returns TypeToken.
func (*Token) Type() byte { return TypeToken }

// Append implements Control.
func (m *Token) Append(dst []byte) ([]byte, error) {
	w := beginReq(dst, TypeToken, m.Req)
	w.bytes(MaxHandshakeFrame, m.Token)
	return w.end()
}

// Parse implements Control.
func (m *Token) Parse(b []byte) error {
	r := body(b)
	m.Req, m.Token = r.varint32(), r.bytes(MaxHandshakeFrame)
	return r.done()
}

// Expiring warns that the server is about to close the session.
type Expiring struct {
	Code         Code   // with which it will close
	WithinMillis uint32 // when, from now
}

// Type returns TypeExpiring.
func (*Expiring) Type() byte { return TypeExpiring }

// Append implements Control.
func (m *Expiring) Append(dst []byte) ([]byte, error) {
	w := begin(dst, TypeExpiring)
	w.u16(uint16(m.Code))
	w.varint(uint64(m.WithinMillis))
	return w.end()
}

// Parse implements Control.
func (m *Expiring) Parse(b []byte) error {
	r := body(b)
	m.Code, m.WithinMillis = Code(r.u16()), r.varint32()
	return r.done()
}
