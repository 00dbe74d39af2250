package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/timedge/timedge/codec"
)

// DefaultServer is where a client connects when it is told nothing else.
const DefaultServer = "127.0.0.1:7400"

// ServerEnv names the environment variable that holds the servers, comma-separated, when Options name none.
const ServerEnv = "TIMEDGE_SERVER"

// Options say where to connect, as whom, and within which bounds. The zero value of every field is its default.
type Options struct {
	// Servers are tried in random order: host:port, tls://host:port, ws://host/path or wss://host/path. Default:
	// TIMEDGE_SERVER, comma-separated, otherwise 127.0.0.1:7400.
	Servers []string
	// Account is the name to authenticate as, at most 128 bytes; Token is the proof of it, empty where the
	// server asks for none.
	Account string
	Token   string
	// TokenSource takes the place of Token where tokens end: it is asked before each connection, and again when the server
	// warns that the token of the present one is about to end, which is then replaced on the open connection.
	TokenSource TokenSource
	// Instance tells this client from others of the account, over all its connections. A program that keeps it over a
	// restart goes on with the publishers of the one before, while the server keeps them (10 s by default). Default:
	// random.
	Instance uint64
	// OnState is told of connections made and lost, one call at a time and in order. It must not block, nor call the
	// client.
	OnState func(State)
	// Logger is told of connections made and lost. Default: nobody.
	Logger *slog.Logger

	// DialTimeout bounds one attempt with one server, from the first packet to its welcome. Default: 15 s, for which a
	// server that many clients come to at once may have them wait (codec.AnswerWithin): who gives up before comes again
	// behind all others. Of that a connection of TCP takes no more than 5 s, unless there is a Dialer.
	DialTimeout time.Duration
	// Silence is how long a server may say nothing before the connection is given up; from half of it on the client pings.
	// When five eighths of it are over another server is connected to, also by the same name where there is no other, and
	// used at once if the silent one has still said nothing. It is never more than twice the ping time that the server
	// names, which is the default. About 1 s has a frozen server found out soon. While servers are tried, the next one is
	// asked after half of it, beside one that has taken the connection and says nothing, and all of them again after
	// all of it; 5 s at most, which it is without it. Whoever answers first is used.
	Silence time.Duration
	// BackoffMin and BackoffMax bound the wait before going round the servers again: before the n-th round a random time
	// between 0 and min(BackoffMax, BackoffMin * 2^n). The first round after a connection is lost begins at once, with the
	// other servers. Defaults: 100 ms and 10 s.
	BackoffMin time.Duration
	BackoffMax time.Duration

	// ReceiveBuffer is how many bytes of frames are held for a subscription whose Next is not called, before its room's
	// policy acts: see Subscription. A burst may exceed it by three times as much for two seconds. Default: 4 MiB.
	ReceiveBuffer int
	// MaxPayload is the largest message that is taken, whatever a server allows. Default: 16 MiB.
	MaxPayload int
	// AssemblyBuffer is how many bytes of messages whose last piece has not come are held in all, at least one of
	// MaxPayload. Where it is too little the largest message of the publisher that holds the most is dropped, and told of
	// by a *StreamError. Default: 64 MiB.
	AssemblyBuffer int

	// TLS is for servers that are named with tls:// or wss://: authorities, certificates. Default: the system's
	// authorities. It is not less than TLS 1.3. Sessions are resumed, on any node that has the same certificate, by a cache
	// of the client's own unless there is a ClientSessionCache.
	TLS *tls.Config
	// Dialer opens a connection to host:port, on which TLS and WebSocket follow if the server's name says so. Default:
	// TCP, through the HTTP proxy that the environment names (HTTPS_PROXY, NO_PROXY).
	Dialer func(ctx context.Context, addr string) (net.Conn, error)
}

