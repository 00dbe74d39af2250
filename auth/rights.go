package auth

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/timedge/timedge/codec"
)

// Rights are what an account may do. The zero value is nothing.
type Rights struct {
	Register  bool     // register rooms
	Subscribe Rooms    // rooms to receive
	Push      Rooms    // rooms to push into, of those that it owns or was granted
	Send      Accounts // accounts to send to, of those that accept it
	Accept    Accounts // accounts to receive from
}

// Rooms is a set of rooms. The zero value is empty. As text it is "*" for all, or room numbers with commas between; in
// JSON the same "*", or an array of strings.
type Rooms struct{ set[codec.RoomID] }

// Accounts is a set of accounts, written as Rooms are.
type Accounts struct{ set[string] }

// AllRooms returns the set of all rooms.
func AllRooms() Rooms { return Rooms{set[codec.RoomID]{all: true}} }

// OnlyRooms returns the set of these rooms.
func OnlyRooms(rooms ...codec.RoomID) Rooms { return Rooms{setOf(rooms)} }

// AllAccounts returns the set of all accounts.
func AllAccounts() Accounts { return Accounts{set[string]{all: true}} }

// OnlyAccounts returns the set of these accounts.
func OnlyAccounts(accounts ...string) Accounts { return Accounts{setOf(accounts)} }

// Names returns the accounts of the set, in order; "*" alone stands for all. The caller must not change it.
func (a Accounts) Names() []string { return a.texts() }

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *Rooms) UnmarshalText(b []byte) (err error) {
	r.set, err = parseSet(splitList(string(b)), codec.ParseRoomID)
	return err
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *Accounts) UnmarshalText(b []byte) (err error) {
	a.set, err = parseSet(splitList(string(b)), parseAccount)
	return err
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *Rooms) UnmarshalJSON(b []byte) error {
	items, err := jsonList(b)
	if err != nil {
		return err
	}
	r.set, err = parseSet(items, codec.ParseRoomID)
	return err
}

// UnmarshalJSON implements json.Unmarshaler.
func (a *Accounts) UnmarshalJSON(b []byte) error {
	items, err := jsonList(b)
	if err != nil {
		return err
	}
	a.set, err = parseSet(items, parseAccount)
	return err
}

func (r Rooms) String() string    { return strings.Join(r.texts(), ",") }
func (a Accounts) String() string { return strings.Join(a.texts(), ",") }

// MarshalText implements encoding.TextMarshaler.
func (r Rooms) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// MarshalText implements encoding.TextMarshaler.
func (a Accounts) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// MarshalJSON implements json.Marshaler.
func (r Rooms) MarshalJSON() ([]byte, error) { return marshalList(r.all, r.texts()) }

// MarshalJSON implements json.Marshaler.
func (a Accounts) MarshalJSON() ([]byte, error) { return marshalList(a.all, a.texts()) }

func (r Rooms) texts() []string {
	if r.all {
		return []string{everything}
	}
	texts := make([]string, len(r.items))
	for i, id := range r.items {
		texts[i] = id.String()
	}
	return texts
}

func (a Accounts) texts() []string {
	if a.all {
		return []string{everything}
	}
	return a.items
}

// set is all values, or a sorted list of some: sets are made once, small and often asked, and a list takes the least
// memory.
type set[T cmp.Ordered] struct {
	all   bool
	items []T
}

// Has reports whether v is in the set.
func (s set[T]) Has(v T) bool {
	if s.all {
		return true
	}
	_, ok := slices.BinarySearch(s.items, v)
	return ok
}

func setOf[T cmp.Ordered](items []T) set[T] {
	return set[T]{items: slices.Compact(slices.Sorted(slices.Values(items)))}
}

const everything = "*"

var errSet = errors.New(`a set is "*", or an array of names`)

// parseSet makes a set of the texts of its items, or of a single "*". Errors do not quote the items.
func parseSet[T cmp.Ordered](texts []string, parse func(string) (T, error)) (set[T], error) {
	if len(texts) == 1 && texts[0] == everything {
		return set[T]{all: true}, nil
	}
	items := make([]T, len(texts))
	for i, s := range texts {
		var err error
		if items[i], err = parse(s); err != nil {
			return set[T]{}, err
		}
	}
	return setOf(items), nil
}

func parseAccount(s string) (string, error) { return s, CheckAccount(s) }

func splitList(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

func jsonList(b []byte) ([]string, error) {
	var one *string
	if json.Unmarshal(b, &one) == nil && one != nil && *one == everything {
		return []string{everything}, nil
	}
	var items []*string // pointers, for null would pass as ""
	if json.Unmarshal(b, &items) != nil || items == nil || slices.Contains(items, nil) {
		return nil, errSet
	}
	texts := make([]string, len(items))
	for i, s := range items {
		texts[i] = *s
	}
	return texts, nil
}

func marshalList(all bool, texts []string) ([]byte, error) {
	if all {
		return json.Marshal(everything)
	}
	return json.Marshal(append([]string{}, texts...)) // an empty set is [], not null
}
