package soak

import (
	"bufio"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"time"

	"github.com/dustin/go-humanize"
	"gonum.org/v1/plot/plotter"

	"github.com/pyarena/pyarena/benchmarks/internal/chart"
	"github.com/pyarena/pyarena/benchmarks/internal/proc"
	"github.com/pyarena/pyarena/benchmarks/internal/report"
)

// Sample is the memory at a moment, in bytes.
type Sample struct {
	At       time.Duration `json:"at_ns"` // since the load began
	Phase    string        `json:"phase"`
	Resident uint64        `json:"resident"` // of the process; files that it runs from are not in it
	RSS      uint64        `json:"rss"`      // with those files
	Go       uint64        `json:"go"`       // that the Go runtime has
	Objects  uint64        `json:"objects"`  // on the Go heap
	Mapped   uint64        `json:"mapped"`   // for blocks
	Tables   uint64        `json:"tables"`   // pymalloc's
	InUse    uint64        `json:"in_use"`   // of live blocks
	Live     uint64        `json:"live_blocks"`

	Pymalloc uint64 `json:"pymalloc,omitempty"` // of Resident: that pymalloc has from the system; only when all is freed
}

func (s Sample) String() string {
	return fmt.Sprintf("%s blocks of %s; mapped %s, resident %s",
		humanize.Comma(int64(s.Live)), humanize.IBytes(s.InUse), humanize.IBytes(s.Mapped), resident(s.Resident))
}

// resident is for people; the system may not have told.
func resident(n uint64) string {
	if n == 0 {
		return "-"
	}
	return humanize.IBytes(n)
}

// Phase is how a phase ended.
type Phase struct {
	Cycle int    `json:"cycle"`
	Name  string `json:"name"`
	End   Sample `json:"end"`
}

// Counts is what was done.
type Counts struct {
	Requests uint64 `json:"requests"`
	Blocks   uint64 `json:"blocks"` // made, and freed
	Frees    uint64 `json:"frees"`
	Bytes    uint64 `json:"bytes"` // of those that were made
	Resizes  uint64 `json:"resizes"`
	Messages uint64 `json:"messages"`
	Batches  uint64 `json:"batches"`
	Heaps    uint64 `json:"heaps"`
}

func (c *Counts) add(more Counts) {
	c.Requests += more.Requests
	c.Blocks += more.Blocks
	c.Frees += more.Frees
	c.Bytes += more.Bytes
	c.Resizes += more.Resizes
	c.Messages += more.Messages
	c.Batches += more.Batches
	c.Heaps += more.Heaps
}

// Report is a run.
type Report struct {
	Go         string        `json:"go"`
	OS         string        `json:"os"`
	Arch       string        `json:"arch"`
	CPU        string        `json:"cpu"`
	Procs      int           `json:"gomaxprocs"` // at the beginning
	For        time.Duration `json:"for_ns"`
	Cycles     int           `json:"cycles"`
	LiveBytes  int           `json:"live_bytes"`
	Goroutines int           `json:"goroutines"`
	Seed       uint64        `json:"seed"`
	Accepted   float64       `json:"accepted_growth_percent"`
	Error      string        `json:"error,omitempty"`
	Begin      Sample        `json:"begin"` // after the warm-up, everything freed
	End        Sample        `json:"end"`   // everything freed again
	Counts     Counts        `json:"counts"`
	Checks     int           `json:"checks"` // of the structure
	Phases     []Phase       `json:"phases"`
	Samples    []Sample      `json:"samples"`
}

// newReport returns a report with room for its samples that is resident already,
// so that they do not count as growth.
func newReport(c Config, cycles int) *Report {
	samples := make([]Sample, maxSamples+100)
	for i := range samples {
		samples[i].At = 1
	}
	return &Report{
		Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, CPU: proc.CPU(), Procs: runtime.GOMAXPROCS(0),
		For: c.For, Cycles: cycles, LiveBytes: c.LiveBytes, Goroutines: c.Goroutines, Seed: c.Seed, Accepted: c.Growth,
		Phases: make([]Phase, 0, cycles*len(phases)), Samples: samples[:0],
	}
}

func (r *Report) add(s Sample) { r.Samples = append(r.Samples, s) }

// Growth returns how much more is resident at the end than at the beginning, how much
// of it is what pymalloc has from the system, and how much objects on the Go heap,
// all in percent of what was resident at the beginning. The rest is the Go runtime's
// own. All are 0 where the system does not tell.
func (r *Report) Growth() (all, pymalloc, objects float64) {
	if r.Begin.Resident == 0 || r.End.Resident == 0 {
		return 0, 0, 0
	}
	more := func(begin, end uint64) float64 {
		return 100 * (float64(end) - float64(begin)) / float64(r.Begin.Resident)
	}
	b, e := r.Begin, r.End
	return more(b.Resident, e.Resident), more(b.Pymalloc, e.Pymalloc), more(b.Objects, e.Objects)
}

