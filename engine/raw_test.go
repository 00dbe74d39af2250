package engine_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/codec"
)

// The clients here are bare descriptors without goroutines or buffers of their own, so that thousands cost little and
// allocate nothing while a benchmark counts.

// connectRaw connects a blocking socket, says hello and sends a request.
func connectRaw(addr *net.TCPAddr, instance uint64, request codec.Control) (fd int, err error) {
	if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return -1, err
	}
	sa := &unix.SockaddrInet4{Port: addr.Port}
	copy(sa.Addr[:], addr.IP.To4())
	if err = unix.Connect(fd, sa); err == nil {
		b := enc((&codec.Hello{Account: "viewer", Instance: instance}).Append(codec.AppendClientPreface(nil, 1, 1)))
		_, err = unix.Write(fd, enc(request.Append(b)))
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// awaitRaw reads a blocking socket up to and including the first frame of a type.
func awaitRaw(fd int, want byte) error {
	skip := codec.PrefaceSize
	var buf []byte
	chunk := make([]byte, 512)
	for {
		n, err := unix.Read(fd, chunk)
		if err != nil || n == 0 {
			return fmt.Errorf("waiting for a frame of type %#x: %d bytes, %v", want, n, err)
		}
		buf = append(buf, chunk[:n]...)
		if skip > 0 && len(buf) >= skip {
			buf, skip = buf[skip:], 0
		}
		for skip == 0 {
			f, typ, err := codec.Next(buf, codec.MaxFrame)
			if err == codec.ErrIncomplete {
				break
			}
			if err != nil || typ == codec.TypeRefused || typ == codec.TypeError {
				return fmt.Errorf("frame %x: %v", f, err)
			}
			buf = buf[len(f):]
			if typ == want {
				return nil
			}
		}
	}
}

// sink reads and discards what many sockets receive, and counts the bytes.
type sink struct {
	ep    int
	fds   []int
	total atomic.Int64
	want  atomic.Int64  // a total that somebody waits for; 0: nobody does
	there chan struct{} // it has come
	done  sync.WaitGroup
	stop  [2]int
}

// await waits until n bytes in all have come.
func (s *sink) await(n int64) {
	if s.total.Load() >= n {
		return
	}
	s.want.Store(n)
	if s.total.Load() < n || !s.want.CompareAndSwap(n, 0) {
		<-s.there
	}
}

// newSink connects n subscribers of a room that has a publisher and no frames yet.
func newSink(t testing.TB, addr net.Addr, rooms []codec.RoomID, each int) *sink {
	t.Helper()
	s := &sink{there: make(chan struct{}, 1)}
	var err error
	if s.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err == nil {
		err = unix.Pipe2(s.stop[:], unix.O_CLOEXEC)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(rooms) * each {
		fd, err := connectRaw(addr.(*net.TCPAddr), uint64(i+1), &codec.Subscribe{Req: 1, Room: rooms[i/each]})
		if err == nil {
			s.fds = append(s.fds, fd)
			err = awaitRaw(fd, codec.TypeJoined)
		}
		if err == nil {
			err = unix.EpollCtl(s.ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.EpollCtl(s.ep, unix.EPOLL_CTL_ADD, s.stop[0], &unix.EpollEvent{Events: unix.EPOLLIN, Fd: -1}); err != nil {
		t.Fatal(err)
	}
	s.done.Go(s.run)
	t.Cleanup(s.close)
	return s
}

func (s *sink) run() {
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := unix.EpollWait(s.ep, events, -1)
		if err != nil && err != unix.EINTR {
			return
		}
		for _, ev := range events[:max(n, 0)] {
			if ev.Fd < 0 {
				return
			}
			// MSG_TRUNC makes TCP drop the bytes instead of copying them.
			r, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(ev.Fd), 0, 1<<20, unix.MSG_TRUNC|unix.MSG_DONTWAIT, 0, 0)
			if errno == 0 && r > 0 {
				total := s.total.Add(int64(r))
				if want := s.want.Load(); want != 0 && total >= want && s.want.CompareAndSwap(want, 0) {
					s.there <- struct{}{}
				}
			} else if errno != unix.EAGAIN && errno != unix.EINTR {
				_ = unix.EpollCtl(s.ep, unix.EPOLL_CTL_DEL, int(ev.Fd), nil)
			}
		}
	}
}

func (s *sink) close() {
	_, _ = unix.Write(s.stop[1], []byte{0})
	s.done.Wait()
	for _, fd := range append(s.fds, s.ep, s.stop[0], s.stop[1]) {
		_ = unix.Close(fd)
	}
}

// pump pushes frames of one size into rooms from a buffer that it made once, without allocating.
type pump struct {
	c      net.Conn
	frame  int    // bytes of one
	buf    []byte // frames of the rooms in turn
	rooms  int
	frames int    // in buf, per room
	seq    uint64 // last sent
}

// newPump takes a wire over that publishes into the rooms. A round is frames for each of them.
func newPump(w *wire, srcs []*source, payload, frames int) *pump {
	p := &pump{c: w.c, frame: payload + codec.StreamHeaderSize, rooms: len(srcs), frames: frames}
	for _, s := range srcs {
		for range frames {
			f := codec.Stream{Room: s.room, StreamKey: s.key(1), Seq: 1, Payload: make([]byte, payload)}
			p.buf = enc(f.Append(p.buf))
		}
	}
	_ = w.c.SetReadDeadline(time.Time{})
	go func() { _, _ = io.Copy(io.Discard, p.c) }() // acknowledgements
	return p
}

// round sends the next frames to every room. The caller waits for what is delivered, and so keeps to the window.
func (p *pump) round(t testing.TB) {
	t.Helper()
	at := 0
	for range p.rooms {
		for i := range p.frames {
			putSeq(p.buf[at:], p.seq+uint64(i)+1)
			at += p.frame
		}
	}
	p.seq += uint64(p.frames)
	if _, err := p.c.Write(p.buf); err != nil {
		t.Fatal(err)
	}
}

// putSeq writes a sequence number into a stream frame.
func putSeq(frame []byte, seq uint64) {
	binary.BigEndian.PutUint16(frame[14:], uint16(seq>>32))
	binary.BigEndian.PutUint32(frame[16:], uint32(seq))
}
