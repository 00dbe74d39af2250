// Command timedge is an edge server for live stream data, and its command line.
//
// This file holds the flags and the configuration, nothing else. Each command has a file of its own: serve.go, push.go,
// sub.go, send.go, inbox.go, and rooms.go for the small ones; connect.go is how the client commands reach a server,
// explain.go turns errors into one plain line.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"os/user"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/dustin/go-humanize"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/internal/settings"
)

// version and commit are set by the linker: see the Makefile.
var version, commit = "unknown", "unknown"

// commandLine is all that can be set. A flag comes before its environment variable, that before the file of settings,
// that before the default; what is not known, flag, variable or key, is an error. Of servers see settings.go.
type commandLine struct {
	serverCommands
	Push     pushCmd     `cmd:"" help:"Push a file, or standard input, into a room."`
	Sub      subCmd      `cmd:"" help:"Receive a room's streams."`
	Send     sendCmd     `cmd:"" help:"Send a file, or standard input, to an account."`
	Inbox    inboxCmd    `cmd:"" help:"Receive what others send to the account."`
	Register registerCmd `cmd:"" help:"Register a room and print its number."`
	Remove   removeCmd   `cmd:"" help:"End a room; only its owner may."`
	Grant    grantCmd    `cmd:"" help:"Let an account push into a room; only the room's owner may."`
	Revoke   revokeCmd   `cmd:"" help:"Take a grant back and cut the account off at once."`
	Room     roomCmd     `cmd:"" help:"Show what there is to know of a room."`
	Nodes    nodesCmd    `cmd:"" help:"Show the nodes of a cluster."`
	Rooms    roomsCmd    `cmd:"" help:"List the rooms of a node."`
	Sessions sessionsCmd `cmd:"" help:"List the clients of a node."`
	Top      topCmd      `cmd:"" help:"Watch what a node does."`
	Drain    drainCmd    `cmd:"" help:"Have a node hand its rooms over and send its clients away."`
	Undrain  undrainCmd  `cmd:"" help:"Take a drain back."`
	Reload   reloadCmd   `cmd:"" help:"Have a node take up its settings and files."`

	Rebalance rebalanceCmd `cmd:"" help:"Move clients from nodes that have more than the mean, slowly."`

	Version versionCmd `cmd:"" help:"Print the version, the commit and what it was built with."`

	ShowVersion versionFlag `name:"version" help:"Print the version and end."`
}

// serverFlags are common to all commands that talk to a server.
type serverFlags struct {
	Server    []string `placeholder:"ADDR" default:"${server}" env:"TIMEDGE_SERVER" help:"${serverHelp} (${default})."`
	Account   string   `placeholder:"NAME" default:"${user}" env:"TIMEDGE_ACCOUNT" help:"Who to be (${default})."`
	Token     string   `placeholder:"TOKEN" env:"TIMEDGE_TOKEN" help:"Proof of the account; better in the environment than here."`
	TokenFile string   `placeholder:"FILE" env:"TIMEDGE_TOKEN_FILE" help:"The same, in a file; read again when the token is about to end."`
	TLS       bool     `env:"TIMEDGE_TLS" help:"Speak TLS to servers that are named by host:port alone."`
	TLSCA     string   `name:"tls-ca" placeholder:"FILE" env:"TIMEDGE_TLS_CA" help:"${tlsCAHelp}."`
	Largest   size     `name:"max-payload" placeholder:"SIZE" default:"16MiB" env:"TIMEDGE_MAX_PAYLOAD" help:"The largest payload to take, whatever a server allows (${default})."`
	Verbose   bool     `short:"v" help:"Tell of every connection on standard error, not only of those lost."`
}

// roomFlags are the wishes for a new room.
type roomFlags struct {
	Policy   *policy       `placeholder:"POLICY" help:"${policyHelp}"`
	Idle     time.Duration `placeholder:"TIME" help:"The room ends so long after the last push (the server's default)."`
	Expire   time.Duration `placeholder:"TIME" help:"The room ends after so long in any case (never)."`
	Queue    size          `placeholder:"SIZE" help:"${queueHelp} (the server's default)."`
	QueueAge time.Duration `placeholder:"TIME" help:"How old that may be (the server's default)."`
	MaxSubs  int           `placeholder:"N" help:"Subscribers at once (the server's bound)."`

	History    size          `placeholder:"SIZE" help:"Who joins late begins so far back in each stream (at the newest key message)."`
	HistoryAge time.Duration `placeholder:"TIME" help:"Likewise in time; with --history, the nearer one counts."`

	IdleUnlessOccupied bool `help:"The room does not end by --idle while it has a subscriber."`
}

// e2eeFlags say under which key messages are sealed and opened.
type e2eeFlags struct {
	E2EE     string `name:"e2ee" placeholder:"KEY" env:"TIMEDGE_E2EE" help:"${e2eeHelp}"`
	E2EEFile string `name:"e2ee-file" placeholder:"FILE" env:"TIMEDGE_E2EE_FILE" help:"The same key, in a file."`
}

