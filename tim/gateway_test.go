package tim

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/rs/zerolog"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/room"
)

// server is an engine with a gateway before it.
type server struct {
	tim  string // the gateway's address
	addr string // the engine's
	e    *engine.Engine
	g    *Gateway
}

// start serves until the test ends.
func start(t *testing.T, change ...func(*Config, *engine.Config)) *server {
	t.Helper()
	g := Defaults()
	e := engine.Config{Listen: []string{"127.0.0.1:0"}, Loops: 2, Log: zerolog.Nop(), DrainSpread: 10 * time.Millisecond}
	for _, f := range change {
		f(&g, &e)
	}
	s := new(server)
	var err error
	if s.e, err = engine.Start(e); err != nil {
		t.Fatal(err)
	}
	s.addr = s.e.Addrs()[0].String()
	g.Dial = func(_ context.Context, remote netip.AddrPort) (net.Conn, error) { return s.e.Connect(remote) }
	g.Admit = s.e.Admit
	s.g = New(g)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.tim = ln.Addr().String()
	served := make(chan error, 1)
	go func() { served <- s.g.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := errors.Join(s.g.Shutdown(ctx, 0), <-served, s.e.Shutdown(ctx)); err != nil {
			t.Error(err)
		}
		if n := s.g.gathering.Load(); n != 0 {
			t.Errorf("%d bytes of frames are still counted", n)
		}
		for s.g.pending.Load() != 0 { // of a connection that came while the gateway was shut down
			if ctx.Err() != nil {
				t.Fatalf("%d connections are still counted as waiting to log in", s.g.pending.Load())
			}
			runtime.Gosched()
		}
	})
	return s
}

// each runs a test in every client's manner.
func each(t *testing.T, f func(t *testing.T, s *server, m manner)) {
	for _, m := range manners {
		t.Run(m.name, func(t *testing.T) { f(t, start(t), m) })
	}
}

// TestCalls makes all calls, with the answers that clients wait for.
func TestCalls(t *testing.T) {
	each(t, func(t *testing.T, s *server, m manner) {
		a, b := login(t, s.tim, m, "alice"), login(t, s.tim, m, "bob")
		room := a.do(opRegister, "", "")
		if got := b.do(opSubscribe, room, ""); got != room {
			t.Fatalf("subscribed to %s", got)
		}
		a.do(opSubscribe, room, "")
		a.push(room, 7, []byte{1, 2, 3})
		a.expect(room, 7, []byte{1, 2, 3}, "alice")
		b.expect(room, 7, []byte{1, 2, 3}, "alice")
		a.push(room, 0, nil)
		b.expect(room, 0, nil, "alice")
		a.expect(room, 0, nil, "alice")

		b.push(room, 0, []byte{9}) // without a grant
		if r := b.refusal(typeStream, failDenied); r.N != room {
			t.Fatalf("refused %+v", r)
		}
		if got := a.do(opAddAuth, room, "bob"); got != "bob" {
			t.Fatalf("granted %s", got)
		}
		b.push(room, 0, []byte{8})
		b.expect(room, 0, []byte{8}, "bob")
		a.expect(room, 0, []byte{8}, "bob")
		if got := a.do(opDelAuth, room, "bob"); got != "bob" {
			t.Fatalf("revoked %s", got)
		}
		b.push(room, 0, []byte{7}) // in the middle of a stream: whoever refuses it, the pusher is told
		if r := b.refusal(typeStream, failDenied); r.N != room {
			t.Fatalf("refused %+v", r)
		}

		if r := b.vroom(opAddAuth, room, "carol"); r.OK || *r.Error != *failDenied {
			t.Fatalf("a stranger granted: %+v", r)
		}
		if r := b.vroom(opRemove, room, ""); r.OK || *r.Error != *failDenied || r.N != room {
			t.Fatalf("a stranger removed: %+v", r)
		}

		b.sendVroom(opSubscribe, room, "", 1) // from now on only the bytes
		if r := b.ack(); !r.OK || r.N != room {
			t.Fatalf("%+v", r)
		}
		a.push(room, 3, []byte{0x0c})
		a.expect(room, 3, []byte{0x0c}, "alice")
		if got, want := b.read(), raw(typeBigBinaryStream, false, room, binarySeparator, "\x0c"); !bytes.Equal(got, want) {
			t.Fatalf("got %x, want %x", got, want)
		}
		b.do(opUnsubscribe, room, "")
		b.do(opUnsubscribe, room, "")
		a.do(opUnsubscribe, room, "")
		a.do(opRemove, room, "")
		a.push(room, 0, []byte{1})
		if r := a.refusal(typeStream, failDenied); r.N != room {
			t.Fatalf("refused %+v", r)
		}
		if r := a.vroom(opSubscribe, room, ""); r.OK || *r.Error != *failUnknown || r.N != room {
			t.Fatalf("subscribed to a room that is gone: %+v", r)
		}
		if r := a.vroom(opSubscribe, "nobody", ""); r.OK || *r.Error != *failParameter {
			t.Fatalf("subscribed to no room: %+v", r)
		}
		if r := a.vroom(9, room, ""); r.OK || *r.Error != *failParameter {
			t.Fatalf("op 9: %+v", r)
		}
	})
}

