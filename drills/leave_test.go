package drills

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

// logged reports whether a node has said something.
func (f *fleet) logged(i int, text string) bool {
	b, err := os.ReadFile(f.nodes[i].log)
	return err == nil && strings.Contains(string(b), text)
}

// A node is told to leave while it counts the only other one as dead, which was silent for a moment. It waits for that,
// hands its rooms over, and nothing is lost.
func TestLeavesWhileAlone(t *testing.T) {
	f := newFleet(t, 2)
	var g figures
	for k := range *kills {
		own, other := k%2, (k+1)%2
		s := f.run(place{relay: own, publisher: own, subscribers: []int{own, own}}, pace)
		s.reach(50)
		f.signal(other, syscall.SIGSTOP)
		f.until("the other counts as dead", func() bool { return len(f.view(own)) == 1 })
		f.signal(own, syscall.SIGTERM)
		f.until("the node is about to leave", func() bool { return f.logged(own, `"draining"`) })
		f.signal(other, syscall.SIGCONT)
		f.gone(own)
		s.reach(100)
		s.finish()
		g.add(s)
		f.start(own)
		f.await(2)
	}
	t.Log("leaves while it counts the other as dead:", &g)
}
