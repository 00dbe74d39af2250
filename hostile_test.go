package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/timedge/timedge/admin"
	"github.com/timedge/timedge/codec"
)

// spell is what a hostile server, or another account, says where people read it: it would set the terminal's title,
// clear it, and forge a line of ours.
const spell = "\x1b]0;gone\x07\x1b[2J\u009b31mroot# \u202e\r\ntimedge: all is well"

// hostile is a server that puts the spell wherever a text goes.
type hostile struct {
	atHello bool // it answers hello with an error
	refuses bool // it refuses every request
}

func (h hostile) start(t *testing.T) (addr string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go h.serve(conn)
		}
	}()
	return ln.Addr().String()
}

func (h hostile) serve(conn net.Conn) {
	defer conn.Close()
	send := func(frames ...codec.Control) {
		var b []byte
		for _, m := range frames {
			b = enc(m.Append(b))
		}
		conn.Write(b)
	}
	io.ReadFull(conn, make([]byte, codec.PrefaceSize))
	conn.Write(codec.AppendServerPreface(nil, 1))
	for {
		var head [2]byte
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		frame := append(head[:], make([]byte, binary.BigEndian.Uint16(head[:]))...)
		if _, err := io.ReadFull(conn, frame[2:]); err != nil {
			return
		}
		if frame[2]&codec.TypeStream != 0 {
			continue
		}
		m, err := codec.ParseControl(frame)
		if err != nil {
			return
		}
		var req uint32
		var answers []codec.Control
		switch m := m.(type) {
		case *codec.Hello:
			if h.atHello {
				send(&codec.Error{Code: codec.CodeAuthFailed, Text: spell})
				return
			}
			send(&codec.Welcome{Session: 1, Node: "n" + spell, MaxPayload: 1 << 20, PingMillis: 15000})
			continue
		case *codec.Register:
			req, answers = m.Req, []codec.Control{registered(m.Req)}
		case *codec.Publish:
			req, answers = m.Req, []codec.Control{&codec.Error{Code: codec.CodeUnexpected, Text: spell}}
		case *codec.Stat:
			req, answers = m.Req, []codec.Control{&codec.Info{Req: m.Req, Room: m.Room, Owner: "o" + spell}}
		case *codec.Inbox:
			req, answers = m.Req, []codec.Control{ok(m.Req)}
		case *codec.Subscribe:
			key := codec.StreamKey{Pub: 1}
			req, answers = m.Req, []codec.Control{
				&codec.Subscribed{Req: m.Req, Room: m.Room},
				&codec.Joined{Room: m.Room, Pub: 1, Account: "ann" + spell},
				&codec.Gap{Room: m.Room, StreamKey: key, From: 1, To: 5, Reason: codec.GapJoined},
				&codec.Gap{Room: m.Room, StreamKey: key, From: 6, To: 7, Reason: codec.GapSlow},
				&codec.Gap{Room: m.Room, StreamKey: key, From: 2, To: 3, Reason: codec.GapSlow},
				&codec.Left{Room: m.Room, Pub: 1, Code: codec.CodeGone},
				&codec.Closed{Room: m.Room, Code: codec.CodeRemoved},
			}
		case *codec.Remove:
			req, answers = m.Req, []codec.Control{ok(m.Req)}
		case *codec.Grant:
			req, answers = m.Req, []codec.Control{ok(m.Req)}
		case *codec.Revoke:
			req, answers = m.Req, []codec.Control{ok(m.Req)}
		default:
			continue
		}
		if h.refuses {
			answers = []codec.Control{&codec.Refused{Req: req, Code: codec.CodeBadOption, Text: spell}}
		}
		send(answers...)
	}
}

func ok(req uint32) codec.Control { return &codec.OK{Req: req} }

func registered(req uint32) codec.Control {
	m := new(codec.Registered)
	m.Req, m.Room = req, 77
	return m
}

