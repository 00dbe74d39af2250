package engine

import (
	"sync"

	"golang.org/x/sys/unix"
)

// blocker watches the sockets of one loop that take no more bytes, with an epoll of its own: gnet has no event for
// "writable again". Each is watched once (one-shot); the event goes into the loop's mailbox with the session's id, so
// that a descriptor number that belongs to another session by then does no harm.
type blocker struct {
	loop   *loop
	epfd   int
	stopFD int
	done   sync.WaitGroup
}

func newBlocker(l *loop) (*blocker, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(epfd)
		return nil, err
	}
	b := &blocker{loop: l, epfd: epfd, stopFD: stop}
	if err := unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, stop, &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
		b.closeFDs()
		return nil, err
	}
	b.done.Add(1)
	go b.run()
	return b, nil
}

// watch reports the session once when fd takes bytes again or has failed. Loop only.
func (b *blocker) watch(fd int, id uint64) error {
	ev := unix.EpollEvent{Events: unix.EPOLLOUT | unix.EPOLLONESHOT, Fd: int32(id), Pad: int32(id >> 32)}
	err := unix.EpollCtl(b.epfd, unix.EPOLL_CTL_MOD, fd, &ev)
	if err == unix.ENOENT {
		err = unix.EpollCtl(b.epfd, unix.EPOLL_CTL_ADD, fd, &ev)
	}
	return err
}

func (b *blocker) run() {
	defer b.done.Done()
	for !b.loop.eng.try(inWatch, b.watching) {
	}
}

// watching hands on events until the blocker is stopped.
func (b *blocker) watching() {
	events := make([]unix.EpollEvent, 128)
	for {
		n, err := unix.EpollWait(b.epfd, events, -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			b.loop.eng.log.Error().Err(err).Msg("watching full sockets failed")
			return
		}
		for _, ev := range events[:n] {
			id := uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32
			if id == 0 { // session ids begin at 1
				return
			}
			b.loop.post(item{kind: itemWritable, id: id})
		}
	}
}

// stop ends the goroutine and waits for it.
func (b *blocker) stop() {
	_, _ = unix.Write(b.stopFD, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	b.done.Wait()
	b.closeFDs()
}

func (b *blocker) closeFDs() {
	_ = unix.Close(b.epfd)
	_ = unix.Close(b.stopFD)
}
