package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/timedge/timedge/tools/loadgen/load"
)

// Several processes share a run as a leader and its parts, which it starts. They speak JSON values over the part's
// standard input and output, in this order:
//
//	leader: config    part: ready
//	leader: begin     part, if it publishes: sent
//	leader: sent, to those that do not publish
//	                  part: result, or error at any time
type message struct {
	Config *wholeConfig `json:"config,omitempty"`
	Ready  bool         `json:"ready,omitempty"`
	Begin  int64        `json:"begin,omitempty"` // ns on the machine's monotonic clock
	Sent   []uint64     `json:"sent,omitempty"`
	Result *load.Result `json:"result,omitempty"`
	Error  string       `json:"error,omitempty"`
}

// wholeConfig is a Config with what its own JSON form leaves out, since it says nothing about the load.
type wholeConfig struct {
	load.Config
	First, FirstRoom int
	RoomIDs          []uint64
}

// part is one process of a shared run, as its leader sees it.
type part struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	enc *json.Encoder
	dec *json.Decoder
}

// runShared runs c on n processes and merges what they measured.
func runShared(ctx context.Context, c load.Config, n int) (*load.Result, error) {
	ids, err := load.Prepare(ctx, c)
	if err != nil {
		return nil, err
	}
	configs, err := load.Split(c, n, ids)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	parts := make([]*part, n)
	for i := range parts {
		if parts[i], err = startPart(ctx, configs[i]); err != nil {
			return nil, err
		}
		defer func() { _ = parts[i].cmd.Wait() }()
	}
	for _, p := range parts {
		if _, err := p.expect(func(m *message) bool { return m.Ready }); err != nil {
			return nil, err
		}
	}
	begin := load.Now() + int64(100*time.Millisecond)
	for _, p := range parts {
		if err := p.enc.Encode(message{Begin: begin}); err != nil {
			return nil, err
		}
	}
	if configs[n-1].Listen {
		sent, err := parts[0].expect(func(m *message) bool { return m.Sent != nil })
		if err != nil {
			return nil, err
		}
		for _, p := range parts[1:] {
			if err := p.enc.Encode(sent); err != nil {
				return nil, err
			}
		}
	}
	results := make([]*load.Result, n)
	for i, p := range parts {
		m, err := p.expect(func(m *message) bool { return m.Result != nil })
		if err != nil {
			return nil, err
		}
		results[i] = m.Result
	}
	c.SetDefaults()
	return load.Merge(c, results)
}

func startPart(ctx context.Context, c load.Config) (*part, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "part")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &part{cmd: cmd, in: in, enc: json.NewEncoder(in), dec: json.NewDecoder(out)}
	return p, p.enc.Encode(message{Config: &wholeConfig{Config: c, First: c.First, FirstRoom: c.FirstRoom, RoomIDs: c.RoomIDs}})
}

// expect reads what a part says until it is what is waited for.
func (p *part) expect(wanted func(*message) bool) (*message, error) {
	for {
		var m message
		if err := p.dec.Decode(&m); err != nil {
			return nil, fmt.Errorf("a process of the run ended: %w", err)
		}
		if m.Error != "" {
			return nil, errors.New(m.Error)
		}
		if wanted(&m) {
			return &m, nil
		}
	}
}

type partCmd struct{}

// Run is the part's side. Its errors go to the leader.
func (partCmd) Run(ctx context.Context) error {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	var first message
	if err := in.Decode(&first); err != nil {
		return err
	}
	if first.Config == nil {
		return errors.New("part is for loadgen itself: use run --procs")
	}
	c := first.Config.Config
	c.First, c.FirstRoom, c.RoomIDs = first.Config.First, first.Config.FirstRoom, first.Config.RoomIDs
	await := func() (m message, err error) { return m, in.Decode(&m) }
	res, err := load.Run(ctx, c, load.Hooks{
		Gate: func(context.Context) (int64, error) {
			if err := out.Encode(message{Ready: true}); err != nil {
				return 0, err
			}
			m, err := await()
			return m.Begin, err
		},
		Sent: func(seqs []uint64) { _ = out.Encode(message{Sent: seqs}) }, // a leader that has gone is noticed at the result
		AwaitSent: func(context.Context) ([]uint64, error) {
			m, err := await()
			return m.Sent, err
		},
	})
	if err == nil {
		err = res.Encode()
	}
	if err != nil {
		return out.Encode(message{Error: err.Error()})
	}
	return out.Encode(message{Result: res})
}
