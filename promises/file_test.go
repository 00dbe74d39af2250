package promises

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"testing"
	"time"
)

// TestLargeFile pushes a file through a lossless room to a reader as fast as can be and to a slow one, each a process
// of its own: both have the very file, and the server never held more than 100 MB.
func TestLargeFile(t *testing.T) {
	size := 128 * mib
	if long {
		size = 1 << 30
	}
	if testing.Short() {
		size = 16 * mib
	}
	const most = 100 * 1000 * 1000

	s := serve(t)
	sum := sha256.New()
	source := io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{1}), int64(size)), sum)
	push := start(t, s.addr, source, "push", "--policy=lossless", "--wait=2", "-")
	room := push.room().String()

	begun := time.Now()
	type copied struct {
		sum   []byte
		n     int64
		took  time.Duration
		speak string
	}
	read := func(wrap func(io.Reader) io.Reader) chan copied {
		sub := start(t, s.addr, nil, "sub", room)
		done := make(chan copied, 1)
		go func() {
			h := sha256.New()
			n, _ := io.Copy(h, wrap(sub.out))
			took := time.Since(begun)
			done <- copied{h.Sum(nil), n, took, sub.end()}
		}()
		return done
	}
	fast := read(func(r io.Reader) io.Reader { return r })
	slow := read(func(r io.Reader) io.Reader { return &slowReader{r: r} })

	push.end() // which has removed the room: all of it was delivered
	want := sum.Sum(nil)
	for name, done := range map[string]chan copied{"fast": fast, "slow": slow} {
		got := <-done
		if got.n != int64(size) || !bytes.Equal(got.sum, want) {
			t.Errorf("the %s reader has %d bytes with SHA-256 %x; pushed were %d with %x", name, got.n, got.sum, size, want)
		}
		if got.speak != "" {
			t.Errorf("the %s reader says %q", name, got.speak)
		}
		t.Logf("%s reader: %d MB in %.1f s", name, got.n/1e6, got.took.Seconds())
	}
	peak := s.status("VmHWM")
	t.Logf("the server held at most %.1f MB, without race detector", float64(peak)/1e6)
	if peak > most {
		t.Errorf("the server held %d bytes, bound %d", peak, most)
	}
}

// slowReader takes about 100 MB/s at most: far less than the room could carry.
type slowReader struct {
	r    io.Reader
	read int
}

func (s *slowReader) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	for s.read += n; s.read >= mib; s.read -= mib {
		time.Sleep(10 * time.Millisecond)
	}
	return n, err
}