// WriteJSON writes the report for machines.
func (r *Report) WriteJSON(w io.Writer) error { return report.Encode(w, r) }

// WriteMarkdown writes the report for people.
func (r *Report) WriteMarkdown(w io.Writer) error {
	out := bufio.NewWriter(w)
	c := r.Counts
	fmt.Fprintf(out, "# Soak\n\n%s, %s/%s, %s, GOMAXPROCS %d and others; %v in %s, %s, up to %s live, seed %d.\n\n",
		r.Go, r.OS, r.Arch, r.CPU, r.Procs, r.For, report.Count(r.Cycles, "cycle"), report.Count(r.Goroutines, "goroutine"), humanize.IBytes(uint64(r.LiveBytes)), r.Seed)
	if r.Error != "" {
		fmt.Fprintf(out, "FAILED: %s\n\n", r.Error)
	} else {
		fmt.Fprintf(out, "Nothing went wrong: %s checks of the structure, and every byte of every block was what it should be.\n\n", humanize.Comma(int64(r.Checks)))
	}
	done := [][]string{{"", ""}}
	for _, row := range []struct {
		what string
		n    uint64
	}{
		{"requests", c.Requests},
		{"blocks made", c.Blocks},
		{"blocks freed", c.Frees},
		{"blocks resized", c.Resizes},
		{"messages between goroutines", c.Messages},
		{"batches", c.Batches},
		{"heaps acquired", c.Heaps},
	} {
		done = append(done, []string{row.what, humanize.Comma(int64(row.n))})
	}
	done = append(done, []string{"bytes of the blocks made", humanize.IBytes(c.Bytes)})
	fmt.Fprint(out, report.Table("lr", done))
	fmt.Fprintf(out, "\n## Everything freed\n\n"+
		"Nothing but time has passed, and `debug.FreeOSMemory` has been called. The beginning is after the warm-up, which is not counted.\n\n")
	freed := [][]string{{"", "resident", "of it pymalloc's", "objects on the Go heap", "with files", "Go runtime", "mapped for blocks", "tables"}}
	for _, row := range []struct {
		what string
		s    Sample
	}{{"beginning", r.Begin}, {"end", r.End}} {
		freed = append(freed, []string{
			row.what, resident(row.s.Resident), resident(row.s.Pymalloc), humanize.IBytes(row.s.Objects),
			resident(row.s.RSS), humanize.IBytes(row.s.Go), humanize.IBytes(row.s.Mapped), humanize.IBytes(row.s.Tables),
		})
	}
	fmt.Fprint(out, report.Table("lr", freed))
	if r.Begin.Resident > 0 && r.End.Resident > 0 {
		all, pymalloc, objects := r.Growth()
		rss := 100 * (float64(r.End.RSS) - float64(r.Begin.RSS)) / float64(r.Begin.RSS)
		fmt.Fprintf(out, "\nResident memory: %+.1f %% with files, %+.1f %% without. Pymalloc has %+.1f of the latter, and objects on the Go heap %+.1f: together at most %.1f are accepted. The rest, %+.1f, is the Go runtime's own.\n",
			rss, all, pymalloc, objects, r.Accepted, all-pymalloc-objects)
	}
	fmt.Fprintf(out, "\n## At the end of each phase\n\n")
	phases := [][]string{{"cycle", "phase", "live blocks", "of bytes", "mapped", "resident"}}
	for _, p := range r.Phases {
		phases = append(phases, []string{
			strconv.Itoa(p.Cycle), p.Name, humanize.Comma(int64(p.End.Live)),
			humanize.IBytes(p.End.InUse), humanize.IBytes(p.End.Mapped), resident(p.End.Resident),
		})
	}
	fmt.Fprint(out, report.Table("rlr", phases))
	return out.Flush()
}

// WriteCharts draws the memory over time.
func (r *Report) WriteCharts(dir string) ([]string, error) {
	if len(r.Samples) < 2 {
		return nil, nil
	}
	const name = "memory"
	p := chart.New("Memory under the load of a server", "MiB")
	p.X.Label.Text = "minutes"
	p.Y.Min = 0
	for i, line := range []struct {
		name  string
		bytes func(s Sample) uint64
	}{
		{"resident", func(s Sample) uint64 { return s.Resident }},
		{"mapped for blocks", func(s Sample) uint64 { return s.Mapped }},
		{"live blocks", func(s Sample) uint64 { return s.InUse }},
		{"resident at the beginning", func(Sample) uint64 { return r.Begin.Resident }},
	} {
		var xys plotter.XYs
		for _, s := range r.Samples {
			xys = append(xys, plotter.XY{X: s.At.Minutes(), Y: float64(line.bytes(s)) / (1 << 20)})
		}
		if err := chart.AddLine(p, line.name, i, xys, false); err != nil {
			return nil, err
		}
	}
	return []string{name}, chart.Save(p, chart.LineWidth, dir, name)
}
