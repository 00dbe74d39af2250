package auth

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const (
	// pollEvery is how often a file is looked at: one stat(2). That also works where notifications do not: on network file
	// systems, and through the links by which Kubernetes exchanges mounted secrets.
	pollEvery = time.Second
	// unsettled is how long after its last change a file is read again though it looks the same, for two changes within
	// one tick of the file system's clock do look the same.
	unsettled = 2 * time.Second
	// maxFile is the size of the largest file, bytes.
	maxFile = 64 << 20
)

// watcher takes up a file and its later contents.
type watcher struct {
	path string
	log  zerolog.Logger
	// take puts a content in force, or returns why not and leaves in force what is. Its errors quote nothing of the
	// content.
	take func(content []byte) error

	ask     chan chan error // to poll now; answered with why the file was not taken up
	stop    chan struct{}   // closed to end run
	stopped chan struct{}   // closed by run
	once    sync.Once

	// What was last read. Owned by the goroutine that polls.
	info    fs.FileInfo
	settled bool // a change of the content would show in info
	digest  [sha256.Size]byte
}

// watch takes up the file as it is, or fails, and starts the goroutine that goes on with it until Close.
func watch(path string, log zerolog.Logger, take func([]byte) error) (*watcher, error) {
	w := &watcher{
		path: path, log: log.With().Str("path", path).Logger(), take: take,
		ask: make(chan chan error), stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	if _, err := w.poll(); err != nil {
		return nil, err
	}
	go w.run()
	return w, nil
}

// Close ends the goroutine and waits for it.
func (w *watcher) Close() error {
	w.once.Do(func() { close(w.stop) })
	<-w.stopped
	return nil
}

// Reload takes the file up now, if it has changed, and returns why not.
func (w *watcher) Reload() error {
	answer := make(chan error, 1)
	select {
	case w.ask <- answer:
		return <-answer
	case <-w.stopped:
		return nil
	}
}

func (w *watcher) run() {
	defer close(w.stopped)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	complaint := ""
	for {
		var asked chan error
		select {
		case <-w.stop:
			return
		case <-tick.C:
		case asked = <-w.ask:
		}
		changed, err := w.poll()
		if asked != nil {
			asked <- err
		}
		switch {
		case err == nil && changed:
			w.log.Info().Msg("file taken up")
		case err != nil && err.Error() != complaint: // a file that stays away is told of once
			w.log.Error().Err(err).Msg("file not taken up; what was read before stays in force")
		}
		complaint = ""
		if err != nil {
			complaint = err.Error()
		}
	}
}

// safely takes a content up. What makes the parsers of it panic is refused like any other that is no good.
func (w *watcher) safely(content []byte) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("a fault of this program: %v", fault)
		}
	}()
	return w.take(content)
}

// poll takes the file up if it has changed since the last poll. It does not try a content twice that could not be taken
// up.
func (w *watcher) poll() (changed bool, err error) {
	info, err := os.Stat(w.path)
	if err != nil {
		return false, fmt.Errorf("auth: %w", err)
	}
	if w.settled && os.SameFile(info, w.info) && info.Size() == w.info.Size() && info.ModTime().Equal(w.info.ModTime()) {
		return false, nil
	}
	settled := time.Since(info.ModTime()) > unsettled
	content, err := readFile(w.path, info)
	if err != nil {
		return false, fmt.Errorf("auth: %w", err)
	}
	digest := sha256.Sum256(content)
	same := w.info != nil && digest == w.digest
	w.info, w.settled, w.digest = info, settled, digest
	if same {
		return false, nil
	}
	if err := w.safely(content); err != nil {
		return false, fmt.Errorf("auth: %s: %w", w.path, err)
	}
	return true, nil
}

var errFileSize = errors.New("larger than 64 MiB")

// readFile reads a regular file; of any other, reading might never end.
func readFile(path string, info fs.FileInfo) ([]byte, error) {
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = &fs.PathError{Op: "read", Path: path, Err: errFileSize}
	}
	return content, err
}
