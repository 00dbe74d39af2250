package client

import (
	"net"
	"syscall"
	"testing"
)

// The kernel is told to take only so much more than it can send; a connection that is no TCP is left alone.
func TestLimitUnsent(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	limitUnsent(conn)
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var value int
	var got error
	if err := raw.Control(func(fd uintptr) {
		value, got = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, 25)
	}); err != nil {
		t.Fatal(err)
	}
	if got != nil || value != maxBatch {
		t.Errorf("TCP_NOTSENT_LOWAT is %d, %v; want %d", value, got, maxBatch)
	}
	a, b := net.Pipe()
	defer b.Close()
	defer a.Close()
	limitUnsent(a)
}
