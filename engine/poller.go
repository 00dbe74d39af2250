package engine

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/panjf2000/gnet/v2/pkg/netpoll"
	"golang.org/x/sys/unix"
)

// A session whose turn is over is not read: then TCP slows whoever sends more than its share, and nothing piles up here.
// gnet has no call for that, but the kernel does: a reactor's epoll instance is told to report nothing of the session's
// socket. Which instance that is, /proc tells (proc(5), fdinfo): the one that watches the reactor's end of the loop's
// socket pair. Where it does not tell, sessions are read on, and turns get longer: see feed.

// noPoller is a loop's poller where it is not known.
const noPoller = -1

// pollerOf returns the epoll instance of this process that watches fd, noPoller if it is not known.
func pollerOf(fd int) int {
	const folder = "/proc/self/fd/"
	entries, err := os.ReadDir(folder)
	if err != nil {
		return noPoller
	}
	for _, entry := range entries {
		epoll, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if is, err := os.Readlink(folder + entry.Name()); err != nil || is != "anon_inode:[eventpoll]" {
			continue
		}
		if watches(epoll, fd) {
			return epoll
		}
	}
	return noPoller
}

// watches reports whether an epoll instance watches fd as gnet does: for bytes to read, with the descriptor as its data.
func watches(epoll, fd int) bool {
	f, err := os.Open(fmt.Sprint("/proc/self/fdinfo/", epoll))
	if err != nil {
		return false
	}
	defer f.Close()
	want := []string{"tfd:", strconv.Itoa(fd), "events:", "", "data:", strconv.FormatInt(int64(fd), 16)}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) < len(want) || words[0] != want[0] || words[1] != want[1] {
			continue
		}
		events, err := strconv.ParseUint(words[3], 16, 32)
		return err == nil && events&^(unix.EPOLLERR|unix.EPOLLHUP) == netpoll.ReadEvents && words[5] == want[5]
	}
	return false
}

// heed has the session's socket read, or left alone while the session is paused. A broken connection is told all the
// same. Loop only.
func (s *session) heed() {
	if s.paused == s.unread || s.closed || s.loop.poller == noPoller {
		return
	}
	events := uint32(netpoll.ReadEvents)
	if s.paused {
		events = 0
	}
	err := unix.EpollCtl(s.loop.poller, unix.EPOLL_CTL_MOD, int(s.fd), &unix.EpollEvent{Events: events, Fd: s.fd})
	if err != nil {
		s.doom() // it would never be heard of again
		return
	}
	s.unread = s.paused
}
