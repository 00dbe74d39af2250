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
