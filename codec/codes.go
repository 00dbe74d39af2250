package codec

import "strconv"

// Code numbers every error, refusal and reason on the wire. PROTOCOL.md, section "Codes", lists them all.
//
// 1xx closes the connection; 2xx refuses one request or one push, for good; 3xx may succeed when tried again; 4xx says
// why something ended.
type Code uint16

// Codes that close the connection: the peer broke the protocol or may not speak at all.
const (
	CodeBadMagic        Code = 100
	CodeVersion         Code = 101
	CodeMalformed       Code = 102
	CodeFrameTooLong    Code = 103
	CodeUnknownType     Code = 104
	CodeHelloExpected   Code = 105
	CodeUnknownCritical Code = 106
	CodeBadVarint       Code = 107
	CodeUnexpected      Code = 108
	CodeHelloTimeout    Code = 109
	CodeFlowViolation   Code = 110
	CodeSilent          Code = 111
	CodeListTooLong     Code = 112
	CodeAuthFailed      Code = 120
	CodeTokenExpired    Code = 121
	CodeTokenRevoked    Code = 122
)

// Codes that refuse one request or one push for good.
const (
	CodeRoomUnknown   Code = 200
	CodeNotOwner      Code = 201
	CodeNotGranted    Code = 202
	CodeRoomMalformed Code = 203
	CodeRoomFull      Code = 204
	CodeSubscribed    Code = 205
	CodeNotSubscribed Code = 206
	CodeBadOption     Code = 207
	CodeSequence      Code = 208
	CodePayloadSize   Code = 209
	CodeRevoked       Code = 210
	CodeBadAccount    Code = 211
	CodeNotPublishing Code = 212
	CodeSuperseded    Code = 213
	CodeBadPieces     Code = 214
	CodePublisherFull Code = 215
	CodeNotAllowed    Code = 216
	CodeBadToken      Code = 217
	CodeSessionFull   Code = 218
	CodeNotAccepted   Code = 219
)

// Codes after which the same request may succeed later or elsewhere.
const (
	CodeOverloaded   Code = 300
	CodeGoingAway    Code = 301
	CodeRateLimited  Code = 302
	CodeTooManyConns Code = 303
	CodeTooManyRooms Code = 304
	CodeAway         Code = 305
	CodeInternal     Code = 306

	CodeTooManyPublishers Code = 307
	CodeTooManyStreams    Code = 308
	CodeTooManyGrants     Code = 309
)

// Codes that say why a room, a subscription or a publisher ended.
const (
	CodeRemoved  Code = 400
	CodeIdle     Code = 401
	CodeExpired  Code = 402
	CodeNodeLost Code = 403
	CodeTooSlow  Code = 404
	CodeLeft     Code = 405
	CodeGone     Code = 406
	CodeReplaced Code = 407
	CodeMoved    Code = 408
)

var codeNames = map[Code]string{
	CodeBadMagic: "bad_magic", CodeVersion: "version", CodeMalformed: "malformed", CodeFrameTooLong: "frame_too_long",
	CodeUnknownType: "unknown_type", CodeHelloExpected: "hello_expected", CodeUnknownCritical: "unknown_critical",
	CodeBadVarint: "bad_varint", CodeUnexpected: "unexpected", CodeHelloTimeout: "hello_timeout",
	CodeFlowViolation: "flow_violation", CodeSilent: "silent", CodeListTooLong: "list_too_long", CodeAuthFailed: "auth_failed",
	CodeTokenExpired: "token_expired", CodeTokenRevoked: "token_revoked",

	CodeRoomUnknown: "room_unknown", CodeNotOwner: "not_owner", CodeNotGranted: "not_granted",
	CodeRoomMalformed: "room_malformed", CodeRoomFull: "room_full", CodeSubscribed: "already_subscribed",
	CodeNotSubscribed: "not_subscribed", CodeBadOption: "bad_option", CodeSequence: "sequence",
	CodePayloadSize: "payload_size", CodeRevoked: "revoked", CodeBadAccount: "bad_account",
	CodeNotPublishing: "not_publishing", CodeSuperseded: "superseded", CodeBadPieces: "bad_pieces",
	CodePublisherFull: "publishers_full", CodeNotAllowed: "not_allowed", CodeBadToken: "bad_token", CodeSessionFull: "session_full",
	CodeNotAccepted: "not_accepted",

	CodeOverloaded: "overloaded", CodeGoingAway: "going_away", CodeRateLimited: "rate_limited",
	CodeTooManyConns: "too_many_connections", CodeTooManyRooms: "too_many_rooms", CodeAway: "recipient_away", CodeInternal: "internal",
	CodeTooManyPublishers: "too_many_publishers", CodeTooManyStreams: "too_many_streams", CodeTooManyGrants: "too_many_grants",

	CodeRemoved: "removed", CodeIdle: "idle", CodeExpired: "expired", CodeNodeLost: "node_lost", CodeTooSlow: "too_slow",
	CodeLeft: "left", CodeGone: "gone", CodeReplaced: "replaced", CodeMoved: "moved",
}

