package load

import (
	"os"
	"runtime"
	"testing"
	"time"
)

func TestProcessCPUCountsWhatThisProcessUses(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := ProcessCPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	thread := threadCPU()
	for threadCPU()-thread < 3*time.Millisecond { // less than a tick of /proc/PID/stat
	}
	after, err := ProcessCPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if after-before < 2*time.Millisecond {
		t.Errorf("a thread used 3 ms, the process %v", after-before)
	}
}

func TestProcessCPUOfNobody(t *testing.T) {
	if _, err := ProcessCPU(1 << 22); err == nil { // above PID_MAX_LIMIT
		t.Error("a process that cannot exist has used processor time")
	}
}
