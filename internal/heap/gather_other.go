//go:build !linux

package heap

import "errors"

func gather(uint64) error { return errors.ErrUnsupported }