type pushCmd struct {
	serverFlags
	roomFlags
	e2eeFlags
	Room roomID `placeholder:"ROOM" help:"Push into this room; without, one is registered, and removed at the end."`
	Wait uint64 `placeholder:"N" help:"Hold until so many subscribers are there."`
	input
}

// input is what is pushed.
type input struct {
	Realtime bool   `help:"Keep to the stream's own times instead of pushing as fast as it goes."`
	Dtype    uint8  `placeholder:"N" help:"Number of the stream within the room (${default})." default:"0"`
	File     string `arg:"" help:"What to push: MPEG-TS, fragmented MP4, WebM, FLV, Ogg, or any other bytes; - is standard input."`
}

type sendCmd struct {
	serverFlags
	Wait time.Duration `placeholder:"TIME" help:"Try for so long until the account is there and accepts (once)."`
	To   string        `arg:"" name:"account" help:"The account to send to."`
	input
}

type inboxCmd struct {
	serverFlags
	Accept []string `placeholder:"NAME" help:"${acceptHelp}"`
	Block  []string `placeholder:"NAME" help:"Take nothing from these accounts; several, comma-separated."`
	Output string   `short:"o" placeholder:"FILE" default:"-" help:"Where to write; - is standard output (${default})."`
	Follow bool     `help:"Write what all send, and go on until interrupted."`
	Policy policy   `placeholder:"POLICY" default:"lossless" help:"As for 'timedge register'; the same for all of the account (${default})."`
}

type subCmd struct {
	serverFlags
	e2eeFlags
	Output    string   `short:"o" placeholder:"FILE" default:"-" help:"Where to write; - is standard output (${default})."`
	Dtype     []uint8  `placeholder:"N" help:"Only these streams; several, comma-separated (all, as they come)."`
	Publisher []string `placeholder:"NAME" help:"Only what these accounts push; several, comma-separated (all, as it comes)."`
	Room      roomID   `arg:"" help:"The room's number."`
}

type registerCmd struct {
	serverFlags
	roomFlags
}

type removeCmd struct {
	serverFlags
	Room roomID `arg:"" help:"The room's number."`
}

type roomCmd struct {
	serverFlags
	Admin string `placeholder:"ADDR" default:"127.0.0.1:7401" env:"TIMEDGE_ADMIN" help:"The --admin address of any node, which knows the room's nodes (${default})."`
	JSON  bool   `help:"Print what the nodes know, as JSON."`
	Room  roomID `arg:"" help:"The room's number."`
}

type grantCmd struct {
	serverFlags
	Room    roomID `arg:"" help:"The room's number."`
	Grantee string `arg:"" name:"name" help:"The account that may push."`
}

type revokeCmd struct {
	serverFlags
	Room    roomID `arg:"" help:"The room's number."`
	Grantee string `arg:"" name:"name" help:"The account that may not push any more."`
}

type versionCmd struct{}

// versionFlag is "timedge version" for who types a flag.
type versionFlag bool

// BeforeReset prints the version, before anything that is missing is complained of.
func (versionFlag) BeforeReset(k *kong.Kong) error {
	if err := (&versionCmd{}).Run(&streams{out: os.Stdout}); err != nil {
		return err
	}
	k.Exit(exitOK)
	return nil
}

// Run prints the version.
func (*versionCmd) Run(std *streams) error {
	return std.say("timedge %s, commit %s, %s %s/%s", version, commit, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// roomID is a room's number as an argument.
type roomID struct{ codec.RoomID }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *roomID) UnmarshalText(b []byte) (err error) {
	if r.RoomID, err = codec.ParseRoomID(string(b)); err != nil {
		return fmt.Errorf("%q is no room: %w", b, err)
	}
	return nil
}

// policy is a room's policy as a flag.
type policy struct{ codec.Policy }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *policy) UnmarshalText(b []byte) error {
	var ok bool
	if p.Policy, ok = codec.ParsePolicy(string(b)); !ok {
		return fmt.Errorf("%q is no policy: live, latest, disconnect or lossless", b)
	}
	return nil
}

// size is a number of bytes as a flag: 4MiB, 100kB, 65536.
type size int64

// Unit implements what settings ask of a type.
func (*size) Unit() string { return "bytes, such as 4MiB, 100kB or 65536" }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *size) UnmarshalText(b []byte) error {
	n, err := humanize.ParseBytes(string(b))
	if err != nil || n > 1<<50 {
		return fmt.Errorf("%q is no size: write 4MiB, 100kB or 65536", b)
	}
	*s = size(n)
	return nil
}

func main() { os.Exit(run(os.Args[1:])) }

// Exit statuses.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitMissing     = 3 // sub, inbox: the stream has ended, and not all of it has come
	exitUnwell      = 3 // doctor: there is something to change
	exitInterrupted = 128 + int(syscall.SIGINT)
)