// TestAtOnceBehindLogin sends requests right behind the login, as callers do that do not wait: the older system closed
// on them.
func TestAtOnceBehindLogin(t *testing.T) {
	each(t, func(t *testing.T, s *server, m manner) {
		p := connect(t, s.tim, m)
		p.sendAuth(&auth{Name: "alice", Pwd: "123"})
		p.frame(typePing)
		p.sendVroom(opRegister, "", "", 0)
		p.frame() // empty: passed over
		p.frame(typeOfflineMsg)
		if a := p.ack(); !a.OK || a.TimType != typeAuth {
			t.Fatalf("%+v", a)
		}
		if b := p.read(); !bytes.Equal(b, []byte{typePing}) {
			t.Fatalf("got %q", b)
		}
		if a := p.ack(); !a.OK || a.TimType != typeVroom || a.N == "" {
			t.Fatalf("%+v", a)
		}
		if b := p.read(); !bytes.Equal(b, []byte{typeOfflineMsgEnd}) {
			t.Fatalf("got %q", b)
		}
		p.sendAuth(&auth{Name: "alice", Pwd: "123"})
		if a := p.ack(); !a.OK || a.TimType != typeAuth || a.N != "" {
			t.Fatalf("a second login: %+v", a)
		}
	})
}

// TestWhatIsNotServed is answered, and the connection stays.
func TestWhatIsNotServed(t *testing.T) {
	each(t, func(t *testing.T, s *server, m manner) {
		p := login(t, s.tim, m, "alice")
		for _, typ := range []byte{typeBusiness, typeNodes, typePullMessage, typeRevoke, typeBurn} {
			r := request{Rtype: 1}
			p.sendStruct(typ, r.append(nil), map[string]any{"rtype": 1})
			p.refusal(typ, failInterface)
		}
		for _, typ := range []byte{typeBroadPresence, typePresence, typeAck} {
			p.frame(typ, 0)
		}
		p.frame(77)
		p.refusal(77, failParameter)
		p.frame(typeVroom|jsonBit, '{')
		p.refusal(typeVroom, failFormat)
		p.frame(typeStream, 0x16) // cut off
		p.refusal(typeStream, failFormat)
		p.frame(typeBigBinaryStream, 'x')
		p.refusal(typeBigBinary, failBig)
		p.frame(typePing)
		if b := p.read(); !bytes.Equal(b, []byte{typePing}) {
			t.Fatalf("got %q", b)
		}
	})
}

