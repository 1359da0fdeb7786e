// Package suite holds the figures of a run of all workloads on all allocators:
// for machines as JSON, for people as tables and charts.
package suite

import (
	"cmp"
	"encoding/json"
	"io"
	"math"
	"slices"
	"time"

	"github.com/pyarena/pyarena/benchmarks/internal/report"
	"github.com/pyarena/pyarena/benchmarks/internal/workload"
)

// Names of what is measured besides the workloads.
const (
	Growth    = "growth"
	Decay     = "decay"
	Collector = "collector"
	trace     = "trace "
)

// TraceName returns the name of the rows of a trace.
func TraceName(name string) string { return trace + name }

// Sample is one run, in a process of its own.
type Sample struct {
	workload.Result
	PeakResident  uint64             `json:"peak_rss"`  // bytes
	BeginResident uint64             `json:"begin_rss"` // bytes, before the workload
	GCCycles      uint64             `json:"gc_cycles,omitempty"`
	GCCPU         time.Duration      `json:"gc_cpu_ns,omitempty"`
	Growth        workload.Growth    `json:"growth,omitzero"`
	Decay         []workload.Memory  `json:"decay,omitempty"`
	Collector     workload.Collector `json:"collector,omitzero"`
}

// Memory returns what the workload has made resident at most, in bytes.
func (s Sample) Memory() float64 {
	return float64(s.PeakResident) - float64(min(s.BeginResident, s.PeakResident))
}

func (s Sample) time() float64 { return float64(s.Elapsed) }

// Row is a workload on an implementation.
type Row struct {
	Workload string   `json:"workload"`
	Threads  int      `json:"threads"`
	Impl     string   `json:"impl"`
	Samples  []Sample `json:"samples"`
	Error    string   `json:"error,omitempty"` // then there are no more samples
}

// Report is a run of the suite.
type Report struct {
	Go       string            `json:"go"`
	OS       string            `json:"os"`
	Arch     string            `json:"arch"`
	CPU      string            `json:"cpu"`
	Procs    int               `json:"gomaxprocs"`
	Versions map[string]string `json:"versions"`        // of rivals
	Notes    []string          `json:"notes"`           // what is left out, and why
	Quick    bool              `json:"quick,omitempty"` // its figures are not comparable
	Seconds  float64           `json:"seconds"`
	Rows     []*Row            `json:"rows"`
}

// Row returns the row of that name, added if it is not there.
func (r *Report) Row(workload string, threads int, impl string) *Row {
	if row := r.find(workload, threads, impl); row != nil {
		return row
	}
	row := &Row{Workload: workload, Threads: threads, Impl: impl}
	r.Rows = append(r.Rows, row)
	return row
}

func (r *Report) find(workload string, threads int, impl string) *Row {
	for _, row := range r.Rows {
		if row.Workload == workload && row.Threads == threads && row.Impl == impl {
			return row
		}
	}
	return nil
}

// WriteJSON writes the report for machines.
func (r *Report) WriteJSON(w io.Writer) error { return report.Encode(w, r) }

// ReadJSON reads what WriteJSON wrote.
func ReadJSON(in io.Reader) (*Report, error) {
	r := new(Report)
	return r, json.NewDecoder(in).Decode(r)
}

// Base returns the implementation that others are compared with by so many
// threads: mimalloc, or what there is in its place.
func (r *Report) Base(threads int) string {
	for _, name := range []string{"mimalloc", "libc", "goheap"} {
		for _, row := range r.Rows {
			if row.Impl == name && row.Threads == threads && row.isTimed() {
				return name
			}
		}
	}
	return r.Rows[0].Impl
}

// impls returns the implementations, in the order of the report.
func (r *Report) impls() (names []string) {
	for _, row := range r.Rows {
		if !slices.Contains(names, row.Impl) {
			names = append(names, row.Impl)
		}
	}
	return names
}

// isTimed tells whether a row is one of a workload or a trace.
func (row *Row) isTimed() bool {
	return row.Workload != Growth && row.Workload != Decay && row.Workload != Collector
}

// timed returns the workloads of that many threads, in the order of the report.
func (r *Report) timed(threads int) (names []string) {
	for _, row := range r.Rows {
		if row.Threads == threads && row.isTimed() && !slices.Contains(names, row.Workload) {
			names = append(names, row.Workload)
		}
	}
	return names
}

// threadCounts returns the numbers of threads of timed rows, ascending.
func (r *Report) threadCounts() (counts []int) {
	for _, row := range r.Rows {
		if row.isTimed() && !slices.Contains(counts, row.Threads) {
			counts = append(counts, row.Threads)
		}
	}
	slices.Sort(counts)
	return counts
}

// blockCounts returns the numbers of live blocks of the growth rows, ascending.
func (r *Report) blockCounts() (counts []int) {
	for _, impl := range r.impls() {
		for _, s := range r.samples(Growth, impl) {
			counts = append(counts, s.Growth.Blocks)
		}
	}
	slices.Sort(counts)
	return slices.Compact(counts)
}

// Spread is a median, and how far the others are from it.
type Spread struct{ Median, Min, Max float64 }

func spread(xs []float64) Spread {
	if len(xs) == 0 {
		return Spread{math.NaN(), math.NaN(), math.NaN()}
	}
	xs = slices.Sorted(slices.Values(xs))
	return Spread{xs[(len(xs)-1)/2], xs[0], xs[len(xs)-1]}
}

// of returns the spread of a figure.
func (row *Row) of(figure func(Sample) float64) Spread {
	var xs []float64
	for _, s := range row.Samples {
		xs = append(xs, figure(s))
	}
	return spread(xs)
}

// against returns the ratio of a figure of the row to the base's, round by round.
func (row *Row) against(base *Row, figure func(Sample) float64) Spread {
	if row == nil || base == nil || row.Error != "" || base.Error != "" {
		return spread(nil)
	}
	var xs []float64
	for i := range min(len(row.Samples), len(base.Samples)) {
		if b := figure(base.Samples[i]); b > 0 {
			xs = append(xs, figure(row.Samples[i])/b)
		}
	}
	return spread(xs)
}

// geomean returns the geometric mean of the numbers that are there.
func geomean(xs []float64) float64 {
	sum, n := 0.0, 0
	for _, x := range xs {
		if x > 0 {
			sum += math.Log(x)
			n++
		}
	}
	if n == 0 {
		return math.NaN()
	}
	return math.Exp(sum / float64(n))
}

// ratios returns, for the workloads of that many threads, the median ratios of
// an implementation to the base; NaN where there is none.
func (r *Report) ratios(threads int, impl string, figure func(Sample) float64) (xs []float64) {
	for _, w := range r.timed(threads) {
		xs = append(xs, r.find(w, threads, impl).against(r.find(w, threads, r.Base(threads)), figure).Median)
	}
	return xs
}

// samples returns the samples of growth or collector rows of an implementation,
// by the number of blocks.
func (r *Report) samples(workload, impl string) (out []Sample) {
	for _, row := range r.Rows {
		if row.Workload == workload && row.Impl == impl {
			out = append(out, row.Samples...)
		}
	}
	slices.SortStableFunc(out, func(a, b Sample) int {
		return cmp.Compare(a.Growth.Blocks+a.Collector.Values, b.Growth.Blocks+b.Collector.Values)
	})
	return out
}
