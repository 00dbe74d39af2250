package tim

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// manner is how one of the three clients writes what it wants, and reads what it is told.
type manner struct {
	name string
	json bool
	pad  int // zero bytes behind a struct
}

var manners = []manner{{name: "timgo"}, {name: "atim", pad: 12}, {name: "timjs", json: true}}

// The encoders and decoders of the clients' side.

func (m *auth) append(dst []byte) []byte {
	f := fields{b: dst}
	f.text(1, m.Name)
	f.text(2, m.Pwd)
	f.text(3, m.Domain)
	f.text(4, m.Resource)
	if m.Termtyp != 0 {
		f.i8(5, m.Termtyp)
	}
	f.text(6, m.Token)
	return append(f.b, wireStop)
}

func (m *request) append(dst []byte) []byte {
	f := fields{b: dst}
	f.integer(1, wireI32, int64(m.Rtype))
	f.text(2, m.Node)
	f.text(3, m.Node2)
	if m.ReqInt != 0 {
		f.integer(4, wireI64, m.ReqInt)
	}
	return append(f.b, wireStop)
}

func (m *stream) append(dst []byte) []byte {
	return m.tail(append(m.head(dst), m.Body...))
}

// boolean returns a field's truth, which lies in its header.
func (r *reader) boolean(typ byte) bool {
	if typ != wireTrue && typ != wireFalse {
		r.skip(typ)
	}
	return typ == wireTrue
}

func (m *ack) parse(b []byte) error {
	r, last := reader{b: b}, 0
	for typ, more := r.next(&last); more; typ, more = r.next(&last) {
		switch last {
		case 1:
			m.OK = r.boolean(typ)
		case 2:
			m.TimType = int8(r.integer(typ))
		case 3:
			if r.enter(typ) {
				m.Error = new(failure)
				in := 0
				for typ, more := r.next(&in); more; typ, more = r.next(&in) {
					switch in {
					case 1:
						m.Error.Code = int32(r.integer(typ))
					case 2:
						m.Error.Info = r.string(typ)
					default:
						r.skip(typ)
					}
				}
				r.leave()
			}
		case 4:
			t := r.integer(typ)
			m.T = &t
		case 5:
			m.N = r.string(typ)
		case 7:
			m.N2 = r.string(typ)
		default:
			r.skip(typ)
		}
	}
	return r.err
}

// peer is a client of the older system, as far as the wire goes.
type peer struct {
	t    *testing.T
	m    manner
	c    net.Conn
	r    io.Reader
	name string
}

const patience = time.Minute

