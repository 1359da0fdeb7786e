package suite

import (
	"fmt"
	"io"
)

// WriteComparison writes what has changed between two reports: of every row that
// both have, time and memory of the new one relative to the old one's.
func WriteComparison(w io.Writer, older, newer *Report) error {
	if _, err := fmt.Fprintf(w, "%-22s %7s  %-14s %6s  %6s\n", "", "threads", "", "time", "memory"); err != nil {
		return err
	}
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
		if _, err := fmt.Fprintf(w, "%-22s %7d  %-14s %6s  %6s\n", row.Workload, row.Threads, row.Impl, ratio(t), ratio(m)); err != nil {
			return err
		}
	}
	for _, impl := range newer.impls() {
		if all, ok := byImpl[impl]; ok {
			if _, err := fmt.Fprintf(w, "%-22s %7s  %-14s %6s  %6s\n", "geometric mean", "", impl, ratio(geomean(all[0])), ratio(geomean(all[1]))); err != nil {
				return err
			}
		}
	}
	return nil
}
