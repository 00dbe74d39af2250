package engine_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/node"
)

// linkPeer speaks bare frames on links, as a node that is a member and does as it likes.
type linkPeer struct {
	t       *testing.T
	self    node.Member
	up      net.Conn // the link that it has dialed
	answers chan codec.Control
}

// joinAs makes a member of the cluster of a node that is no server, and links it.
func joinAs(t *testing.T, name string, e *engine.Engine, key node.Key) *linkPeer {
	t.Helper()
	p := linkAs(t, name, e, key)
	go p.serve(p.up, p.answers)
	return p
}

// linkAs does so, and leaves what comes by the link that it has dialed to be read.
func linkAs(t *testing.T, name string, e *engine.Engine, key node.Key) *linkPeer {
	t.Helper()
	p := &linkPeer{t: t, answers: make(chan codec.Control, 64)}
	views := make(chan *node.View, 16)
	c, err := node.Join(node.Config{
		Name: name, Bind: "127.0.0.1:0", Join: []string{e.ClusterAddr()}, Keys: node.Keys{key}, Log: zerolog.Nop(),
		OnView: func(v *node.View) { views <- v },
		OnLink: func(conn *node.Link, _ node.Peer) { go p.serve(conn, nil) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Leave()
		_ = c.Shutdown()
		for deadline := time.Now().Add(patience); e.Members() > 1 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		} // or the server would try to hand its rooms over to a node that takes none
	})
	for {
		select {
		case v := <-views:
			m, ok := v.Find("a")
			if !ok {
				continue
			}
			if p.up, err = c.Dial(m, patience); err != nil {
				t.Fatal(err)
			}
			p.self = c.Self()
			t.Cleanup(func() { p.up.Close() })
			for deadline := time.Now().Add(patience); e.Members() < 2 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			} // or a room would move to the new member in the middle of a test
			return p
		case <-time.After(patience):
			t.Fatal("the cluster is not there")
		}
	}
}

// serve answers what a node has to answer, and hands on what answers are for it.
func (p *linkPeer) serve(conn net.Conn, answers chan<- codec.Control) {
	var buf []byte
	chunk := make([]byte, 64<<10)
	for {
		n, err := conn.Read(chunk)
		if err != nil {
			return
		}
		for buf = append(buf, chunk[:n]...); ; {
			frame, typ, err := codec.Next(buf, codec.MaxFrame)
			if err != nil {
				break
			}
			own := append([]byte(nil), frame...)
			buf = buf[len(frame):]
			var m codec.Control
			if codec.NewLink(typ) != nil {
				m, err = codec.ParseLink(own)
			} else if typ&codec.TypeStream == 0 {
				m, err = codec.ParseControl(own)
			}
			if err != nil {
				p.t.Errorf("frame %x: %v", own, err)
				return
			}
			switch m := m.(type) {
			case *codec.Ping:
				_, _ = conn.Write(enc((&codec.Pong{Echo: m.Echo}).Append(nil)))
			case *codec.State:
				_, _ = conn.Write(enc((&codec.OK{Req: m.Req}).Append(nil)))
			case *codec.Change:
				_, _ = conn.Write(enc((&codec.OK{Req: m.Req}).Append(nil)))
			case *codec.Refused, *codec.OK, *codec.Published, *codec.Mirrored, *codec.PushRefused:
				if answers != nil {
					answers <- m
				}
			}
		}
	}
}

// ask sends a frame and returns the next answer.
func (p *linkPeer) ask(b []byte) codec.Control {
	p.t.Helper()
	if _, err := p.up.Write(b); err != nil {
		p.t.Fatal(err)
	}
	select {
	case m := <-p.answers:
		return m
	case <-time.After(patience):
		p.t.Fatal("no answer on the link")
		return nil
	}
}

// TestForgedSendersOnALink: a node proves the cluster key, and is believed who its clients are. What it cannot do is to
// push as a publisher of another node, to get around an inbox's list, or to open an inbox for who does not own it.
func TestForgedSendersOnALink(t *testing.T) {
	key := node.NewKey()
	e := start(t, func(c *engine.Config) {
		c.Node, c.Cluster = "a", &engine.ClusterConfig{Bind: "127.0.0.1:0", Keys: node.Keys{key}}
	})
	z := joinAs(t, "z", e, key)
	account := ""
	for n := 0; account == "" || !e.RelayOf(codec.InboxOf(account)); n++ {
		account = fmt.Sprint("alice", n)
	}
	inbox := codec.InboxOf(account)
	alice, bob := login(t, e, account, 1), login(t, e, "bob", 1)
	alice.granted(openInbox(account, codec.PolicyLive, "bob"))
	alice.subscribe(inbox)
	p, ok := bob.request(sendTo(account)).(*codec.Published)
	if !ok {
		t.Fatal("bob may not send")
	}

	key1 := codec.StreamKey{Pub: p.Pub, Dtype: 1}
	forged := codec.Stream{Room: inbox, StreamKey: key1, Seq: 1, Payload: []byte("forged")}
	as := func(account string, m codec.Control) []byte {
		return enc((&codec.As{Account: account, Instance: 1, Frame: enc(m.Append(nil))}).Append(nil))
	}
	for name, c := range map[string]struct {
		frame []byte
		want  codec.Code
	}{
		"frames under bob's number":     {enc(forged.Append(nil)), codec.CodeNotPublishing},
		"who is not accepted":           {as("mallory", sendTo(account)), codec.CodeNotAccepted},
		"without naming the recipient":  {as("bob", &codec.Publish{Req: 1, Room: inbox}), codec.CodeNotAccepted},
		"naming another":                {as("bob", &codec.Publish{Req: 1, Room: inbox, To: "carol"}), codec.CodeNotAccepted},
		"to open it for somebody else":  {as("mallory", &codec.Inbox{Req: 1, Room: inbox, Accept: []string{"mallory"}}), codec.CodeNotAccepted},
		"to make one for somebody else": {as("mallory", &codec.Inbox{Req: 1, Room: another(e, account)}), codec.CodeBadOption},
		"to accept itself":              {as("mallory", grant(1, inbox, "mallory")), codec.CodeNotAccepted},
		"a look at it":                  {enc((&codec.Mirror{Req: 1, Room: inbox}).Append(nil)), codec.CodeNotAccepted},
	} {
		switch m := z.ask(c.frame).(type) {
		case *codec.Refused:
			if m.Code != c.want {
				t.Errorf("%s: refused with %v, want %v", name, m.Code, c.want)
			}
		case *codec.PushRefused:
			if m.Code != c.want {
				t.Errorf("%s: push refused with %v, want %v", name, m.Code, c.want)
			}
		default:
			t.Errorf("%s: %+v", name, m)
		}
	}
	genuine := codec.Stream{Room: inbox, StreamKey: key1, Seq: 1, Payload: []byte("genuine")}
	bob.write(enc(genuine.Append(nil)))
	if got := next[*codec.Stream](alice); string(got.Payload) != "genuine" {
		t.Errorf("she got %q", got.Payload)
	}
}

// another returns the inbox of some other account that is the node's to make.
func another(e *engine.Engine, account string) codec.RoomID {
	for n := 0; ; n++ {
		if id := codec.InboxOf(fmt.Sprint("another", n)); e.RelayOf(id) && id != codec.InboxOf(account) {
			return id
		}
	}
}
