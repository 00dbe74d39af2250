package client

import (
	"errors"
	"fmt"

	"github.com/timedge/timedge/codec"
)

// Every code that a server or this package may give. Those whose Retry is true may succeed later, or on another server.
const (
	ErrBadMagic          = codec.CodeBadMagic          // not a timedge server
	ErrVersion           = codec.CodeVersion           // no version of the protocol that both speak
	ErrMalformed         = codec.CodeMalformed         // a frame against the protocol
	ErrFrameTooLong      = codec.CodeFrameTooLong      // likewise
	ErrUnknownType       = codec.CodeUnknownType       // likewise
	ErrHelloExpected     = codec.CodeHelloExpected     // likewise
	ErrUnknownCritical   = codec.CodeUnknownCritical   // likewise
	ErrBadVarint         = codec.CodeBadVarint         // likewise
	ErrUnexpected        = codec.CodeUnexpected        // likewise
	ErrHelloTimeout      = codec.CodeHelloTimeout      // hello came too late
	ErrFlowViolation     = codec.CodeFlowViolation     // more pushed than the window
	ErrSilent            = codec.CodeSilent            // nothing heard for too long
	ErrListTooLong       = codec.CodeListTooLong       // a list above its limit
	ErrAuthFailed        = codec.CodeAuthFailed        // account and token do not fit
	ErrTokenExpired      = codec.CodeTokenExpired      // the token's time is over
	ErrTokenRevoked      = codec.CodeTokenRevoked      // the token was taken back
	ErrRoomUnknown       = codec.CodeRoomUnknown       // no such room
	ErrNotOwner          = codec.CodeNotOwner          // only the room's owner may
	ErrNotGranted        = codec.CodeNotGranted        // only the owner and those granted may push
	ErrRoomMalformed     = codec.CodeRoomMalformed     // not a room number
	ErrRoomFull          = codec.CodeRoomFull          // as many subscribers as the room allows
	ErrSubscribed        = codec.CodeSubscribed        // this client subscribes already
	ErrNotSubscribed     = codec.CodeNotSubscribed     // this client does not subscribe
	ErrBadOption         = codec.CodeBadOption         // a value that the server does not allow
	ErrSequence          = codec.CodeSequence          // frames out of order
	ErrPayloadSize       = codec.CodePayloadSize       // a message larger than allowed
	ErrRevoked           = codec.CodeRevoked           // the right to push was taken back
	ErrBadAccount        = codec.CodeBadAccount        // a name that no account can have
	ErrNotPublishing     = codec.CodeNotPublishing     // this client does not publish into the room
	ErrSuperseded        = codec.CodeSuperseded        // another connection of the same instance took over
	ErrBadPieces         = codec.CodeBadPieces         // pieces of a message that do not fit
	ErrPublishersFull    = codec.CodePublisherFull     // as many publishers as the room allows
	ErrNotAllowed        = codec.CodeNotAllowed        // the token does not give this right
	ErrBadToken          = codec.CodeBadToken          // a fresh token that is not in order
	ErrSessionFull       = codec.CodeSessionFull       // one connection takes part in no more rooms
	ErrNotAccepted       = codec.CodeNotAccepted       // the account accepts nothing of this one, or has no inbox
	ErrOverloaded        = codec.CodeOverloaded        // the server has no room for this now
	ErrGoingAway         = codec.CodeGoingAway         // the server is shutting down
	ErrRateLimited       = codec.CodeRateLimited       // too much in too short a time
	ErrTooManyConns      = codec.CodeTooManyConns      // too many connections
	ErrTooManyRooms      = codec.CodeTooManyRooms      // too many rooms, of the account or in all
	ErrRecipientAway     = codec.CodeAway              // the account accepts, and is not there
	ErrInternal          = codec.CodeInternal          // a fault of the server
	ErrTooManyPublishers = codec.CodeTooManyPublishers // of the account
	ErrTooManyStreams    = codec.CodeTooManyStreams    // of the account, or of a room for one subscription
	ErrTooManyGrants     = codec.CodeTooManyGrants     // of the room
	ErrRemoved           = codec.CodeRemoved           // the owner removed the room
	ErrIdle              = codec.CodeIdle              // nothing was pushed for too long
	ErrExpired           = codec.CodeExpired           // the room's time is over
	ErrNodeLost          = codec.CodeNodeLost          // the room was lost with its nodes
	ErrTooSlow           = codec.CodeTooSlow           // the subscriber fell behind
	ErrLeft              = codec.CodeLeft              // closed by the caller
	ErrGone              = codec.CodeGone              // the connection was broken for too long
	ErrReplaced          = codec.CodeReplaced          // another connection of the same instance subscribes
	ErrMoved             = codec.CodeMoved             // another node carries the room now
)

