package chart

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// However long the title and however narrow the chart, all of the title is drawn, the
// legend is beside the lines, and neither covers the other.
func TestNothingIsCut(t *testing.T) {
	const legend = "a rival with a long name"
	for _, title := range []string{"short", strings.Repeat("a long title ", 12)} {
		for _, width := range []vg.Length{50, LineWidth} {
			p := New(title, "MiB")
			if err := AddLine(p, legend, 0, plotter.XYs{{X: 0, Y: 0}, {X: 1, Y: 1}}, true); err != nil {
				t.Fatal(err)
			}
			titleWidth, legendWidth := p.Title.TextStyle.Width(title), p.Legend.TextStyle.Width(legend)
			dir := t.TempDir()
			if err := Save(p, width, dir, "chart"); err != nil {
				t.Fatal(err)
			}
			svg, err := os.ReadFile(filepath.Join(dir, "chart.svg"))
			if err != nil {
				t.Fatal(err)
			}
			number := func(re string) vg.Length {
				t.Helper()
				m := regexp.MustCompile(re).FindSubmatch(svg)
				if m == nil {
					t.Fatalf("no %s in\n%s", re, svg)
				}
				x, err := strconv.ParseFloat(string(m[1]), 64)
				if err != nil {
					t.Fatal(err)
				}
				return vg.Length(x)
			}
			all := number(`<svg width="([\d.]+)pt"`)
			from := number(`<text x="([-\d.]+)"[^>]*>` + regexp.QuoteMeta(title) + `</text>`)
			legendFrom := number(`<text x="([-\d.]+)"[^>]*>` + legend + `</text>`)
			if from < 0 || from+titleWidth > legendFrom || legendFrom+legendWidth > all {
				t.Errorf("of %.0f points the title has %.0f to %.0f, the legend %.0f to %.0f",
					all, from, from+titleWidth, legendFrom, legendFrom+legendWidth)
			}
		}
	}
}
