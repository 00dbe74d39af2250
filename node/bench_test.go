package node

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
)

// linked returns both ends of a link, or of the bare connection below it.
func linked(b *testing.B, secure bool) (dialer, acceptor net.Conn) {
	b.Helper()
	x, y := pair(b)
	if !secure {
		return x, y
	}
	key := NewKey()
	e := shake(x, y, key, key, alpha, beta, beta)
	if err := errors.Join(e.dialed, e.accepted); err != nil {
		b.Fatal(err)
	}
	return e.dialer, e.acceptor
}

// both runs a benchmark on a link and on the bare connection. Beside the time it reports the processor time of both
// ends, which does not depend on how much of their work overlaps.
func both(b *testing.B, bench func(b *testing.B, dialer, acceptor net.Conn)) {
	for _, over := range []string{"plain", "link"} {
		b.Run("over="+over, func(b *testing.B) {
			dialer, acceptor := linked(b, over == "link")
			b.ResetTimer()
			before := processorTime(b)
			bench(b, dialer, acceptor)
			b.ReportMetric(float64(processorTime(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

// processorTime returns what this process has used, in ns.
func processorTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkLinkThroughput moves bytes one way over loopback, 64 KiB in a write, beside the same without encryption.
func BenchmarkLinkThroughput(b *testing.B) {
	both(b, func(b *testing.B, dialer, acceptor net.Conn) {
		chunk := make([]byte, 64<<10)
		b.SetBytes(int64(len(chunk)))
		done := make(chan error, 1)
		n := int64(b.N) * int64(len(chunk))
		go func() { _, err := io.CopyN(io.Discard, acceptor, n); done <- err }()
		for range b.N {
			if _, err := dialer.Write(chunk); err != nil {
				b.Fatal(err)
			}
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkLinkLatency sends a small frame there and back.
func BenchmarkLinkLatency(b *testing.B) {
	both(b, func(b *testing.B, dialer, acceptor net.Conn) {
		const size = 84 // 64 bytes of payload
		done := make(chan error, 1)
		go func() {
			frame := make([]byte, size)
			for range b.N {
				_, err := io.ReadFull(acceptor, frame)
				if err == nil {
					_, err = acceptor.Write(frame)
				}
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
		frame := make([]byte, size)
		for range b.N {
			if _, err := dialer.Write(frame); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(dialer, frame); err != nil {
				b.Fatal(err)
			}
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkHandshake is both sides' work for a new link.
func BenchmarkHandshake(b *testing.B) {
	creds := Keys{NewKey()}.Credentials()
	for b.Loop() {
		x, y := pair(b)
		done := make(chan error, 1)
		go func() { _, _, err := Server(y, creds, beta); done <- err }()
		_, err := Client(x, creds, alpha, beta)
		if err := errors.Join(err, <-done); err != nil {
			b.Fatal(err)
		}
		_, _ = x.Close(), y.Close()
	}
}
