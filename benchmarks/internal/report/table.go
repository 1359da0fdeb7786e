package report

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

	"github.com/pyarena/pyarena/benchmarks/internal/replay"
)

// unknown stands where a figure is not known.
const unknown = "-"

const legend = `ns/op     wall time of the median round, divided by the records of the trace
range     the fastest and the slowest round
mapped    most bytes had from the system; resident: most bytes in memory, every block filled
×live     that, divided by the most bytes that the trace has live at once
GCs       collections that ended during the median round, and their CPU time
maps      calls for memory or address space, unmaps those that gave it back; faults: page faults
`

var columns = []string{
	"", "ns/op", "range", "mapped", "×live", "resident", "×live",
	"GCs", "GC CPU", "maps", "unmaps", "faults",
}

// WriteText writes the report for people: a block for each trace.
func (r *Report) WriteText(w io.Writer) error {
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "%s %s/%s, GOMAXPROCS %d, modernc.org/memory %s; %.0f s in all\n",
		r.Go, r.OS, r.Arch, r.Procs, r.Modernc, r.Seconds)
	for i := range r.Traces {
		out.WriteByte('\n')
		r.Traces[i].write(out)
	}
	out.WriteString("\n" + legend)
	return out.Flush()
}

func (t *Trace) write(out io.Writer) {
	rounds := 0
	for _, row := range t.Rows {
		rounds = max(rounds, len(row.Timings))
	}
	fmt.Fprintf(out, "%s: %s, %s, %s, at most %s live in %s; %s\n",
		t.Name, t.Program, count(t.Records, "record"), count(t.Threads, "thread"),
		humanize.IBytes(t.PeakBytes), count(int(t.PeakBlocks), "block"), count(rounds, "round"))
	table := [][]string{columns}
	for _, row := range t.Rows {
		table = append(table, row.cells(t))
	}
	writeTable(out, table)
	for _, row := range t.Rows {
		if row.Error != "" {
			fmt.Fprintf(out, "FAILED: %s: %s\n", row.Impl, row.Error)
		}
	}
}

// count returns so many things in words.
func count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return humanize.Comma(int64(n)) + " " + thing
}

// cells returns the row as columns has it.
func (r Row) cells(t *Trace) []string {
	if r.Error != "" || len(r.Timings) == 0 {
		return []string{r.Impl, "FAILED"}
	}
	perOp := func(t0 replay.Timing) string {
		return fmt.Sprintf("%.1f", float64(t0.Elapsed.Nanoseconds())/float64(max(t.Records, 1)))
	}
	rounds := r.sorted()
	median := rounds[(len(rounds)-1)/2]
	bytes := func(n uint64) (string, string) {
		if n == 0 {
			return unknown, unknown
		}
		return humanize.IBytes(n), fmt.Sprintf("%.2f", float64(n)/float64(max(t.PeakBytes, 1)))
	}
	mapped, mappedRatio := bytes(r.Memory.Mapped)
	resident, residentRatio := bytes(r.Memory.Resident)
	maps, unmaps := unknown, unknown
	if c := median.Calls; c != nil {
		maps, unmaps = humanize.Comma(int64(c.Map)), humanize.Comma(int64(c.Unmap))
	}
	faults := unknown
	if median.Faults > 0 {
		faults = humanize.Comma(int64(median.Faults))
	}
	return []string{
		r.Impl, perOp(median), perOp(rounds[0]) + "–" + perOp(rounds[len(rounds)-1]),
		mapped, mappedRatio, resident, residentRatio,
		strconv.FormatUint(median.GCCycles, 10), cpuTime(median.GCCPU), maps, unmaps, faults,
	}
}

// cpuTime rounds to what a table can show.
func cpuTime(seconds float64) string {
	if seconds == 0 {
		return "0"
	}
	return time.Duration(seconds * 1e9).Round(100 * time.Microsecond).String()
}

// writeTable aligns the first column left and the others right.
func writeTable(out io.Writer, rows [][]string) {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				line.WriteString("  " + cell + pad)
			} else {
				line.WriteString("  " + pad + cell)
			}
		}
		fmt.Fprintln(out, strings.TrimRight(line.String(), " "))
	}
}
