//go:build linux

package main

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/timedge/timedge/internal/doctor"
)

// doctorCmd looks at a machine as a server with the same settings would find it.
type doctorCmd struct {
	given
	JSON   bool          `help:"Print JSON."`
	Strict bool          `help:"End with status 3 for notes, too, not for faults alone."`
	Within time.Duration `default:"2s" placeholder:"TIME" help:"How long to wait for each node and name (${default})."`
}

// Run prints what there is to change, and why.
func (c *doctorCmd) Run(ctx context.Context, std *streams) error {
	if err := c.load(); err != nil {
		return mistaken(err)
	}
	found := c.read(ctx).Examine()
	if err := show(std, found, c.JSON); err != nil {
		return err
	}
	if worst := doctor.Worst(found); worst == doctor.Fault || c.Strict && worst == doctor.Note {
		return errUnwell
	}
	return nil
}

func show(std *streams, found []doctor.Finding, asJSON bool) error {
	if asJSON {
		b, err := json.MarshalIndent(found, "", "  ")
		if err != nil {
			return err
		}
		return std.page(append(b, '\n'))
	}
	for _, f := range found {
		if err := std.say("%-6s%-13s %s", f.Level, f.Check, f.Text); err != nil {
			return err
		}
		for _, more := range []struct{ head, text string }{{"why", f.Why}, {"change", f.Do}} {
			if more.text == "" {
				continue
			}
			if err := std.say("%19s %s: %s", "", more.head, strings.TrimSpace(more.text)); err != nil {
				return err
			}
		}
	}
	return nil
}
