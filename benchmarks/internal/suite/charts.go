package suite

import (
	"fmt"
	"image/color"
	"math"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"

	"github.com/pyarena/pyarena/benchmarks/internal/chart"
	"github.com/pyarena/pyarena/benchmarks/internal/report"
)

// WriteCharts draws the report into dir, each chart as SVG and as PNG, and
// returns the files' names without those endings.
func (r *Report) WriteCharts(dir string) (names []string, err error) {
	charts := []struct {
		name string
		draw func() (*plot.Plot, vg.Length, error)
	}{
		{"scaling", r.scalingChart},
		{"decay", r.decayChart},
		{"growth", r.growthChart},
	}
	for _, threads := range r.threadCounts() {
		charts = append(charts, []struct {
			name string
			draw func() (*plot.Plot, vg.Length, error)
		}{
			{fmt.Sprintf("time-%d", threads), func() (*plot.Plot, vg.Length, error) {
				return r.barChart("Time", threads, Sample.time)
			}},
			{fmt.Sprintf("memory-%d", threads), func() (*plot.Plot, vg.Length, error) {
				return r.barChart("Peak memory", threads, Sample.Memory)
			}},
		}...)
	}
	for _, c := range charts {
		p, width, err := c.draw()
		if err != nil {
			return names, fmt.Errorf("chart %s: %w", c.name, err)
		}
		if p == nil {
			continue // nothing to draw
		}
		if err := chart.Save(p, width, dir, c.name); err != nil {
			return names, err
		}
		names = append(names, c.name)
	}
	return names, nil
}

// maxBar is where bars end: what is slower by more is not told apart.
const maxBar = 5

// title is that of a chart; one of a quick run says so.
func (r *Report) title(text string) string {
	if r.Quick {
		text += "; from a quick run, not comparable"
	}
	return text
}

// barChart draws a group of bars for each workload, and for their geometric
// mean: a bar for each implementation, relative to the base. A bar that is cut has its
// figure on top.
func (r *Report) barChart(what string, threads int, figure func(Sample) float64) (*plot.Plot, vg.Length, error) {
	workloads := append(r.timed(threads), "geometric mean")
	impls := r.impls()
	p := chart.New(r.title(fmt.Sprintf("%s relative to %s, %s (shorter is better; bars are cut at %d)", what, r.Base(threads), report.Count(threads, "thread"), maxBar)), "")
	p.NominalX(workloads...)
	p.X.Tick.Label.Rotation = math.Pi / 6
	p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = -1, -0.5
	p.Y.Min, p.Y.Max = 0, maxBar
	p.Y.Tick.Marker = chart.Counts([]int{0, 1, 2, 3, 4, maxBar})
	const bar = 5 // points
	drawn := 0
	for i, impl := range impls {
		ratios := r.ratios(threads, impl, figure)
		ratios = append(ratios, geomean(ratios))
		values := make(plotter.Values, len(ratios))
		some := false
		var cut plotter.XYLabels
		for j, x := range ratios {
			if !math.IsNaN(x) {
				values[j] = min(x, maxBar)
				some = true
			}
			if x > maxBar {
				cut.XYs = append(cut.XYs, plotter.XY{X: float64(j), Y: 0.999 * maxBar}) // what is at the edge might be left out
				cut.Labels = append(cut.Labels, fmt.Sprintf("%.1f", x))
			}
		}
		if !some {
			continue
		}
		bars, err := plotter.NewBarChart(values, vg.Points(bar))
		if err != nil {
			return nil, 0, err
		}
		bars.LineStyle.Width = 0
		bars.Color = chart.Colour(i)
		bars.Offset = vg.Points(bar * (float64(i) - float64(len(impls)-1)/2))
		p.Add(bars)
		labels, err := plotter.NewLabels(cut)
		if err != nil {
			return nil, 0, err
		}
		labels.Offset = vg.Point{X: bars.Offset - vg.Points(0.7), Y: vg.Points(2)} // digits have nothing below the line
		for j := range labels.TextStyle {
			labels.TextStyle[j].Font.Size = vg.Points(1.4 * bar) // as high as a bar is wide, for digits
			labels.TextStyle[j].Rotation = math.Pi / 2
			labels.TextStyle[j].YAlign = -0.5
		}
		p.Add(labels)
		p.Legend.Add(impl, bars)
		drawn++
	}
	if drawn == 0 {
		return nil, 0, nil
	}
	one := plotter.NewFunction(func(float64) float64 { return 1 })
	one.Color = color.Gray{Y: 140}
	p.Add(one)
	width := vg.Points(float64(len(workloads)) * (bar*float64(len(impls)) + 16))
	return p, width, nil
}

