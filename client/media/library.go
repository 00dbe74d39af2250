package media

import "fmt"

// guarded runs a library's parser. The input is a stranger's, and a fault of the parser is to cost the marks, not the stream.
func guarded(parse func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("media: parser gave up: %v", p)
		}
	}()
	return parse()
}
