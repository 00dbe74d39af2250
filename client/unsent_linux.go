package client

import (
	"net"
	"syscall"
)

// limitUnsent keeps the kernel from taking more than a few frames that it cannot send yet (TCP_NOTSENT_LOWAT, see
// tcp(7)): what waits there can no longer be overtaken by another stream's frame. It costs no throughput, for what is
// in flight is not counted. Connections that have no TCP below are left as they are.
func limitUnsent(conn net.Conn) {
	tcp, ok := socketOf(conn).(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	const tcpNotSentLowat = 25 // linux/tcp.h; missing in package syscall
	raw.Control(func(fd uintptr) {
		syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpNotSentLowat, maxBatch)
	})
}
