package tim

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// conn is one connection of a client. Its frames are handled one after the other, in the order in which they came.
type conn struct {
	g      *Gateway
	c      net.Conn
	out    *outbox
	id     uint64
	remote netip.AddrPort
	ctx    context.Context // ends with the connection
	cancel context.CancelFunc
	pumps  sync.WaitGroup                // of subscriptions and the inbox
	engine atomic.Pointer[client.Client] // client, for whoever looks at what it holds
	framed atomic.Int64                  // bytes of frame
	moved  atomic.Int64                  // bytes read and written

	// The gateway's watch's.
	seen   int64 // moved, at its newest look
	cutOff bool

	// Set at the login, and not changed afterwards.
	json   bool // answers and deliveries are JSON
	who    tid  // Node is the account
	client *client.Client

	// The reading goroutine's.
	in       wsutil.Reader
	frame    []byte // the frame being read, and handled
	gathered int    // bytes of it that g.gathering counts
	subs     map[codec.RoomID]*subscription
	pubs     map[codec.RoomID]*publication
	to       map[string]*publication // by recipient
}

// maxBeforeLogin is the largest frame before the login, bytes.
const maxBeforeLogin = 8 << 10

// keptFrame is how large a buffer a connection keeps between frames, bytes.
const keptFrame = 64 << 10

func newConn(g *Gateway, c net.Conn, buffered *bufio.Reader, remote netip.AddrPort) *conn {
	ctx, cancel := context.WithCancel(context.Background())
	k := &conn{
		g: g, c: c, out: newOutbox(), id: g.nextID.Add(1), remote: remote, ctx: ctx, cancel: cancel,
		subs: make(map[codec.RoomID]*subscription), pubs: make(map[codec.RoomID]*publication), to: make(map[string]*publication),
	}
	k.in = wsutil.Reader{
		Source: &timed{Conn: c, r: buffered, idle: g.cfg.Idle}, State: ws.StateServerSide,
		OnIntermediate: func(h ws.Header, r io.Reader) error { return k.control(h, r) },
	}
	return k
}

// timed reads a connection whose client must say something every so often.
type timed struct {
	net.Conn
	r    *bufio.Reader
	idle time.Duration
	set  time.Time // when the deadline was set
}

func (t *timed) Read(b []byte) (int, error) {
	if t.r.Buffered() == 0 {
		if now := time.Now(); now.Sub(t.set) > t.idle/16 {
			t.set = now
			if err := t.SetReadDeadline(now.Add(t.idle)); err != nil {
				return 0, err
			}
		}
	}
	return t.r.Read(b)
}

// serve handles frames until the connection is over, and leaves nothing behind.
func (c *conn) serve() {
	c.g.stats.opened.Add(1)
	log := c.g.log.With().Uint64("tim_id", c.id).Stringer("remote", c.remote).Logger()
	log.Debug().Msg("tim connection opened")
	var writer sync.WaitGroup
	writer.Go(func() {
		c.out.write(c.c, func(n int) { c.moved.Add(int64(n)); c.g.stats.bytesOut.Add(uint64(n)) })
	})
	late := time.AfterFunc(c.g.cfg.Login, func() { c.hangUp(ws.StatusNormalClosure) })
	err := c.run(late)
	late.Stop()
	if c.client == nil {
		c.g.pending.Add(-1)
	}
	c.hangUp(statusOf(err))
	c.cancel()
	if c.client != nil {
		_ = c.client.Close(context.Background())
	}
	c.pumps.Wait()
	writer.Wait()
	c.g.gathering.Add(-int64(c.gathered))
	c.g.stats.closed.Add(1)
	log.Debug().AnErr("reason", err).Str("account", c.who.Node).Msg("tim connection closed")
}

// run reads and handles frames.
func (c *conn) run(late *time.Timer) error {
	for {
		frame, err := c.read()
		if err != nil {
			return err
		}
		if len(frame) == 0 {
			continue
		}
		c.g.stats.framesIn.Add(1)
		typ, isJSON, body := split(frame)
		if c.client == nil {
			if err := c.beforeLogin(typ, isJSON, body); err != nil {
				return err
			}
			if c.client != nil {
				late.Stop()
				c.g.pending.Add(-1)
			}
			continue
		}
		if err := c.handle(typ, isJSON, frame); err != nil {
			return err
		}
	}
}

var (
	errOver     = errors.New("tim: the client ended the connection")
	errNoLogin  = errors.New("tim: a frame other than a login came before it")
	errTooLarge = errors.New("tim: a frame is too large")
	errMemory   = errors.New("tim: unfinished frames take all the memory there is for them")
)

// statusOf is what a client is told of why its connection ends.
func statusOf(err error) ws.StatusCode {
	var pe ws.ProtocolError
	switch {
	case errors.Is(err, errTooLarge), errors.Is(err, wsutil.ErrFrameTooLarge):
		return ws.StatusMessageTooBig
	case errors.Is(err, errMemory):
		return ws.StatusInternalServerError
	case errors.As(err, &pe):
		return ws.StatusProtocolError
	}
	return ws.StatusNormalClosure
}

// hangUp says goodbye and ends the connection when what waits has gone out, or soon if it does not. Any goroutine.
func (c *conn) hangUp(status ws.StatusCode) {
	c.out.end(ws.OpClose, ws.NewCloseFrameBody(status, ""))
	now := time.Now()
	_ = c.c.SetWriteDeadline(now.Add(closeWithin))
	_ = c.c.SetReadDeadline(now.Add(closeWithin))
}

// cut ends the connection at once; what waits is dropped. Any goroutine.
func (c *conn) cut() {
	c.out.close()
	_ = c.c.Close()
}

// closeWithin is how long a client has to take the last words.
const closeWithin = time.Second