// untilSignal returns a context that ends with the first signal to end. A second one ends the process at once: before
// anything can be seen of the first, the system does with signals what it does without us.
func untilSignal() context.Context {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-signals
		signal.Stop(signals)
		if len(signals) > 0 { // it came with the first
			os.Exit(exitInterrupted)
		}
		cancel()
	}()
	return ctx
}

// errUnwell ends doctor with a status of its own when there is something to change: that has been said.
var errUnwell = errors.New("there is something to change")

// run parses, runs the command, and writes what went wrong as one line.
func run(args []string) int {
	std := &streams{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	defer std.close()
	parser := newParser()
	if len(args) == 0 {
		args = []string{"--help"}
	}
	if err := unknownVariables(parser, os.Environ()); err != nil {
		return complain(std, err, exitUsage)
	}
	k, err := parser.Parse(args)
	if err != nil {
		return complain(std, usageError(err), exitUsage)
	}
	ctx := untilSignal()
	k.BindTo(ctx, (*context.Context)(nil))
	switch err := k.Run(std); {
	case err == nil:
		return exitOK
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return complain(std, errors.New("interrupted"), exitInterrupted)
	case errors.As(err, new(*missingError)):
		return complain(std, err, exitMissing)
	case errors.Is(err, errUnwell):
		return exitUnwell
	case errors.As(err, new(mistakes)):
		for line := range strings.Lines(err.Error()) {
			_ = complain(std, errors.New(strings.TrimSuffix(line, "\n")), exitUsage)
		}
		return exitUsage
	default:
		return complain(std, err, exitFailed)
	}
}

// helpTexts are those too long for a tag.
var helpTexts = kong.Vars{
	"tlsCAHelp": "Trust servers' certificates of the authorities in this file, in PEM (those of the system); implies --tls",
	"acceptHelp": "Take what these accounts send: the stream of the first that sends, to its end; several, comma-separated; * is everybody " +
		"(nobody).",
	"e2eeHelp": "Encrypt end to end under this key, which a link carries behind &key=; better in the environment than here; " +
		"'push --e2ee new' draws one and prints it.",
	"serverHelp": "Servers, of which one is used: host:port, tls://host:port, ws://host/path or wss://host/path",
	"queueHelp":  "What is queued for one subscriber of a room before its policy acts",
	"policyHelp": "What happens to a subscriber that falls behind: its part is dropped and announced (live), only the newest is kept " +
		"(latest), it is cut off (disconnect), or the publisher waits for it (lossless). A file pushed without --realtime is " +
		"lossless, all else live.",
}

func newParser() *kong.Kong {
	line := &commandLine{}
	line.init()
	return kong.Must(line, kong.Name("timedge"),
		kong.Description("An edge server for live streams: timedge serve, then timedge push FILE, then timedge sub ROOM."),
		helpTexts, kong.Vars{"server": client.DefaultServer, "user": userName()},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}))
}

// mistakes are what is wrong with what was asked for, all of it; no second try mends them.
type mistakes struct{ error }

func (m mistakes) Unwrap() error { return m.error }

// mistaken joins errors to mistakes; nil if there are none.
func mistaken(errs ...error) error {
	if err := errors.Join(errs...); err != nil {
		return mistakes{err}
	}
	return nil
}

// complain writes an error as one line.
func complain(std *streams, err error, status int) int {
	std.note("%s", strings.ReplaceAll(err.Error(), "\n", "; "))
	return status
}

// usageError says where to read on.
func usageError(err error) error {
	command := ""
	if p, ok := errors.AsType[*kong.ParseError](err); ok && p.Context.Selected() != nil {
		for n := p.Context.Selected(); n.Parent != nil; n = n.Parent {
			command = " " + n.Name + command
		}
	}
	return fmt.Errorf("%w; see timedge%s --help", err, command)
}

// unknownVariables finds what looks like a setting and is none, for a misspelt one would be passed over in silence.
// Kubernetes puts some of the kind into every process beside a service of the same name.
func unknownVariables(parser *kong.Kong, environ []string) error {
	var known, unknown []string
	for _, n := range parser.Model.Leaves(false) {
		for _, f := range n.Flags {
			known = append(known, f.Envs...)
		}
	}
	known = append(known, settingVariables()...)
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		service := strings.HasPrefix(name, "TIMEDGE_SERVICE_") || strings.HasPrefix(name, "TIMEDGE_PORT")
		if strings.HasPrefix(name, "TIMEDGE_") && !service && !slices.Contains(known, name) {
			if near := settings.Nearest(name, known); near != "" {
				name += " (is " + near + " meant?)"
			}
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return fmt.Errorf("unknown in the environment: %s; see --help for what there is, and unset these", strings.Join(unknown, ", "))
	}
	return nil
}

// userName is the default account.
func userName() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "anonymous"
}
