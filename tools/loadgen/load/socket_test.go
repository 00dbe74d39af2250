package load

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// A client that has answered its server has the kernel wait with acknowledgements, one that has not does not. Both are to
// cost the server the same.
func TestReadsAcknowledge(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	fd, err := dial(ln.Addr().(*net.TCPAddr).AddrPort(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	at := func() int {
		n, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0); err != nil {
		t.Fatal(err)
	}
	if at() != 0 {
		t.Fatal("the kernel does not wait with acknowledgements though it was told to")
	}
	acknowledgeReads(fd)
	if at() != 1 {
		t.Fatal("the kernel still waits with acknowledgements")
	}
}
