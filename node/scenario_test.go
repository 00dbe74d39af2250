package node

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/timedge/timedge/codec"
)

// TestScenario plays the stories of testdata: what happens to nodes, and what each says and does about it. Read the
// files. After a change that is meant, go test -run Scenario -rewrite ./node writes them anew.
//
//	start NAME...             nodes that find each other at once
//	register ROOM relay=NAME  a room whose chain begins with that node
//	visit ROOM NAME...        nodes get sessions of the room
//	grant|revoke ROOM ACCOUNT [at=NAME]
//	remove ROOM
//	kill|drain|join NAME...
//	split NAME... / heal
//	show ROOM                 who relays, who has a copy, who is attached where
//
// Each command runs until nothing is left to happen, but those with the word "now", which let nothing happen.
func TestScenario(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		w := newWorld(1)
		rooms := map[string]codec.RoomID{}
		var said strings.Builder
		w.trace = func(format string, args ...any) { fmt.Fprintf(&said, format+"\n", args...) }
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			said.Reset()
			var words []string
			now, at := false, ""
			for _, a := range d.CmdArgs {
				switch {
				case a.Key == "now":
					now = true
				case a.Key == "at" || a.Key == "relay":
					at = a.Vals[0]
				default:
					words = append(words, a.Key)
				}
			}
			if err := w.play(d.Cmd, words, at, rooms); err != nil {
				d.Fatalf(t, "%v", err)
			}
			if !now && !w.run(0) {
				d.Fatalf(t, "no end of events")
			}
			if w.fault != "" {
				d.Fatalf(t, "%s", w.fault)
			}
			if said.Len() == 0 {
				return "ok\n"
			}
			return said.String()
		})
	})
}

func (w *world) play(cmd string, words []string, at string, rooms map[string]codec.RoomID) error {
	room := func() codec.RoomID { return rooms[words[0]] }
	relay := func() *proc {
		for _, p := range w.alive() {
			if p.rooms[room()] != nil && (at == "" || at == p.me.Name) {
				return p
			}
		}
		return nil
	}
	switch cmd {
	case "start":
		for _, name := range words {
			w.start(name)
		}
		w.meet()
	case "join":
		for _, name := range words {
			w.start(name)
		}
	case "register":
		id := w.procs[at].create()
		rooms[words[0]] = id
		w.records.names[id] = words[0]
		w.trace("the chain of %s is %s", words[0], strings.Join(w.procs[at].core.Chain(id), " "))
	case "visit":
		for _, name := range words[1:] {
			w.procs[name].visit(room())
		}
	case "grant", "revoke":
		p := relay()
		if p == nil {
			return fmt.Errorf("nobody relays %s", words[0])
		}
		p.grant(room(), words[1], cmd == "grant")
	case "remove":
		relay().finish(room(), codec.CodeRemoved)
	case "kill":
		for _, name := range words {
			w.kill(name)
		}
	case "drain":
		for _, name := range words {
			w.drain(name)
		}
	case "split":
		w.split(1, words...)
	case "heal":
		w.heal()
	case "show":
		w.show(room())
	default:
		return fmt.Errorf("unknown command %s", cmd)
	}
	return nil
}

// meet lets all nodes know each other at once.
func (w *world) meet() {
	for _, p := range w.alive() {
		for _, q := range w.alive() {
			p.knows[q.me.Name] = q.me
		}
		p.core.SetView(w.view(p.knows))
	}
}

func (w *world) show(room codec.RoomID) {
	for _, p := range w.alive() {
		st, e := p.core.State(room), p.core.rooms[room]
		switch {
		case e == nil:
			w.trace("%s: knows nothing of it", p.me.Name)
			continue
		case p.core.Relays(room):
			w.trace("%s: relay, epoch %d, %s", p.me.Name, st.Epoch, told(st))
		case st != nil && st.Ended != 0:
			w.trace("%s: tombstone, %s", p.me.Name, st.Ended)
		case st != nil:
			w.trace("%s: copy, epoch %d of %s, %s", p.me.Name, st.Epoch, st.Relay, told(st))
		}
		if e.edge && !e.relay {
			w.trace("%s: sessions, attached to %s", p.me.Name, p.edges[room])
		}
	}
}

func told(st *codec.RoomState) string {
	var s []string
	for _, g := range st.Grants {
		word := "granted"
		if !g.Granted {
			word = "revoked"
		}
		s = append(s, g.Account+" "+word)
	}
	if len(s) == 0 {
		return "no grants"
	}
	return strings.Join(slices.Sorted(slices.Values(s)), ", ")
}

// TestForget: a tombstone goes when it is told to, and a room that lives does not.
func TestForget(t *testing.T) {
	w := newWorld(1)
	w.start("a")
	w.start("b")
	w.meet()
	p := w.procs["a"]
	room := p.create()
	w.run(0)
	p.core.Forget(room)
	if !p.core.Relays(room) {
		t.Error("a living room was forgotten")
	}
	p.finish(room, codec.CodeRemoved)
	w.run(w.now + time.Second)
	for _, p := range w.alive() {
		if st := p.core.State(room); st == nil || st.Ended != codec.CodeRemoved {
			t.Fatalf("%s has %+v", p.me.Name, st)
		}
		p.core.Forget(room)
		if p.core.State(room) != nil || len(p.core.rooms) > 0 {
			t.Errorf("%s has not forgotten the room", p.me.Name)
		}
	}
	p.core.Change(room, delta{}, func(ok bool) {
		if ok {
			t.Error("a forgotten room was changed")
		}
	})
}
