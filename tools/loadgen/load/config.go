package load

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/tools/loadgen/over"
	"github.com/timedge/timedge/tools/loadgen/target"
	"github.com/timedge/timedge/tools/loadgen/verify"
)

// Mode says what decides when a message is sent.
type Mode string

// The modes.
const (
	Open   Mode = "open"   // a clock; latency counts from the moment a message was due, whenever it could be sent
	Closed Mode = "closed" // the slowest subscriber: the publisher is at most a window ahead of it
)

// Stream describes one stream that every publisher of every room sends.
type Stream struct {
	Dtype    uint8   `toml:"dtype" json:"dtype"`
	Rate     float64 `toml:"rate" json:"rate,omitempty"`           // messages per second; open loop only
	Payload  int     `toml:"payload" json:"payload"`               // bytes
	KeyEvery int     `toml:"key_every" json:"key_every,omitempty"` // every so manyth message is a key message; 0: none is
	KeyScale float64 `toml:"key_scale" json:"key_scale,omitempty"` // a key message is so many times as large; 0 is 1
}

// size returns the payload of message n of the stream (0, 1, 2 ...) and its flags.
func (s *Stream) size(n uint64) (int, codec.Flags) {
	if s.KeyEvery == 0 || n%uint64(s.KeyEvery) != 0 {
		return s.Payload, 0
	}
	if s.KeyScale == 0 {
		return s.Payload, codec.FlagKey
	}
	return int(float64(s.Payload) * s.KeyScale), codec.FlagKey
}

// bytesPerSecond is the stream's mean rate of payload.
func (s *Stream) bytesPerSecond() float64 {
	mean := float64(s.Payload)
	if s.KeyEvery > 0 && s.KeyScale > 0 {
		mean += float64(s.Payload) * (s.KeyScale - 1) / float64(s.KeyEvery)
	}
	return mean * s.Rate
}

// Config is one run: a load and how it is measured. The zero value of a field is its default where that makes sense.
type Config struct {
	Scenario string `toml:"-" json:"scenario"`
	Target   string `toml:"target" json:"target"`
	Addr     string `toml:"addr" json:"addr"` // of the server; several nodes of one service, comma-separated, share the connections
	Account  string `toml:"account" json:"account,omitempty"`

	Over     over.Kind `toml:"over" json:"over,omitempty"`           // what subscribers speak below the protocol: tls, ws, wss; publishers are plain
	OverAddr string    `toml:"over_addr" json:"over_addr,omitempty"` // where, in place of Addr; likewise several, comma-separated
	Link     float64   `toml:"link" json:"link,omitempty"`           // bytes per second that those read whom Half counts; 0: half of the stream's

	Rooms       int      `toml:"rooms" json:"rooms"`
	Publishers  int      `toml:"publishers" json:"publishers"`   // per room
	Subscribers int      `toml:"subscribers" json:"subscribers"` // per room
	Streams     []Stream `toml:"stream" json:"streams"`          // per publisher
	Mode        Mode     `toml:"mode" json:"mode"`
	Window      int      `toml:"window" json:"window,omitempty"` // closed loop: bytes ahead of the slowest subscriber, per stream

	Warmup   time.Duration `toml:"warmup" json:"warmup_ns"`
	Duration time.Duration `toml:"duration" json:"duration_ns"`
	Drain    time.Duration `toml:"drain" json:"drain_ns"` // how long to wait at the end for what is on its way

	Policy     string        `toml:"policy" json:"policy,omitempty"`
	QueueBytes uint64        `toml:"queue_bytes" json:"queue_bytes,omitempty"` // the room's bounds for one subscriber; 0: the server's default
	QueueAge   time.Duration `toml:"queue_age" json:"queue_age_ns,omitempty"`

	Stalled    float64       `toml:"stalled" json:"stalled,omitempty"`            // share of the subscribers that stop reading
	Half       float64       `toml:"half" json:"half,omitempty"`                  // share that reads at half the rate of the stream
	Late       float64       `toml:"late" json:"late,omitempty"`                  // share that joins at random moments of the run
	LateWithin time.Duration `toml:"late_within" json:"late_within_ns,omitempty"` // of the run's beginning; 0: the whole run
	Churn      float64       `toml:"churn" json:"churn,omitempty"`                // subscribers per second that leave and come back as new ones

	KillPID   int           `toml:"kill_pid" json:"kill_pid,omitempty"`               // a node to be killed during the run
	Signal    string        `toml:"signal" json:"signal,omitempty"`                   // by which: KILL, or STOP, which freezes it; default KILL
	KillAfter time.Duration `toml:"kill_after" json:"kill_after_ns,omitempty"`        // when, from the beginning of the measured time on
	Silence   time.Duration `toml:"silence" json:"silence_ns,omitempty"`              // several nodes: one that says nothing for so long is left; default 1 s
	LostFails bool          `toml:"lost_is_failure" json:"lost_is_failure,omitempty"` // frames announced as lost, expired or given up fail the run
	Register  string        `toml:"register" json:"register,omitempty"`               // the node that makes the rooms; default: the first of Addr

	Idle       bool     `toml:"idle" json:"idle,omitempty"`              // publish nothing: connect, hold for Duration, measure memory
	Connecting int      `toml:"connecting" json:"connecting,omitempty"`  // connections being set up at once; default 128
	Returning  int      `toml:"returning" json:"returning,omitempty"`    // likewise, once publishing has begun; default Connecting
	ConnRate   float64  `toml:"connect_rate" json:"conn_rate,omitempty"` // connections begun per second; 0: as fast as may be
	PubConns   int      `toml:"pub_conns" json:"pub_conns,omitempty"`    // connections for publishers at most; default 1,000
	Loops      int      `toml:"loops" json:"loops"`                      // receiving threads; default 1
	ReadSize   int      `toml:"read_size" json:"read_size"`              // bytes of one read; default 256 KiB
	Receive    int      `toml:"receive_buffer" json:"receive_buffer"`    // SO_RCVBUF of subscribers; 0: the kernel's own
	Check      bool     `toml:"check_payload" json:"check_payload"`      // compare every byte of every payload
	Strict     bool     `toml:"-" json:"-"`                              // set by Run
	ServerPID  int      `toml:"server_pid" json:"server_pid,omitempty"`  // whose processor time and memory are measured
	NodePIDs   []int    `toml:"-" json:"-"`                              // further processes of the service, counted with it
	Seed       uint64   `toml:"seed" json:"seed,omitempty"`              // of everything random
	First      int      `toml:"-" json:"-"`                              // index of the first stream, when several processes share a run
	Listen     bool     `toml:"-" json:"listen,omitempty"`               // another process publishes; this one only subscribes
	FirstRoom  int      `toml:"-" json:"-"`                              // likewise, of the first room
	RoomIDs    []uint64 `toml:"-" json:"-"`

	MaxLag  time.Duration `toml:"max_lag" json:"max_lag_ns"`   // a generator whose p99 send was later is not to be believed; default 2 ms
	MaxTurn time.Duration `toml:"max_turn" json:"max_turn_ns"` // likewise, when it once did not look at its sockets for so long; default 100 ms
}

