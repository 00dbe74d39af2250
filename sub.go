package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// Run receives a room until it ends. It succeeds if the room was removed and everything before that is written.
func (s *subCmd) Run(ctx context.Context, std *streams) error {
	c, err := s.dial(ctx, std)
	if err != nil {
		return err
	}
	defer c.Close()
	sub, err := c.Subscribe(ctx, s.Room.RoomID, client.SubscribeOptions{})
	if err != nil {
		return s.explain(err, s.Room.RoomID)
	}
	out, err := s.open(std) // only now: a mistyped number must not cost a file
	if err != nil {
		return err
	}
	err = s.receive(ctx, std, sub, out)
	return errors.Join(s.explain(err, s.Room.RoomID), out.Close())
}

func (s *subCmd) open(std *streams) (io.WriteCloser, error) {
	if s.Output == "-" {
		if term.IsTerminal(int(std.out.Fd())) {
			fmt.Fprintln(std.err, "timedge: writing to a terminal; '-o FILE' or '| ffplay -' may be what you want")
		}
		return std.out, nil
	}
	return os.Create(s.Output)
}

// receive writes what is wanted of the room, and reports what is missing. It returns nil when the room was removed.
func (s *subCmd) receive(ctx context.Context, std *streams, sub *client.Subscription, out io.Writer) error {
	bar := hiddenIf(s.Output == "-" && term.IsTerminal(int(std.out.Fd())), std)
	defer bar.Close()
	for {
		event, err := sub.Next(ctx)
		if errors.Is(err, &client.ClosedError{Code: codec.CodeRemoved}) {
			return nil
		}
		if broken, ok := errors.AsType[*client.StreamError](err); ok {
			fmt.Fprintf(std.err, "timedge: %v\n", broken)
			continue
		}
		if err != nil {
			return err
		}
		switch e := event.(type) {
		case *client.Message:
			if !s.wants(e.Publisher, e.Dtype) {
				continue
			}
			if _, err := out.Write(e.Payload); err != nil {
				return err
			}
			_ = bar.Add(len(e.Payload))
		case *client.Gap:
			if s.wants(e.Publisher, e.Dtype) {
				fmt.Fprintf(std.err, "timedge: %s\n", describeGap(e))
			}
		case *client.Left:
			if e.Code != codec.CodeLeft {
				fmt.Fprintf(std.err, "timedge: %s does not publish any more: %s\n", e.Account, plain(e.Code))
			}
		case *client.Resumed:
			fmt.Fprintln(std.err, "timedge: the connection was lost and is there again")
		}
	}
}

func hiddenIf(hidden bool, std *streams) *progressbar.ProgressBar {
	if hidden {
		return progressbar.NewOptions64(-1, progressbar.OptionSetVisibility(false))
	}
	return progress(std, -1)
}

// wants reports whether the filters let a stream through.
func (s *subCmd) wants(publisher string, dtype uint8) bool {
	return (len(s.Publisher) == 0 || slices.Contains(s.Publisher, publisher)) &&
		(len(s.Dtype) == 0 || slices.Contains(s.Dtype, dtype))
}

// describeGap says in plain words what of a stream does not come, and why.
func describeGap(g *client.Gap) string {
	what := fmt.Sprintf("missing: frame %d", g.From)
	if g.To != g.From {
		what = fmt.Sprintf("missing: frames %d to %d", g.From, g.To)
	}
	if g.Interrupted != 0 {
		what += fmt.Sprintf(", and with them the start of a message from frame %d on,", g.Interrupted)
	}
	return fmt.Sprintf("%s of %s's stream %d: %s", what, g.Publisher, g.Dtype, gapReasons[g.Reason])
}

var gapReasons = map[codec.GapReason]string{
	codec.GapJoined:    "pushed before this subscriber joined",
	codec.GapSlow:      "this subscriber did not keep up",
	codec.GapExpired:   "not kept long enough to go on where the connection broke",
	codec.GapLost:      "lost with a node of the server",
	codec.GapPublisher: "given up by the publisher before it was sent",
	codec.GapNewer:     "replaced by newer ones, as the room's policy is latest",
}
