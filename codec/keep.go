package codec

// Keep is what a room keeps beyond what it needs, by its owner's wish. The zero value is nothing.
type Keep struct {
	HistoryBytes  uint64 // who joins late begins so far back in each stream, frames with their headers counted; 0: no bound
	HistoryMillis uint64 // likewise in time; 0: no bound; both 0: no history
	Occupied      bool   // the room does not end by idleness while it has a subscriber
}

// tagKeep is the optional field of register, mirrored and state that holds a Keep, left out if that is nothing. A value
// that breaks its layout is nothing; flags that are not known are passed over.
const tagKeep = 4

const keepOccupied = 1 << 0

func (k *Keep) append(w *writer) {
	if *k == (Keep{}) {
		return
	}
	w.field(tagKeep, func(v *writer) {
		v.varint(uint64(b2u(k.Occupied)) * keepOccupied)
		v.varint(k.HistoryBytes)
		v.varint(k.HistoryMillis)
	})
}

// parse reads the value of an optional field, if it is this one. It reports whether it is.
func (k *Keep) parse(tag uint64, value []byte) bool {
	if tag != tagKeep {
		return false
	}
	r := reader{b: value}
	flags, bytes, millis := r.varint(), r.varint(), r.varint()
	if r.err == nil {
		*k = Keep{bytes, millis, flags&keepOccupied != 0}
	}
	return true
}
