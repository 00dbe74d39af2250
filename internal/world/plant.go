package world

// Plant has a seam of the world misbehave, as a faulty node would: what must be found, whatever else is right. It is
// named by what it does; see Plants.
type Plant string

// Plants are the faults that can be planted, and the invariants one of which finds each.
var Plants = map[Plant][]string{
	"the answer to Give is lost":                        {"I7", "I12", "I13"},
	"the Node does not hear that an outbound was left":  {"I7", "I13"},
	"a batch of an outbound is lost on the way":         {"I1", "I3", "I11", "I13"},
	"a batch is posted twice to a subscriber":           {"I1"},
	"a publisher is told one frame too many":            {"I4"},
	"a gap is not told":                                 {"I1", "I13"},
	"left is not told":                                  {"I1", "I4", "I8", "I13"},
	"a revocation is answered and not done":             {"I5"},
	"an answer is given twice":                          {"I9"},
	"a publisher that leaves is not detached":           {"I7"},
	"init messages are left out of a replay":            {"I1", "I6"},
	"what a closed session had queued is not let go of": {"I13"},
}

// once in n times a planted fault shows.
func (w *World) planted(p Plant, n int64) bool { return w.plant == p && w.chance(n) }
