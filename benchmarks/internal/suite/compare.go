package suite

import (
	"fmt"
	"io"
	"strconv"

	"github.com/pyarena/pyarena/benchmarks/internal/report"
)

// WriteComparison writes what has changed between two reports: of every row that
// both have, time and memory of the new one relative to the old one's.
func WriteComparison(w io.Writer, older, newer *Report) error {
	rows := [][]string{{"", "", "threads", "time", "memory"}}
	byImpl := map[string][2][]float64{}
	for _, row := range newer.Rows {
		before := older.find(row.Workload, row.Threads, row.Impl)
		if before == nil || !row.isTimed() || len(row.Samples) == 0 || len(before.Samples) == 0 {
			continue
		}
		// The rounds of two runs have nothing to do with each other.
		t := row.of(Sample.time).Median / before.of(Sample.time).Median
		m := row.of(Sample.Memory).Median / before.of(Sample.Memory).Median
		all := byImpl[row.Impl]
		byImpl[row.Impl] = [2][]float64{append(all[0], t), append(all[1], m)}
		rows = append(rows, []string{row.Workload, row.Impl, strconv.Itoa(row.Threads), ratio(t), ratio(m)})
	}
	for _, impl := range newer.impls() {
		if all, ok := byImpl[impl]; ok {
			rows = append(rows, []string{"geometric mean", impl, "", ratio(geomean(all[0])), ratio(geomean(all[1]))})
		}
	}
	note := ""
	if older.Quick || newer.Quick {
		note = report.QuickNote + "\n"
	}
	_, err := fmt.Fprint(w, note, report.Columns("llr", rows))
	return err
}
