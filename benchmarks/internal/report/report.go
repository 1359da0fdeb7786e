// Package report holds the figures of a comparison, for machines as JSON and for
// people as tables.
package report

import (
	"cmp"
	"encoding/json"
	"io"
	"slices"

	"github.com/pyarena/pyarena/benchmarks/internal/replay"
)

// Report is a comparison.
type Report struct {
	Go      string  `json:"go"`
	OS      string  `json:"os"`
	Arch    string  `json:"arch"`
	Procs   int     `json:"gomaxprocs"`
	Modernc string  `json:"modernc_version"` // of modernc.org/memory
	Quick   bool    `json:"quick,omitempty"` // its figures are not comparable
	Seconds float64 `json:"seconds"`         // that it took
	Traces  []Trace `json:"traces"`
}

// Trace is the figures of one trace.
type Trace struct {
	Name       string `json:"name"`
	Program    string `json:"program"`
	Records    int    `json:"records"`
	Threads    int    `json:"threads"`
	PeakBytes  uint64 `json:"peak_live_bytes"`
	PeakBlocks uint64 `json:"peak_live_blocks"`
	Rows       []Row  `json:"implementations"`
}

// Row is the figures of one implementation on a trace.
type Row struct {
	Impl    string          `json:"name"`
	Error   string          `json:"error,omitempty"` // then there is no timing
	Memory  replay.Memory   `json:"memory"`
	Timings []replay.Timing `json:"rounds"`
}

// sorted returns the timings, fastest first.
func (r Row) sorted() []replay.Timing {
	return slices.SortedFunc(slices.Values(r.Timings), func(a, b replay.Timing) int {
		return cmp.Compare(a.Elapsed, b.Elapsed)
	})
}

// WriteJSON writes the report for machines.
func (r *Report) WriteJSON(w io.Writer) error { return Encode(w, r) }

// Encode writes v as all reports are written for machines.
func Encode(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "\t")
	return e.Encode(v)
}

// ReadJSON reads what WriteJSON wrote.
func ReadJSON(in io.Reader) (*Report, error) {
	r := new(Report)
	return r, json.NewDecoder(in).Decode(r)
}
