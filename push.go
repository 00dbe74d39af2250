package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/client/media"
	"github.com/timedge/timedge/codec"
)

// partingTime is how long a push that has been interrupted may take to remove its room.
const partingTime = 2 * time.Second

// Run pushes a file. A room registered for it is removed once all has been delivered, when the command is interrupted,
// and when its times are not known though they are to be kept. It is left to run idle when the file cannot be read to
// its end, so that nobody takes the part for the whole.
func (p *pushCmd) Run(ctx context.Context, std *streams) error {
	if p.Room.RoomID != 0 && p.roomFlags != (roomFlags{}) {
		return errors.New("--room names a room that exists: --policy and other wishes for a new room go with " +
			"'timedge register'")
	}
	keys, err := p.keys(true)
	if err != nil {
		return err
	}
	in, err := p.open(ctx, std)
	if err != nil {
		return err
	}
	defer in.Close()
	c, err := p.dial(ctx, std)
	if err != nil {
		return err
	}
	defer c.Close(context.Background())

	room := p.Room.RoomID
	if room == 0 {
		policy := codec.PolicyLive
		if in.size >= 0 && !p.Realtime {
			policy = codec.PolicyLossless // a copy is wanted, not what is newest
		}
		if room, err = c.Register(ctx, p.options(policy)); err != nil {
			return p.explain(err, 0)
		}
	}
	heard, err := p.push(ctx, std, c, room, in, keys)
	if p.Room.RoomID == 0 && (err == nil || ctx.Err() != nil || errors.Is(err, errNoTimes)) {
		if err == nil && !heard {
			std.note("nobody subscribed: what was pushed went to nobody, and room %v ends now; "+
				"--wait 1 holds until somebody is there", room)
		}
		parting, cancel := context.WithTimeout(context.WithoutCancel(ctx), partingTime)
		defer cancel()
		if removed := c.Remove(parting, room); err == nil {
			err = removed
		}
	}
	return p.explain(err, room)
}

// push pushes the input and waits until it is delivered. It returns early when ctx or the publisher ends. heard: there
// was a subscriber.
func (p *pushCmd) push(ctx context.Context, std *streams, c *client.Client, room codec.RoomID, in *source,
	keys *linkKeys) (heard bool, err error) {
	// Counts also tell, by their end, that the publisher ended.
	pub, err := c.Publish(ctx, room, client.PublishOptions{Counts: true})
	if err != nil {
		return false, err
	}
	if err := std.say("room %v", room); err != nil {
		return false, err
	}
	to := sink(pub)
	if keys != nil {
		if err := keys.say(std); err != nil {
			return false, err
		}
		to = keys.Publisher(pub, p.Account)
	}
	if err := p.await(ctx, std, pub); err != nil {
		return false, err
	}
	heard, err = p.feed(ctx, std, pub, to, in, func(d media.Info) { std.note("%s: %s", p.File, p.describe(d)) })
	return heard || p.Wait > 0, err
}

// sink is where units go: a *client.Publisher, or the *e2ee.Publisher that seals for it.
type sink interface {
	Push(ctx context.Context, dtype uint8, kind client.Kind, payload []byte) error
	MaxPayload() int
}

// feed pushes the input to the publisher's sink, waits until it is delivered, and closes the publisher. It returns
// early when ctx or the publisher, which was asked for counts, ends. recognised, if there is one, is told what the input
// is. heard: there was a subscriber.
func (p *input) feed(ctx context.Context, std *streams, pub *client.Publisher, to sink, in *source,
	recognised func(media.Info)) (heard bool, err error) {
	// Nothing interrupts a read of standard input: it is left behind for the process's end.
	copied := make(chan error, 1)
	go func() {
		err := p.copy(ctx, std, to, in, recognised)
		if err == nil {
			err = pub.Flush(ctx)
		}
		copied <- err
	}()
	for {
		select {
		case err := <-copied:
			select {
			case n := <-pub.Counts(): // the newest word
				heard = heard || n.Subscribers > 0
			default:
			}
			if err == nil {
				err = pub.Close(ctx)
			}
			return heard, err
		case n, ok := <-pub.Counts():
			if !ok {
				return heard, pub.Flush(ctx) // says why
			}
			heard = heard || n.Subscribers > 0
		case <-ctx.Done():
			return heard, ctx.Err()
		}
	}
}