// TestBeforeLogin: only a login and a ping may come first.
func TestBeforeLogin(t *testing.T) {
	s := start(t)
	p := connect(t, s.tim, manners[0])
	p.frame(typePing)
	p.sendVroom(opRegister, "", "", 0)
	var closed wsutil.ClosedError
	if _, err := p.tryRead(); !errors.As(err, &closed) || closed.Code != ws.StatusNormalClosure {
		t.Fatalf("got %v", err)
	}
	for name, m := range map[string]auth{"no name": {}, "separator": {Name: "a|b"}, "everybody": {Name: "*"}} {
		p := connect(t, s.tim, manners[0])
		p.sendAuth(&m)
		if a := p.ack(); a.OK || a.TimType != typeAuth || *a.Error != *failDenied {
			t.Errorf("%s: %+v", name, a)
		}
		p.sendAuth(&auth{Name: "alice"}) // it may try again
		if a := p.ack(); !a.OK {
			t.Errorf("%s: then %+v", name, a)
		}
	}
	late := start(t, func(g *Config, _ *engine.Config) { g.Login = 50 * time.Millisecond })
	p = connect(t, late.tim, manners[0])
	if _, err := p.tryRead(); !errors.As(err, &closed) {
		t.Fatalf("without a login: %v", err)
	}
}

// TestOddPushes are the forms in which pushes come.
func TestOddPushes(t *testing.T) {
	s := start(t)
	js := login(t, s.tim, manners[2], "web")
	room := js.do(opRegister, "", "")
	sub := login(t, s.tim, manners[0], "go")
	sub.do(opSubscribe, room, "")
	for _, body := range []string{`"AQID"`, `[1,2,3]`, `{"0":1,"1":2,"2":3}`} {
		js.frame(append([]byte{typeStream | jsonBit}, fmt.Sprintf(`{"id":null,"vNode":%q,"dtype":5,"body":%s,"fromNode":null}`, room, body)...)...)
		sub.expect(room, 5, []byte{1, 2, 3}, "web")
	}
	for _, body := range []string{`"hello!"`, `{"1":1}`, `[256]`, `["a"]`, `{"0":{}}`, `7`} {
		js.frame(append([]byte{typeStream | jsonBit}, fmt.Sprintf(`{"vNode":%q,"body":%s}`, room, body)...)...)
		js.refusal(typeStream, failFormat)
	}
	js.frame(raw(typeBigBinaryStream|jsonBit, true, room, binarySeparator, "raw")...)
	sub.expect(room, 0, []byte("raw"), "web")
	if err := wsutil.WriteClientText(js.c, raw(typeBigBinaryStream, false, room, binarySeparator, "text")); err != nil { // in a text frame
		t.Fatal(err)
	}
	sub.expect(room, 0, []byte("text"), "web")
	for _, h := range []ws.Frame{ // in fragments, with a ping between
		ws.NewFrame(ws.OpBinary, false, raw(typeBigBinaryStream, false, room, binarySeparator, "")),
		ws.NewPingFrame([]byte("hi")),
		ws.NewFrame(ws.OpContinuation, true, []byte("joined")),
	} {
		if err := ws.WriteFrame(js.c, ws.MaskFrameInPlace(h)); err != nil {
			t.Fatal(err)
		}
	}
	sub.expect(room, 0, []byte("joined"), "web")
	if got := js.vroom(opSubscribe, room, ""); !got.OK {
		t.Fatalf("%+v", got)
	}
}

