package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// streams are the process's own, for the commands to use. Names, texts and reasons come from servers and from other
// accounts, who may put control characters into them that a terminal obeys. So whatever people read goes through say,
// note, table and page, which print those escaped; a test holds that no command prints in another way. What is not for
// people, a payload, goes to out as it is.
type streams struct {
	in       io.Reader
	out, err *os.File

	fileSinks        []*lineSink // of logs in files
	outSink, errSink *lineSink   // of a process that must not wait for who reads its lines; nil in others
}

func (s *streams) lines(f *os.File, sink *lineSink) io.Writer {
	if sink != nil {
		return sink
	}
	return f
}

// say writes one line to standard output.
func (s *streams) say(format string, args ...any) error {
	_, err := fmt.Fprintln(s.lines(s.out, s.outSink), printable(fmt.Sprintf(format, args...)))
	return err
}

// note writes one line to standard error.
func (s *streams) note(format string, args ...any) {
	fmt.Fprintln(s.lines(s.err, s.errSink), "timedge:", printable(fmt.Sprintf(format, args...)))
}

// page writes JSON that came from elsewhere to standard output, and refuses what is no JSON.
func (s *streams) page(raw []byte) error {
	if !json.Valid(raw) {
		return errors.New("the answer is no JSON")
	}
	_, err := s.out.Write(printableJSON(nil, raw))
	return err
}

// clear empties the terminal, for a picture that takes the place of the last.
func (s *streams) clear() { _, _ = s.out.WriteString("\x1b[H\x1b[2J") }

// table begins a table on standard output.
func (s *streams) table() *table {
	return &table{tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)}
}

// table aligns columns.
type table struct{ w *tabwriter.Writer }

// row adds a row; without cells it is an empty line, after which columns are aligned anew.
func (t *table) row(cells ...any) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(t.w, "\t")
		}
		fmt.Fprint(t.w, printable(fmt.Sprint(c)))
	}
	fmt.Fprintln(t.w)
}

// flush writes the table.
func (t *table) flush() error { return t.w.Flush() }

// toTerminal reports whether somebody looks at standard output.
func (s *streams) toTerminal() bool { return term.IsTerminal(int(s.out.Fd())) }

// progress shows how far a stream is, where there is somebody to see it. total is in bytes; -1: not known.
func progress(std *streams, total int64) *progressbar.ProgressBar {
	return progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(std.err),
		progressbar.OptionSetVisibility(term.IsTerminal(int(std.err.Fd()))),
		progressbar.OptionShowBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)
}

// printable returns s with everything escaped that is neither a graphic character nor a space, as strconv.Quote does:
// control characters of both sets, line and paragraph separators, marks that turn the direction of writing, and what is
// not UTF-8.
func printable(s string) string {
	i := strings.IndexFunc(s, func(r rune) bool { return r == utf8.RuneError || !strconv.IsPrint(r) })
	if i < 0 {
		return s
	}
	b := append(make([]byte, 0, 2*len(s)), s[:i]...)
	for i < len(s) {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b = fmt.Appendf(b, `\x%02x`, s[i])
		case strconv.IsPrint(r):
			b = append(b, s[i:i+n]...)
		default:
			q := strconv.QuoteRune(r)
			b = append(b, q[1:len(q)-1]...)
		}
		i += n
	}
	return string(b)
}

// printableJSON appends a JSON text to dst with such characters escaped as JSON has it; white space between tokens
// stays.
func printableJSON(dst, raw []byte) []byte {
	for i := 0; i < len(raw); {
		r, n := utf8.DecodeRune(raw[i:])
		switch {
		case r == '\n' || r == '\t' || strconv.IsPrint(r): // a bare line end or tab stands between tokens only
			dst = append(dst, raw[i:i+n]...)
		case r == '\r':
		case r > 0xffff:
			r -= 0x10000
			dst = fmt.Appendf(dst, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			dst = fmt.Appendf(dst, `\u%04x`, r)
		}
		i += n
	}
	return dst
}