// copy pushes the input, unit by unit.
func (p *input) copy(ctx context.Context, std *streams, to sink, in *source,
	recognised func(media.Info)) error {
	bar := progress(std, in.size)
	defer bar.Close()
	var pace pacer
	pushed, untimed, header := 0, 0, 0 // bytes: but for headers, since the last time, of the header that goes on
	for {
		u, err := in.next()
		ended := err == io.EOF
		if err != nil && !ended {
			return fmt.Errorf("read %s: %w", p.File, err)
		}
		if recognised != nil && (ended || u.Kind == media.Key || pushed > recognising) {
			d := in.units.Info()
			if most := to.MaxPayload(); d.Late == "" && header > most {
				d.Late = fmt.Sprintf("its header of %s is longer than the server keeps: raise --payload there",
					humanize.IBytes(uint64(header)))
			}
			recognised(d)
			recognised = nil
		}
		if p.Realtime {
			switch {
			case u.Time != media.NoTime:
				untimed = 0
			case u.Kind != media.Init:
				untimed += len(u.Data)
			}
			if err := p.keepsTime(in, untimed, ended); err != nil {
				return err
			}
		}
		if ended {
			return nil
		}
		if p.Realtime {
			if err := pace.until(ctx, u.Time); err != nil {
				return err
			}
		}
		if err := p.pushUnit(ctx, to, u); err != nil {
			return err
		}
		if u.Kind == media.Init {
			header += len(u.Data)
		} else {
			pushed, header = pushed+len(u.Data), 0
		}
		_ = bar.Add(len(u.Data))
	}
}

// pushUnit pushes a unit: in several messages if the server takes none so large, for a decoder starts with the first
// part of a key unit.
func (p *input) pushUnit(ctx context.Context, to sink, u media.Unit) error {
	most := max(to.MaxPayload(), 1)
	for b, kind := u.Data, u.Kind; len(b) > 0; {
		n := min(len(b), most)
		if err := to.Push(ctx, p.Dtype, kind, b[:n]); err != nil {
			return err
		}
		if b = b[n:]; kind == media.Key {
			kind = media.Delta
		}
	}
	return nil
}

// What is waited for, in bytes, until something is said of a stream.
const (
	recognising = 1 << 20  // for a key frame, until it is told what was recognised
	unknownTime = 64 << 10 // for something to recognise, with --realtime
	lostTime    = 32 << 20 // for the next time, likewise
)

// Commands that make of a file what can be pushed as wanted.
const (
	fragmented = "ffmpeg -i IN -c copy -movflags frag_keyframe+empty_moov+default_base_moof OUT.mp4"
	piped      = "ffmpeg -re -i IN -c copy -f mpegts - | timedge push -"
)

// errNoTimes is why --realtime is refused.
var errNoTimes = errors.New("--realtime cannot keep time")

// keepsTime refuses a stream whose times cannot be read, as soon as that is known. untimed is how many bytes came since
// the last time.
func (p *input) keepsTime(in *source, untimed int, ended bool) error {
	switch f := in.units.Format(); {
	case f == media.OrdinaryMP4:
		return fmt.Errorf("%w: %s is %v; '%s' makes one that is, or leave --realtime out", errNoTimes, p.File, f, fragmented)
	case f == media.Raw && (in.size >= 0 || ended || untimed > unknownTime):
		return fmt.Errorf("%w: %s is neither MPEG-TS, fragmented MP4, WebM, FLV nor Ogg; "+
			"'%s' may do, or leave --realtime out",
			errNoTimes, p.File, piped)
	case untimed > lostTime, ended && untimed > 0 && !in.units.Info().Timed:
		return fmt.Errorf("%w: there are no times in %s; '%s' may do, or leave --realtime out", errNoTimes, p.File, piped)
	}
	return nil
}

// describe says in one line what was recognised, and what was not.
func (p *input) describe(d media.Info) string {
	switch d.Format {
	case media.Raw:
		return "not recognised, goes as it comes; who joins late begins anywhere in it"
	case media.OrdinaryMP4:
		return fmt.Sprintf("%v; who joins late cannot play it; '%s' makes one that can be joined", d.Format, fragmented)
	}
	says := []string{string(d.Format), cmp.Or(d.Tracks, "no tracks known yet"),
		fmt.Sprintf("key frames so far: %d", d.Keys)}
	if d.Framing != "" {
		says[0] += " in " + d.Framing
	}
	switch {
	case !d.Timed:
		says = append(says, "no times known yet")
	case p.Realtime:
		says = append(says, "keeps to its times")
	default:
		says = append(says, "goes as fast as it can")
	}
	if d.Late != "" {
		says = append(says, "who joins late cannot play it, for "+d.Late)
	}
	return strings.Join(says, "; ")
}

// await holds until the subscribers wanted are there.
func (p *pushCmd) await(ctx context.Context, std *streams, pub *client.Publisher) error {
	if p.Wait == 0 {
		return nil
	}
	std.note("waiting for %d to subscribe: timedge sub %v", p.Wait, pub.Room())
	for {
		select {
		case n, ok := <-pub.Counts():
			if !ok {
				return pub.Flush(ctx) // says why it ended
			}
			if n.Subscribers >= p.Wait {
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// pacer keeps to a stream's own times.
type pacer struct {
	started time.Time // when the stream was at zero
	running bool
}

// until waits for the time of a unit, counted from the first one's. Units without a time go at once, and so do those
// that are late.
func (p *pacer) until(ctx context.Context, t time.Duration) error {
	if t == media.NoTime {
		return nil
	}
	if !p.running {
		p.started, p.running = time.Now().Add(-t), true
	}
	wait := time.Until(p.started.Add(t))
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
