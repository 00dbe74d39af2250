package room

import (
	"math"
	"time"

	"github.com/timedge/timedge/codec"
)

// Config holds the bounds of all rooms of a node. Zero values mean the defaults of DefaultConfig.
type Config struct {
	// a room without a push ends after Idle; what a room may ask for lies between min and max
	Idle, IdleMin, IdleMax time.Duration
	QueueBytes             int           // bytes queued for one subscriber of a room before its policy acts
	QueueBytesMax          int           // most that a room may ask for
	QueueAge               time.Duration // age of what is queued for one subscriber before its policy acts
	QueueAgeMax            time.Duration // most that a room may ask for
	Window                 int           // bytes a publisher may have unacknowledged
	// a subscriber of a lossless room that owes an acknowledgement for so long is cut off
	Stall time.Duration
	// a node that owes an acknowledgement for so long is not waited for, but in lossless rooms
	SeatLag   time.Duration
	Clustered bool // this node is one of many
	// a room that another node takes over waits so long for those who are on their way
	Settle time.Duration
	Linger time.Duration // a publisher whose connection broke keeps its place for so long
	// bytes of each stream kept for those who resume, beyond the newest group; in mirrors two windows for half a minute,
	// while memory allows
	History            int
	CacheRoom          int // bytes of all logs of one room; over it its largest is emptied
	CacheAll           int // bytes of all logs; over it those of the accounts that have most are emptied
	MaxPayload         int // bytes of a message over all its pieces
	MaxRooms           int // rooms in all
	MaxRoomsPerAccount int

	MaxPublishersPerAccount, MaxStreamsPerAccount int

	MaxPublishers  int // publishers in one room at once
	MaxGrants      int // accounts granted in one room
	MaxSubscribers int // subscribers in one room, also the most that a room may ask for

	Draw func() (codec.RoomID, bool) // draws a room's number; nil: any random number
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
		Idle: 5 * time.Minute, IdleMin: time.Second, IdleMax: 24 * time.Hour,
		QueueBytes: 4 << 20, QueueBytesMax: 64 << 20,
		QueueAge: 2 * time.Second, QueueAgeMax: time.Minute,
		Window: 4 << 20, Stall: 10 * time.Second, SeatLag: time.Second, Settle: 2 * time.Second, Linger: 10 * time.Second,
		History: 256 << 10, CacheRoom: 64 << 20, CacheAll: 512 << 20,
		MaxPayload: codec.DefaultMaxPayload,
		MaxRooms:   1 << 20, MaxRoomsPerAccount: 1 << 17, MaxPublishersPerAccount: 1 << 15, MaxStreamsPerAccount: 1 << 16,
		MaxPublishers: 1 << 10, MaxGrants: 1 << 14,
		MaxSubscribers: 1 << 20,
	}
}

func (c *Config) fill() {
	d := DefaultConfig()
	def(&c.Idle, d.Idle)
	def(&c.IdleMin, d.IdleMin)
	def(&c.IdleMax, d.IdleMax)
	def(&c.QueueBytes, d.QueueBytes)
	def(&c.QueueBytesMax, d.QueueBytesMax)
	def(&c.QueueAge, d.QueueAge)
	def(&c.QueueAgeMax, d.QueueAgeMax)
	def(&c.Window, d.Window)
	def(&c.Stall, d.Stall)
	def(&c.SeatLag, d.SeatLag)
	def(&c.Settle, d.Settle)
	def(&c.Linger, d.Linger)
	def(&c.History, d.History)
	def(&c.CacheRoom, d.CacheRoom)
	def(&c.CacheAll, d.CacheAll)
	def(&c.MaxPayload, d.MaxPayload)
	def(&c.MaxRooms, d.MaxRooms)
	def(&c.MaxRoomsPerAccount, d.MaxRoomsPerAccount)
	def(&c.MaxPublishersPerAccount, d.MaxPublishersPerAccount)
	def(&c.MaxStreamsPerAccount, d.MaxStreamsPerAccount)
	def(&c.MaxPublishers, d.MaxPublishers)
	def(&c.MaxGrants, d.MaxGrants)
	def(&c.MaxSubscribers, d.MaxSubscribers)
	// Numbers of publishers have 16 bits, and those that left keep theirs for a while.
	c.MaxPublishers = min(c.MaxPublishers, 1<<15-1)
	c.CacheRoom = min(c.CacheRoom, math.MaxInt32) // a Sub counts its replay so
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Settings are what a room was registered with, fixed for its life.
type Settings struct {
	Policy     codec.Policy
	Idle       time.Duration
	Expire     time.Duration // 0: never
	QueueBytes int
	QueueAge   time.Duration
	MaxSubs    int
	History    History // for late joiners
	Occupied   bool    // it does not end by idleness while somebody is there
}

// settings applies the defaults and checks the bounds.
func (c *Config) settings(m *codec.Register) (s Settings, err error) {
	ms := func(v uint64) time.Duration { return time.Duration(min(v, 1<<40)) * time.Millisecond }
	s = Settings{
		Policy: m.Policy, Idle: ms(m.IdleMillis), Expire: ms(m.ExpireMillis),
		QueueBytes: int(min(m.QueueBytes, 1<<40)), QueueAge: ms(m.QueueMillis), MaxSubs: int(min(m.MaxSubs, 1<<40)),
	}
	s.keepOf(m.Keep)
	def(&s.Idle, c.Idle)
	def(&s.QueueBytes, c.QueueBytes)
	def(&s.QueueAge, c.QueueAge)
	def(&s.MaxSubs, c.MaxSubscribers)
	switch {
	case !s.Policy.Valid():
		return s, ErrOption.With("unknown policy")
	case s.Idle < c.IdleMin || s.Idle > c.IdleMax:
		return s, ErrOption.With("idle time outside " + c.IdleMin.String() + " to " + c.IdleMax.String())
	case s.QueueBytes < 64<<10 || s.QueueBytes > c.QueueBytesMax:
		return s, ErrOption.With("queue bytes outside the bounds")
	case s.QueueAge < 10*time.Millisecond || s.QueueAge > c.QueueAgeMax:
		return s, ErrOption.With("queue age outside the bounds")
	case s.MaxSubs > c.MaxSubscribers:
		return s, ErrOption.With("more subscribers than a room may have")
	}
	return s, c.checkHistory(&s)
}
