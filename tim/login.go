package tim

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// credentials are what a client proves itself with: an account and, unless the engine is open, its token.
type credentials struct{ account, token string }

// credentialsOf checks what can be checked without the engine.
func (g *Gateway) credentialsOf(m *auth) (credentials, *failure) {
	if m.Token != "" {
		c, ok := g.tokens.redeem(m.Token, time.Now())
		if !ok {
			return c, failToken
		}
		return c, nil
	}
	if !isAccount(m.Name) {
		return credentials{}, failDenied
	}
	c := credentials{account: m.Name}
	if !g.cfg.Open {
		c.token = m.Pwd
	}
	return c, nil
}

// isAccount reports whether these clients can name an account: what separates an account from data must not occur in
// it.
func isAccount(name string) bool {
	return name != "" && name != codec.Everyone && len(name) <= maxAddress && utf8.ValidString(name) &&
		!strings.ContainsAny(name, "|\x00") && strings.IndexByte(name, binarySeparator) < 0
}

// receiveBuffer bounds what a connection of the SDK holds for a client that does not read, bytes. What waits longer
// waits in the engine, where the room's policy applies.
const receiveBuffer = 256 << 10

// dial opens the engine's side of a connection; its errors are failures.
func (g *Gateway) dial(ctx context.Context, who credentials, remote netip.AddrPort) (*client.Client, *failure) {
	c, err := client.Dial(ctx, client.Options{
		Servers: []string{"engine:0"}, Account: who.account, Token: who.token, ReceiveBuffer: receiveBuffer,
		Dialer: func(ctx context.Context, _ string) (net.Conn, error) { return g.cfg.Dial(ctx, remote) },
	})
	if err == nil {
		return c, nil
	}
	ce, is := errors.AsType[*client.ConnectionError](err)
	switch {
	case is && ce.Code == codec.CodeTooManyConns:
		return nil, failFull
	case !is || ce.Retry():
		return nil, failLoad
	}
	return nil, failDenied
}

// number is what clients are told of the node: any number, the same for all connections to it.
func (g *Gateway) number() int64 { return int64(xxhash.Sum64String(g.cfg.Node) >> 33) }

// answerCall answers register and token.
func (g *Gateway) answerCall(ctx context.Context, typ byte, isJSON bool, body []byte, remote netip.AddrPort) *ack {
	a := &ack{TimType: int8(typ)}
	var m auth
	switch {
	case typ != typeRegister && typ != typeToken:
		a.Error = failInterface
	case decode(body, isJSON, &m) != nil:
		a.Error = failFormat
	case !isAccount(m.Name):
		a.Error = failAccount
	default:
		m.Token = ""
		who, _ := g.credentialsOf(&m)
		c, f := g.dial(ctx, who, remote)
		if c != nil {
			_ = c.Close(context.Background())
		}
		g.answerKnown(a, typ, who, f)
	}
	a.OK = a.Error == nil
	return a
}

// answerKnown answers register and token when the engine has said what it thinks of who.
func (g *Gateway) answerKnown(a *ack, typ byte, who credentials, f *failure) {
	switch {
	case typ == typeRegister && g.cfg.Open && f == nil: // accounts need no making
		a.N = who.account
	case typ == typeRegister && f == nil:
		a.Error = failExists
	case typ == typeRegister: // the operator makes accounts
		a.Error = f
	case f == failDenied:
		a.Error = failPassword
	case f != nil:
		a.Error = f
	default:
		token, ok := g.tokens.issue(who, time.Now())
		if !ok {
			a.Error = failLoad
			return
		}
		a.N, a.T = strconv.FormatInt(token, 10), &token // some clients read one, some the other
	}
}

const (
	tokenLife = 10 * time.Second
	maxTokens = 1 << 16
)

// tokens are what TOKEN gave out and nobody has used. They are this process's own: a login by token goes to the node
// that gave it.
type tokens struct {
	mu    sync.Mutex
	given map[string]token
	order []string // oldest first, with some that are used
}

type token struct {
	who  credentials
	ends time.Time
}

// issue makes a token for who: a number that fits a JavaScript number, so that no client garbles it. False: there are
// too many.
func (t *tokens) issue(who credentials, now time.Time) (int64, bool) {
	var b [8]byte
	rand.Read(b[:]) // never fails
	number := int64(binary.BigEndian.Uint64(b[:]) >> 11)
	text := strconv.FormatInt(number, 10)
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.order) > 0 {
		old, there := t.given[t.order[0]]
		if there && now.Before(old.ends) {
			break
		}
		delete(t.given, t.order[0])
		t.order = t.order[1:]
	}
	if len(t.order) >= maxTokens {
		return 0, false
	}
	if t.given == nil {
		t.given = make(map[string]token)
	}
	t.given[text] = token{who, now.Add(tokenLife)}
	t.order = append(t.order, text)
	return number, true
}

// redeem returns whom a token is for. It is good once.
func (t *tokens) redeem(text string, now time.Time) (credentials, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	is, there := t.given[text]
	delete(t.given, text)
	return is.who, there && now.Before(is.ends)
}
