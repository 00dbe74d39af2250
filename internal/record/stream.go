package record

import (
	"net"
	"sync"
	"time"
)

// Stream is a connection for those who may block: what follows a handshake before a loop has the connection. One
// goroutine may read while another writes.
type Stream struct {
	net.Conn       // the socket
	Records  *Conn // of it

	mu    sync.Mutex // guards Records
	raw   []byte     // read of the socket, and not opened
	plain []byte     // opened, and not returned
}

// NewStream returns a stream over a socket, of which rest has been read.
func NewStream(sock net.Conn, c *Conn, rest []byte) *Stream {
	return &Stream{Conn: sock, Records: c, raw: rest}
}

// Read implements net.Conn.
func (s *Stream) Read(b []byte) (int, error) {
	for len(s.plain) == 0 {
		if len(s.raw) == 0 {
			buf := make([]byte, readBytes)
			n, err := s.Conn.Read(buf)
			if n == 0 && err != nil {
				return 0, err
			}
			s.raw = buf[:n]
		}
		if err := s.open(); err != nil {
			return 0, err
		}
	}
	n := copy(b, s.plain)
	s.plain = s.plain[n:]
	return n, nil
}

// open takes a record off what was read, and answers it.
func (s *Stream) open() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plain, s.raw, err = s.Records.Open(nil, s.raw)
	if answer := s.Records.Answer(nil); len(answer) > 0 {
		_, _ = s.Conn.Write(answer)
	}
	return err
}

// Write implements net.Conn.
func (s *Stream) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Records.closed {
		return 0, net.ErrClosed
	}
	if _, err := s.Conn.Write(s.Records.Append(nil, b)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// closeWithin is how long the socket may take for close_notify.
const closeWithin = time.Second

// Close says close_notify, if nobody writes, and closes the socket.
func (s *Stream) Close() error {
	if s.mu.TryLock() {
		_ = s.Conn.SetWriteDeadline(time.Now().Add(closeWithin))
		_, _ = s.Conn.Write(s.Records.Close(nil))
		s.mu.Unlock()
	}
	return s.Conn.Close()
}

// Rest returns what was read too far, opened and not. Who takes it goes on with Records and the socket.
func (s *Stream) Rest() (raw, plain []byte) { return s.raw, s.plain }
