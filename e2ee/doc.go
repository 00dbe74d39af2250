// Package e2ee seals messages where they are made and opens them where they are wanted, so that no server in between
// can read them: SFrame (RFC 9605) with its suite AES_256_GCM_SHA512_128, under keys that come from a secret which the
// link to a room carries behind its #. docs/e2ee.md has the construction, the threats that it stands against, and those
// that it does not.
//
// Start at [Keys]: [Keys.Publisher] seals what a client's publisher pushes, [Keys.Opener] opens what a subscription
// receives. [Member] hands a new secret to those who stay when somebody is removed.
//
// A [Keys], a [Sealer] and a [Publisher] may be used from many goroutines at once; an [Opener] by one at a time, as the
// subscription that it belongs to.
package e2ee
