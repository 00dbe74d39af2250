// Package drills is what goes wrong in a cluster, as tests with real processes: nodes killed, frozen, cut off,
// restarted, parted. It is tests and nothing else.
//
// Everything listens on 127.0.0.1 or in network namespaces of the test's own, and ends with the test. "go test
// ./drills" runs each drill once; with -kills=50 those that have a figure repeat, and print it ("make drill").
package drills