// TestHostileServer: nothing that a server says reaches the terminal as a control character, whatever the command.
func TestHostileServer(t *testing.T) {
	file := t.TempDir() + "/file"
	commands := map[string][]string{
		"push":            {"push", "-"},
		"push to a room":  {"push", "--room", "NGhMpCbk2wQ", "-"},
		"sub":             {"sub", "NGhMpCbk2wQ", "-o", file},
		"send":            {"send", "bob", "-"},
		"inbox":           {"inbox", "-o", file},
		"inbox --follow":  {"inbox", "--follow", "-o", file},
		"register":        {"register"},
		"remove":          {"remove", "NGhMpCbk2wQ"},
		"grant":           {"grant", "NGhMpCbk2wQ", "bob"},
		"revoke":          {"revoke", "NGhMpCbk2wQ", "bob"},
		"room":            {"room", "NGhMpCbk2wQ", "--admin", "127.0.0.1:1"},
		"another's names": {"grant", "NGhMpCbk2wQ", "b" + spell},
	}
	for name, h := range map[string]hostile{"hello": {atHello: true}, "refusals": {refuses: true}, "answers": {}} {
		addr := h.start(t)
		for command, args := range commands {
			t.Run(name+"/"+command, func(t *testing.T) {
				t.Parallel()
				p, err := start(nil, strings.NewReader("x"), append(args, "-v", "--server", addr)...)
				if err != nil {
					t.Fatal(err)
				}
				out, status := p.end()
				harmless(t, out, p.errors.Bytes(), status)
			})
		}
	}
}

// TestHostileAdmin: nor does anything that an admin page says.
func TestHostileAdmin(t *testing.T) {
	evil := "n" + spell
	nodes, err := json.Marshal([]admin.Node{{Name: evil, Addr: evil, State: evil}})
	if err != nil {
		t.Fatal(err)
	}
	rep, err := json.Marshal(roomReport{Relay: evil, Chain: []string{evil}})
	if err != nil {
		t.Fatal(err)
	}
	for name, answer := range map[string]http.HandlerFunc{
		"JSON": func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/api/v1/nodes") {
				w.Write(nodes)
			} else {
				w.Write(rep)
			}
		},
		"JSON with what it need not escape": func(w http.ResponseWriter, _ *http.Request) {
			w.Write([]byte("{\"x\r\n\u009b\u202e\": \"\u007f\u0085\u2028\"}"))
		},
		"no JSON": func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(spell)) },
		"an error": func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, spell, http.StatusNotFound)
		},
		"elsewhere": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://127.0.0.1:1/\u009b2J")
			w.WriteHeader(http.StatusFound)
		},
	} {
		page := httptest.NewServer(answer)
		t.Cleanup(page.Close)
		admin := strings.TrimPrefix(page.URL, "http://")
		for _, args := range [][]string{{"nodes"}, {"nodes", "--json"}, {"room", "NGhMpCbk2wQ", "--json"}} {
			t.Run(name+"/"+strings.Join(args, " "), func(t *testing.T) {
				p, err := start(nil, nil, append(args, "--admin", admin)...)
				if err != nil {
					t.Fatal(err)
				}
				out, status := p.end()
				harmless(t, out, p.errors.Bytes(), status)
			})
		}
	}
}

// harmless checks that a command printed nothing that a terminal obeys and no forged line, and that it ended by itself.
func harmless(t *testing.T, out, errors []byte, status int) {
	t.Helper()
	if status < 0 {
		t.Errorf("it did not end by itself")
	}
	for _, b := range [][]byte{out, errors} {
		if bad := obeyed(b); bad != "" {
			t.Errorf("the terminal gets %q in %q", bad, b)
		}
		if bytes.Contains(b, []byte("\ntimedge: all is well")) {
			t.Errorf("a forged line in %q", b)
		}
	}
	if len(out)+len(errors) == 0 && status != 0 {
		t.Error("it failed in silence")
	}
}

// enc returns what an Append has written. A frame that does not fit is a fault of the test.
func enc(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}
