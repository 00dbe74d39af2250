//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"
)

// serverLogs are where a server writes: its log, and perhaps an audit.
type serverLogs struct {
	log   zerolog.Logger
	audit *zerolog.Logger // nil: none is kept
	files []*logFile      // that are opened anew
}

// openLogs writes for people where people look, JSON elsewhere. From now on neither the log nor what std says waits for
// a reader.
func (g *given) openLogs(std *streams) (*serverLogs, error) {
	setLogLevel(g.LogLevel)
	zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00" // several nodes' logs are read side by side
	people := term.IsTerminal(int(std.err.Fd()))
	std.outSink, std.errSink = newLineSink(std.out, false), newLineSink(std.err, !people)
	l := &serverLogs{}
	sink, err := std.errSink, error(nil)
	if g.LogFile != "" {
		people = false
		if sink, err = l.open(std, "log-file", g.LogFile); err != nil {
			return nil, err
		}
	}
	to := zerolog.New(sink)
	if g.LogFormat == "text" || g.LogFormat == "auto" && people {
		to = zerolog.New(zerolog.ConsoleWriter{Out: sink, TimeFormat: time.TimeOnly, NoColor: !people})
	}
	l.log = to.With().Timestamp().Logger()
	switch g.AuditFile {
	case "":
	case "-":
		l.audit = &l.log
	default:
		if sink, err = l.open(std, "audit-file", g.AuditFile); err != nil {
			return nil, err
		}
		audit := zerolog.New(sink).With().Timestamp().Logger()
		l.audit = &audit
	}
	return l, nil
}

func (l *serverLogs) open(std *streams, setting, path string) (*lineSink, error) {
	f := &logFile{path: path}
	if err := f.reopen(); err != nil {
		return nil, fmt.Errorf("--%s: %w", setting, err)
	}
	sink := newLineSink(f, true)
	l.files = append(l.files, f)
	std.fileSinks = append(std.fileSinks, sink)
	return sink, nil
}

// reopen opens the files anew, by their names.
func (l *serverLogs) reopen() error {
	var errs []error
	for _, f := range l.files {
		errs = append(errs, f.reopen())
	}
	return errors.Join(errs...)
}

// setLogLevel is for all loggers of the process, those made before among them.
func setLogLevel(name string) {
	level, _ := zerolog.ParseLevel(name) // one of the setting's
	zerolog.SetGlobalLevel(level)
}

// logFile is a file that somebody may move away while it is written.
type logFile struct {
	path string

	mu sync.Mutex
	f  *os.File
}

// Write appends.
func (l *logFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Write(b)
}

// reopen opens the file of that name; if it cannot, what is open stays.
func (l *logFile) reopen() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f != nil {
		_ = l.f.Close()
	}
	l.f = f
	return nil
}
