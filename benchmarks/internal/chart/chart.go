// Package chart is how all charts of this module look.
package chart

import (
	"image/color"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
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

// New returns an empty chart.
func New(title, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text = title
	p.Title.Padding = vg.Points(6)
	p.Y.Label.Text = y
	p.Legend.Top = true
	p.Legend.ThumbnailWidth = vg.Points(14)
	p.BackgroundColor = color.White
	return p
}

// LineWidth is the width of a chart of lines.
const LineWidth = 22 * vg.Centimeter

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

// Save writes a chart into dir, as SVG and as PNG.
func Save(p *plot.Plot, width vg.Length, dir, name string) error {
	for _, ending := range []string{".svg", ".png"} {
		if err := p.Save(width, 11*vg.Centimeter, filepath.Join(dir, name+ending)); err != nil {
			return err
		}
	}
	return nil
}
