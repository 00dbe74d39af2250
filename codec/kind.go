package codec

// Kind says what a message is to a decoder: it is what its frames' flags say, in a word.
type Kind uint8

// The kinds of a message.
const (
	KindDelta Kind = iota // needs what came before it
	KindKey               // a decoder can start here
	KindInit              // the header that a decoder needs first; kept for those who join later
)

// Flags returns the flags that each frame of such a message has.
func (k Kind) Flags() Flags {
	switch k {
	case KindKey:
		return FlagKey
	case KindInit:
		return FlagInit
	}
	return 0
}

// Kind returns the kind of a message whose frames have the flags f.
func (f Flags) Kind() Kind {
	switch {
	case f&FlagInit != 0:
		return KindInit
	case f&FlagKey != 0:
		return KindKey
	}
	return KindDelta
}

func (k Kind) String() string {
	switch k {
	case KindDelta:
		return "delta"
	case KindKey:
		return "key"
	case KindInit:
		return "init"
	}
	return "unknown"
}
