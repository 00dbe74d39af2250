package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// prompt has the threads of this process, those of the good clients, run as soon as they can (SCHED_RR), as they would
// on machines of their own, and those of the server as any other process's: what is measured is how long the server
// takes, not how long clients wait for a processor that it keeps busy.
func prompt(server int) error {
	if err := schedule(os.Getpid(), unix.SCHED_RR, 1); err != nil {
		return err
	}
	return schedule(server, unix.SCHED_NORMAL, 0) // whose parent may have been one of these threads
}

// schedule sets how the threads of a process are scheduled; those that come later are like those that begin them.
func schedule(pid int, policy, priority uint32) error {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return err
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			return err
		}
		attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: policy, Priority: priority}
		if err := unix.SchedSetAttr(tid, &attr, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("scheduling process %d (that takes CAP_SYS_NICE; -shared does without): %w", pid, err)
		}
	}
	return nil
}
