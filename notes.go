package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// notes writes what the SDK logs as plain lines, and none twice in a row: "no server to be had" is said once, not at
// each try.
type notes struct {
	std   *streams
	level slog.Level

	mu   sync.Mutex
	last string
}

// Enabled implements slog.Handler.
func (n *notes) Enabled(_ context.Context, level slog.Level) bool { return level >= n.level }

// Handle implements slog.Handler.
func (n *notes) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		b.WriteString(fmt.Sprintf("; %s: %v", a.Key, a.Value))
		return true
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	if b.String() == n.last {
		return nil
	}
	n.last = b.String()
	n.std.note("%s", n.last)
	return nil
}

// WithAttrs implements slog.Handler; the SDK uses none.
func (n *notes) WithAttrs([]slog.Attr) slog.Handler { return n }

// WithGroup implements slog.Handler; the SDK uses none.
func (n *notes) WithGroup(string) slog.Handler { return n }
