// Package client is the Go SDK of timedge: it registers rooms, pushes streams into them and receives them.
//
// Start at [Dial]. A [Client] is one connection to one of several servers; it reconnects by itself and takes its
// publishers and subscriptions along: what was pushed and not acknowledged is sent again, what was not yet received is
// asked for again, and what is gone for good is reported as a [Gap], never passed over. A [Publisher] pushes into a
// room, a [Subscription] receives from one. [Client.SendTo] sends to an account, and an [Inbox] receives what others
// send to the client's own.
//
// Every method may be called from many goroutines at once, but for [Subscription.Next], which has one caller at a time.
// A Client runs three goroutines (one that keeps it connected, one that reads, one that writes) and [Client.Close] ends
// and joins them.
package client