var (
	// ErrClosed says that Close was called on the client.
	ErrClosed = errors.New("client: closed")

	// ErrUnanswered says that the connection broke between a request and its answer, and that the request is not one to
	// be sent twice: it may or may not have been carried out. Only Register and Remove return it.
	ErrUnanswered = errors.New("client: connection lost before the answer: the request may have been carried out, or not")

	// ErrPublishing says that this client has a Publisher for the room already.
	ErrPublishing = errors.New("client: already publishing into this room")

	// ErrFull says that TryPush would have to wait.
	ErrFull = errors.New("client: as much is unacknowledged as the server allows")
)

// RefusedError says that what was asked for was not done, be it a request, a subscription or a publisher that was
// to begin, or one push that this package refuses by itself. All else goes on.
//
// errors.Is matches its code: errors.Is(err, ErrRoomUnknown).
type RefusedError struct {
	Code Code
	Text string // the server's explanation; may be empty
}

func (e *RefusedError) Error() string { return "client: refused: " + describe(e.Code, e.Text) }

// Retry reports whether the same request may succeed later or on another server.
func (e *RefusedError) Retry() bool { return e.Code.Retry() }

// Is matches the code itself, as ErrNotAccepted, and another RefusedError with it.
func (e *RefusedError) Is(target error) bool {
	t, ok := target.(*RefusedError)
	return ok && t.Code == e.Code || target == e.Code
}

// ClosedError says why a subscription, or a publisher's part in a room, ended after it had begun: ErrLeft if the caller
// closed it, one of 4xx if the room ended or ended it, otherwise why the room did not take it back after a
// reconnection, as ErrRoomUnknown or ErrRevoked, or why its recipient is gone, ErrRecipientAway. With ErrGone a
// publisher tells of a message that was lost, and goes on.
//
// errors.Is matches its code, whatever the room: errors.Is(err, ErrRemoved).
type ClosedError struct {
	Room RoomID
	Code Code
}

func (e *ClosedError) Error() string {
	return fmt.Sprintf("client: room %v closed: %s", e.Room, describe(e.Code, ""))
}

// Retry reports whether the room may be there again later or on another server.
func (e *ClosedError) Retry() bool { return e.Code.Retry() }

// Is matches the code itself, as ErrNotAccepted, and another ClosedError with it.
func (e *ClosedError) Is(target error) bool {
	t, ok := target.(*ClosedError)
	return ok && t.Code == e.Code || target == e.Code
}

// ConnectionError is the server's reason for closing the connection, or for not opening it. A client ends with it when
// the code is not worth trying again; every call then returns it.
//
// errors.Is matches its code: errors.Is(err, ErrAuthFailed).
type ConnectionError struct {
	Server string // address of the server
	Code   Code
	Text   string // the server's explanation; may be empty
}

func (e *ConnectionError) Error() string {
	return fmt.Sprintf("client: server %s closed the connection: %s", e.Server, describe(e.Code, e.Text))
}

// Retry reports whether connecting again may succeed later or with another server.
func (e *ConnectionError) Retry() bool { return e.Code.Retry() }

// Is matches the code itself, as ErrNotAccepted, and another ConnectionError with it.
func (e *ConnectionError) Is(target error) bool {
	t, ok := target.(*ConnectionError)
	return ok && t.Code == e.Code || target == e.Code
}

// StreamError says that the server broke the rule of streams: the next thing on a stream is the frame expected, or a
// gap that begins there. Next returns it in the place of the fault; the subscription goes on behind it.
type StreamError struct {
	Room     RoomID
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

func describe(code Code, text string) string {
	if text == "" {
		return fmt.Sprintf("%v (%d)", code, uint16(code))
	}
	return fmt.Sprintf("%v (%d): %s", code, uint16(code), text)
}
