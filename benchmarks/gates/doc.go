// Package gates holds the tests of what is exact about the server's hot path and therefore the same on every machine:
// bytes on the wire, system calls, copies and allocations per delivery. CI fails when one of them gets worse.
// Nanoseconds are not gated here; see benchmarks/compare.
package gates
