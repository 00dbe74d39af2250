package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/timedge/timedge/codec"
)

// tokens is a source that returns token-1, token-2 ..., or an error where fail says so.
type tokens struct {
	mu    sync.Mutex
	asked int
	fail  map[int]error
}

func (s *tokens) next(context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if err := s.fail[s.asked]; err != nil {
		return "", err
	}
	return fmt.Sprintf("token-%d", s.asked), nil
}

// logged returns options whose log goes into the buffer.
func logged(o Options) (Options, *bytes.Buffer) {
	b := new(bytes.Buffer)
	o.Logger = slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return o, b
}

func wantToken(t *testing.T, got []byte, want string) {
	t.Helper()
	if string(got) != want {
		t.Fatalf("token %q instead of %q", got, want)
	}
}

// A client with a token source stays on its connection when its token is about to end, and comes back with another one
// if that fails.
func TestTokenSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, source := newFake(t), &tokens{fail: map[int]error{3: errors.New("the issuer is busy")}}
		o, log := logged(f.options())
		o.Token, o.TokenSource = "", source.next
		c, p := f.connect(o)
		wantToken(t, p.hello.Token, "token-1")
		if p.hello.Caps != codec.CapToken {
			t.Errorf("capabilities %#x", p.hello.Caps)
		}

		p.send(&codec.Expiring{Code: codec.CodeTokenExpired, WithinMillis: 60_000})
		m := want[*codec.Token](p)
		wantToken(t, m.Token, "token-2")
		p.send(&codec.Refused{Req: m.Req, Code: codec.CodeBadToken}) // then the source fails once, and its next token is good
		m = want[*codec.Token](p)
		wantToken(t, m.Token, "token-4")
		p.send(&codec.OK{Req: m.Req})
		stat := background(func() error { _, err := c.Stat(t.Context(), room); return err })
		p.send(&codec.Info{Req: want[*codec.Stat](p).Req, Room: room})
		if err := <-stat; err != nil {
			t.Fatal(err)
		}

		for i, code := range []codec.Code{codec.CodeTokenExpired, codec.CodeTokenRevoked, codec.CodeAuthFailed} {
			p.send(&codec.Error{Code: code})
			synctest.Wait()
			p.close()
			p = f.accept()
			wantToken(t, p.hello.Token, fmt.Sprintf("token-%d", 5+i))
		}
		c.Close(context.Background())
		if strings.Contains(log.String(), "token-") || !strings.Contains(log.String(), "the issuer is busy") {
			t.Errorf("the log is\n%s", log)
		}
	})
}

// The warning and the end of the connection may meet a source that takes its time: it is told to stop.
func TestTokenSourceThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, end := range map[string]func(c *Client, p *peer){
			"closed by the caller": func(c *Client, _ *peer) { c.Close(context.Background()) },
			"connection breaks":    func(_ *Client, p *peer) { p.close() },
			"too late":             func(*Client, *peer) {},
		} {
			f := newFake(t)
			o := f.options()
			asked, stopped := 0, make(chan error, 1)
			o.Token, o.TokenSource = "", func(ctx context.Context) (string, error) {
				if asked++; asked != 2 {
					return "token", nil
				}
				<-ctx.Done()
				stopped <- ctx.Err()
				return "", ctx.Err()
			}
			c, p := f.connect(o)
			p.send(&codec.Expiring{Code: codec.CodeTokenExpired, WithinMillis: 5000})
			synctest.Wait()
			at := time.Now()
			end(c, p)
			if err := <-stopped; err == nil || time.Since(at) > 5*time.Second {
				t.Errorf("%s: stopped with %v after %v", name, err, time.Since(at))
			}
			if name == "connection breaks" {
				f.accept()
			}
			c.Close(context.Background())
		}
	})
}

// Without a source there is only a word in the log, and the server's last word is final, as it is for who is not let in
// at all.
func TestTokenThatEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		o, log := logged(f.options())
		c, p := f.connect(o)
		p.send(&codec.Expiring{Code: codec.CodeTokenExpired, WithinMillis: 60_000})
		p.send(&codec.Error{Code: codec.CodeTokenExpired})
		synctest.Wait() // the client has read it
		p.close()
		if err := c.Push(t.Context(), room, 1, nil); !errors.Is(err, &ConnectionError{Code: codec.CodeTokenExpired}) {
			t.Errorf("push: %v", err)
		}
		c.Close(context.Background())
		if s := log.String(); !strings.Contains(s, "will close") || !strings.Contains(s, "1m0s") ||
			strings.Contains(s, "secret") {
			t.Errorf("the log is\n%s", s)
		}

		o = f.options()
		o.Token, o.TokenSource = "", new(tokens).next
		dialed := background(func() error { _, err := Dial(t.Context(), o); return err })
		p = <-f.conns
		p.readHello()
		p.write(codec.AppendServerPreface(nil, 1))
		p.send(&codec.Error{Code: codec.CodeAuthFailed})
		p.close()
		if err := <-dialed; !errors.Is(err, &ConnectionError{Code: codec.CodeAuthFailed}) {
			t.Errorf("dial: %v", err)
		}
		o.Token = "another"
		if _, err := Dial(t.Context(), o); err == nil {
			t.Error("a token and a source are taken together")
		}
	})
}
