package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
)

// notes writes what the SDK logs as plain lines, and none twice in a row: "no server to be had" is said once, not at each try.
type notes struct {
	w     io.Writer
	level slog.Level

	mu   sync.Mutex
	last string
}

// Enabled implements slog.Handler.
func (n *notes) Enabled(_ context.Context, level slog.Level) bool { return level >= n.level }

// Handle implements slog.Handler.
func (n *notes) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	fmt.Fprintf(&b, "timedge: %s", r.Message)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, "; %s: %v", a.Key, a.Value)
		return true
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	if b.String() == n.last {
		return nil
	}
	n.last = b.String()
	_, err := fmt.Fprintln(n.w, n.last)
	return err
}

// WithAttrs implements slog.Handler; the SDK uses none.
func (n *notes) WithAttrs([]slog.Attr) slog.Handler { return n }

// WithGroup implements slog.Handler; the SDK uses none.
func (n *notes) WithGroup(string) slog.Handler { return n }
