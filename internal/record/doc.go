// Package record is the record layer of TLS 1.3 (RFC 8446, section 5) for connections whose handshake crypto/tls has
// made: a state machine without I/O, bytes in and bytes out. Start at [Server] and [Conn].
//
// crypto/tls copies all that it seals twice, and keeps some KiB of each connection's handshake for as long as that
// lasts. A [Conn] seals straight from its caller's memory into its caller's memory, and keeps two keys.
//
// How it gets them: crypto/tls says both sides' traffic secrets to Config.KeyLogWriter (RFC 9850), which is set for
// each connection's own handshake and never leaves this package. It is given no byte beyond the record that it waits
// for, so that it has read none of what comes after the handshake. See docs/decisions/carriers.md.
//
// A Conn belongs to one goroutine at a time; a [Stream] may be read by one and written by another.
package record
