package suite

import (
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
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
		for _, ending := range []string{".svg", ".png"} {
			if err := p.Save(width, 11*vg.Centimeter, filepath.Join(dir, c.name+ending)); err != nil {
				return names, err
			}
		}
		names = append(names, c.name)
	}
	return names, nil
}

// palette has a colour for each implementation, in the order of the report:
// ours are the dark ones.
var palette = []color.Color{
	color.RGBA{0xb0, 0x12, 0x2b, 0xff},
	color.RGBA{0xe8, 0x6a, 0x33, 0xff},
	color.RGBA{0x1f, 0x77, 0xb4, 0xff},
	color.RGBA{0x8c, 0x8c, 0x8c, 0xff},
	color.RGBA{0x9e, 0xc9, 0xe2, 0xff},
	color.RGBA{0xc4, 0x9a, 0x6c, 0xff},
	color.RGBA{0xd9, 0xd9, 0xd9, 0xff},
	color.RGBA{0x2c, 0x8c, 0x4a, 0xff},
	color.RGBA{0x94, 0x67, 0xbd, 0xff},
	color.RGBA{0xe3, 0xc1, 0x2f, 0xff},
}

func newPlot(title, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text = title
	p.Title.Padding = vg.Points(6)
	p.Y.Label.Text = y
	p.Legend.Top = true
	p.Legend.ThumbnailWidth = vg.Points(14)
	p.BackgroundColor = color.White
	return p
}

// maxBar is where bars end: what is slower by more is not told apart.
const maxBar = 5

// barChart draws a group of bars for each workload, and for their geometric
// mean: a bar for each implementation, relative to the base.
func (r *Report) barChart(what string, threads int, figure func(Sample) float64) (*plot.Plot, vg.Length, error) {
	workloads := append(r.timed(threads), "geometric mean")
	impls := r.impls()
	p := newPlot(fmt.Sprintf("%s relative to %s, %s (shorter is better; cut at %d)", what, r.Base(threads), count(threads, "thread"), maxBar), "")
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
		bars.Color = palette[i%len(palette)]
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
	width := vg.Points(float64(len(workloads))*(bar*float64(len(impls))+16) + 150)
	return p, width, nil
}

// lines draws a line for each implementation that has points.
func (r *Report) lines(p *plot.Plot, points func(impl string) plotter.XYs) (drawn bool, err error) {
	for i, impl := range r.impls() {
		xys := points(impl)
		if len(xys) < 2 {
			continue
		}
		l, s, err := plotter.NewLinePoints(xys)
		if err != nil {
			return false, err
		}
		l.Color, s.Color = palette[i%len(palette)], palette[i%len(palette)]
		s.Radius = vg.Points(1.5)
		p.Add(l, s)
		p.Legend.Add(impl, l)
		drawn = true
	}
	return drawn, nil
}

const lineWidth = 22 * vg.Centimeter

// scalingChart draws the geometric mean of throughputs relative to one thread.
func (r *Report) scalingChart() (*plot.Plot, vg.Length, error) {
	p := newPlot("Throughput relative to one thread (geometric mean of the workloads for any number)", "×")
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
	return p, lineWidth, err
}

// decayChart draws what is resident after everything was freed.
func (r *Report) decayChart() (*plot.Plot, vg.Length, error) {
	p := newPlot("Resident memory after everything is freed", "MiB")
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
	return p, lineWidth, err
}

// growthChart draws what a replacement costs as blocks grow many.
func (r *Report) growthChart() (*plot.Plot, vg.Length, error) {
	p := newPlot("To free a random block and make another", "ns")
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
	return p, lineWidth, err
}

// Write writes the whole report into dir: report.md, report.json and the charts.
func (r *Report) Write(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	charts, err := r.WriteCharts(dir)
	if err != nil {
		return err
	}
	md, err := os.Create(filepath.Join(dir, "report.md"))
	if err != nil {
		return err
	}
	defer md.Close()
	if err := r.WriteMarkdown(md); err != nil {
		return err
	}
	for _, name := range charts {
		if _, err := fmt.Fprintf(md, "\n![%s](%s.svg)\n", name, name); err != nil {
			return err
		}
	}
	file, err := os.Create(filepath.Join(dir, "report.json"))
	if err != nil {
		return err
	}
	defer file.Close()
	return r.WriteJSON(file)
}
