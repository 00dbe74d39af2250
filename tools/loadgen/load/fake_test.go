package load

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/tools/loadgen/verify"
)

// fakeServer speaks the limit program's protocol and hands frames on at moments of the test's choosing.
type fakeServer struct {
	t    testing.TB
	l    net.Listener
	wg   sync.WaitGroup
	quit chan struct{}

	// release says when frame number i (0, 1, 2 ...), which was due at due, is to be sent on. Nil: at once.
	release func(i int, due int64) int64
	// change alters what is sent for frame i, or leaves it out. Nil: nothing is altered.
	change func(i int, frame []byte) []byte
	// stall is called before each read from the publisher. Nil: nothing stalls.
	stall func(read int)

	mu       sync.Mutex
	subs     []net.Conn
	latency  []int64       // by frame: from due to the moment chosen by release
	overtime time.Duration // how much later than chosen a frame was sent at the worst
}

func startFake(t testing.TB, s *fakeServer) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.t, s.l, s.quit = t, l, make(chan struct{})
	s.wg.Go(s.accept)
	t.Cleanup(func() {
		close(s.quit)
		_ = l.Close()
		s.mu.Lock()
		for _, c := range s.subs {
			_ = c.Close()
		}
		s.mu.Unlock()
		s.wg.Wait()
	})
	return l.Addr().String()
}

func (s *fakeServer) accept() {
	for {
		c, err := s.l.Accept()
		if err != nil {
			return
		}
		var role [1]byte
		if _, err := io.ReadFull(c, role[:]); err != nil {
			_ = c.Close()
			continue
		}
		if _, err := c.Write([]byte("k")); err != nil {
			_ = c.Close()
			continue
		}
		if role[0] == 'S' {
			s.mu.Lock()
			s.subs = append(s.subs, c)
			s.mu.Unlock()
			continue
		}
		s.wg.Go(func() { s.publisher(c) })
	}
}

type held struct {
	frame []byte
	at    int64
}

// publisher reads frames and gives them to a second goroutine, which sends each when its moment has come.
func (s *fakeServer) publisher(c net.Conn) {
	defer c.Close()
	queue := make(chan held, 1<<20)
	s.wg.Go(func() { s.deliver(queue) })
	defer close(queue)
	var pending []byte
	buf := make([]byte, 64<<10)
	i := 0
	for read := 0; ; read++ {
		if s.stall != nil {
			s.stall(read)
		}
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		pending = append(pending, buf[:n]...)
		for {
			frame, _, err := codec.Next(pending, codec.MaxFrame)
			if err != nil {
				break
			}
			due, _, _ := verify.ReadStamp(frame[codec.StreamHeaderSize:])
			h := held{bytes.Clone(frame), due}
			if s.release != nil {
				h.at = s.release(i, due)
				s.mu.Lock()
				s.latency = append(s.latency, h.at-due)
				s.mu.Unlock()
			}
			if s.change != nil {
				h.frame = s.change(i, h.frame)
			}
			queue <- h
			pending = pending[len(frame):]
			i++
		}
	}
}

func (s *fakeServer) deliver(queue <-chan held) {
	for h := range queue {
		if wait := h.at - Now(); wait > 0 {
			select {
			case <-time.After(time.Duration(wait)):
			case <-s.quit:
				return
			}
		}
		s.mu.Lock()
		if s.release != nil {
			s.overtime = max(s.overtime, time.Duration(Now()-h.at))
		}
		for _, c := range s.subs {
			_, _ = c.Write(h.frame) // a test that closes its subscriber has seen enough
		}
		s.mu.Unlock()
	}
}
