package client

import "github.com/timedge/timedge/codec"

// What users need of the protocol has its names here, too: no program has to import codec.
type (
	// RoomID is a room's number; people write it as 11 characters, see ParseRoomID.
	RoomID = codec.RoomID
	// Policy is what happens to a subscriber that falls behind.
	Policy = codec.Policy
	// GapReason says why frames do not come.
	GapReason = codec.GapReason
	// Info is what there is to know of a room.
	Info = codec.Info
	// Kind says what a message is to a decoder: media.Kind is the same.
	Kind = codec.Kind
	// Code is a numbered error of the protocol, as ErrNotAccepted. It is an error by itself, for errors.Is: errors.Is(err,
	// client.ErrNotAccepted) holds for whatever error of this package carries that code, be it a refusal, the end of a room
	// or that of a connection. What carries one in a field, as Left, is compared with ==.
	Code = codec.Code
)

// The kinds of a message.
const (
	Delta = codec.KindDelta // needs what came before it
	Key   = codec.KindKey   // a decoder can start here
	Init  = codec.KindInit  // the header that a decoder needs first; kept for those who join later
)

// The policies of a room.
const (
	PolicyLive       = codec.PolicyLive       // whole groups are dropped; it goes on at a key message
	PolicyLatest     = codec.PolicyLatest     // only the newest message of each stream is kept
	PolicyDisconnect = codec.PolicyDisconnect // its subscription ends
	PolicyLossless   = codec.PolicyLossless   // nothing is dropped: publishers wait for it
)

// The reasons of a gap.
const (
	GapJoined    = codec.GapJoined    // pushed before this subscriber joined
	GapSlow      = codec.GapSlow      // this subscriber did not keep up
	GapExpired   = codec.GapExpired   // not kept long enough to go on where the connection broke
	GapLost      = codec.GapLost      // lost with a node of the server
	GapPublisher = codec.GapPublisher // given up by the publisher
	GapNewer     = codec.GapNewer     // replaced by newer ones, as the room's policy is latest
)

// ParseRoomID reads a room's number as people write it.
func ParseRoomID(s string) (RoomID, error) { return codec.ParseRoomID(s) }

// ParsePolicy reads a policy's name.
func ParsePolicy(s string) (Policy, bool) { return codec.ParsePolicy(s) }
