package report

import (
	"fmt"
	"html/template"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/timedge/timedge/tools/loadgen/load"
)

// Page is a report: text, tables and plots in one file that loads nothing from outside.
type Page struct {
	Title    string
	Lead     string
	Sections []Section
}

// Section is a part of a page. All but the title may be left out.
type Section struct {
	Title string
	Text  string // set in a fixed width
	Head  []string
	Rows  [][]string
	Plots []*Plot
}

var pageTemplate = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{.Title}}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 } th, td { padding: .2rem .7rem; border-bottom: 1px solid #ddd; text-align: right }
th:first-child, td:first-child { text-align: left } pre { background: #f6f6f6; padding: .7rem; overflow-x: auto }
svg { max-width: 100%; height: auto } .note { color: #555 }
</style></head><body>
<h1>{{.Title}}</h1>
<p>{{.Lead}}</p>
{{range .Sections}}<h2>{{.Title}}</h2>
{{if .Text}}<pre>{{.Text}}</pre>
{{end}}{{if .Rows}}<table><tr>{{range .Head}}<th>{{.}}</th>{{end}}</tr>
{{range .Rows}}<tr>{{range .}}<td>{{.}}</td>{{end}}</tr>
{{end}}</table>
{{end}}{{range .Plots}}{{.SVG}}{{if .Note}}<p class="note">{{.Note}}</p>{{end}}
{{end}}{{end}}</body></html>
`))

// WriteHTML writes a page to a file.
func WriteHTML(file string, p *Page) error {
	var b strings.Builder
	if err := pageTemplate.Execute(&b, p); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(b.String()), 0o644)
}

// WriteSVG writes a plot to a file of its own.
func WriteSVG(file string, p *Plot) error {
	svg, err := p.SVG()
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(svg), 0o644)
}

// HostLine says where results come from.
func HostLine(h load.Host) string {
	return fmt.Sprintf("%s, %d cores, Linux %s, %s, commit %s", h.CPU, h.Cores, h.Kernel, h.Go, h.Commit)
}

// ResultPage makes a report of runs. extra plots come first.
func ResultPage(title string, results []*load.Result, extra ...*Plot) (*Page, error) {
	p := &Page{Title: title}
	if len(results) > 0 {
		p.Lead = fmt.Sprintf("%s, %s", results[0].Began.UTC().Format("2006-01-02 15:04 UTC"), HostLine(results[0].Host))
	}
	if len(extra) > 0 {
		p.Sections = append(p.Sections, Section{Title: "Over all runs", Plots: extra})
	}
	for _, r := range results {
		s, err := resultSection(r)
		if err != nil {
			return nil, err
		}
		p.Sections = append(p.Sections, s)
	}
	return p, nil
}

func resultSection(r *load.Result) (Section, error) {
	var text strings.Builder
	Summary(&text, r)
	s := Section{Title: fmt.Sprintf("%s on %s: %s", r.Config.Scenario, r.Config.Target, Load(&r.Config)), Text: text.String()}
	hists := make(map[string]*hdrhistogram.Histogram)
	order := slices.Sorted(maps.Keys(r.Classes))
	for _, name := range order {
		h, err := r.Classes[name].Latency.Raw()
		if err != nil {
			return s, err
		}
		hists[name] = h
	}
	if plot := LatencyPlot("Latency from the moment a message was due", hists, order); r.Config.Mode == load.Open && len(plot.Series) > 0 {
		s.Plots = append(s.Plots, plot)
	}
	return s, nil
}
