package promises

import (
	"context"
	"encoding/binary"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// TestSoundBesideLargePictures pushes pictures of 2 MB one after the other over a slow connection, and sound beside
// them on the same one. A picture travels as 33 pieces; counted is how many of them reach the subscriber between the
// moment at which a piece of sound was due and the sound itself: never more than a few, however much of the picture is
// still to come.
func TestSoundBesideLargePictures(t *testing.T) {
	const (
		picture  = 2 * mib
		pictures = 12
		sound    = 160 // bytes every 20 ms
		perPiece = 4 * time.Millisecond
		// Two pieces may be in the write that is under way, one more when the streams take turns, and one in the hands of the
		// connection.
		most = 4
	)
	s := serve(t)
	owner := dialAs(t, s.addr, "alice")
	room := must(owner.Register(t.Context(), client.RoomOptions{QueueBytes: 32 * mib, QueueAge: time.Minute}))(t)
	w := login(t, s.addr, "viewer")
	if err := w.subscribe(room); err != nil {
		t.Fatal(err)
	}

	var up slowLink
	up.perPiece = perPiece
	bob := dial(t, client.Options{Servers: []string{s.addr}, Account: "alice", Dialer: up.dial})
	pub := must(bob.Publish(t.Context(), room, client.PublishOptions{}))(t)

	ctx, stop := context.WithCancel(t.Context())
	var pushing sync.WaitGroup
	pushing.Go(func() {
		defer stop()
		body := make([]byte, picture)
		for range pictures {
			if err := pub.Push(t.Context(), dtypePicture, client.Key, body); err != nil {
				t.Error(err)
			}
		}
		if err := pub.Flush(t.Context()); err != nil {
			t.Error(err)
		}
	})
	pushing.Go(func() {
		body := make([]byte, sound)
		due := time.NewTicker(20 * time.Millisecond)
		defer due.Stop()
		for ctx.Err() == nil {
			select {
			case <-due.C:
			case <-ctx.Done():
			}
			binary.BigEndian.PutUint64(body, uint64(up.pieces.Load()))
			if err := pub.Push(t.Context(), dtypeSound, client.Delta, body); err != nil {
				t.Error(err)
				return
			}
		}
		if err := pub.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})

	var late []int // for each sound: pieces between its moment and itself
	pieces, begun := 0, false
	for {
		x := w.any()
		if _, left := x.(*codec.Left); left {
			break
		}
		f, ok := x.(*codec.Stream)
		switch {
		case !ok:
		case f.Dtype == dtypePicture:
			pieces++
			begun = !f.Flags.End()
		case begun: // others are not beside a picture
			late = append(late, pieces-int(binary.BigEndian.Uint64(f.Payload)))
		}
	}
	pushing.Wait()
	if len(late) < pictures {
		t.Fatalf("only %d sounds beside %d pieces", len(late), pieces)
	}
	slices.Sort(late)
	t.Logf("%d sounds beside %d pieces of pictures: median %d pieces late, worst %d", len(late), pieces, late[len(late)/2], late[len(late)-1])
	if worst := late[len(late)-1]; worst > most {
		t.Errorf("a sound came %d pieces late", worst)
	}
}

const (
	dtypePicture = 1
	dtypeSound   = 2
)

// slowLink dials connections that take a while for each piece of a picture, and counts them.
type slowLink struct {
	perPiece time.Duration
	pieces   atomic.Int64 // on their way, or through
}

func (l *slowLink) dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	return &slowConn{Conn: conn, link: l}, err
}

// slowConn's Write is called with whole frames, one or more.
type slowConn struct {
	net.Conn
	link *slowLink
}

func (c *slowConn) Write(b []byte) (n int, err error) {
	for n < len(b) {
		frame, _, err := codec.Next(b[n:], codec.MaxFrame)
		if err != nil {
			frame = b[n:] // the preface
		}
		var f codec.Stream
		if codec.ParseStream(frame, &f) == nil && f.Dtype == dtypePicture {
			c.link.pieces.Add(1)
			time.Sleep(c.link.perPiece)
		}
		k, err := c.Conn.Write(frame)
		if n += k; err != nil {
			return n, err
		}
	}
	return n, nil
}
