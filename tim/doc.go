// Package tim lets unmodified clients of the system that timedge follows take part: timgo, atim (Java) and timjs.
//
// Start at [Gateway]. It serves WebSocket at /tim and HTTP at /tim2, and carries every connection by a connection of
// the SDK into the engine, so that limits, policies, the cluster and takeover hold for these clients as for any other.
// docs/tim.md says what they get, and how it differs from what their own server gave them. The files:
//
//	frame.go     a frame's type, and what lies around its body
//	compact.go   thrift's compact encoding, as far as it is needed
//	message.go   the structs that travel, in that encoding; json.go the same in JSON
//	codes.go     error codes, and what an error of the SDK is to these clients
//	gateway.go   listeners, HTTP, what all connections share
//	login.go     accounts, tokens
//	conn.go      one connection: frames in their order
//	rooms.go     requests and pushes; inbox.go account to account; publication.go what both push with
//	outbox.go    what goes out
//
// Concurrency: a connection is read, and its frames are handled, by one goroutine; what comes from the engine is passed
// on by one goroutine for each subscription; both write into the connection's outbox, which locks itself.
package tim
