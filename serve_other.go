//go:build !linux

package main

// serverCommands are none here: a server needs Linux.
type serverCommands struct{}
