package report

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

	"github.com/pyarena/pyarena/benchmarks/internal/replay"
)

// unknown stands where a figure is not known.
const unknown = "-"

// QuickNote is what a quick run says of itself.
const QuickNote = "A quick run (-quick): it shows that everything runs. Its figures are not comparable, with each other or with those of other runs."

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
	if r.Quick {
		fmt.Fprintf(out, "\n%s\n", QuickNote)
	}
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
		t.Name, t.Program, Count(t.Records, "record"), Count(t.Threads, "thread"),
		humanize.IBytes(t.PeakBytes), Count(int(t.PeakBlocks), "block"), Count(rounds, "round"))
	table := [][]string{columns}
	for _, row := range t.Rows {
		table = append(table, row.cells(t))
	}
	fmt.Fprint(out, Columns("lr", table))
	for _, row := range t.Rows {
		if row.Error != "" {
			fmt.Fprintf(out, "FAILED: %s: %s\n", row.Impl, row.Error)
		}
	}
}

// Count returns so many things in words: "1 thread", "2 threads".
func Count(n int, thing string) string {
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

// Columns returns a table as text. align has a letter for each column, l or r for left or
// right; the last stands for all that follow.
func Columns(align string, rows [][]string) string {
	var b strings.Builder
	for _, row := range aligned(align, rows) {
		b.WriteString(strings.TrimRight("  "+strings.Join(row, "  "), " ") + "\n")
	}
	return b.String()
}

// Table returns a table in Markdown, the first row its head, aligned as Columns is: its
// text is for terminals as well.
func Table(align string, rows [][]string) string {
	rule := slices.Repeat([]string{"---:"}, len(rows[0]))
	table := aligned(align, slices.Insert(slices.Clone(rows), 1, rule))
	for i, cell := range table[1] {
		table[1][i] = strings.Repeat("-", len(cell))
		if isRight(align, i) {
			table[1][i] = table[1][i][1:] + ":"
		}
	}
	var b strings.Builder
	for _, row := range table {
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
	}
	return b.String()
}

// isRight reports whether column i is aligned right.
func isRight(align string, i int) bool { return align[min(i, len(align)-1)] == 'r' }

// aligned returns the rows with every cell as wide as the widest of its column. A row may
// have fewer cells than the first.
func aligned(align string, rows [][]string) [][]string {
	width := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	out := make([][]string, len(rows))
	for n, row := range rows {
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if isRight(align, i) {
				cell = pad + cell
			} else {
				cell += pad
			}
			out[n] = append(out[n], cell)
		}
	}
	return out
}
