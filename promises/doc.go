// Package promises shows end to end what a subscriber may rely on. It is tests and nothing else.
//
// Each file takes one promise of the README and has a real server keep it, most of them a process of its own, under the
// load that makes such servers break it:
//
//	slow_test.go        slow subscribers cost the others no frame, and the server no memory that grows
//	stopped_test.go     a viewer that stands still for 5 s has a video that decodes, and is told exactly what it missed
//	late_test.go        whoever joins a video, whenever that is, sees every picture from its first one on
//	file_test.go        a large file reaches a fast and a slow reader whole, through little memory
//	interleave_test.go  a large picture does not hold up the sound beside it
//	resume_test.go      connections that break lose nothing and double nothing that is still kept
//	model_test.go       random operations by random clients keep every promise at once, held against a model of rooms
//
// What is random comes from a seed that a failing test prints; -seed=N runs it again. With TIMEDGE_LONG=1 in the
// environment the tests that have a long form take it: five minutes of slow subscribers, a file of 1 GB, more rounds of
// the model.
package promises
