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

// barChart draws a group of bars for each workload, and for their geometric
// mean: a bar for each implementation, relative to the base.
func (r *Report) barChart(what string, threads int, figure func(Sample) float64) (*plot.Plot, vg.Length, error) {
	workloads := append(r.timed(threads), "geometric mean")
	impls := r.impls()
	p := chart.New(fmt.Sprintf("%s relative to %s, %s (shorter is better; cut at %d)", what, r.Base(threads), count(threads, "thread"), maxBar), "")
	p.NominalX(workloads...)
	p.X.Tick.Label.Rotation = math.Pi / 6
	p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = -1, -0.5
	p.Y.Min, p.Y.Max = 0, maxBar
	const bar = 4.2
	drawn := 0
	for i, impl := range impls {
		ratios := r.ratios(threads, impl, figure)
		ratios = append(ratios, geomean(ratios))
		values := make(plotter.Values, len(ratios))
		some := false
		for j, x := range ratios {
			if !math.IsNaN(x) {
				values[j] = min(x, maxBar)
				some = true
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
		p.Legend.Add(impl, bars)
		drawn++
	}
	if drawn == 0 {
		return nil, 0, nil
	}
	one := plotter.NewFunction(func(float64) float64 { return 1 })
	one.Color = color.Gray{Y: 140}
	p.Add(one)
	const legend = 2 // groups of bars that have the place of the legend
	p.X.Max += legend
	width := vg.Points(float64(len(workloads)+legend) * (bar*float64(len(impls)) + 16))
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
	p := chart.New("Throughput relative to one thread (geometric mean of the workloads for any number)", "×")
	p.X.Label.Text = "threads"
	p.Y.Min = 0
	p.Legend.Left = true
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
	p := chart.New("Resident memory after everything is freed", "MiB")
	p.X.Label.Text = "seconds"
	p.X.Max = 5 // room for the legend
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
	p := chart.New("To free a random block and make another", "ns")
	p.X.Label.Text = "live blocks of 64 bytes"
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.Y.Min = 0
	p.Legend.Left = true
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