// String returns the code's name as PROTOCOL.md lists it, also used as a metric label.
func (c Code) String() string {
	if s, ok := codeNames[c]; ok {
		return s
	}
	return "code_" + strconv.Itoa(int(c))
}

// Error makes a code an error by itself, for errors.Is: the SDK names them all.
func (c Code) Error() string { return c.String() }

// Codes returns every code this version knows with its name. The caller owns the map.
func Codes() map[Code]string {
	m := make(map[Code]string, len(codeNames))
	for c, s := range codeNames {
		m[c] = s
	}
	return m
}

// Retry reports whether the same request may succeed later or on another node.
func (c Code) Retry() bool { return c >= 300 && c < 400 || c == CodeNodeLost || c == CodeMoved }

// Policy says what happens when a subscriber of a room falls behind.
type Policy uint8

// The policies of a room. PROTOCOL.md, section "Policies".
const (
	PolicyLive       Policy = 0 // whole groups are dropped, announced; delivery resumes at a key frame
	PolicyLatest     Policy = 1 // only the newest message of each stream is kept
	PolicyDisconnect Policy = 2 // the subscription ends
	PolicyLossless   Policy = 3 // the publisher is slowed; nothing is dropped
	policyEnd        Policy = 4
)

// Valid reports whether p is a policy of this version.
func (p Policy) Valid() bool { return p < policyEnd }

func (p Policy) String() string {
	switch p {
	case PolicyLive:
		return "live"
	case PolicyLatest:
		return "latest"
	case PolicyDisconnect:
		return "disconnect"
	case PolicyLossless:
		return "lossless"
	}
	return "policy_" + strconv.Itoa(int(p))
}

// ParsePolicy is the inverse of String for the valid policies.
func ParsePolicy(s string) (Policy, bool) {
	for p := PolicyLive; p < policyEnd; p++ {
		if p.String() == s {
			return p, true
		}
	}
	return 0, false
}

// GapReason says why a range of a stream does not reach a subscriber.
type GapReason uint8

// Reasons for a gap. PROTOCOL.md, section "Gaps".
const (
	GapJoined    GapReason = 1 // pushed before the subscriber joined
	GapSlow      GapReason = 2 // the subscriber fell behind its bound
	GapExpired   GapReason = 3 // no longer cached when the subscriber resumed
	GapLost      GapReason = 4 // lost with a node
	GapPublisher GapReason = 5 // the publisher's client gave it up before it was sent
	GapNewer     GapReason = 6 // replaced by a newer message in a latest room
)

func (g GapReason) String() string {
	switch g {
	case GapJoined:
		return "joined"
	case GapSlow:
		return "slow"
	case GapExpired:
		return "expired"
	case GapLost:
		return "lost"
	case GapPublisher:
		return "publisher"
	case GapNewer:
		return "newer"
	}
	return "gap_" + strconv.Itoa(int(g))
}
