//go:build !linux

package main

// serverCommands are none here: a server needs Linux.
type serverCommands struct{}

func (*serverCommands) init() {}

// settingVariables are those of a server.
func settingVariables() []string { return nil }
