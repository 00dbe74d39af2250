//go:build linux

package main

// serverCommands are those of who runs servers, which takes Linux.
type serverCommands struct {
	Serve  serveCmd  `cmd:"" help:"Serve clients."`
	Config configCmd `cmd:"" help:"Show, check and begin files of settings."`
	Doctor doctorCmd `cmd:"" help:"Say what to change on this machine, and why."`
	Key    keyCmd    `cmd:"" help:"Print a new key for the nodes of a cluster."`
	Token  tokenCmd  `cmd:"" help:"Keep the files of accounts and keys: add, remove, list, key, sign."`
}

// init makes the flags that come of the table of settings.
func (c *serverCommands) init() {
	c.Serve.init()
	c.Config.Show.init()
	c.Doctor.init()
}

type serveCmd struct{ given }