// TestToAccounts streams from account to account.
func TestToAccounts(t *testing.T) {
	for _, m := range manners {
		t.Run(m.name, func(t *testing.T) {
			s := start(t)
			alice, bob := login(t, s.tim, m, "alice"), login(t, s.tim, m, "bob")
			second := login(t, s.tim, manners[0], "bob")
			msg := message{MsType: toAccount, OdType: odStream, To: &tid{Node: "bob"}, UDType: 6, UDShow: 5}
			sent := map[string]any{
				"msType": 2, "odType": 5, "toTid": map[string]any{"node": "bob"}, "udtype": 6, "udshow": 5, "dataBinary": nil,
			}
			if m.json {
				msg.Text, sent["dataString"] = "aGk=", "aGk="
			} else {
				msg.Binary = []byte("hi")
			}
			if m.name == "atim" {
				msg.MsType, msg.OdType = 0, 0
			}
			alice.sendStruct(typeMessage, msg.append(nil), sent)
			for _, p := range []*peer{bob, second} {
				got := p.received()
				if got.MsType != 2 || got.OdType != 5 || got.ID == 0 || got.Timestamp == 0 || got.UDType != 6 || got.UDShow != 5 ||
					got.Text != msg.Text || !bytes.Equal(got.Binary, msg.Binary) ||
					*got.From != (tid{"alice", "tlnet.top", "probe", 1}) || *got.To != (tid{Node: "bob", Domain: "tlnet.top"}) {
					t.Fatalf("got %+v from %+v to %+v", got, got.From, got.To)
				}
			}
			withLength := m.json
			alice.frame(raw(typeBigBinary, withLength, "bob", binarySeparator, "\x01\x02")...)
			separator := byte(textSeparator)
			if m.json {
				separator = 0
			}
			alice.frame(raw(typeBigString, withLength, "bob", separator, "text")...)
			for _, p := range []*peer{bob, second} {
				var got [][]byte
				got = append(got, p.read(), p.read())
				if got[0][0] == typeBigString { // streams of their own: their order is not promised
					got[0], got[1] = got[1], got[0]
				}
				if !bytes.Equal(got[0], raw(typeBigBinary, false, "alice", binarySeparator, "\x01\x02")) ||
					!bytes.Equal(got[1], raw(typeBigString, false, "alice", textSeparator, "text")) {
					t.Fatalf("got %q", got)
				}
			}
			for _, r := range []struct {
				name string
				m    message
				want *failure
			}{
				{"to a malformed account", message{MsType: 2, OdType: 5, To: &tid{Node: "a|b"}}, failAccount},
				{"to nobody", message{MsType: 2, OdType: 5}, failAccount},
				{"to oneself", message{MsType: 2, OdType: 5, To: &tid{Node: "alice"}}, failDenied},
				{"to an account that is not there", message{MsType: 2, OdType: 5, To: &tid{Node: "nobody"}}, failAccount},
				{"to a group", message{MsType: 3, OdType: 5, Room: &tid{Node: "group"}}, failAccount},
				{"to be stored", message{MsType: 2, OdType: 1, To: &tid{Node: "bob"}}, failInterface},
				{"of no kind", message{MsType: 1, OdType: 5, To: &tid{Node: "bob"}}, failParameter},
			} {
				fields := map[string]any{"msType": r.m.MsType, "odType": r.m.OdType, "toTid": r.m.To, "roomTid": r.m.Room}
				alice.sendStruct(typeMessage, r.m.append(nil), fields)
				if a := alice.ack(); a.OK || a.TimType != typeMessage || *a.Error != *r.want {
					t.Errorf("%s: %+v", r.name, a.Error)
				}
			}
		})
	}
}

