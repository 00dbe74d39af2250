package engine

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/timedge/timedge/room"
)

// Whatever waits, a turn goes round: no account of clients has a second one before every other that waits has had one,
// however many sessions each has; links have every other turn; the sessions of an account keep their order.
func TestTurnsGoRound(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var mem room.Memory
		var q turns
		lines := make(map[string][]*session)
		had := make(map[string]int) // the step of an account's last turn, or at which it began to wait
		lastLink, links, clients := true, 0, 0
		role := func(account string) role {
			if account[0] == 'n' {
				return &link{}
			}
			return client{}
		}
		for step := 1; step <= 300; step++ {
			if rapid.Bool().Draw(rt, "comes") {
				account := fmt.Sprint(rapid.SampledFrom([]string{"a", "n"}).Draw(rt, "role"), rapid.IntRange(0, 4).Draw(rt, "account"))
				s := &session{share: mem.Share(account), role: role(account)}
				if len(lines[account]) == 0 {
					had[account] = step
					if s.role.client() {
						clients++
					} else {
						links++
					}
				}
				lines[account] = append(lines[account], s)
				q.add(s)
				continue
			}
			if q.none() {
				if len(lines) > 0 {
					rt.Fatal("nobody waits, though some do")
				}
				continue
			}
			both := links > 0 && clients > 0
			s := q.next()
			a := s.account()
			if lines[a][0] != s {
				rt.Fatalf("a session of %s is passed over", a)
			}
			if isLink := !s.role.client(); both && isLink == lastLink {
				rt.Fatalf("two turns in a row for links: %v, while both wait", isLink)
			}
			lastLink = !s.role.client()
			for other := range lines {
				if other != a && other[0] == a[0] && had[other] < had[a] {
					rt.Fatalf("%s has a turn before %s, which has waited for longer", a, other)
				}
			}
			had[a] = step
			if lines[a] = lines[a][1:]; len(lines[a]) == 0 {
				delete(lines, a)
				if s.role.client() {
					clients--
				} else {
					links--
				}
			}
			if q.waits(s.share) != (len(lines[a]) > 0) {
				rt.Fatalf("whether %s waits: %v", a, q.waits(s.share))
			}
		}
	})
}

// Who meets its limit again and again is closed when that has gone on for long; a calm begins it anew.
func TestHurryThatLasts(t *testing.T) {
	for _, c := range []struct {
		name  string
		every time.Duration
		total time.Duration // how long it goes on
		want  bool
	}{
		{"at every tick", tickEvery, overFor, false},
		{"at every tick, for longer", tickEvery, overFor + tickEvery, true},
		{"twice a second", calm / 2, overFor + calm, true},
		{"with calms between", calm + 1, 10 * overFor, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var h hurry
			got := false
			for now := time.Hour; now <= time.Hour+c.total; now += c.every {
				got = h.tooLong(int64(now))
			}
			if got != c.want {
				t.Errorf("too long: %v", got)
			}
		})
	}
}
