package carry

import (
	"testing"

	"github.com/timedge/timedge/codec"
)

// A reign above which there could be none is no reign, whoever tells of it.
func TestEpochsAreBounded(t *testing.T) {
	at := func(epoch uint32) codec.RoomHead { return codec.RoomHead{Epoch: epoch} }
	for name, frame := range map[string]func(epoch uint32) (m codec.Control, dialed bool){
		"state": func(e uint32) (codec.Control, bool) {
			return &codec.State{RoomState: codec.RoomState{RoomHead: at(e)}}, false
		},
		"change":   func(e uint32) (codec.Control, bool) { return &codec.Change{Epoch: e}, false },
		"mirror":   func(e uint32) (codec.Control, bool) { return &codec.Mirror{Reign: codec.Reign{Epoch: e}}, false },
		"mirrored": func(e uint32) (codec.Control, bool) { return &codec.Mirrored{RoomHead: at(e)}, true },
	} {
		for _, epoch := range []uint32{maxEpoch + 1, 1<<32 - 1} {
			m, dialed := frame(epoch)
			if err := NewPort(1, "odd", dialed, nil, nil).Frame(m, 0); err != errEpoch {
				t.Errorf("%s with epoch %d: %v", name, epoch, err)
			}
		}
		if m, _ := frame(maxEpoch); epochOf(m) != maxEpoch {
			t.Errorf("%s: the epoch is taken for %d", name, epochOf(m))
		}
	}
}