// sdk is a client of timedge's own.
func sdk(t *testing.T, s *server, account string) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), client.Options{Servers: []string{s.addr}, Account: account})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// TestMixedRoom has clients of both kinds in one room.
func TestMixedRoom(t *testing.T) {
	s := start(t)
	ctx := t.Context()
	ours := sdk(t, s, "ours")
	id, err := ours.Register(ctx, client.RoomOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sub, err := ours.Subscribe(ctx, id, client.SubscribeOptions{NoEcho: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := ours.Grant(ctx, id, "theirs"); err != nil {
		t.Fatal(err)
	}
	theirs := login(t, s.tim, manners[0], "theirs")
	theirs.do(opSubscribe, id.String(), "")
	pub, err := ours.Publish(ctx, id, client.PublishOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		payload := []byte(strconv.Itoa(i))
		if err := pub.Push(ctx, uint8(i), client.Kind(i%3), payload); err != nil {
			t.Fatal(err)
		}
		theirs.expect(id.String(), uint8(i), payload, "ours")
		theirs.push(id.String(), uint8(i), payload)
		theirs.expect(id.String(), uint8(i), payload, "theirs")
		for {
			e, err := sub.Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if m, is := e.(*client.Message); is {
				if m.Dtype != uint8(i) || !bytes.Equal(m.Payload, payload) || m.Publisher != "theirs" {
					t.Fatalf("got %+v", m)
				}
				break
			}
		}
	}
}

// TestOrder pushes ten thousand times, in order, to clients of all three manners.
func TestOrder(t *testing.T) {
	s := start(t, func(_ *Config, e *engine.Config) { e.Rooms.QueueBytes = 64 << 20 })
	p := login(t, s.tim, manners[0], "pusher")
	room := p.do(opRegister, "", "")
	const pushes = 10_000
	got := make(chan error, len(manners))
	for i, m := range manners {
		sub := login(t, s.tim, m, "reader"+strconv.Itoa(i))
		sub.do(opSubscribe, room, "")
		go func() {
			for want := uint32(0); want < pushes; want++ {
				b, err := sub.tryRead()
				if err != nil {
					got <- err
					return
				}
				var d stream
				if sub.m.json {
					d = *parseDelivery(t, b[1:])
				} else if err := d.parse(b[1:]); err != nil {
					got <- err
					return
				}
				if n := binary.BigEndian.Uint32(d.Body); n != want {
					got <- fmt.Errorf("got %d, want %d", n, want)
					return
				}
			}
			got <- nil
		}()
	}
	for i := range uint32(pushes) {
		p.push(room, 0, binary.BigEndian.AppendUint32(nil, i))
	}
	for range manners {
		if err := <-got; err != nil {
			t.Error(err)
		}
	}
}

// TestStoppedReader has one of three readers stop: the others get all.
func TestStoppedReader(t *testing.T) {
	s := start(t, func(_ *Config, e *engine.Config) {
		e.Rooms.QueueBytes = 256 << 10
		e.Rooms.QueueAge = 200 * time.Millisecond
	})
	p := login(t, s.tim, manners[0], "pusher")
	room := p.do(opRegister, "", "")
	stopped := login(t, s.tim, manners[0], "stopped")
	stopped.do(opSubscribe, room, "")
	readers := []*peer{login(t, s.tim, manners[0], "one"), login(t, s.tim, manners[2], "two")}
	for _, r := range readers {
		r.do(opSubscribe, room, "")
	}
	body := make([]byte, 32<<10)
	for i := range uint32(1000) { // 32 MB: more than all buffers on the way to the one that stopped
		binary.BigEndian.PutUint32(body, i)
		p.push(room, 0, body)
		for _, r := range readers {
			r.expect(room, 0, body, "pusher")
		}
	}
	seen := uint32(0)
	for last := uint32(0); last < 999; seen++ { // it goes on in order, with what its policy left
		d := stopped.delivery()
		if n := binary.BigEndian.Uint32(d.Body); seen > 0 && n <= last {
			t.Fatalf("%d after %d", n, last)
		} else {
			last = n
		}
	}
	if seen >= 1000 {
		t.Error("nothing was dropped: the test did not stop it for long enough")
	}
}

// TestMemory has readers that stop, of a room with large messages: who holds most is cut off, who reads gets all.
func TestMemory(t *testing.T) {
	const bound = 24 << 20
	s := start(t, func(g *Config, e *engine.Config) { g.Memory, e.Rooms.Window = bound, 512<<10 }) // who pushes holds less than who has stopped
	p, reader := login(t, s.tim, manners[0], "pusher"), login(t, s.tim, manners[1], "reader")
	room := p.do(opRegister, "", "")
	reader.do(opSubscribe, room, "")
	for i := range 20 {
		login(t, s.tim, manners[i%2], "stopped"+strconv.Itoa(i)).do(opSubscribe, room, "")
	}
	body := make([]byte, 256<<10)
	for i := uint32(0); s.g.stats.cutOff.Load() == 0; i++ {
		binary.BigEndian.PutUint32(body, i)
		p.push(room, 0, body)
		reader.expect(room, 0, body, "pusher")
	}
	for s.g.stats.held.Load() > bound { // as of the newest look
		p.push(room, 0, body[:8])
		reader.expect(room, 0, body[:8], "pusher")
	}
	if p.push(room, 0, []byte{1}); s.g.stats.closed.Load() >= 20 {
		t.Error("all who stopped are cut off")
	}
	reader.expect(room, 0, []byte{1}, "pusher")
}

// TestHolds: a large message is counted while it waits and while it is written, and not afterwards.
func TestHolds(t *testing.T) {
	o := newOutbox()
	here, there := net.Pipe()
	written := make(chan int)
	go o.write(here, func(n int) { written <- n })
	o.stream(make([]byte, 4<<20))
	if n := o.holds(); n < 4<<20 {
		t.Errorf("%d bytes are held of a message that waits", n)
	}
	go func() { _, _ = io.Copy(io.Discard, there) }()
	<-written
	o.control(ws.OpPing, nil) // a turn later
	<-written
	if n := o.holds(); n > 1<<20 {
		t.Errorf("%d bytes are held when all has gone out", n)
	}
	o.close()
}

// TestTokens logs in with what TOKEN gives.
func TestTokens(t *testing.T) {
	for _, m := range manners {
		t.Run(m.name, func(t *testing.T) {
			s := start(t)
			call := func(typ byte, a auth) *ack {
				t.Helper()
				body := append(append([]byte{typ}, a.append(nil)...), make([]byte, m.pad)...)
				if m.json {
					body = append([]byte{typ | jsonBit}, fmt.Sprintf(`{"name":%q,"pwd":%q,"domain":"d","token":null}`, a.Name, a.Pwd)...)
				}
				r, err := http.Post("http://"+s.tim+"/tim2", "application/octet-stream", bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				defer r.Body.Close()
				b, err := io.ReadAll(r.Body)
				if err != nil || r.StatusCode != http.StatusOK || len(b) < 2 || b[0] != typeAck {
					t.Fatalf("%s %q %v", r.Status, b, err)
				}
				p := peer{t: t, m: m}
				return p.parseAck(b[1:])
			}
			if a := call(typeRegister, auth{Name: "alice", Pwd: "123"}); !a.OK || a.TimType != typeRegister || a.N != "alice" {
				t.Fatalf("%+v", a)
			}
			a := call(typeToken, auth{Name: "alice", Pwd: "123"})
			if !a.OK || a.T == nil || a.N != strconv.FormatInt(*a.T, 10) {
				t.Fatalf("%+v", a)
			}
			p := connect(t, s.tim, m)
			p.sendAuth(&auth{Token: a.N})
			if in := p.ack(); !in.OK || in.N != "alice" {
				t.Fatalf("%+v", in)
			}
			again := connect(t, s.tim, m)
			again.sendAuth(&auth{Token: a.N})
			if in := again.ack(); in.OK || *in.Error != *failToken {
				t.Fatalf("a token twice: %+v", in)
			}
			if a := call(typeVroom, auth{Name: "alice"}); a.OK || *a.Error != *failInterface {
				t.Fatalf("%+v", a)
			}
			if a := call(typeToken, auth{}); a.OK || *a.Error != *failAccount {
				t.Fatalf("%+v", a)
			}
		})
	}
}

// TestTokensEnd after ten seconds, and there are only so many.
func TestTokensEnd(t *testing.T) {
	var all tokens
	now := time.Unix(1, 0)
	number, _ := all.issue(credentials{account: "alice"}, now)
	if _, ok := all.redeem(strconv.FormatInt(number, 10), now.Add(tokenLife)); ok {
		t.Error("an old token was taken")
	}
	for range maxTokens {
		if _, ok := all.issue(credentials{}, now); !ok {
			t.Fatal("too few tokens")
		}
	}
	if _, ok := all.issue(credentials{}, now); ok {
		t.Error("one token too many")
	}
	if _, ok := all.issue(credentials{}, now.Add(tokenLife)); !ok || len(all.given) != 1 {
		t.Error("old tokens are kept")
	}
}

// TestIdleRoomEnds, and its pusher is told.
func TestIdleRoomEnds(t *testing.T) {
	s := start(t, func(_ *Config, e *engine.Config) {
		e.Rooms.Idle, e.Rooms.IdleMin = 50*time.Millisecond, time.Millisecond
	})
	p := login(t, s.tim, manners[0], "alice")
	name := p.do(opRegister, "", "")
	p.do(opSubscribe, name, "")
	id, _ := codec.ParseRoomID(name)
	for end := time.Now().Add(patience); time.Now().Before(end); runtime.Gosched() {
		if _, err := s.e.Rooms().Get(id); errors.Is(err, room.ErrUnknown) {
			break
		}
	}
	p.push(name, 0, []byte{1})
	p.refusal(typeStream, failDenied)
	// until its subscription has ended, who subscribes again is told that it does
	for end := time.Now().Add(patience); ; runtime.Gosched() {
		a := p.vroom(opSubscribe, name, "")
		if !a.OK && *a.Error == *failUnknown {
			break
		}
		if !a.OK || time.Now().After(end) {
			t.Fatalf("%+v", a)
		}
	}
}

// TestManyConnections come, take part and go.
func TestManyConnections(t *testing.T) {
	s := start(t)
	p := login(t, s.tim, manners[0], "pusher")
	room := p.do(opRegister, "", "")
	var readers []*peer
	for i := range 100 {
		r := login(t, s.tim, manners[i%len(manners)], "reader"+strconv.Itoa(i))
		r.do(opSubscribe, room, "")
		readers = append(readers, r)
	}
	for i := range 50 {
		p.push(room, 0, []byte{byte(i)})
	}
	for _, r := range readers {
		for i := range 50 {
			r.expect(room, 0, []byte{byte(i)}, "pusher")
		}
	}
}

// TestLargeFrames are bounded each, and all together, by what has arrived of them.
func TestLargeFrames(t *testing.T) {
	s := start(t, func(g *Config, _ *engine.Config) { g.MaxMessage, g.Memory = 4<<20, 3<<20 })
	p := login(t, s.tim, manners[0], "alice")
	room := p.do(opRegister, "", "")
	p.do(opSubscribe, room, "")
	body := bytes.Repeat([]byte("x"), 1<<20)
	p.push(room, 0, body)
	p.expect(room, 0, body, "alice")

	var closed wsutil.ClosedError
	large := login(t, s.tim, manners[0], "large")
	_ = ws.WriteHeader(large.c, ws.Header{Fin: true, OpCode: ws.OpBinary, Masked: true, Length: 4<<20 + 1})
	if _, err := large.tryRead(); !errors.As(err, &closed) || closed.Code != ws.StatusMessageTooBig {
		t.Errorf("a frame above the bound: %v", err)
	}
	// Three that never finish: what they have sent takes all there is. Which of them is read last is refused.
	ends := make(chan error, 3)
	for i := range 3 {
		u := login(t, s.tim, manners[0], "unfinished"+strconv.Itoa(i))
		_ = ws.WriteHeader(u.c, ws.Header{Fin: true, OpCode: ws.OpBinary, Masked: true, Length: 4 << 20})
		_, _ = u.c.Write(make([]byte, 1<<20+1)) // its room doubles to 2 MiB
		go func() {
			_, err := u.tryRead()
			ends <- err
		}()
	}
	if err := <-ends; !errors.As(err, &closed) || closed.Code != ws.StatusInternalServerError {
		t.Errorf("unfinished frames are not bounded together: %v", err)
	}
	p.push(room, 0, []byte("still here"))
	p.expect(room, 0, []byte("still here"), "alice")
}

// TestAddress: an address has so many connections, and another place when one of them is over.
func TestAddress(t *testing.T) {
	s := start(t, func(_ *Config, e *engine.Config) { e.Limits.ConnExempt = []netip.Prefix{}; e.Limits.ConnAtOnce = 3 })
	var all []*peer
	for i := range 3 {
		all = append(all, login(t, s.tim, manners[i], "a"+strconv.Itoa(i)))
	}
	if c, _, _, err := ws.Dial(t.Context(), "ws://"+s.tim+"/tim"); err == nil {
		_ = c.Close()
		t.Error("a fourth connection")
	}
	_ = all[0].c.Close()
	for end := time.Now().Add(patience); ; {
		if time.Now().After(end) {
			t.Fatal("the place of a connection that is over is not given back")
		}
		if c, _, _, err := ws.Dial(t.Context(), "ws://"+s.tim+"/tim"); err == nil {
			_ = c.Close()
			break
		}
	}
}

// TestShutdown ends all connections with a goodbye.
func TestShutdown(t *testing.T) {
	s := start(t)
	var all []*peer
	for i := range 10 {
		all = append(all, login(t, s.tim, manners[i%3], "a"+strconv.Itoa(i)))
	}
	if err := s.g.Shutdown(t.Context(), 20*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		var closed wsutil.ClosedError
		if _, err := p.tryRead(); !errors.As(err, &closed) || closed.Code != ws.StatusNormalClosure {
			t.Errorf("got %v", err)
		}
	}
}
