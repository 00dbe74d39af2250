package engine

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/auth"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/internal/clock"
	"github.com/timedge/timedge/internal/record"
	"github.com/timedge/timedge/room"
)

// Config is all that can be set. Zero values mean the defaults.
type Config struct {
	// TCP addresses for clients that speak the protocol plainly, within TLS, within WebSocket, or within WebSocket within
	// TLS. With ProxyOption behind it an address is for balancers, which begin with a PROXY header (version 1 or 2).
	// Default: Listen 127.0.0.1:7400.
	Listen, ListenTLS, ListenWS, ListenWSS []string

	// TCP addresses where browsers get Pages, and connect by WebSocket, plainly or within TLS. Pages must be there if one
	// is given. Default: none.
	ListenWeb, ListenWebTLS []string
	Pages                   http.Handler
	WebIfFree               bool // an address of ListenWeb that another has is left out and logged, and no error

	TLS       *tls.Config    // of ListenTLS, ListenWSS and ListenWebTLS: TLS 1.3 at least; it needs a certificate
	ProxyFrom []netip.Prefix // the balancers' networks; nobody else may connect to addresses for them
	Origins   Origins        // of pages in browsers that may connect by WebSocket

	Node  string // the node's name; default host name
	Loops int    // event loops; default one per processor that Go may use
	Log   zerolog.Logger
	Audit *zerolog.Logger // who changed what and who was refused, a line each; nil: nobody keeps it

	Metrics []prometheus.Collector // of the caller's, shown on /metrics with the engine's

	// Auth says who clients are; nil: whoever they say (auth "open"), which is for loopback addresses unless InsecureOpen.
	// The caller closes it after Shutdown.
	Auth         auth.Authenticator
	InsecureOpen bool
	Guests       bool // clients without account and token may subscribe, and nothing else

	Clock clock.Clock // default clock.System

	Rooms   room.Config    // bounds of rooms; Draw and Clustered are the engine's
	Cluster *ClusterConfig // nil: a node on its own

	HelloTimeout  time.Duration // from the connection to a whole hello; default 2 s
	Ping          time.Duration // silence after which a side pings; after twice as long it closes; default 20 s
	MaxConns      int           // connections at once; default 20,000, or what the descriptor limit leaves if that is less
	MaxHandshakes int           // connections without a hello at once; default 4,096
	ReadBuffer    int           // bytes one read may take; default 1 MiB
	SendBuffer    int           // bytes the kernel takes for a client beyond what is on its way to it; default 256 KiB
	QueueSession  int           // bytes queued for one session over all its rooms; default 64 MiB
	// bytes that clients make the process hold before those who hold most have to give up something; default 1 GiB
	MemoryBound int64
	MaxSubsPer  int           // subscriptions of one session; default 4,096
	MaxPubsPer  int           // rooms one session publishes into; default 4,096
	DrainSpread time.Duration // clients told to go are cut off spread over so long; default 1 s
	// before a session's token ends the client is warned so early, later if the token is short; default 1 min
	TokenWarning time.Duration
	Limits       Limits // on how much in a time
}

// helloTimeout is Config.HelloTimeout by default.
const helloTimeout = 2 * time.Second

// Check returns all that is wrong with a configuration, as far as it can be told without listening.
func (c Config) Check() error { return c.fill() }

func (c *Config) fill() error {
	if len(c.Listen)+len(c.ListenTLS)+len(c.ListenWS)+len(c.ListenWSS) == 0 {
		c.Listen = []string{"127.0.0.1:7400"}
	}
	if c.Node == "" {
		c.Node, _ = os.Hostname()
	}
	if c.Clock == nil {
		c.Clock = clock.System
	}
	def(&c.Loops, runtime.GOMAXPROCS(0))
	def(&c.HelloTimeout, helloTimeout)
	def(&c.Ping, 20*time.Second)
	def(&c.MaxConns, min(20_000, descriptors()-spareDescriptors))
	def(&c.MaxHandshakes, 4096)
	def(&c.ReadBuffer, 1<<20)
	def(&c.SendBuffer, 256<<10)
	def(&c.QueueSession, 64<<20)
	def(&c.MemoryBound, 1<<30)
	def(&c.Rooms.CacheAll, int(min(512<<20, c.MemoryBound/2)))
	def(&c.Rooms.CacheRoom, int(min(64<<20, c.MemoryBound/4)))
	def(&c.Rooms.Window, int(min(4<<20, c.MemoryBound/16)))
	def(&c.MaxSubsPer, 4096)
	def(&c.MaxPubsPer, 4096)
	def(&c.DrainSpread, time.Second)
	def(&c.TokenWarning, time.Minute)

	errs := []error{c.Limits.fill(c.MaxConns)}
	bad := func(cond bool, format string, args ...any) {
		if cond {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(c.Loops < 1 || c.Loops > 256, "loops: %d is not within 1 to 256", c.Loops)
	bad(c.HelloTimeout < 10*time.Millisecond, "hello time-out: %v is below 10 ms", c.HelloTimeout)
	bad(c.Ping < 100*time.Millisecond, "ping: %v is below 100 ms", c.Ping)
	bad(c.MaxConns < 1, "connections: %d is below 1", c.MaxConns)
	bad(c.ReadBuffer < codec.MaxFrame, "read buffer: %d is below a frame, %d", c.ReadBuffer, codec.MaxFrame)
	bad(len(c.ListenTLS)+len(c.ListenWSS)+len(c.ListenWebTLS) > 0 && c.TLS == nil,
		"TLS: an address is given, but no certificate")
	bad(len(c.ListenWeb)+len(c.ListenWebTLS) > 0 && c.Pages == nil, "pages: an address is given, but none to serve")
	all := slices.Concat(c.Listen, c.ListenTLS, c.ListenWS, c.ListenWSS, c.ListenWeb, c.ListenWebTLS)
	behind := slices.ContainsFunc(all, func(a string) bool { return strings.HasSuffix(a, ProxyOption) })
	bad(behind && len(c.ProxyFrom) == 0, "PROXY: an address is for balancers, but their networks are not given")
	bad(!behind && len(c.ProxyFrom) > 0, "PROXY: networks of balancers are given, but no address is for them (ADDR%s)",
		ProxyOption)
	if c.TLS != nil {
		c.TLS = c.TLS.Clone()
		c.TLS.MinVersion = max(c.TLS.MinVersion, tls.VersionTLS13)
		c.TLS = record.Config(c.TLS)
	}
	errs = append(errs, c.Origins.check())
	bad(c.MemoryBound < 16<<20, "memory bound: %d is below 16 MiB", c.MemoryBound)
	bad(c.Node == "" || len(c.Node) > codec.MaxAccount, "node name: 1 to %d bytes", codec.MaxAccount)
	if (c.Auth == nil || auth.IsOpen(c.Auth)) && !c.InsecureOpen {
		for _, a := range all {
			bad(!Loopback(a),
				"listen: %s can be reached from elsewhere, and without an authenticator anybody may be anyone there: "+
					"choose an authenticator, a loopback address, or force it", a)
		}
	}
	return errors.Join(errs...)
}

// spareDescriptors are left for what is not a client: listeners, loops, node links, files, and connections on their way
// in.
const spareDescriptors = 128

// descriptors returns how many the process may have open.
func descriptors() int {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) != nil || lim.Cur > 1<<30 {
		return 1 << 30
	}
	return int(lim.Cur)
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Loopback reports whether only this machine can reach a listen address.
func Loopback(addr string) bool {
	addr = strings.TrimSuffix(addr, ProxyOption)
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return true // listening will say what is wrong with it
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
