package tim

import (
	"context"
	"errors"

	"github.com/timedge/timedge/client"
	"github.com/timedge/timedge/codec"
)

// failure is an error as these clients know it.
type failure struct {
	Code int32  `json:"code"`
	Info string `json:"info"`
}

func (f *failure) Error() string { return f.Info }

// The failures that a gateway answers with, out of the list that clients know.
var (
	failExists    = &failure{4101, "has exist"}
	failPassword  = &failure{4102, "no pass"}
	failParameter = &failure{4104, "parameter incorrect"}
	failDenied    = &failure{4105, "permission denied"}
	failAccount   = &failure{4106, "account incorrect"}
	failInterface = &failure{4107, "interface incorrect"}
	failUnknown   = &failure{4109, "must not be a no exist object"}
	failFull      = &failure{4111, "over entry"}
	failFormat    = &failure{4113, "format error"}
	failBig       = &failure{4114, "big data error"}
	failToken     = &failure{4115, "error token"}
	failOther     = &failure{5101, "undefined error"}
	failLoad      = &failure{5104, "heavy server load"}
	failTooFast   = &failure{5105, "freq out of limit"}
)

// codeOf returns the protocol's code in an error of the SDK; 0 if it has none.
func codeOf(err error) codec.Code {
	if e, is := errors.AsType[*client.RefusedError](err); is {
		return e.Code
	}
	if e, is := errors.AsType[*client.ClosedError](err); is {
		return e.Code
	}
	if e, is := errors.AsType[*client.ConnectionError](err); is {
		return e.Code
	}
	return 0
}

// failureOf says an error of the SDK in these clients' words.
func failureOf(err error) *failure {
	if f, is := errors.AsType[*failure](err); is {
		return f
	}
	code := codeOf(err)
	switch code {
	case codec.CodeRoomUnknown, codec.CodeRemoved, codec.CodeIdle, codec.CodeExpired, codec.CodeNodeLost:
		return failUnknown
	case codec.CodeNotOwner, codec.CodeNotGranted, codec.CodeNotAllowed, codec.CodeRevoked, codec.CodeNotPublishing:
		return failDenied
	case codec.CodeNotAccepted:
		return failAccount
	case codec.CodePayloadSize:
		return failBig
	case codec.CodeRateLimited:
		return failTooFast
	case codec.CodeMalformed:
		return failParameter
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded), code != 0 && code.Retry():
		return failLoad
	case code == 0:
		return failOther
	}
	return failDenied
}
