package engine

import (
	"net"
	"time"
)

// memory is the connection below a tls.Conn. During the handshake it is the socket, which the handshake's goroutine
// reads and writes, computing only while it has a place at the gate. Afterwards it is a loop's memory: Read takes
// from what the loop has read, and fails for a while where that ends, which leaves tls.Conn as it was; Write adds to
// the loop's scratch.
type memory struct {
	sock *shaking // nil once a loop has it
	in   []byte   // read of the socket, and not yet by TLS
	loop *loop
}

// errNoInput says that what was read ends within a record. It is temporary, so tls.Conn goes on at the next Read.
var errNoInput net.Error = noInput{}

type noInput struct{}

func (noInput) Error() string   { return "no more input" }
func (noInput) Timeout() bool   { return true }
func (noInput) Temporary() bool { return true }

func (m *memory) Read(b []byte) (int, error) {
	if len(m.in) > 0 {
		n := copy(b, m.in)
		m.in = m.in[n:]
		return n, nil
	}
	if m.sock != nil {
		return m.sock.Read(b)
	}
	return 0, errNoInput
}

func (m *memory) Write(b []byte) (int, error) {
	if m.sock != nil {
		return m.sock.Write(b)
	}
	m.loop.sealed = append(m.loop.sealed, b...)
	return len(b), nil
}

// Close does nothing: the socket is the session's.
func (m *memory) Close() error { return nil }

func (m *memory) LocalAddr() net.Addr {
	if m.sock != nil {
		return m.sock.LocalAddr()
	}
	return nil
}

func (m *memory) RemoteAddr() net.Addr {
	if m.sock != nil {
		return m.sock.RemoteAddr()
	}
	return nil
}

// Deadlines are set on the socket itself, for all handshakes together; what a loop does never waits.

func (m *memory) SetDeadline(time.Time) error      { return nil }
func (m *memory) SetReadDeadline(time.Time) error  { return nil }
func (m *memory) SetWriteDeadline(time.Time) error { return nil }
