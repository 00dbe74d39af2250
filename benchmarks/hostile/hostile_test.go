package main

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/timedge/timedge/benchmarks/internal/drive"
)

// The attackers are this program again.
func TestMain(m *testing.M) {
	if addr := os.Getenv(attackEnv); addr != "" {
		os.Exit(attacker(addr))
	}
	os.Exit(m.Run())
}

// A short form of two attacks on what the server holds: no more is resident than its bound allows, and good clients
// miss nothing.
func TestResidentMemoryIsBounded(t *testing.T) {
	drive.Prepare()
	o := options{shared: true, only: "tiny,partials", rate: 50, subs: 4, duration: time.Second, pairs: 1, memory: 64 << 20}
	if err := run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
}
