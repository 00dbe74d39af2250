package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/timedge/timedge/codec"
	"github.com/timedge/timedge/e2ee"
)

// drawKey, in the place of a key, stands for one that is drawn.
const drawKey = "new"

// linkKeys are the keys of a room's link.
type linkKeys struct {
	*e2ee.Keys
	drawn string // what is to be told of; "" if the caller has it
}

// keys reads the key that the flags name; nil if they name none. draw: the caller may have one drawn.
func (f *e2eeFlags) keys(draw bool) (*linkKeys, error) {
	text := f.E2EE
	switch {
	case f.E2EE != "" && f.E2EEFile != "":
		return nil, mistaken(errors.New("--e2ee and --e2ee-file both name a key: give one"))
	case f.E2EEFile != "":
		b, err := os.ReadFile(f.E2EEFile)
		if err != nil {
			return nil, fmt.Errorf("--e2ee-file: %w", err)
		}
		text = strings.TrimSpace(string(b))
	case text == "":
		return nil, nil
	}
	if text == drawKey && draw && f.E2EEFile == "" {
		k := e2ee.LinkKey{Secret: e2ee.NewSecret()}
		return &linkKeys{e2ee.NewKeys(k), k.Text()}, nil
	}
	k, err := e2ee.ParseLinkKey(text)
	if err != nil {
		return nil, mistaken(errors.New("what --e2ee, --e2ee-file or their variables name is no key: " +
			"want 43 letters, digits, - or _, as behind key= in a link"))
	}
	return &linkKeys{e2ee.NewKeys(k), ""}, nil
}

// say prints a key that was drawn.
func (k *linkKeys) say(std *streams) error {
	if k.drawn == "" {
		return nil
	}
	return std.say("key %s", k.drawn)
}

// opener opens what a subscription receives; nil without keys.
func (k *linkKeys) opener(room codec.RoomID) *e2ee.Opener {
	if k == nil {
		return nil
	}
	return k.Opener(room)
}