// The defaults of a run.
const (
	DefaultWindow   = 1 << 20
	defaultReadSize = 256 << 10
	defaultConns    = 128
	defaultPubConns = 1000
	defaultMaxLag   = 2 * time.Millisecond
	defaultMaxTurn  = 100 * time.Millisecond
	defaultDrain    = 5 * time.Second
	defaultSilence  = time.Second
	minWindow       = 4 // messages
)

var signals = map[string]unix.Signal{"KILL": unix.SIGKILL, "STOP": unix.SIGSTOP}

// SetDefaults fills in what was left open.
func (c *Config) SetDefaults() {
	or := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	or(&c.Rooms, 1)
	or(&c.Publishers, 1)
	or(&c.Loops, 1)
	or(&c.Window, DefaultWindow)
	or(&c.ReadSize, defaultReadSize)
	or(&c.Connecting, defaultConns)
	or(&c.Returning, c.Connecting)
	or(&c.PubConns, defaultPubConns)
	if c.Target == "" {
		c.Target = "timedge"
	}
	if c.Account == "" {
		c.Account = "loadgen"
	}
	if c.Mode == "" {
		c.Mode = Open
	}
	if c.Policy == "" {
		c.Policy = codec.PolicyLive.String()
	}
	if c.Drain == 0 {
		c.Drain = defaultDrain
	}
	if c.Silence == 0 {
		c.Silence = defaultSilence
	}
	if c.Signal == "" && c.KillPID > 0 {
		c.Signal = "KILL"
	}
	if c.MaxLag == 0 {
		c.MaxLag = defaultMaxLag
	}
	if c.MaxTurn == 0 {
		c.MaxTurn = defaultMaxTurn
	}
	if c.Seed == 0 {
		c.Seed = 1
	}
}

// Validate reports every problem at once.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Addr != "", "no server address")
	check(c.Over == over.Plain || slices.Contains(over.Kinds, c.Over), "over: %q is none of %v", c.Over, over.Kinds)
	check((c.Over == over.Plain) == (c.OverAddr == ""), "over and over_addr go together")
	check(c.Rooms > 0 && c.Publishers > 0, "rooms and publishers must be positive")
	check(c.Subscribers >= 0, "subscribers must not be negative")
	check(c.Duration > 0, "duration must be positive")
	check(c.Mode == Open || c.Mode == Closed, "mode is %q: open or closed", c.Mode)
	check(len(c.Streams) > 0 || c.Idle, "no streams")
	_, ok := codec.ParsePolicy(c.Policy)
	check(ok, "policy is %q: live, latest, disconnect or lossless", c.Policy)
	check(c.First+c.Rooms*c.Publishers*len(c.Streams) <= verify.MaxStream, "more than %d streams", verify.MaxStream)
	seen := make(map[uint8]bool)
	for i, s := range c.Streams {
		check(s.Payload >= verify.StampSize, "stream %d: payload is at least %d bytes, for the stamp", i, verify.StampSize)
		check(c.Mode == Closed || s.Rate > 0, "stream %d: rate must be positive in an open loop", i)
		check(!seen[s.Dtype], "stream %d: dtype %d is taken", i, s.Dtype)
		check(s.KeyScale == 0 || s.KeyScale >= 1, "stream %d: key_scale is at least 1", i)
		seen[s.Dtype] = true
	}
	share := c.Stalled + c.Half + c.Late
	check(c.Stalled >= 0 && c.Half >= 0 && c.Late >= 0 && share <= 1, "stalled, half and late are shares, at most 1 together")
	check(c.Mode == Open || share == 0 && c.Churn == 0, "slow, late and changing subscribers need an open loop")
	check(c.Mode == Open || !c.Listen, "a closed loop needs publishers and subscribers of a room in one process")
	check(c.Signal == "" || signals[c.Signal] != 0, "signal is %q: KILL or STOP", c.Signal)
	check(c.Silence > 0, "silence must be positive")
	check(c.KillAfter == 0 || c.KillPID > 0, "kill_after needs kill_pid, the process of the node to kill")
	check(c.KillPID == 0 || c.Mode == Open && c.KillAfter < c.Duration, "killing a node needs an open loop and kill_after within the measured time")
	check(c.Mode == Open || c.Subscribers > 0, "a closed loop needs subscribers")
	if _, err := target.New(c.Target); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
