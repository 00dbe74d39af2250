//go:build linux

package main

import (
	"bytes"
	"fmt"

	"github.com/timedge/timedge/internal/settings"
)

// configCmd is for the file of settings.
type configCmd struct {
	Show  configShowCmd  `cmd:"" default:"withargs" help:"Print the settings that serve would have here, and where each comes from."`
	Check configCheckCmd `cmd:"" help:"Say all that is wrong with a file."`
	Init  configInitCmd  `cmd:"" help:"Print a file with every setting, its unit, default and trade-off."`
}

type configShowCmd struct{ given }

// Run prints the result as a file, with the sources behind.
func (c *configShowCmd) Run(std *streams) error {
	if err := c.load(); err != nil {
		return mistaken(err)
	}
	return std.sayAll(settings.Effective(c.values))
}

type configCheckCmd struct {
	File string `arg:"" help:"The file."`
}

// Run looks at nothing but the file: neither flags nor the environment.
func (c *configCheckCmd) Run(std *streams) error {
	var g given
	g.init()
	file, err := settings.ReadFile(c.File)
	_, wrong := g.table.Load(nil, nil, file)
	if err := mistaken(err, wrong, g.check()); err != nil {
		return err
	}
	return std.say("%s is in order", c.File)
}

type configInitCmd struct{}

// Run prints the commented file.
func (*configInitCmd) Run(std *streams) error {
	t := settingsTable(&serveSettings{})
	return std.sayAll(t.Commented(fmt.Sprintf("The settings of timedge %s: timedge serve --config FILE. "+
		"Every line is the default; take the # before a name away to change it. A flag and an environment variable (%sLISTEN) come before this file.",
		version, t.Prefix)))
}

// sayAll writes lines to standard output, printable each.
func (s *streams) sayAll(text []byte) error {
	for line := range bytes.Lines(text) {
		if err := s.say("%s", bytes.TrimSuffix(line, []byte{'\n'})); err != nil {
			return err
		}
	}
	return nil
}
