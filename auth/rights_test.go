package auth

import (
	"encoding/json"
	"testing"
)

func TestSets(t *testing.T) {
	for _, c := range []struct {
		name       string
		set        Rooms
		text, json string
		a, b       bool // whether roomA and roomB are in it
	}{
		{"nothing", Rooms{}, "", "[]", false, false},
		{"all", AllRooms(), "*", `"*"`, true, true},
		{"one", OnlyRooms(roomA), roomA.String(), `["` + roomA.String() + `"]`, true, false},
		{"two, sorted", OnlyRooms(roomA, roomB), roomB.String() + "," + roomA.String(),
			`["` + roomB.String() + `","` + roomA.String() + `"]`, true, true},
		{"one twice", OnlyRooms(roomB, roomB), roomB.String(), `["` + roomB.String() + `"]`, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if s := c.set.String(); s != c.text {
				t.Errorf("text %q, want %q", s, c.text)
			}
			if b, err := json.Marshal(c.set); string(b) != c.json || err != nil {
				t.Errorf("JSON %s %v, want %s", b, err, c.json)
			}
			var fromText, fromJSON Rooms
			if err := fromText.UnmarshalText([]byte(c.text)); err != nil {
				t.Error(err)
			}
			if err := json.Unmarshal([]byte(c.json), &fromJSON); err != nil {
				t.Error(err)
			}
			for _, s := range []Rooms{c.set, fromText, fromJSON} {
				if s.Has(roomA) != c.a || s.Has(roomB) != c.b {
					t.Errorf("%v has room A: %v, B: %v", s, s.Has(roomA), s.Has(roomB))
				}
			}
		})
	}
}

func TestSetsThatAreNone(t *testing.T) {
	for _, c := range []struct{ name, json string }{
		{"null", "null"},
		{"a number", "1"},
		{"a name without an array", `"bob"`},
		{"an empty text", `""`},
		{"null within", `["bob", null]`},
		{"a number within", `["bob", 1]`},
		{"an array within", `[["bob"]]`},
		{"no account's name", `["bob", "a b"]`},
		{"all and one", `["*", "bob"]`},
		{"an object", `{"bob": true}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s Accounts
			if err := s.UnmarshalJSON([]byte(c.json)); err == nil {
				t.Errorf("read as %v", s)
			}
		})
	}
	for _, text := range []string{",", "a,", "*,a", "a b"} {
		if err := new(Accounts).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is a list of accounts", text)
		}
	}
	if err := new(Rooms).UnmarshalText([]byte("bob")); err == nil {
		t.Error("an account is a list of rooms")
	}
	// An array of a star is what many write; it means the same.
	var s Accounts
	if err := s.UnmarshalJSON([]byte(`["*"]`)); err != nil || !s.Has("bob") {
		t.Errorf("%v, %v", s, err)
	}
}
