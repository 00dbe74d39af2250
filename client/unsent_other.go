//go:build !linux

package client

import "net"

// limitUnsent does nothing here; see unsent_linux.go.
func limitUnsent(net.Conn) {}
