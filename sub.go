package main

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/client/media"
	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/e2ee"
)

// Run receives a room until it ends. It succeeds if the room was removed, and everything before that has come and is
// written; a *missingError says that the room was removed and not all has come.
func (s *subCmd) Run(ctx context.Context, std *streams) error {
	keys, err := s.keys(false)
	if err != nil {
		return err
	}
	c, err := s.dial(ctx, std)
	if err != nil {
		return err
	}
	defer c.Close(context.Background())
	sub, err := c.Subscribe(ctx, s.Room.RoomID, client.SubscribeOptions{})
	if err != nil {
		return s.explain(err, s.Room.RoomID)
	}
	out, err := s.open(std) // only now: a mistyped number must not cost a file
	if err != nil {
		return err
	}
	err = s.receive(ctx, std, sub, out, keys.opener(s.Room.RoomID))
	return errors.Join(s.explain(err, s.Room.RoomID), out.Close())
}

func (s *subCmd) open(std *streams) (io.WriteCloser, error) {
	if s.Output == "-" {
		if std.toTerminal() {
			std.note("writing to a terminal; '-o FILE' or '| ffplay -' may be what you want")
		}
		return std.out, nil
	}
	return os.Create(s.Output)
}

// receive writes what is wanted of the room, opened if there is an opener, and reports what is missing. It returns nil
// when the room was removed and nothing is.
func (s *subCmd) receive(ctx context.Context, std *streams, sub *client.Subscription, out io.Writer,
	opener *e2ee.Opener) (err error) {
	bar := hiddenIf(s.Output == "-" && std.toTerminal(), std)
	defer bar.Close()
	var sums ledger
	var late latecomer
	defer func() {
		if sums.replaced > 0 {
			std.note("%s frames were replaced by newer ones", humanize.Comma(int64(sums.replaced)))
		}
		missing := sums.err(everybody)
		switch {
		case err == nil:
			err = missing
		case missing != nil:
			std.note("%v", missing)
		}
	}()
	names := make(map[uint16]string) // of those who publish
	for {
		event, err := sub.Next(ctx)
		if errors.Is(err, &client.ClosedError{Code: codec.CodeRemoved}) {
			return nil
		}
		if broken, ok := errors.AsType[*client.StreamError](err); ok {
			if s.wants(names[broken.Pub], broken.Dtype) {
				sums.fault(broken)
				std.note("%v", broken)
			}
			continue
		}
		if err != nil {
			return err
		}
		switch e := event.(type) {
		case *client.Joined:
			names[e.Pub] = e.Account
		case *client.Message:
			if !s.wants(e.Publisher, e.Dtype) {
				continue
			}
			if opener != nil {
				withheld, err := opener.Open(e)
				if text := sums.sealed(e, withheld, err); text != "" {
					std.note("%s", text)
				}
				if err != nil {
					continue
				}
			}
			sums.message(e)
			if late.tell(e) {
				std.note("%s's stream %d cannot be played from here: it counts from the beginning of the file; "+
					"its publisher mends that with default_base_moof", e.Publisher, e.Dtype)
			}
			if _, err := out.Write(e.Payload); err != nil {
				return err
			}
			_ = bar.Add(len(e.Payload))
		case *client.Gap:
			if opener != nil {
				opener.Gap(e)
			}
			if s.wants(e.Publisher, e.Dtype) {
				late.gap(e)
				if text := sums.gap(e); text != "" {
					std.note("%s", text)
				}
			}
		case *client.Left:
			delete(names, e.Pub)
			if opener != nil {
				opener.Left(e)
			}
			sums.left(e.Pub)
			if e.Code != codec.CodeLeft {
				std.note("%s does not publish any more: %s", e.Account, plain(e.Code))
			}
		case *client.Resumed:
			sums.resumed = true
			std.note("the connection was lost and is there again")
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

// latecomer looks at streams of which the beginning is missing: whether they can be played without.
type latecomer map[codec.StreamKey]*lateStream

type lateStream struct {
	fixed bool // its header counts from the beginning
	left  int  // messages that are still looked at
}

// lookedAt is how many messages of a stream may come before one begins with a fragment.
const lookedAt = 1 << 10

func (l *latecomer) stream(pub uint16, dtype uint8) *lateStream {
	key := codec.StreamKey{Pub: pub, Dtype: dtype}
	if *l == nil {
		*l = make(latecomer)
	}
	s := (*l)[key]
	if s == nil {
		s = new(lateStream)
		(*l)[key] = s
	}
	return s
}

func (l *latecomer) gap(g *client.Gap) {
	if g.Reason == codec.GapJoined {
		l.stream(g.Pub, g.Dtype).left = lookedAt
	}
}

// tell reports, once, that a stream cannot be played without its beginning.
func (l *latecomer) tell(m *client.Message) bool {
	s := l.stream(m.Pub, m.Dtype)
	if m.Kind == client.Init {
		s.fixed = media.CountsFromStart(m.Payload)
		return false
	}
	if s.left == 0 {
		return false
	}
	if s.left--; !s.fixed && !media.CountsFromStart(m.Payload) {
		return false
	}
	s.left = 0
	return true
}
