package client

import (
	"errors"
	"fmt"

	"github.com/timedge/timedge/codec"
)

var (
	// ErrClosed says that Close was called on the client.
	ErrClosed = errors.New("client: closed")

	// ErrUnanswered says that the connection broke between a request and its answer, and that the request is not one to
	// be sent twice: it may or may not have been carried out. Only Register and Remove return it.
	ErrUnanswered = errors.New("client: connection lost before the answer came: the request may or may not have been carried out")

	// ErrPublishing says that this client has a Publisher for the room already.
	ErrPublishing = errors.New("client: already publishing into this room")

	// ErrTooManyStreams ends a subscription that had to be resumed and saw more streams than a request can name.
	ErrTooManyStreams = errors.New("client: too many streams in the room to resume the subscription")
)

// RefusedError is the server's refusal of a request or a push; the connection goes on.
//
// errors.Is matches another RefusedError by its code alone: errors.Is(err, &RefusedError{Code: codec.CodeRoomUnknown}).
type RefusedError struct {
	Code codec.Code
	Text string // the server's explanation; may be empty
}

func (e *RefusedError) Error() string { return "client: refused: " + describe(e.Code, e.Text) }

// Retry reports whether the same request may succeed later or on another server.
func (e *RefusedError) Retry() bool { return e.Code.Retry() }

// Is matches a RefusedError with the same code.
func (e *RefusedError) Is(target error) bool {
	t, ok := target.(*RefusedError)
	return ok && t.Code == e.Code
}

// ClosedError says why a subscription, or a publisher's part in a room, ended. The code is one of 4xx, one of 2xx when the
// room refused to go on (revoked, or unknown after a reconnection), or CodeLeft when the caller itself closed it.
//
// errors.Is matches another ClosedError by its code alone, whatever the room.
type ClosedError struct {
	Room codec.RoomID
	Code codec.Code
}

func (e *ClosedError) Error() string {
	return fmt.Sprintf("client: room %v closed: %s", e.Room, describe(e.Code, ""))
}

// Retry reports whether the room may be there again later or on another server.
func (e *ClosedError) Retry() bool { return e.Code.Retry() }

// Is matches a ClosedError with the same code.
func (e *ClosedError) Is(target error) bool {
	t, ok := target.(*ClosedError)
	return ok && t.Code == e.Code
}

// ConnectionError is the server's reason for closing the connection, or for not opening it. A client ends with it when the
// code is not worth trying again; every call then returns it.
//
// errors.Is matches another ConnectionError by its code alone.
type ConnectionError struct {
	Server string // address of the server
	Code   codec.Code
	Text   string // the server's explanation; may be empty
}

func (e *ConnectionError) Error() string {
	return fmt.Sprintf("client: server %s closed the connection: %s", e.Server, describe(e.Code, e.Text))
}

// Retry reports whether connecting again may succeed later or with another server.
func (e *ConnectionError) Retry() bool { return e.Code.Retry() }

// Is matches a ConnectionError with the same code.
func (e *ConnectionError) Is(target error) bool {
	t, ok := target.(*ConnectionError)
	return ok && t.Code == e.Code
}

// StreamError says that the server broke the rule of streams: the next thing on a stream is the frame expected, or a gap
// that begins there. Next returns it in the place of the fault; the subscription goes on behind it.
type StreamError struct {
	Room     codec.RoomID
	Pub      uint16
	Dtype    uint8
	Expected uint64 // number of the frame that had to come
	Got      uint64 // number of the frame, or of the first frame of the gap, that came
	Text     string // what is wrong
}

func (e *StreamError) Error() string {
	return fmt.Sprintf("client: room %v publisher %d dtype %d: %s: expected frame %d, got %d",
		e.Room, e.Pub, e.Dtype, e.Text, e.Expected, e.Got)
}

func describe(code codec.Code, text string) string {
	if text == "" {
		return fmt.Sprintf("%v (%d)", code, uint16(code))
	}
	return fmt.Sprintf("%v (%d): %s", code, uint16(code), text)
}
