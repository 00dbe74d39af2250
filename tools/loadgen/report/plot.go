package report

import (
	"bytes"
	"fmt"
	"html/template"
	"math"

	"github.com/HdrHistogram/hdrhistogram-go"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Plot is one figure of a page.
type Plot struct {
	Title, X, Y string
	LogX, LogY  bool
	Note        string // below the figure
	Series      []Series
}

// Series is one line of a plot, by rising x.
type Series struct {
	Name   string
	Points [][2]float64
}

// SVG draws the plot. Points that a logarithmic axis cannot show are left out; a plot without any is empty.
func (p *Plot) SVG() (template.HTML, error) {
	g := plot.New()
	g.Title.Text, g.X.Label.Text, g.Y.Label.Text = p.Title, p.X, p.Y
	g.Legend.Top, g.Legend.Left = true, true
	if p.LogX {
		g.X.Scale, g.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	}
	if p.LogY {
		g.Y.Scale, g.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	}
	g.Add(plotter.NewGrid())
	var args []any
	for _, s := range p.Series {
		var pts plotter.XYs
		for _, xy := range s.Points {
			if (!p.LogX || xy[0] > 0) && (!p.LogY || xy[1] > 0) {
				pts = append(pts, plotter.XY{X: xy[0], Y: xy[1]})
			}
		}
		if len(pts) > 0 {
			args = append(args, s.Name, pts)
		}
	}
	if len(args) == 0 {
		return "", nil
	}
	if err := plotutil.AddLinePoints(g, args...); err != nil {
		return "", fmt.Errorf("plot %q: %w", p.Title, err)
	}
	widen(&g.X, p.LogX)
	widen(&g.Y, p.LogY)
	if p.LogY { // whole decades, since only those are labelled
		g.Y.Min, g.Y.Max = math.Pow(10, math.Floor(math.Log10(g.Y.Min))), math.Pow(10, math.Ceil(math.Log10(g.Y.Max)))
	}
	c := vgsvg.New(20*vg.Centimeter, 9*vg.Centimeter)
	g.Draw(draw.Crop(draw.New(c), 0, -vg.Centimeter, 0, 0)) // the last label of the x axis needs room
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return "", fmt.Errorf("plot %q: %w", p.Title, err)
	}
	// Inside a page, an SVG has neither an XML declaration nor a document type.
	svg := b.Bytes()
	if i := bytes.Index(svg, []byte("<svg")); i >= 0 {
		svg = svg[i:]
	}
	return template.HTML(svg), nil
}

// widen gives an axis some length when all its values are the same.
func widen(a *plot.Axis, log bool) {
	if a.Max > a.Min {
		return
	}
	if log {
		a.Min, a.Max = a.Min/2, a.Max*2
		return
	}
	a.Min, a.Max = a.Min-1, a.Max+1
}

// LatencyPlot draws latencies by percentile, the rare ones stretched: x is one in so many messages.
func LatencyPlot(title string, hists map[string]*hdrhistogram.Histogram, order []string) *Plot {
	p := &Plot{Title: title, X: "one message in so many was later (100: p99)", Y: "ms", LogX: true, LogY: true}
	for _, name := range order {
		h := hists[name]
		if h == nil || h.TotalCount() == 0 {
			continue
		}
		s := Series{Name: name}
		for inv := 1.0; inv <= float64(h.TotalCount()) && inv <= 1e6; inv *= math.Pow(10, 0.1) {
			s.Points = append(s.Points, [2]float64{inv, float64(h.ValueAtQuantile(100*(1-1/inv))) / 1e6})
		}
		p.Series = append(p.Series, s)
	}
	return p
}

// Slope is the exponent b of the best fit y = a*x^b, the slope of the line on logarithmic axes: 1 means that cost grows
// as fast as x, 0 that it does not grow.
func Slope(points [][2]float64) float64 {
	var n, sx, sy, sxx, sxy float64
	for _, p := range points {
		if p[0] <= 0 || p[1] <= 0 {
			continue
		}
		x, y := math.Log(p[0]), math.Log(p[1])
		n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	if d := n*sxx - sx*sx; n > 1 && d > 0 {
		return (n*sxy - sx*sy) / d
	}
	return 0
}
