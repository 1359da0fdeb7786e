package suite

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/pyarena/pyarena/benchmarks/internal/report"
)

// WriteMarkdown writes the report for people.
func (r *Report) WriteMarkdown(w io.Writer) error {
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "# Workloads\n\n%s, %s/%s, %s, GOMAXPROCS %d; %.0f s in all.\n", r.Go, r.OS, r.Arch, r.CPU, r.Procs, r.Seconds)
	var versions []string
	for name, v := range r.Versions {
		versions = append(versions, name+" "+v)
	}
	slices.Sort(versions)
	fmt.Fprintf(out, "%s.\n", strings.Join(versions, ", "))
	if r.Quick {
		fmt.Fprintf(out, "\n> %s\n", report.QuickNote)
	}
	for _, note := range r.Notes {
		fmt.Fprintf(out, "\n> %s\n", note)
	}
	for _, threads := range r.threadCounts() {
		r.writeRatios(out, fmt.Sprintf("Time, %s", report.Count(threads, "thread")), threads, Sample.time,
			func(x float64) string { return time.Duration(x).Round(100 * time.Microsecond).String() })
		r.writeRatios(out, fmt.Sprintf("Peak memory, %s", report.Count(threads, "thread")), threads, Sample.Memory,
			func(x float64) string { return humanize.IBytes(uint64(x)) })
	}
	r.writeGrowth(out)
	r.writeCollector(out)
	r.writeDecay(out)
	for _, row := range r.Rows {
		if row.Error != "" {
			fmt.Fprintf(out, "\nFAILED: %s, %s, %s: %s\n", row.Workload, report.Count(row.Threads, "thread"), row.Impl, row.Error)
		}
	}
	return out.Flush()
}

func ratio(x float64) string {
	if math.IsNaN(x) {
		return "-"
	}
	return fmt.Sprintf("%.2f", x)
}

// writeRatios writes a table: a line for each workload, a column for each
// implementation, each figure relative to the base's.
func (r *Report) writeRatios(out io.Writer, title string, threads int, figure func(Sample) float64, human func(float64) string) {
	base := r.Base(threads)
	fmt.Fprintf(out, "\n## %s, relative to %s\n\nThe median of the rounds' ratios; in brackets the smallest and the largest.\n\n", title, base)
	impls := r.impls()
	rows := [][]string{append([]string{"", base + " alone"}, impls...)}
	for _, w := range r.timed(threads) {
		b := r.find(w, threads, base)
		row := []string{w, "-"}
		if b != nil && len(b.Samples) > 0 {
			row[1] = human(b.of(figure).Median)
		}
		for _, impl := range impls {
			s := r.find(w, threads, impl).against(b, figure)
			cell := ratio(s.Median)
			if impl != base && s.Max-s.Min > 0.005 {
				cell += fmt.Sprintf(" (%.2f–%.2f)", s.Min, s.Max)
			}
			row = append(row, cell)
		}
		rows = append(rows, row)
	}
	means := []string{"**geometric mean**", ""}
	for _, impl := range impls {
		means = append(means, "**"+ratio(geomean(r.ratios(threads, impl, figure)))+"**")
	}
	fmt.Fprint(out, report.Table("lr", append(rows, means)))
}

func (r *Report) writeGrowth(out io.Writer) {
	fmt.Fprint(out, "\n## As the number of live 64-byte blocks grows\n\n"+
		"To make one while they become so many; to free a random one and make another; to free all, in random order; resident bytes of a block beyond its 64.\n\n")
	rows := [][]string{{"", "live blocks", "make", "replace", "free", "overhead"}}
	for _, impl := range r.impls() {
		for _, s := range r.samples(Growth, impl) {
			g := s.Growth
			rows = append(rows, []string{
				impl, humanize.Comma(int64(g.Blocks)),
				fmt.Sprintf("%.1f ns", g.MakeNs), fmt.Sprintf("%.1f ns", g.SwapNs), fmt.Sprintf("%.1f ns", g.FreeNs), fmt.Sprintf("%.1f B", g.Overhead),
			})
		}
	}
	fmt.Fprint(out, report.Table("lr", rows))
}

func (r *Report) writeCollector(out io.Writer) {
	fmt.Fprint(out, "\n## A collection beside live 64-byte values\n\n")
	rows := [][]string{{"values in", "live values", "cycle", "CPU"}}
	for _, impl := range r.impls() {
		for _, s := range r.samples(Collector, impl) {
			c := s.Collector
			rows = append(rows, []string{
				impl, humanize.Comma(int64(c.Values)),
				c.Cycle.Round(time.Microsecond).String(), c.CPU.Round(10 * time.Microsecond).String(),
			})
		}
	}
	fmt.Fprint(out, report.Table("lr", rows))
}

// decayTimes are the moments that the table shows.
var decayTimes = []time.Duration{0, time.Second / 2, time.Second, 2 * time.Second, 3 * time.Second, 3900 * time.Millisecond}

func (r *Report) writeDecay(out io.Writer) {
	fmt.Fprint(out, "\n## Resident memory after everything is freed, the program doing nothing\n\n")
	head := []string{"", "full"}
	for _, at := range decayTimes {
		head = append(head, at.String())
	}
	rows := [][]string{head}
	for _, impl := range r.impls() {
		for _, s := range r.samples(Decay, impl) {
			if len(s.Decay) < 2 {
				continue
			}
			row := []string{impl, humanize.IBytes(s.Decay[0].Resident)}
			for _, at := range decayTimes {
				m := s.Decay[1]
				for _, next := range s.Decay[1:] {
					if next.At <= at+25*time.Millisecond {
						m = next
					}
				}
				row = append(row, humanize.IBytes(m.Resident))
			}
			rows = append(rows, row)
		}
	}
	fmt.Fprint(out, report.Table("lr", rows))
}
