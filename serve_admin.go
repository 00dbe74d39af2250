//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/timedge/timedge/admin"
	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/web"
)

// operated is the server as its operators have it: admin.Server.
type operated struct {
	*engine.Engine
	reloader *reloader
	began    time.Time
}

// adminPages are the API, the console that is its client, and the engine's own pages.
func adminPages(e *engine.Engine, r *reloader) http.Handler {
	mux := http.NewServeMux()
	o := &operated{e, r, time.Now()}
	e.Operated(admin.OfThisNode(o))
	api := admin.New(o, r.token.get)
	mux.Handle("/api/", api)
	mux.Handle("/debug/", api)
	mux.Handle("/console/", web.Console())
	mux.Handle("/", e.Handler())
	return mux
}

// Overview implements admin.Server.
func (o *operated) Overview() admin.Overview {
	v := o.Engine.Overview()
	now := time.Now()
	v.Version, v.UptimeMillis, v.ClockMillis = version, now.Sub(o.began).Milliseconds(), now.UnixMilli()
	return v
}

// Figures implements admin.Server.
func (o *operated) Figures() admin.Figures {
	f := o.Engine.Figures()
	f.Overview = o.Overview()
	return f
}

// Rooms implements admin.Server.
func (o *operated) Rooms() []admin.Room { return o.RoomList() }

// asOwner does something to a room as its owner, as a client within the process would.
func (o *operated) asOwner(ctx context.Context, action string, id codec.RoomID, by string, do func(*client.Client) error) error {
	owner, err := o.OwnerOf(ctx, id)
	if err != nil {
		return err
	}
	from, _ := netip.ParseAddrPort(by)
	c, err := client.Dial(ctx, client.Options{
		Servers: []string{"within:0"}, Account: owner,
		Dialer: func(context.Context, string) (net.Conn, error) { return o.ConnectAs(from) },
	})
	if err != nil {
		return err
	}
	defer c.Close(context.Background())
	if err = do(c); err != nil {
		if refused, ok := errors.AsType[*client.RefusedError](err); ok {
			if refused.Code == codec.CodeRoomUnknown { // it has ended since
				return fmt.Errorf("room %v: %w", id, admin.ErrNotFound)
			}
			return fmt.Errorf("%w: %s", admin.ErrRefused, refused.Error())
		}
		return err
	}
	o.Operator(action, by).Stringer("room", id).Str("owner", owner).Send()
	return nil
}

// CloseRoom implements admin.Server.
func (o *operated) CloseRoom(ctx context.Context, id codec.RoomID, by string) error {
	return o.asOwner(ctx, "room_closed", id, by, func(c *client.Client) error { return c.Remove(ctx, id) })
}

// Grant implements admin.Server.
func (o *operated) Grant(ctx context.Context, id codec.RoomID, account, by string) error {
	return o.asOwner(ctx, "room_granted", id, by, func(c *client.Client) error { return c.Grant(ctx, id, account) })
}

// Revoke implements admin.Server.
func (o *operated) Revoke(ctx context.Context, id codec.RoomID, account, by string) error {
	return o.asOwner(ctx, "room_revoked", id, by, func(c *client.Client) error { return c.Revoke(ctx, id, account) })
}

// SetLogLevel implements admin.Server.
func (o *operated) SetLogLevel(level, by string) error {
	if l, err := zerolog.ParseLevel(level); err != nil || l < zerolog.DebugLevel || l > zerolog.ErrorLevel {
		return fmt.Errorf("%w: the level is to be debug, info, warn or error", admin.ErrRefused)
	}
	setLogLevel(level)
	o.Operator("log_level", by).Str("level_set", level).Send()
	return nil
}

// Reload implements admin.Server.
func (o *operated) Reload(by string) (admin.Reloaded, error) {
	taken, restart, err := o.reloader.reload("operator")
	if err != nil {
		return admin.Reloaded{}, err
	}
	o.Operator("reload", by).Strs("settings", taken).Send()
	return admin.Reloaded{Taken: append([]string{}, taken...), Restart: append([]string{}, restart...)}, nil
}

// adminToken is the token of operators, read from a file.
type adminToken struct {
	text atomic.Pointer[string]
}

// minToken is how long one must be: what people think up is shorter.
const minToken = 16

// readAdminToken returns what the file says; nothing without a file.
func readAdminToken(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("--admin-token-file: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if len(token) < minToken || strings.ContainsAny(token, " \t\n") {
		return "", fmt.Errorf("--admin-token-file: %s is to hold one word of %d characters or more: openssl rand -hex 32", path, minToken)
	}
	return token, nil
}

func (t *adminToken) get() string {
	if p := t.text.Load(); p != nil {
		return *p
	}
	return ""
}
