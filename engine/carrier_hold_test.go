package engine_test

import (
	"bufio"
	"bytes"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
)

// TestCarriersHaveOneDescriptor: what --conns bounds is what connections cost.
func TestCarriersHaveOneDescriptor(t *testing.T) {
	k := startCarried(t)
	// While a connection is handed to its loop it has a second descriptor, for a moment that may outlast its welcome.
	settled := func(want func(n int) bool) int {
		n := descriptors(t)
		for deadline := time.Now().Add(patience); !want(n) && time.Now().Before(deadline); n = descriptors(t) {
			time.Sleep(time.Millisecond) // between two looks
		}
		return n
	}
	empty := descriptors(t)
	k.enter(t, "wss/proxy", "first", 1)
	before := settled(func(n int) bool { return n == empty+2 })
	const conns = 20
	for i := range conns {
		k.enter(t, ways[i%len(ways)], "guest", uint64(i+2))
	}
	// The client's and the server's.
	if each := settled(func(n int) bool { return n == before+2*conns }) - before; each != 2*conns {
		t.Errorf("%d descriptors for %d connections, both ends here", each, conns)
	}
}

// TestKernelTakesLittleOfEveryCarrier: the bound on what the kernel takes unsent is on every client's socket.
func TestKernelTakesLittleOfEveryCarrier(t *testing.T) {
	k := startCarried(t, func(c *engine.Config) { c.SendBuffer = 5 << 10 })
	for i, way := range ways {
		k.enter(t, way, "guest", uint64(i+1))
		n, err := unix.GetsockoptInt(k.Descriptor("guest", uint64(i+1)), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT)
		if err != nil || n != 5<<10 {
			t.Errorf("%s: %d, %v", way, n, err)
		}
	}
}

// TestStalledReadersGetTheirGaps: a reader that stops and goes on is told what it missed, in every way, and what was
// sealed for it was bounded.
func TestStalledReadersGetTheirGaps(t *testing.T) {
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			k := startCarried(t)
			owner := k.enter(t, "plain", "owner", 1)
			room := owner.register(codec.Register{Policy: codec.PolicyLive, QueueBytes: 1 << 20, QueueMillis: 60_000})
			p := owner.publish(room)
			w := k.enter(t, way, "reader", 2)
			_ = socketOf(w.c).SetReadBuffer(16 << 10)
			w.subscribe(room)
			const frames = 3000
			go func() {
				f := codec.Stream{Room: room, StreamKey: codec.StreamKey{Pub: p.Pub}, Payload: make([]byte, 8000)}
				acked := uint64(0)
				for f.Seq = 1; f.Seq <= frames; f.Seq++ {
					if f.Flags = 0; f.Seq%10 == 1 {
						f.Flags = codec.FlagKey
					}
					owner.write(enc(f.Append(nil)))
					for f.Seq > acked+100 {
						acked = next[*codec.Ack](owner).Seq
					}
				}
			}()
			k.AwaitPolicy(t)
			if n := k.Sealed(); n > 256<<10 {
				t.Errorf("%d bytes are sealed for one reader", n)
			}
			want, gaps := uint64(1), 0
			for want <= frames {
				switch f := w.any().(type) {
				case *codec.Stream:
					if f.Seq != want {
						t.Fatalf("frame %d, want %d", f.Seq, want)
					}
					want++
				case *codec.Gap:
					if f.From != want {
						t.Fatalf("a gap from %d, want %d", f.From, want)
					}
					want, gaps = f.To+1, gaps+1
				case nil:
					t.Fatal("closed")
				}
			}
			if gaps == 0 {
				t.Error("nothing was dropped")
			}
		})
	}
}

// TestKeysMayBeUpdated: openssl changes its keys, and asks for new ones of ours, in the middle of a stream both ways.
func TestKeysMayBeUpdated(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	k := startCarried(t)
	cmd := exec.CommandContext(t.Context(), openssl, "s_client", "-connect", k.addrs["tls"], "-tls1_3")
	words, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	owner := k.enter(t, "plain", "owner", 1)
	room := owner.register(calm)
	grant := &codec.Grant{}
	grant.Req, grant.Room, grant.Account = owner.nextReq(), room, "ssl"
	owner.send(grant)
	next[*codec.OK](owner)
	owner.subscribe(room)
	write := func(b []byte) {
		t.Helper()
		if _, err := in.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	b := enc((&codec.Hello{Account: "ssl", Instance: 2}).Append(codec.AppendClientPreface(nil, 1, 1)))
	write(enc((&codec.Publish{Req: 1, Room: room}).Append(b)))
	p := next[*codec.Joined](owner)
	said, updates := bufio.NewScanner(words), 0
	for seq := uint64(1); seq <= 60; seq++ {
		f := codec.Stream{Room: room, StreamKey: codec.StreamKey{Pub: p.Pub}, Seq: seq, Payload: bytes.Repeat([]byte{'.'}, int(seq)*100)}
		write(enc(f.Append(nil)))
		if got := next[*codec.Stream](owner); got.Seq != seq {
			t.Fatalf("frame %d, want %d", got.Seq, seq)
		}
		command := []string{"", "k\n", "K\n"}[seq%3] // nothing, new keys of its own, and of ours as well
		if write([]byte(command)); command != "" {
			for said.Scan() && !strings.Contains(said.Text(), "KEYUPDATE") {
			}
			updates++
		}
	}
	if err := said.Err(); err != nil || updates != 40 {
		t.Errorf("%d new keys, %v", updates, err)
	}
}
