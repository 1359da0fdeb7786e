// Package chart is how all charts of this module look.
package chart

import (
	"errors"
	"image/color"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// palette has the colours: those that matter most come first, and are dark.
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
	color.RGBA{0x17, 0xa8, 0xb3, 0xff},
	color.RGBA{0x6b, 0x4a, 0x3a, 0xff},
}

// Colour returns the colour of the i-th thing that is drawn.
func Colour(i int) color.Color { return palette[i%len(palette)] }

// New returns an empty chart. Its legend will stand beside it: see Save.
func New(title, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text = title
	p.Title.Padding = vg.Points(6)
	p.Y.Label.Text = y
	p.Legend.Top = true
	p.Legend.ThumbnailWidth = vg.Points(14)
	p.Legend.Padding = vg.Points(2)
	p.BackgroundColor = color.White
	return p
}

// Counts returns marks for an axis of counted things: at those counts, and nowhere else.
func Counts(counts []int) plot.ConstantTicks {
	ticks := make(plot.ConstantTicks, len(counts))
	for i, n := range counts {
		ticks[i] = plot.Tick{Value: float64(n), Label: humanize.Comma(int64(n))}
	}
	return ticks
}

// LineWidth is the width of a chart of lines.
const LineWidth = 18 * vg.Centimeter

// AddLine draws the i-th line, with its points if these are few.
func AddLine(p *plot.Plot, name string, i int, xys plotter.XYs, points bool) error {
	l, s, err := plotter.NewLinePoints(xys)
	if err != nil {
		return err
	}
	l.Color, s.Color = Colour(i), Colour(i)
	s.Radius = vg.Points(1.5)
	p.Add(l)
	if points {
		p.Add(s)
	}
	p.Legend.Add(name, l)
	return nil
}

const (
	height = 11 * vg.Centimeter
	margin = 2 * vg.Millimeter // around everything, and between chart and legend
)

// Save writes a chart into dir, as SVG and as PNG. It is as wide as told, or as its title
// if that needs more; the legend comes on top, to the right.
func Save(p *plot.Plot, width vg.Length, dir, name string) error {
	legend := p.Legend
	p.Legend = plot.NewLegend()
	width = max(width, p.Title.TextStyle.Width(p.Title.Text))
	// A browser without the font has another, whose letters may be wider.
	beside := legend.Rectangle(draw.Canvas{}).Size().X * 1.1
	for _, format := range []string{"svg", "png"} {
		c, err := draw.NewFormattedCanvas(width+beside+3*margin, height+2*margin, format)
		if err != nil {
			return err
		}
		all := draw.New(c)
		all.SetColor(p.BackgroundColor)
		all.Fill(all.Rectangle.Path())
		p.Draw(draw.Crop(all, margin, -2*margin-beside, margin, -margin))
		legend.Draw(draw.Crop(all, margin, -margin, margin, -margin))
		if err := write(filepath.Join(dir, name+"."+format), c); err != nil {
			return err
		}
	}
	return nil
}

func write(file string, c vg.CanvasWriterTo) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = c.WriteTo(f)
	return errors.Join(err, f.Close())
}
