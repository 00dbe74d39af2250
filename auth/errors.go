package auth

import "github.com/timedge/timedge/codec"

// Error is a refusal. All there are are the variables of this file, so none can hold a token or part of one.
type Error struct {
	Code   codec.Code // for the wire
	Text   string     // for the wire
	Reason string     // label for the server's own log and metrics: tells more than a stranger should know
}

func (e *Error) Error() string { return "auth: " + e.Text + " (" + e.Reason + ")" }

// The peer is told the same of all that is wrong with account and token, so that it cannot find out which accounts or
// keys there are.
func failed(reason string) *Error {
	return &Error{codec.CodeAuthFailed, "account and token do not fit", reason}
}

// Refusals that a caller may want to tell apart. The first two come only after the token has proved genuine, so they
// tell its holder nothing that is not written in it.
var (
	ErrExpired     = &Error{codec.CodeTokenExpired, "the token has expired", "expired"}
	ErrNotYetValid = &Error{codec.CodeAuthFailed, "the token is not valid yet", "not_yet_valid"}
	ErrRevoked     = &Error{codec.CodeTokenRevoked, "the token was taken back", "revoked"}
	ErrAccount     = &Error{
		codec.CodeBadAccount, "an account name is 1 to 128 bytes, printable, without spaces and commas, and not * or #...", "bad_account",
	}
)

// Refusals that the peer sees as one.
var (
	errWrongToken = failed("wrong_token") // or no such account
	errTooLong    = failed("too_long")
	errMalformed  = failed("malformed") // no JWT, or its payload is no object
	errAlgorithm  = failed("algorithm") // not the key's, or none
	errCritical   = failed("critical")  // the token demands what is not understood here
	errUnknownKey = failed("unknown_key")
	errSignature  = failed("signature")
	errClaims     = failed("claims") // genuine, but a claim is missing, doubled or of a wrong kind
	errSubject    = failed("subject")
	errAudience   = failed("audience")
)
