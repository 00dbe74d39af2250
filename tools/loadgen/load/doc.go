// Package load drives a server with publishers and subscribers and measures what arrives. Start at [Run].
//
// The generator shares no code with the server but the codec. One thread publishes everything, on a clock (open loop)
// or within a window (closed loop); one or more threads receive, each with an epoll instance and one large read buffer
// for thousands of connections. After everybody is connected, the paths of a frame allocate nothing and share only a
// few atomic counters. Times are CLOCK_MONOTONIC in nanoseconds.
//
// Latency counts from the moment a message was due, not from when it was sent: a server, or a socket, that stalls is in
// the figures with every message that it held up. A generator that was itself late makes a run invalid; see [Result].
package load
