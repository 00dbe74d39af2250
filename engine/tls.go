package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// TLS is spoken beside the loops: a goroutine shakes hands, then two move bytes between the TLS connection and one end of a
// socket pair, whose other end is a session like any other. So the loops know nothing of TLS, a client that speaks it slowly
// holds up nobody, and crypto/tls does what it is good at. The price is two copies and two more descriptors for each such
// client (benchmarks: BenchmarkTLS).

// adoptTLS admits a connection and leaves the handshake to a goroutine.
func (e *Engine) adoptTLS(c net.Conn) error {
	if why, text := e.admit(c); text != "" {
		e.turned[why].Add(1) // nothing can be said before the handshake
		_ = c.Close()
		return nil
	}
	near, far, err := socketPair()
	if err != nil {
		e.dismiss()
		_ = c.Close()
		return err
	}
	e.pumps.Add(1)
	go func() {
		defer e.pumps.Done()
		e.serveTLS(tls.Server(c, e.cfg.TLS), near, far)
	}()
	return nil
}

// serveTLS shakes hands, has the session adopted, and moves bytes until either side ends.
func (e *Engine) serveTLS(c *tls.Conn, near, far net.Conn) {
	defer c.Close()
	defer near.Close()
	ctx, cancel := context.WithTimeout(context.Background(), e.cfg.HelloTimeout)
	err := c.HandshakeContext(ctx)
	cancel()
	if err != nil {
		e.dismiss()
		_ = far.Close()
		e.log.Debug().Err(err).Stringer("peer_addr", c.RemoteAddr()).Msg("TLS handshake failed")
		return
	}
	s := &session{id: e.nextID.Add(1)}
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		addr := a.AddrPort().Addr()
		s.peer = &addr
	}
	if err := e.enroll(far, s); err != nil {
		e.log.Warn().Err(err).Msg("cannot adopt a TLS client")
		return
	}
	pump(c, near, 2*e.cfg.Ping)
}

// halfCloser is a connection whose sending side can be closed alone.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// pump moves bytes both ways until both have ended. The end of one direction is passed on as such, so that last words arrive;
// a side that takes nothing for the given patience, or does not end when the other has, is broken off.
func pump(client, session net.Conn, patience time.Duration) {
	var both sync.WaitGroup
	move := func(dst, src halfCloser) {
		defer both.Done()
		_, err := io.CopyBuffer(patientWriter{dst, patience}, readerOnly{src}, make([]byte, 32<<10))
		if err != nil {
			_ = dst.Close() // broken: the other direction has no use either
			_ = src.Close()
			return
		}
		_ = dst.CloseWrite()
		_ = dst.SetReadDeadline(time.Now().Add(patience))
	}
	both.Add(2)
	go move(client.(halfCloser), session.(halfCloser))
	move(session.(halfCloser), client.(halfCloser))
	both.Wait()
}

// patientWriter gives each write so much time.
type patientWriter struct {
	c        net.Conn
	patience time.Duration
}

func (w patientWriter) Write(b []byte) (int, error) {
	_ = w.c.SetWriteDeadline(time.Now().Add(w.patience))
	return w.c.Write(b)
}

// readerOnly keeps io.CopyBuffer from using a buffer of the connection's own.
type readerOnly struct{ io.Reader }

// socketPair returns two connected stream sockets.
func socketPair() (a, b net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	a, err = fileConn(fds[0])
	b, err2 := fileConn(fds[1])
	if err = errors.Join(err, err2); err != nil {
		for _, c := range []net.Conn{a, b} {
			if c != nil {
				_ = c.Close()
			}
		}
		return nil, nil, err
	}
	return a, b, nil
}

// fileConn makes a connection of a descriptor, which it takes over.
func fileConn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "socket pair")
	defer f.Close()
	return net.FileConn(f) // a duplicate
}
