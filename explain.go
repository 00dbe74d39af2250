package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// explain turns an error of the SDK into a line that says what to do. Others, and nil, it returns as they are.
func (f *serverFlags) explain(err error, room codec.RoomID) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) {
		return err // main knows what for
	}
	servers := strings.Join(f.Server, ",")
	if e, ok := errors.AsType[*client.ConnectionError](err); ok {
		return fmt.Errorf("server %s: %s", e.Server, withText(plain(e.Code), e.Text))
	}
	if e, ok := errors.AsType[*client.ClosedError](err); ok {
		if e.Code == codec.CodeAway {
			return errors.New("the account went away before all had arrived")
		}
		return fmt.Errorf("room %v ended for you: %s", e.Room, plain(e.Code))
	}
	if e, ok := errors.AsType[*client.RefusedError](err); ok {
		switch e.Code {
		case codec.CodeRoomUnknown:
			return fmt.Errorf("there is no room %v at %s: it has ended, the number is mistyped, or the server is another (--server)", room, servers)
		case codec.CodeNotOwner:
			return fmt.Errorf("room %v is not %s's: only its owner may do that (--account)", room, f.Account)
		case codec.CodeNotAccepted:
			return fmt.Errorf("that account accepts nothing from %s, has no inbox open, or does not exist: it receives with 'timedge inbox --accept %s'", f.Account, f.Account)
		case codec.CodeNotGranted, codec.CodeRevoked:
			return fmt.Errorf("%s may not push into room %v: its owner allows it with 'timedge grant %v %s'", f.Account, room, room, f.Account)
		}
		return errors.New(withText(plain(e.Code), e.Text))
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no server answers at %s: start one with 'timedge serve', or name another with --server", servers)
	case errors.Is(err, io.EOF):
		return fmt.Errorf("the server at %s closed the connection at once: is it a timedge server, and does it speak TLS (--tls)?", servers)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer from %s in time: see whether the server runs and can be reached, or name another with --server", servers)
	case errors.Is(err, client.ErrUnanswered):
		return errors.New("the connection was lost before the answer came: see what was done with 'timedge room', then try again")
	}
	return err
}

// explainListen says what to do when an address cannot be listened on.
func explainListen(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: another server runs there; stop it, or choose another address", err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w: choose a port from 1024 on, or run with the right to use it", err)
	}
	return err
}

func withText(what, text string) string {
	if text == "" {
		return what
	}
	return what + " (" + text + ")"
}

// plain says a code in words.
func plain(code codec.Code) string {
	if s, ok := plainCodes[code]; ok {
		return s
	}
	return fmt.Sprintf("%v (code %d)", code, code)
}

var plainCodes = map[codec.Code]string{
	codec.CodeVersion:           "it speaks another version of the protocol: use a timedge of the same release",
	codec.CodeBadMagic:          "it does not speak timedge's protocol: check the address",
	codec.CodeAuthFailed:        "it does not accept who you say you are: check --account, and --token or TIMEDGE_TOKEN",
	codec.CodeTokenExpired:      "your token has expired: get a new one, and keep it in a file (--token-file) to have it replaced in time",
	codec.CodeTokenRevoked:      "your token was taken back: ask who gave it to you",
	codec.CodeSessionFull:       "one connection takes part in no more rooms than that",
	codec.CodeBadAccount:        "the account's name is not a valid one: check --account",
	codec.CodeRoomUnknown:       "the room is not there any more",
	codec.CodeRoomFull:          "the room has all the subscribers it may have: try again later",
	codec.CodeBadOption:         "the server does not allow that",
	codec.CodeNotAllowed:        "your token does not give that right: ask who gave it to you",
	codec.CodePayloadSize:       "a unit is larger than the server takes: raise --payload there",
	codec.CodeRevoked:           "the owner took the right to push back",
	codec.CodeSuperseded:        "the same client pushes on another connection",
	codec.CodeNotAccepted:       "they accept nothing from you, have no inbox open, or there is no such account",
	codec.CodeAway:              "they accept what you send and are not there: try again later",
	codec.CodeOverloaded:        "the server has too much to do: try again later",
	codec.CodeInternal:          "the server has found a fault of its own: try again",
	codec.CodeGoingAway:         "the server is shutting down: try again, or name another with --server",
	codec.CodeRateLimited:       "that is too much at once: try again later",
	codec.CodeTooManyConns:      "the server has all the connections it may have: try again later, or name another with --server",
	codec.CodeTooManyRooms:      "there are as many rooms as there may be: remove one, or try again later",
	codec.CodeTooManyPublishers: "the account publishes into as many rooms as it may: stop somewhere",
	codec.CodeTooManyStreams:    "the account has as many streams as it may: use fewer dtypes, or stop some",
	codec.CodeTooManyGrants:     "the room has as many grants as it may: revoke some",
	codec.CodeRemoved:           "its owner removed it",
	codec.CodeIdle:              "nothing was pushed for too long",
	codec.CodeExpired:           "its time was up",
	codec.CodeNodeLost:          "its node was lost: try again",
	codec.CodeTooSlow:           "this subscriber did not keep up",
	codec.CodeLeft:              "it was closed here",
	codec.CodeGone:              "the connection was lost for too long",
	codec.CodeMoved:             "another node carries the room now: try again",
	codec.CodeReplaced:          "the same client subscribes on another connection",
}
