package drills

import (
	"syscall"
	"testing"

	"github.com/timedge/timedge/codec"
)

// crowd is many streams at once, every fourth in a lossless room.
type crowd []*stream

func lossless(k int) bool { return k%4 == 3 }

func (f *fleet) crowd(at func(k int) place) (c crowd) {
	for k := range *rooms {
		p := at(k)
		if lossless(k) {
			p.policy = codec.PolicyLossless
		}
		c = append(c, f.run(p, 20*pace))
	}
	return c
}

// reach waits until n more messages have come to all.
func (c crowd) reach(n uint64) {
	to := make([]uint64, len(c))
	for i, s := range c {
		to[i] = s.pushed.Load() + n
	}
	for i, s := range c {
		s.t.Helper()
		s.reachTo(to[i])
	}
}

// Many rooms at once, on each of the bad days.
func TestManyRooms(t *testing.T) {
	everywhere := func(k int) place {
		return place{relay: k % 3, publisher: (k + k/3) % 3, subscribers: []int{(k + 1) % 3, (k + 2) % 3}}
	}
	awayFromFirst := func(k int) place { // whose clients the cut leaves with it
		return place{relay: k % 3, publisher: 1 + k%2, subscribers: []int{1, 2}}
	}
	five := func(k int) place {
		return place{relay: k % 5, publisher: (k + k/5) % 5, subscribers: []int{(k + 1) % 5, (k + 3) % 5}}
	}
	halves := func(k int) place {
		half := 2 * (k / 4 % 2)
		return place{relay: k % 4, publisher: half + k%2, subscribers: []int{half, half + 1}}
	}
	beforeSlow := func(k int) place { // for lossless rooms would wait for the slow
		p := place{relay: k % 2, publisher: k / 2 % 2, subscribers: []int{0, 1}, size: 2000}
		if !lossless(k) {
			p.slow = []int{2}
		}
		return p
	}
	for _, day := range []struct {
		name  string
		nodes int
		apart bool // the fault is in the network
		at    func(k int) place
		is    func(f *fleet, c crowd)
	}{
		{"every node killed, one after the other", 3, false, everywhere, func(f *fleet, c crowd) {
			for i := range 3 {
				f.kill(i)
				c.reach(20)
				f.start(i)
				f.await(3)
				c.reach(10)
			}
		}},
		{"two of five killed", 5, false, five, func(f *fleet, c crowd) {
			f.signal(0, syscall.SIGKILL)
			f.signal(1, syscall.SIGKILL)
			f.gone(0)
			f.gone(1)
			c.reach(20)
		}},
		{"one killed, then another", 5, false, five, func(f *fleet, c crowd) {
			f.kill(1)
			f.kill(0)
			c.reach(20)
		}},
		{"another key, a newer version, strangers", 3, false, everywhere, func(f *fleet, c crowd) {
			newer := newerProgram(f.t)
			for i := range 3 {
				f.strangers(newer, i)
			}
			c.reach(20)
			f.await(3)
		}},
		{"a node frozen and thawed", 3, false, everywhere, func(f *fleet, c crowd) {
			f.signal(0, syscall.SIGSTOP)
			c.reach(20)
			f.signal(0, syscall.SIGCONT)
			f.await(3)
		}},
		{"all restarted, one after the other", 3, false, everywhere, func(f *fleet, c crowd) {
			for i := range 3 {
				f.stop(i)
				f.start(i)
				f.await(3)
				c.reach(10)
			}
		}},
		{"a node cut off and back", 3, true, awayFromFirst, func(f *fleet, c crowd) {
			f.net.cut(0, 1, 2)
			c.reach(20)
			f.net.heal(0, 1, 2)
			f.await(3)
		}},
		{"a node cut off from one other and back", 3, true, awayFromFirst, func(f *fleet, c crowd) {
			f.net.cut(0, 1)
			c.reach(20)
			f.net.heal(0, 1)
			f.await(3)
		}},
		{"a node deaf to one other and back", 3, true, awayFromFirst, func(f *fleet, c crowd) {
			f.net.deafen(1, 0)
			c.reach(20)
			f.net.heal(1)
			f.await(3)
		}},
		{"parted in halves and healed", 4, true, halves, func(f *fleet, c crowd) {
			for _, i := range []int{0, 1} {
				f.net.cut(i, 2, 3)
			}
			c.reach(20)
			f.net.heal(0, 1, 2, 3)
			f.await(4)
		}},
		{"slow links to one node", 3, true, beforeSlow, func(f *fleet, c crowd) {
			for i := range 2 {
				f.net.narrow(i, 2, 50**rooms) // what the rooms of its first node send takes four times as much
			}
			for _, s := range c {
				s.untilSlow()
			}
			c.reach(20)
		}},
	} {
		t.Run(day.name, func(t *testing.T) {
			begin := newFleet
			if day.apart {
				begin = newFleetApart
			}
			f := begin(t, day.nodes)
			c := f.crowd(day.at)
			c.reach(10)
			day.is(f, c)
			c.reach(20)
			var g figures
			for _, s := range c {
				s.finish()
				g.add(s)
			}
			t.Logf("%d rooms, %s: %v", len(c), day.name, &g)
		})
	}
}
