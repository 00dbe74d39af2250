package codec

// Preface is the first thing on a connection, before any frame. PROTOCOL.md, section "Preface".
//
//	client: 'T' 'D' 'G' 'E'  lowest   highest  0  0
//	server: 'T' 'D' 'G' 'E'  chosen   lowest   highest  0     (chosen 0: none fits)
type Preface struct{ A, B, C uint8 }

// PrefaceSize is the size of a preface in bytes.
const PrefaceSize = 8

// The versions of the protocol that this package speaks.
const (
	VersionMin = 1
	VersionMax = 1
)

const magic = "TDGE"

// AppendClientPreface writes a client's preface for the versions lo to hi.
func AppendClientPreface(dst []byte, lo, hi uint8) []byte {
	return append(append(dst, magic...), lo, hi, 0, 0)
}

// AppendServerPreface writes a server's answer: the version chosen, 0 for none, and the range it speaks.
func AppendServerPreface(dst []byte, chosen uint8) []byte {
	return append(append(dst, magic...), chosen, VersionMin, VersionMax, 0)
}

// ParsePreface reads the 8 bytes of either preface. It fails with CodeBadMagic as soon as a byte differs from the
// magic, so that a stranger is turned away without waiting for the rest, and with ErrIncomplete when more bytes are
// needed.
func ParsePreface(b []byte) (p Preface, err error) {
	for i := range min(len(b), len(magic)) {
		if b[i] != magic[i] {
			return p, &ProtocolError{CodeBadMagic, "not a timedge connection"}
		}
	}
	if len(b) < PrefaceSize {
		return p, ErrIncomplete
	}
	return Preface{b[4], b[5], b[6]}, nil
}

// Choose picks the highest version that both the client's range and this package's hold; 0 if there is none.
func Choose(lo, hi uint8) uint8 {
	v := min(hi, VersionMax)
	if v < max(lo, VersionMin) {
		return 0
	}
	return v
}

// Hello is the client's first frame: who it is. It is at most MaxHandshakeFrame bytes long.
type Hello struct {
	Account  string
	Token    []byte // proof of the account, for the server's authenticator; empty in open mode
	Instance uint64 // random per client, kept over its reconnections; a publisher is (account, instance)
	Caps     uint64 // capabilities offered
}

func (*Hello) Type() byte { return TypeHello }

func (m *Hello) Append(dst []byte) ([]byte, error) {
	w := begin(dst, TypeHello)
	w.string(MaxAccount, m.Account)
	w.bytes(MaxHandshakeFrame, m.Token)
	w.u64(m.Instance)
	w.varint(m.Caps)
	return w.endWithin(MaxHandshakeFrame)
}

func (m *Hello) Parse(b []byte) error {
	r := body(b)
	m.Account, m.Token, m.Instance, m.Caps = r.string(MaxAccount), r.bytes(MaxHandshakeFrame), r.u64(), r.varint()
	return r.done()
}

// Welcome accepts a hello.
type Welcome struct {
	Session    uint64 // names the session in the server's log
	Node       string // the node's name
	Caps       uint64 // those of the client's capabilities that are in force
	MaxPayload uint64 // largest payload over all its pieces, bytes
	PingMillis uint32 // a side that has heard nothing for this long pings; after twice as long it may close
}

func (*Welcome) Type() byte { return TypeWelcome }

func (m *Welcome) Append(dst []byte) ([]byte, error) {
	w := begin(dst, TypeWelcome)
	w.u64(m.Session)
	w.string(MaxAccount, m.Node)
	w.varint(m.Caps)
	w.varint(m.MaxPayload)
	w.varint(uint64(m.PingMillis))
	return w.end()
}

func (m *Welcome) Parse(b []byte) error {
	r := body(b)
	m.Session, m.Node, m.Caps, m.MaxPayload, m.PingMillis = r.u64(), r.string(MaxAccount), r.varint(), r.varint(), r.varint32()
	return r.done()
}

// Error tells the peer why the sender closes the connection.
type Error struct {
	Code Code
	Text string // Append cuts it to MaxText bytes
}

func (*Error) Type() byte { return TypeError }

func (m *Error) Append(dst []byte) ([]byte, error) {
	w := begin(dst, TypeError)
	w.u16(uint16(m.Code))
	w.text(m.Text)
	return w.end()
}

func (m *Error) Parse(b []byte) error {
	r := body(b)
	m.Code, m.Text = Code(r.u16()), r.string(MaxText)
	return r.done()
}

// GoAway asks the client to reconnect: to one of Addrs, or to any address it knows.
type GoAway struct {
	Code         Code
	WithinMillis uint32   // the server closes after this time
	Addrs        []string // may be empty
}

func (*GoAway) Type() byte { return TypeGoAway }

func (m *GoAway) Append(dst []byte) ([]byte, error) {
	w := begin(dst, TypeGoAway)
	w.u16(uint16(m.Code))
	w.varint(uint64(m.WithinMillis))
	if w.list(len(m.Addrs), MaxAddrs) {
		for _, a := range m.Addrs {
			w.string(MaxText, a)
		}
	}
	return w.end()
}

func (m *GoAway) Parse(b []byte) error {
	r := body(b)
	m.Code, m.WithinMillis, m.Addrs = Code(r.u16()), r.varint32(), nil
	for range r.count(1, MaxAddrs) {
		m.Addrs = append(m.Addrs, r.string(MaxText))
	}
	return r.done()
}

// Ping asks for a pong that echoes its number; the sender usually puts its clock there.
type Ping struct{ Echo uint64 }

func (*Ping) Type() byte { return TypePing }

func (m *Ping) Append(dst []byte) ([]byte, error) {
	return appendEcho(dst, TypePing, m.Echo)
}

func (m *Ping) Parse(b []byte) (err error) { m.Echo, err = parseEcho(b); return }

// Pong answers a ping.
type Pong struct{ Echo uint64 }

func (*Pong) Type() byte { return TypePong }

func (m *Pong) Append(dst []byte) ([]byte, error) {
	return appendEcho(dst, TypePong, m.Echo)
}

func (m *Pong) Parse(b []byte) (err error) { m.Echo, err = parseEcho(b); return }

func appendEcho(dst []byte, typ byte, echo uint64) ([]byte, error) {
	w := begin(dst, typ)
	w.u64(echo)
	return w.end()
}

func parseEcho(b []byte) (uint64, error) {
	r := body(b)
	echo := r.u64()
	return echo, r.done()
}
