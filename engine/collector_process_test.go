package engine_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
)

// A process that has more memory in use than the runtime's limit collects garbage of itself, and has who sends much wait
// meanwhile; all the same everything that is pushed comes, in order. One that has enough never does that.
func TestProcessWaitsForTheCollector(t *testing.T) {
	for _, c := range []struct {
		name, limit string
		collects    bool
	}{
		{"enough", "1GiB", false},
		{"less than the server takes by itself", "1MiB", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := spawn(t, "server", "GOMEMLIMIT="+c.limit)
			addr := strings.Fields(srv.expect("listening"))[1]
			pub, sub := on(t, addr, "alice", 1), on(t, addr, "bob", 2)
			room := pub.register(codec.Register{Policy: codec.PolicyLossless})
			sub.subscribe(room)
			num := pub.publish(room).Pub
			const n = 20_000
			go pub.write(singles(room, num, n))
			sub.takeSingles(room, n)
			collections := func() int {
				srv.tell("collections")
				n, err := strconv.Atoi(strings.Fields(srv.expect("collections"))[1])
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
			for deadline := time.Now().Add(patience); c.collects && collections() == 0; {
				if time.Now().After(deadline) {
					t.Fatal("the process never collects")
				}
				time.Sleep(time.Millisecond) // between two looks
			}
			if n := collections(); !c.collects && n > 0 {
				t.Errorf("%d collections were asked for", n)
			}
		})
	}
}