// lines draws a line for each implementation that has points.
func (r *Report) lines(p *plot.Plot, points func(impl string) plotter.XYs) (drawn bool, err error) {
	for i, impl := range r.impls() {
		xys := points(impl)
		if len(xys) < 2 {
			continue
		}
		if err := chart.AddLine(p, impl, i, xys, true); err != nil {
			return false, err
		}
		drawn = true
	}
	return drawn, nil
}

// scalingChart draws the geometric mean of throughputs relative to one thread.
func (r *Report) scalingChart() (*plot.Plot, vg.Length, error) {
	p := chart.New(r.title("Throughput relative to one thread (geometric mean of the workloads that any number of threads can run)"), "×")
	p.X.Label.Text = "threads"
	p.X.Tick.Marker = chart.Counts(r.threadCounts())
	p.Y.Min = 0
	drawn, err := r.lines(p, func(impl string) (xys plotter.XYs) {
		for _, threads := range r.threadCounts() {
			var speedups []float64
			for _, w := range r.timed(threads) {
				if s := r.find(w, threads, impl).against(r.find(w, 1, impl), Sample.time).Median; s > 0 {
					speedups = append(speedups, 1/s)
				}
			}
			if g := geomean(speedups); g > 0 {
				xys = append(xys, plotter.XY{X: float64(threads), Y: g})
			}
		}
		return xys
	})
	if !drawn {
		return nil, 0, err
	}
	return p, chart.LineWidth, err
}

// decayChart draws what is resident after everything was freed.
func (r *Report) decayChart() (*plot.Plot, vg.Length, error) {
	p := chart.New(r.title("Resident memory after everything is freed"), "MiB")
	p.X.Label.Text = "seconds"
	p.X.Tick.Marker = chart.Counts([]int{0, 1, 2, 3, 4})
	p.X.Max = 4
	p.Y.Min = 0
	drawn, err := r.lines(p, func(impl string) (xys plotter.XYs) {
		for _, s := range r.samples(Decay, impl) {
			for _, m := range s.Decay {
				xys = append(xys, plotter.XY{X: m.At.Seconds(), Y: float64(m.Resident) / (1 << 20)})
			}
		}
		return xys
	})
	if !drawn {
		return nil, 0, err
	}
	return p, chart.LineWidth, err
}

// growthChart draws what a replacement costs as blocks grow many.
func (r *Report) growthChart() (*plot.Plot, vg.Length, error) {
	p := chart.New(r.title("To free a random block and make another"), "ns")
	p.X.Label.Text = "live blocks of 64 bytes"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, chart.Counts(r.blockCounts())
	p.Y.Min = 0
	drawn, err := r.lines(p, func(impl string) (xys plotter.XYs) {
		for _, s := range r.samples(Growth, impl) {
			xys = append(xys, plotter.XY{X: float64(s.Growth.Blocks), Y: s.Growth.SwapNs})
		}
		return xys
	})
	if !drawn {
		return nil, 0, err
	}
	return p, chart.LineWidth, err
}

// Write writes the whole report into dir: report.md, report.json and the charts.
func (r *Report) Write(dir string) error { return report.WriteFolder(dir, r) }
