package client

import (
	"errors"
	"fmt"

	"github.com/timedge/timedge/codec"
)

// Code is a numbered error of the protocol. It is an error by itself, for errors.Is: errors.Is(err,
// client.ErrNotAccepted) holds for whatever error of this package carries that code, be it a refusal, the end of a room
// or that of a connection.
type Code codec.Code

func (c Code) Error() string { return "client: " + describe(codec.Code(c), "") }

// Every code that a server or this package may give. Those whose Retry is true may succeed later, or on another server.
const (
	ErrBadMagic          = Code(codec.CodeBadMagic)          // not a timedge server
	ErrVersion           = Code(codec.CodeVersion)           // no version of the protocol that both speak
	ErrMalformed         = Code(codec.CodeMalformed)         // a frame against the protocol
	ErrFrameTooLong      = Code(codec.CodeFrameTooLong)      // likewise
	ErrUnknownType       = Code(codec.CodeUnknownType)       // likewise
	ErrHelloExpected     = Code(codec.CodeHelloExpected)     // likewise
	ErrUnknownCritical   = Code(codec.CodeUnknownCritical)   // likewise
	ErrBadVarint         = Code(codec.CodeBadVarint)         // likewise
	ErrUnexpected        = Code(codec.CodeUnexpected)        // likewise
	ErrHelloTimeout      = Code(codec.CodeHelloTimeout)      // hello came too late
	ErrFlowViolation     = Code(codec.CodeFlowViolation)     // more pushed than the window
	ErrSilent            = Code(codec.CodeSilent)            // nothing heard for too long
	ErrListTooLong       = Code(codec.CodeListTooLong)       // a list above its limit
	ErrAuthFailed        = Code(codec.CodeAuthFailed)        // account and token do not fit
	ErrTokenExpired      = Code(codec.CodeTokenExpired)      // the token's time is over
	ErrTokenRevoked      = Code(codec.CodeTokenRevoked)      // the token was taken back
	ErrRoomUnknown       = Code(codec.CodeRoomUnknown)       // no such room
	ErrNotOwner          = Code(codec.CodeNotOwner)          // only the room's owner may
	ErrNotGranted        = Code(codec.CodeNotGranted)        // only the owner and those granted may push
	ErrRoomMalformed     = Code(codec.CodeRoomMalformed)     // not a room number
	ErrRoomFull          = Code(codec.CodeRoomFull)          // as many subscribers as the room allows
	ErrSubscribed        = Code(codec.CodeSubscribed)        // this client subscribes already
	ErrNotSubscribed     = Code(codec.CodeNotSubscribed)     // this client does not subscribe
	ErrBadOption         = Code(codec.CodeBadOption)         // a value that the server does not allow
	ErrSequence          = Code(codec.CodeSequence)          // frames out of order
	ErrPayloadSize       = Code(codec.CodePayloadSize)       // a message larger than allowed
	ErrRevoked           = Code(codec.CodeRevoked)           // the right to push was taken back
	ErrBadAccount        = Code(codec.CodeBadAccount)        // a name that no account can have
	ErrNotPublishing     = Code(codec.CodeNotPublishing)     // this client does not publish into the room
	ErrSuperseded        = Code(codec.CodeSuperseded)        // another connection of the same instance took over
	ErrBadPieces         = Code(codec.CodeBadPieces)         // pieces of a message that do not fit
	ErrPublishersFull    = Code(codec.CodePublisherFull)     // as many publishers as the room allows
	ErrNotAllowed        = Code(codec.CodeNotAllowed)        // the token does not give this right
	ErrBadToken          = Code(codec.CodeBadToken)          // a fresh token that is not in order
	ErrSessionFull       = Code(codec.CodeSessionFull)       // one connection takes part in no more rooms
	ErrNotAccepted       = Code(codec.CodeNotAccepted)       // the account accepts nothing of this one, or has no inbox
	ErrOverloaded        = Code(codec.CodeOverloaded)        // the server has no room for this now
	ErrGoingAway         = Code(codec.CodeGoingAway)         // the server is shutting down
	ErrRateLimited       = Code(codec.CodeRateLimited)       // too much in too short a time
	ErrTooManyConns      = Code(codec.CodeTooManyConns)      // too many connections
	ErrTooManyRooms      = Code(codec.CodeTooManyRooms)      // too many rooms, of the account or in all
	ErrRecipientAway     = Code(codec.CodeAway)              // the account accepts, and is not there
	ErrInternal          = Code(codec.CodeInternal)          // a fault of the server
	ErrTooManyPublishers = Code(codec.CodeTooManyPublishers) // of the account
	ErrTooManyStreams    = Code(codec.CodeTooManyStreams)    // of the account, or of a room for one subscription
	ErrTooManyGrants     = Code(codec.CodeTooManyGrants)     // of the room
	ErrRemoved           = Code(codec.CodeRemoved)           // the owner removed the room
	ErrIdle              = Code(codec.CodeIdle)              // nothing was pushed for too long
	ErrExpired           = Code(codec.CodeExpired)           // the room's time is over
	ErrNodeLost          = Code(codec.CodeNodeLost)          // the room was lost with its nodes
	ErrTooSlow           = Code(codec.CodeTooSlow)           // the subscriber fell behind
	ErrLeft              = Code(codec.CodeLeft)              // closed by the caller
	ErrGone              = Code(codec.CodeGone)              // the connection was broken for too long
	ErrReplaced          = Code(codec.CodeReplaced)          // another connection of the same instance subscribes
	ErrMoved             = Code(codec.CodeMoved)             // another node carries the room now
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

// RefusedError is the server's refusal of a request or a push; the connection goes on.
//
// errors.Is matches its code: errors.Is(err, ErrRoomUnknown).
type RefusedError struct {
	Code codec.Code
	Text string // the server's explanation; may be empty
}

func (e *RefusedError) Error() string { return "client: refused: " + describe(e.Code, e.Text) }

// Retry reports whether the same request may succeed later or on another server.
func (e *RefusedError) Retry() bool { return e.Code.Retry() }

// Is matches the code itself, as ErrNotAccepted, and another RefusedError with it.
func (e *RefusedError) Is(target error) bool {
	t, ok := target.(*RefusedError)
	return ok && t.Code == e.Code || target == Code(e.Code)
}

// ClosedError says why a subscription, or a publisher's part in a room, ended after it had begun: ErrLeft if the caller
// closed it, one of 4xx if the room ended or ended it, otherwise why the room did not take it back after a
// reconnection, as ErrRoomUnknown or ErrRevoked, or why its recipient is gone, ErrRecipientAway.
//
// errors.Is matches its code, whatever the room: errors.Is(err, ErrRemoved).
type ClosedError struct {
	Room codec.RoomID
	Code codec.Code
}

func (e *ClosedError) Error() string {
	return fmt.Sprintf("client: room %v closed: %s", e.Room, describe(e.Code, ""))
}

// Retry reports whether the room may be there again later or on another server.
func (e *ClosedError) Retry() bool { return e.Code.Retry() }

// Is matches the code itself, as ErrNotAccepted, and another ClosedError with it.
func (e *ClosedError) Is(target error) bool {
	t, ok := target.(*ClosedError)
	return ok && t.Code == e.Code || target == Code(e.Code)
}

// ConnectionError is the server's reason for closing the connection, or for not opening it. A client ends with it when
// the code is not worth trying again; every call then returns it.
//
// errors.Is matches its code: errors.Is(err, ErrAuthFailed).
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

// Is matches the code itself, as ErrNotAccepted, and another ConnectionError with it.
func (e *ConnectionError) Is(target error) bool {
	t, ok := target.(*ConnectionError)
	return ok && t.Code == e.Code || target == Code(e.Code)
}

// StreamError says that the server broke the rule of streams: the next thing on a stream is the frame expected, or a
// gap that begins there. Next returns it in the place of the fault; the subscription goes on behind it.
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