// withDefaults returns o with its empty fields filled in. The error names every field that is wrong.
func (o Options) withDefaults() (Options, error) {
	if len(o.Servers) == 0 {
		o.Servers = []string{DefaultServer}
		if env := os.Getenv(ServerEnv); env != "" {
			o.Servers = strings.Split(env, ",")
		}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Dialer == nil {
		o.Dialer = dialTCP
	}
	if o.TLS = o.TLS.Clone(); o.TLS == nil {
		o.TLS = &tls.Config{}
	}
	if o.TLS.ClientSessionCache == nil {
		o.TLS.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	setDefault(&o.DialTimeout, codec.AnswerWithin)
	setDefault(&o.BackoffMin, 100*time.Millisecond)
	setDefault(&o.BackoffMax, 10*time.Second)
	setDefault(&o.ReceiveBuffer, 4<<20)
	setDefault(&o.MaxPayload, codec.DefaultMaxPayload)
	setDefault(&o.AssemblyBuffer, 64<<20)

	var errs []error
	servers := make([]string, len(o.Servers))
	for i, s := range o.Servers {
		if servers[i] = strings.TrimSpace(s); servers[i] == "" {
			errs = append(errs, fmt.Errorf("client: server %d of %d is empty", i+1, len(servers)))
		} else if _, err := parseAddress(servers[i]); err != nil {
			errs = append(errs, err)
		}
	}
	o.Servers = servers
	if len(o.Account) > codec.MaxAccount {
		errs = append(errs, fmt.Errorf("client: account longer than %d bytes", codec.MaxAccount))
	}
	if o.Token != "" && o.TokenSource != nil {
		errs = append(errs, errors.New("client: a Token and a TokenSource"))
	}
	if len(o.Token) > maxToken {
		errs = append(errs, fmt.Errorf("client: token longer than %d bytes", maxToken))
	}
	if o.DialTimeout < 0 || o.Silence < 0 || o.BackoffMin < 0 || o.BackoffMax < o.BackoffMin {
		errs = append(errs, errors.New("client: time-outs must not be negative, nor BackoffMax below BackoffMin"))
	}
	if o.ReceiveBuffer < 0 || o.MaxPayload < 0 || o.AssemblyBuffer < 0 {
		errs = append(errs, errors.New("client: ReceiveBuffer, MaxPayload and AssemblyBuffer must not be negative"))
	}
	return o, errors.Join(errs...)
}

// maxToken leaves room for the rest of a hello within codec.MaxHandshakeFrame.
const maxToken = codec.MaxHandshakeFrame - codec.MaxAccount - 64

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// RoomOptions are the wishes for a new room. Zero in any field asks for the server's default.
type RoomOptions struct {
	Policy         Policy        // what happens to a subscriber that falls behind
	Idle           time.Duration // the room ends after so long without a push
	Expire         time.Duration // the room ends after so long in any case; 0: never
	QueueBytes     int64         // bound on what is queued for one subscriber
	QueueAge       time.Duration // bound on the age of what is queued for one subscriber
	MaxSubscribers int           // at once

	// History is how far back in each stream those begin who join late.
	History History
	// IdleUnlessOccupied says that the room does not end by Idle while it has a subscriber.
	IdleUnlessOccupied bool
}

// History is what a server keeps of each stream of a room for those who join late, beyond the newest group: the zero
// value is nothing. They begin at the first message within it at which a decoder can start: any in a stream without key
// messages, as in a chat. It is kept in memory, as far as the server has some to spare, and while the publisher is
// there.
type History struct {
	Bytes int64         // of messages, 20 bytes more for each counted; 0: no bound
	Age   time.Duration // 0: no bound; with both, the nearer one counts
}

// PublishOptions are the wishes of a publisher.
type PublishOptions struct {
	Counts bool // tell how many are in the room, through Publisher.Counts
}

// SubscribeOptions are the wishes of a subscriber.
type SubscribeOptions struct {
	NoEcho bool // leave out what this client itself publishes
	Counts bool // send Count events
	// From is where to go on, as Subscription.Positions told it to a program that has been restarted since: every stream
	// goes on behind it, or with a Gap. Streams that it does not name begin as for anybody who joins.
	From []Position
}