// read returns the next frame, which is good until the next call; WebSocket's own frames are answered on the way. Text
// frames are taken like binary ones.
func (c *conn) read() ([]byte, error) {
	if cap(c.frame) > keptFrame {
		c.g.gathering.Add(-int64(c.gathered))
		c.frame, c.gathered = nil, 0
		c.framed.Store(0)
	}
	c.frame = c.frame[:0]
	limit := c.g.cfg.MaxMessage
	if c.client == nil {
		limit = min(limit, maxBeforeLogin)
	}
	c.in.MaxFrameSize = int64(limit)
	h, err := c.in.NextFrame()
	if err != nil {
		return nil, err
	}
	if h.OpCode.IsControl() {
		return nil, c.control(h, &c.in)
	}
	for {
		if len(c.frame) == cap(c.frame) {
			if err := c.grow(limit); err != nil {
				return nil, err
			}
		}
		n, err := c.in.Read(c.frame[len(c.frame):cap(c.frame)])
		c.frame = c.frame[:len(c.frame)+n]
		c.moved.Add(int64(n))
		switch {
		case len(c.frame) > limit:
			return nil, errTooLarge
		case err == io.EOF:
			c.g.stats.bytesIn.Add(uint64(len(c.frame)))
			return c.frame, nil
		case err != nil:
			return nil, err
		}
	}
}

// grow makes room for more of a frame as it comes: what a header promises takes no memory.
func (c *conn) grow(limit int) error {
	size := min(max(2*cap(c.frame), 512), limit+1)
	if extra := size - keptFrame - c.gathered; extra > 0 {
		if c.g.gathering.Add(int64(extra)) > int64(c.g.cfg.Memory) {
			c.g.gathering.Add(-int64(extra))
			return errMemory
		}
		c.gathered += extra
	}
	c.frame = append(make([]byte, 0, size), c.frame...)
	c.framed.Store(int64(size))
	return nil
}

// control answers WebSocket's own frames.
func (c *conn) control(h ws.Header, r io.Reader) error {
	var b [125]byte // as much as a control frame can have
	payload := b[:h.Length]
	if _, err := io.ReadFull(r, payload); err != nil {
		return err
	}
	switch h.OpCode {
	case ws.OpPing:
		c.out.control(ws.OpPong, payload)
	case ws.OpClose:
		return errOver
	}
	return nil
}

// beforeLogin handles a frame of a connection without a login.
func (c *conn) beforeLogin(typ byte, isJSON bool, body []byte) error {
	switch typ {
	case typePing: // not answered: timjs sends one right behind its login
		return nil
	case typeAuth:
	default:
		return errNoLogin
	}
	var m auth
	if decode(body, isJSON, &m) != nil {
		c.refuse(typeAuth, failFormat, nil, "", isJSON)
		return nil
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.g.cfg.Request)
	defer cancel()
	who, f := c.g.credentialsOf(&m)
	if f == nil {
		c.client, f = c.g.dial(ctx, who, c.remote)
	}
	if f != nil {
		c.g.stats.logins[1].Add(1)
		c.refuse(typeAuth, f, nil, "", isJSON)
		return nil
	}
	c.engine.Store(c.client)
	c.g.stats.logins[0].Add(1)
	c.json = isJSON
	c.who = tid{Node: who.account, Domain: m.Domain, Resource: m.Resource, Termtyp: m.Termtyp}
	in, _ := c.openInbox(ctx) // before the answer: from then on the account can be sent to. If it fails, pumpInbox goes on trying
	number := c.g.number()
	c.answer(&ack{OK: true, TimType: typeAuth, T: &number, N: who.account, N2: strconv.FormatUint(c.id, 10)})
	c.pumps.Go(func() { c.pumpInbox(in) })
	return nil
}

// handle does what a frame of a connection with a login asks for. An error ends the connection.
func (c *conn) handle(typ byte, isJSON bool, frame []byte) error {
	body := frame[1:]
	switch typ {
	case typePing:
		c.out.answer([]byte{typePing})
	case typeAuth:
		c.answer(&ack{OK: true, TimType: typeAuth})
	case typeVroom:
		c.vroom(isJSON, body)
	case typeStream:
		c.push(isJSON, body)
	case typeBigBinaryStream:
		c.pushRaw(frame)
	case typeMessage:
		c.message(isJSON, body)
	case typeBigString, typeBigBinary:
		c.big(typ, frame)
	case typeOfflineMsg: // there are none, as nothing is stored; some wait for this before they subscribe
		c.out.answer([]byte{typeOfflineMsgEnd})
	case typeAck, typeBroadPresence, typePresence:
	case typeLogout:
		return errOver
	case typeRegister, typeToken, typePullMessage, typeBusiness, typeNodes, typeRevoke, typeBurn:
		c.refuse(typ, failInterface, nil, "", c.json)
	default:
		c.refuse(typ, failParameter, nil, "", c.json)
	}
	return nil
}

// answer sends an answer in the connection's encoding.
func (c *conn) answer(a *ack) {
	c.out.answer(appendAck([]byte{typeAck}, a, c.json))
}

// refuse sends an answer that says no, always with the reason: callers' code reads it without a look whether there is
// one.
func (c *conn) refuse(typ byte, f *failure, t *int64, n string, isJSON bool) {
	c.g.stats.refused(f)
	c.out.answer(appendAck([]byte{typeAck}, &ack{TimType: int8(typ), Error: f, T: t, N: n}, isJSON))
}

func appendAck(dst []byte, a *ack, isJSON bool) []byte {
	if !isJSON {
		return a.append(dst)
	}
	b, _ := json.Marshal(a) // of numbers and strings
	return append(dst, b...)
}
