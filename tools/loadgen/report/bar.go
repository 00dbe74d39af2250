package report

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/timedge/timedge/tools/loadgen/load"
)

// Bar shows the progress of a run on a terminal. On anything else it shows nothing.
type Bar struct {
	bar  *progressbar.ProgressBar
	last uint64
	at   time.Duration
}

// NewBar returns a bar on w for a run called name.
func NewBar(w io.Writer, name string, quiet bool) *Bar {
	f, ok := w.(*os.File)
	if quiet || !ok || !term.IsTerminal(int(f.Fd())) {
		return &Bar{}
	}
	return &Bar{bar: progressbar.NewOptions(1000, progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(name),
		progressbar.OptionSetPredictTime(false), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(30))}
}

// Update shows p.
func (b *Bar) Update(p load.Progress) {
	if b.bar == nil {
		return
	}
	if p.Stage == "connecting" {
		b.bar.Describe(fmt.Sprintf("connecting %d of %d", p.Ready, p.Want))
		return
	}
	if dt := p.Elapsed - b.at; dt > time.Second/2 {
		rate := float64(p.Delivered-b.last) / dt.Seconds()
		b.last, b.at = p.Delivered, p.Elapsed
		b.bar.Describe(fmt.Sprintf("%-10s %s deliveries/s", p.Stage, Count(rate)))
	}
	_ = b.bar.Set(min(int(1000*p.Elapsed/max(p.Total, 1)), 999))
}

// Close takes the bar off the terminal.
func (b *Bar) Close() {
	if b.bar != nil {
		_ = b.bar.Finish()
	}
}
