// Package auth says who a client is and what its account may do.
//
// Start at [New], which makes one of three authenticators of a line such as "file:/etc/timedge/accounts":
//
//   - open takes every client's word for its account: for development, on loopback.
//   - file holds a list of accounts, each with the hash of its token; [Add], [Remove] and [List] keep it.
//   - jwt checks signed tokens (RFC 7519) against a file of keys (RFC 7517); [AddKey] and [Sign] keep and try it.
//
// README.md beside this file has the formats of both files and the table of claims. A further authenticator is one file
// with a type that is an [Authenticator], and a line in New.
//
// What is not said is not allowed: a right that neither the file nor the token names is not given. And rights only
// narrow what the rest of the server decides: who may push into a room is still for its owner to grant, and a recipient
// may always accept more senders, or block them, on its own list.
//
// Everything here may be used from many goroutines at once. Authenticating does no I/O, takes no lock and waits for
// nothing, so that it may run on an event loop; files are read by a goroutine of their own, which looks for changes
// every second and ends with Close. A file that cannot be taken leaves in force what was read before.
package auth