// connect opens a connection without a login.
func connect(t *testing.T, addr string, m manner) *peer {
	t.Helper()
	c, br, _, err := ws.Dial(t.Context(), "ws://"+addr+"/tim")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	p := &peer{t: t, m: m, c: c, r: c}
	if br != nil {
		p.r = io.MultiReader(br, c)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	return p
}

// login opens a connection and logs in; frames may follow right behind.
func login(t *testing.T, addr string, m manner, name string) *peer {
	t.Helper()
	p := connect(t, addr, m)
	p.name = name
	p.sendAuth(&auth{Name: name, Pwd: "123", Domain: "tlnet.top", Resource: "probe", Termtyp: 1})
	if a := p.ack(); !a.OK || a.TimType != typeAuth || a.N != name || a.T == nil || a.N2 == "" {
		t.Fatalf("login of %s: %+v", name, a)
	}
	return p
}

// frame sends one frame, masked.
func (p *peer) frame(b ...byte) {
	p.t.Helper()
	if err := wsutil.WriteClientBinary(p.c, b); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) sendStruct(typ byte, compact []byte, fields map[string]any) {
	p.t.Helper()
	if p.m.json {
		b, err := json.Marshal(fields)
		if err != nil {
			p.t.Fatal(err)
		}
		p.frame(append([]byte{typ | jsonBit}, b...)...)
		return
	}
	p.frame(append(append([]byte{typ}, compact...), make([]byte, p.m.pad)...)...)
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func (p *peer) sendAuth(m *auth) {
	p.t.Helper()
	p.sendStruct(typeAuth, m.append(nil), map[string]any{
		"name": m.Name, "pwd": m.Pwd, "domain": m.Domain, "resource": m.Resource, "termtyp": m.Termtyp, "token": orNull(m.Token), "extend": nil,
	})
}

func (p *peer) sendVroom(op int32, room, account string, reqInt int64) {
	p.t.Helper()
	m := request{Rtype: op, Node: room, Node2: account, ReqInt: reqInt}
	var n any
	if reqInt != 0 {
		n = reqInt
	}
	p.sendStruct(typeVroom, m.append(nil), map[string]any{
		"rtype": op, "node": orNull(room), "node2": orNull(account), "reqInt": n, "reqInt2": nil, "reqStr": nil, "reqStr2": nil,
	})
}

// vroom sends a request and returns its answer.
func (p *peer) vroom(op int32, room, account string) *ack {
	p.t.Helper()
	p.sendVroom(op, room, account, 0)
	a := p.ack()
	if a.TimType != typeVroom || a.T == nil || *a.T != int64(op) {
		p.t.Fatalf("answer to op %d: %+v", op, a)
	}
	return a
}

// do is vroom for what must be granted.
func (p *peer) do(op int32, room, account string) string {
	p.t.Helper()
	a := p.vroom(op, room, account)
	if !a.OK || a.N == "" {
		p.t.Fatalf("op %d by %s: %+v", op, p.name, a.Error)
	}
	return a.N
}

func (p *peer) push(room string, dtype uint8, body []byte) {
	p.t.Helper()
	m := stream{VNode: room, Dtype: dtype, Body: body}
	fields := map[string]any{"id": nil, "vNode": room, "dtype": nil, "body": base64.StdEncoding.EncodeToString(body), "fromNode": nil}
	if dtype != 0 {
		fields["dtype"] = dtype
	}
	p.sendStruct(typeStream, m.append(nil), fields)
}

// read returns the next frame from the server, which must be one whole binary message.
func (p *peer) read() []byte {
	p.t.Helper()
	b, err := p.tryRead()
	if err != nil {
		p.t.Fatal(err)
	}
	return b
}

func (p *peer) tryRead() ([]byte, error) {
	for {
		h, err := ws.ReadHeader(p.r)
		if err != nil {
			return nil, err
		}
		b := make([]byte, h.Length)
		if _, err := io.ReadFull(p.r, b); err != nil {
			return nil, err
		}
		switch {
		case h.Masked || h.Rsv != 0 || !h.Fin:
			p.t.Fatalf("a frame that these clients do not take: %+v", h)
		case h.OpCode == ws.OpBinary:
			return b, nil
		case h.OpCode == ws.OpClose:
			code, _ := ws.ParseCloseFrameData(b)
			return nil, wsutil.ClosedError{Code: code}
		}
	}
}

func (p *peer) ack() *ack {
	p.t.Helper()
	b := p.read()
	if len(b) == 0 || b[0] != typeAck {
		p.t.Fatalf("an answer was expected, got %q", b)
	}
	return p.parseAck(b[1:])
}

func (p *peer) parseAck(b []byte) *ack {
	p.t.Helper()
	a := new(ack)
	var err error
	if p.m.json {
		err = json.Unmarshal(b, a)
	} else {
		err = a.parse(b)
	}
	if err != nil {
		p.t.Fatalf("%q: %v", b, err)
	}
	if !a.OK && a.Error == nil {
		p.t.Fatalf("a refusal without a reason: %q", b)
	}
	return a
}

// delivery reads a structured delivery.
func (p *peer) delivery() *stream {
	p.t.Helper()
	b := p.read()
	if len(b) == 0 || b[0] != typeStream {
		p.t.Fatalf("a delivery was expected, got %q", b)
	}
	if p.m.json {
		return parseDelivery(p.t, b[1:])
	}
	m := new(stream)
	if err := m.parse(b[1:]); err != nil {
		p.t.Fatal(err)
	}
	return m
}

// parseDelivery reads a delivery in JSON.
func parseDelivery(t *testing.T, b []byte) *stream {
	t.Helper()
	var in jsonStream
	if err := json.Unmarshal(b, &in); err != nil {
		t.Fatal(err)
	}
	return &stream{ID: in.ID, VNode: in.VNode, Dtype: in.Dtype, Body: in.Body, From: in.From}
}

// expect reads a delivery and compares it.
func (p *peer) expect(room string, dtype uint8, body []byte, from string) {
	p.t.Helper()
	if m := p.delivery(); m.VNode != room || m.Dtype != dtype || !bytes.Equal(m.Body, body) || m.From != from || m.ID == 0 {
		p.t.Fatalf("%s got %+v, want room %s dtype %d body %x from %s", p.name, m, room, dtype, body, from)
	}
}

// received reads a delivery from an account.
func (p *peer) received() *message {
	p.t.Helper()
	b := p.read()
	if len(b) == 0 || b[0] != typeMessage {
		p.t.Fatalf("a message was expected, got %q", b)
	}
	m := new(message)
	var err error
	if p.m.json {
		err = json.Unmarshal(b[1:], m)
	} else {
		err = m.parse(b[1:])
	}
	if err != nil {
		p.t.Fatal(err)
	}
	return m
}

// refusal reads a refusal of the given type.
func (p *peer) refusal(typ byte, want *failure) *ack {
	p.t.Helper()
	a := p.ack()
	if a.OK || a.TimType != int8(typ) || *a.Error != *want {
		p.t.Fatalf("%s got %+v %+v, want %d refused with %+v", p.name, a, a.Error, typ, want)
	}
	return a
}

// raw is a frame of type 95, 96 or 97, with its length in front as timjs writes it, or without.
func raw(typ byte, withLength bool, to string, separator byte, data string) []byte {
	b := []byte{typ}
	if withLength {
		b = binary.BigEndian.AppendUint32(b, uint32(1+4+len(to)+1+len(data)))
	}
	return append(append(append(b, to...), separator), data...)
}
