package world

import "github.com/timedge/timedge/codec"

// requestOf returns the room that a request is about, and where it keeps its number; nil if it is none.
func requestOf(m codec.Control) (id codec.RoomID, req *uint32) {
	switch m := m.(type) {
	case *codec.Publish:
		return m.Room, &m.Req
	case *codec.Unpublish:
		return m.Room, &m.Req
	case *codec.Subscribe:
		return m.Room, &m.Req
	case *codec.Grant:
		return m.Room, &m.Req
	case *codec.Revoke:
		return m.Room, &m.Req
	case *codec.Remove:
		return m.Room, &m.Req
	case *codec.Stat:
		return m.Room, &m.Req
	}
	return 0, nil
}
