//go:build linux

package main

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestInboxTakesOneAtATime: who comes while another sends is turned away, and told; afterwards it may send.
func TestInboxTakesOneAtATime(t *testing.T) {
	s := serve(t)
	run := func(stdin io.Reader, args ...string) *process { t.Helper(); return s.run(t, stdin, args...) }
	file := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{1}).Read(file)

	alice := run(nil, "inbox", "--account", "alice", "--accept", "*")
	feed, input := io.Pipe()
	bob := run(feed, "send", "--account", "bob", "--wait", "30s", "alice", "-")
	got := make([]byte, 4096) // no more than a pipe holds, for nobody else reads it
	if _, err := input.Write(file[:len(got)]); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(alice.out, got); err != nil {
		t.Fatal(err)
	}
	carol := run(bytes.NewReader(file), "send", "--account", "carol", "alice", "-")
	if _, status := carol.end(); status != exitFailed || !strings.Contains(carol.errors.String(), "took the right to push back") {
		t.Errorf("carol: status %d: %s", status, carol.errors.String())
	}
	fed := make(chan error, 1)
	go func() {
		_, err := input.Write(file[len(got):])
		input.Close()
		fed <- err
	}()
	rest, status := alice.end()
	if err := <-fed; err != nil {
		t.Error(err)
	}
	if _, status := bob.end(); status != exitOK {
		t.Errorf("bob: status %d: %s", status, bob.errors.String())
	}
	if status != exitOK || !bytes.Equal(append(got, rest...), file) {
		t.Errorf("alice: status %d, %d bytes: %s", status, len(got)+len(rest), alice.errors.String())
	}

	alice = run(nil, "inbox", "--account", "alice")
	carol = run(bytes.NewReader(file), "send", "--account", "carol", "--wait", "30s", "alice", "-")
	rest, status = alice.end()
	if status != exitOK || !bytes.Equal(rest, file) {
		t.Errorf("alice: status %d, %d bytes: %s", status, len(rest), alice.errors.String())
	}
	if _, status := carol.end(); status != exitOK {
		t.Errorf("carol: status %d: %s", status, carol.errors.String())
	}
}
