package main

import (
	"bytes"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/timedge/timedge/admin"
)

// figure returns a node's figures after so many ms, in which so many frames of 100 bytes came in and went out thrice.
func figure(node string, uptime int64, frames uint64, busiest ...admin.FlowingRoom) *admin.Figures {
	return &admin.Figures{
		Overview: admin.Overview{
			Node: node, Version: "v1", UptimeMillis: uptime, Sessions: 4, FramesIn: frames, BytesIn: 100 * frames, Deliveries: 3 * frames, BytesOut: 300 * frames,
			MemoryBytes: 2 << 20, MemoryBound: 1 << 30,
		},
		Relayed: 1, Busiest: busiest,
	}
}

func roomAt(id, role string, frames uint64) admin.FlowingRoom {
	return admin.FlowingRoom{Room: admin.Room{ID: id, Owner: "ann", Role: role, Subscribers: 2, Frames: frames, Bytes: 100 * frames}}
}

// TestTop draws what was seen twice: rates are those in between, by each node's own clock, and nobody has one who was not
// there before or has begun anew.
func TestTop(t *testing.T) {
	node := func(name, state string, f *admin.Figures) admin.ClusterNode {
		return admin.ClusterNode{Node: admin.Node{Name: name, Self: name == "n1", State: state}, Figures: f}
	}
	before := &glance{nodes: []admin.ClusterNode{
		node("n1", "ready", figure("n1", 10_000, 1000, roomAt("slow", "relay", 5000), roomAt("quick", "edge", 100))),
		node("n2", "linked", figure("n2", 5000, 500, roomAt("quick", "relay", 200), roomAt("moved", "relay", 50))),
		node("n3", "linked", figure("n3", 9000, 700)),
	}}
	now := &glance{
		nodes: []admin.ClusterNode{
			node("n1", "ready", figure("n1", 12_000, 1100, roomAt("slow", "relay", 5002), roomAt("quick", "edge", 180), roomAt("moved", "relay", 60))),
			node("n2", "linked", figure("n2", 7500, 600, roomAt("quick", "relay", 300))),
			node("n3", "linked", figure("n3", 100, 3)), // another process
			node("n4", "out_of_reach", nil),
		},
		behind: []behind{{"n2", admin.Session{ID: 17, Account: "bob", Addr: "192.0.2.1:5", LagMillis: 250, LagBytes: 2048}}},
	}
	now.nodes[0].Figures.Events = []admin.Event{{Seq: 1, AgoMillis: 9000, Text: "linked", Node: "n2"}, {Seq: 2, AgoMillis: 500, Text: "took over", Room: "moved", Rooms: 2}}
	now.nodes[1].Figures.Events = []admin.Event{{Seq: 1, AgoMillis: 700, Text: "members", Members: 3}}
	var b bytes.Buffer
	w := &table{tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)}
	now.show(w, before)
	if err := w.flush(); err != nil {
		t.Fatal(err)
	}
	want := `timedge v1  node n1  up 12s  0 takeovers, 0 cut off, 0 panics; 2.0 MiB of 1.0 GiB held

NODE  STATE         SESSIONS  RELAYED  MIRRORED  IN              OUT                DROPPED  QUEUED  MEMORY
n1    this node     4         1        0         50/s  4.9 KiB/s  150/s  15 KiB/s  0/s      0 B     2.0 MiB
n2    linked        4         1        0         40/s  3.9 KiB/s  120/s  12 KiB/s  0/s      0 B     2.0 MiB
n3    linked        4         1        0         0/s   0 B/s      0/s    0 B/s     0/s      0 B     2.0 MiB
n4    out of reach

BUSIEST ROOMS  OWNER  RELAY  ALSO AT  SUBSCRIBERS  FRAMES  BYTES
quick          ann    n2     n1       2            40/s    3.9 KiB/s
slow           ann    n1              2            1/s     100 B/s
moved          ann    n1              2            0/s     0 B/s

MOST BEHIND  ACCOUNT  NODE  ADDRESS      LAG    QUEUED
17           bob      n2    192.0.2.1:5  250ms  2.0 KiB

WHAT HAS HAPPENED  NODE  
500ms ago          n1    took over moved (2)
700ms ago          n2    members (3)
9s ago             n1    linked n2
`
	if got := b.String(); fields(got) != fields(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// fields is a text whose columns have one space between them.
func fields(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n")
}
