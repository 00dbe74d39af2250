//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/alecthomas/kong"
	"github.com/rs/zerolog"

	"github.com/timedge/timedge/auth"
	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/internal/settings"
)

// serveSettings is all that a server can be told. settingsTable says what each is; a setting is a field here and a row
// there, and is in flags, environment, file and documentation by that.
type serveSettings struct {
	Listen []string
	Admin  string
	Node   string
	Loops  int

	Auth         string
	Insecure     bool
	Guests       string
	TokenWarning time.Duration

	Idle     time.Duration
	Payload  size
	Queue    size
	QueueAge time.Duration
	Stall    time.Duration
	Conns    int
	Memory   size
	Ping     time.Duration
	Drain    time.Duration

	DrainDelay     time.Duration
	AdminTokenFile string

	LogLevel, LogFormat string
	LogFile, AuditFile  string

	clusterFlags
	tlsFlags
	timFlags
	Limits limitFlags
}

// clusterFlags make a server a node of a cluster.
type clusterFlags struct {
	Cluster   string
	Advertise string
	Join      []string
	KeyFile   string
}

// tlsFlags are the server's listeners that are not plain TCP, and what they need.
type tlsFlags struct {
	ListenTLS, ListenWS, ListenWSS []string
	TimTLS                         []string
	Web, WebTLS                    []string
	Cert, Key, ClientCA            string
	ProxyFrom                      []prefix
	Origins                        []string
}

// timFlags say where clients of the older system connect: docs/tim.md.
type timFlags struct{ Tim []string }

// limitFlags are the limits that serve has beside conns, payload, queue and memory. docs/limits.md tells what each is
// for, and what becomes of who meets it.
type limitFlags struct {
	Hello      time.Duration
	Handshakes int

	Address, AddressBurst, AddressConns int
	Exempt                              []prefix
	AccountConns                        int

	Requests, Subs, Pubs                             int
	Rooms, AccountRooms, AccountPubs, AccountStreams int
	Grants                                           int

	SessionFrames, AccountFrames int64
	SessionBytes, AccountBytes   size
	SessionQueue                 size
}

// given is how a command takes the server's settings: by --config FILE, by the environment, and by a flag for each.
type given struct {
	Config   string       `placeholder:"FILE" env:"TIMEDGE_CONFIG" help:"Read settings from this TOML file; see: timedge config init (none)."`
	Settings kong.Plugins `embed:""`

	serveSettings `kong:"-"`
	table         settings.Table
	values        []settings.Value // what load has found
}

// init makes the flags. It must come before the command line is read.
func (g *given) init() {
	g.table = settingsTable(&g.serveSettings)
	g.Settings = kong.Plugins{g.table.Flags()}
}

// load merges flags, environment, file and defaults. The error names all that is wrong with them.
func (g *given) load() error {
	var (
		file settings.File
		err  error
	)
	if g.Config != "" {
		file, err = settings.ReadFile(g.Config)
	}
	values, wrong := g.table.Load(g.table.Given(g.Settings[0]), g.table.Environ(os.Environ()), file)
	g.values = values
	return errors.Join(err, wrong)
}

// settingVariables names what the environment may hold of settings.
func settingVariables() []string {
	t := settingsTable(&serveSettings{})
	return t.Variables()
}

// check returns all that is wrong with what load has found.
func (g *given) check() error {
	p, err := g.prepare(zerolog.Nop())
	if err == nil {
		err = p.who.Close()
	}
	return err
}

// plan is what a server is started with.
type plan struct {
	who    auth.Authenticator // the caller closes it
	certs  *certificates      // nil: no TLS
	engine engine.Config

	token string // of operators

	tokenFile string
	keyFile   string // of the cluster's keys
}

// prepare opens and checks all that the settings name, but listens nowhere. The error names all that is wrong; then
// nothing is left open.
func (g *given) prepare(log zerolog.Logger) (*plan, error) {
	secure, certs, err := g.tlsConfig(log)
	errs := []error{err}
	cluster, err := g.clusterFlags.config(log)
	errs = append(errs, err)
	if cluster != nil && g.Node == "" {
		g.Node = nodeName(g.Cluster)
	}
	who, err := auth.New(g.Auth, log)
	if err != nil {
		who = nil
		errs = append(errs, fmt.Errorf("--auth: %w", err))
	}
	p := &plan{who: who, certs: certs, keyFile: g.KeyFile, tokenFile: g.AdminTokenFile, engine: g.engineConfig(log, who, secure)}
	p.engine.Cluster = cluster
	if slices.ContainsFunc(slices.Concat(g.Tim, g.TimTLS), isProxied) && !slices.ContainsFunc(slices.Concat(g.Listen, g.ListenTLS, g.ListenWS, g.ListenWSS, g.Web, g.WebTLS), isProxied) {
		p.engine.ProxyFrom = nil // they are for clients of tim alone
	}
	token, tokenErr := readAdminToken(g.AdminTokenFile)
	errs = append(errs, tokenErr)
	p.token = token
	if errs[0] == nil && err == nil { // else it would miss what has been said already
		errs = append(errs, p.engine.Check())
	}
	if err := errors.Join(errs...); err != nil {
		if who != nil {
			_ = who.Close()
		}
		return nil, err
	}
	return p, nil
}
