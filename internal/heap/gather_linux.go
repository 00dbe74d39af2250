package heap

import (
	"errors"
	"syscall"
)

// collapse is MADV_COLLAPSE of Linux 6.1: see madvise(2).
const collapse = 25

// gather makes one large page of a block that is full. What is in it stays, also for who uses it meanwhile.
func gather(at uint64) error {
	_, _, errno := syscall.Syscall(syscall.SYS_MADVISE, uintptr(at), block, collapse)
	switch errno {
	case 0:
		return nil
	case syscall.EINVAL, syscall.ENOSYS:
		return errors.ErrUnsupported
	}
	return errno
}
