package report

import (
	"bytes"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pyarena/pyarena/benchmarks/internal/impl"
	"github.com/pyarena/pyarena/benchmarks/internal/replay"
)

var update = flag.Bool("update", false, "write the golden file anew")

// sample has every kind of cell: known, unknown, zero, failed.
func sample() *Report {
	timing := func(ms int, cycles uint64, cpu float64, calls *impl.Calls) replay.Timing {
		return replay.Timing{
			Elapsed: time.Duration(ms) * time.Millisecond, GCCycles: cycles, GCCPU: cpu,
			Faults: uint64(100 * ms), Calls: calls,
		}
	}
	return &Report{
		Go: "go1.26", OS: "linux", Arch: "amd64", Procs: 2, Modernc: "v1.2.3", Seconds: 59.6,
		Traces: []Trace{{
			Name: "one", Program: "prog", Records: 1_000_000, Threads: 1, PeakBytes: 10 << 20, PeakBlocks: 12_345,
			Rows: []Row{
				{
					Impl:    "pymalloc",
					Memory:  replay.Memory{Live: 10 << 20, Mapped: 15 << 20, Resident: 12 << 20},
					Timings: []replay.Timing{timing(30, 0, 0, &impl.Calls{Map: 16}), timing(20, 0, 0, &impl.Calls{Map: 15, Unmap: 1}), timing(40, 0, 0, &impl.Calls{Map: 17})},
				},
				{
					Impl:    "goheap",
					Memory:  replay.Memory{Live: 10 << 20, Mapped: 30 << 20, Resident: 31 << 20},
					Timings: []replay.Timing{timing(100, 12, 0.0375, nil), timing(90, 11, 0.03, nil)},
				},
				{Impl: "unmeasured", Timings: []replay.Timing{{Elapsed: 50 * time.Millisecond}}},
				{Impl: "broken", Error: "record 7: free: block of 64 bytes: byte 3 of 64 is 0x01, was written as 0x02"},
			},
		}, {
			Name: "two", Program: "other", Threads: 3,
			Rows: []Row{{Impl: "pymalloc", Timings: []replay.Timing{{}}}},
		}},
	}
}

func TestWriteTextIsGolden(t *testing.T) {
	var got bytes.Buffer
	if err := sample().WriteText(&got); err != nil {
		t.Fatal(err)
	}
	const file = "testdata/table.golden"
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// A checkout on Windows may have other line ends.
	if want := strings.ReplaceAll(string(want), "\r\n", "\n"); got.String() != want {
		t.Errorf("got\n%s\nwant\n%s\n(-update writes it anew)", got.String(), want)
	}
}

func TestJSONRoundTrip(t *testing.T) {
	var b bytes.Buffer
	if err := sample().WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	got, err := ReadJSON(&b)
	if err != nil {
		t.Fatal(err)
	}
	if want := sample(); !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	if _, err := ReadJSON(strings.NewReader("{")); err == nil {
		t.Error("half a report is read without an error")
	}
}
