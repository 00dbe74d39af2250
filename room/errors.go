package room

import "github.com/timedge/timedge/codec"

// Error is a refusal with its code on the wire.
type Error struct {
	Code codec.Code
	Text string
}

func (e *Error) Error() string { return "room: " + e.Text }

// Is makes errors.Is match any text of the same code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// With returns the same refusal with a text of its own.
func (e *Error) With(text string) *Error { return &Error{e.Code, text} }

// Refusals of the operations on rooms.
var (
	ErrUnknown       = &Error{codec.CodeRoomUnknown, "no such room"}
	ErrMalformed     = &Error{codec.CodeRoomMalformed, "not a room number"}
	ErrNotOwner      = &Error{codec.CodeNotOwner, "only the room's owner may do that"}
	ErrNotGranted    = &Error{codec.CodeNotGranted, "the room's owner has not granted this account to push"}
	ErrFull          = &Error{codec.CodeRoomFull, "the room has as many subscribers as it may have"}
	ErrPublishers    = &Error{codec.CodePublisherFull, "the room has as many publishers as it may have"}
	ErrSubscribed    = &Error{codec.CodeSubscribed, "this session has subscribed already"}
	ErrNotSubscribed = &Error{codec.CodeNotSubscribed, "this session has not subscribed"}
	ErrNotPublishing = &Error{codec.CodeNotPublishing, "this session is not a publisher of the room"}
	ErrOption        = &Error{codec.CodeBadOption, "an option is out of range"}
	ErrAccount       = &Error{codec.CodeBadAccount, "an account name is 1 to 128 bytes"}
	ErrSequence      = &Error{codec.CodeSequence, "frame out of sequence"}
	ErrPieces        = &Error{codec.CodeBadPieces, "pieces of a message do not fit together"}
	ErrPayload       = &Error{codec.CodePayloadSize, "message larger than the limit"}
	ErrRevoked       = &Error{codec.CodeRevoked, "the right to push was revoked"}
	ErrSuperseded    = &Error{codec.CodeSuperseded, "another session of this client publishes now"}
	ErrFlow          = &Error{codec.CodeFlowViolation, "more unacknowledged bytes than the window"}
	ErrNotAllowed    = &Error{codec.CodeNotAllowed, "the token does not give this right"}
	ErrNotAccepted   = &Error{codec.CodeNotAccepted, "the account accepts nothing of this one, or is not there"}
	ErrAway          = &Error{codec.CodeAway, "none of the account's sessions is there"}
	ErrNotRelay      = &Error{codec.CodeMoved, "another node relays the room"}
	ErrUnsettled     = &Error{codec.CodeOverloaded,
		"the room has just come to this node, and whom others have heard to be granted is not known yet"}
	ErrHeld        = &Error{codec.CodeSuperseded, "another session of this client publishes"}
	ErrRooms       = &Error{codec.CodeTooManyRooms, "too many rooms"}
	ErrManyPubs    = &Error{codec.CodeTooManyPublishers, "the account publishes into as many rooms as it may"}
	ErrManyStreams = &Error{codec.CodeTooManyStreams, "the account has as many streams as it may have"}
	ErrManyGrants  = &Error{codec.CodeTooManyGrants, "the room has as many grants as it may have"}
	ErrOverloaded  = &Error{codec.CodeOverloaded, "the account holds more of the server's memory than there is for one"}
)
