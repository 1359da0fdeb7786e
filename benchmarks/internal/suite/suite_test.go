package suite

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pyarena/pyarena/benchmarks/internal/workload"
)

var update = flag.Bool("update", false, "write the golden files anew")

// sample is a run of so many milliseconds, that made so many MiB resident.
func sample(ms, mib int) Sample {
	return Sample{
		Result:       workload.Result{Elapsed: time.Duration(ms) * time.Millisecond, Mallocs: 10, Bytes: 100},
		PeakResident: uint64(mib+2) << 20, BeginResident: 2 << 20,
	}
}

// example is a report with every kind of row, one that failed and one that is
// not there.
func example() *Report {
	r := &Report{
		Go: "go1.99", OS: "linux", Arch: "amd64", CPU: "a processor", Procs: 2, Seconds: 12,
		Versions: map[string]string{"mimalloc": "libmimalloc.so.9", "a rival": "v1"},
		Notes:    []string{"something is left out: there is a reason."},
	}
	add := func(workload string, threads int, impl string, samples ...Sample) {
		r.Row(workload, threads, impl).Samples = samples
	}
	for _, threads := range []int{1, 2} {
		add("larson", threads, "pymalloc", sample(80/threads, 9), sample(110/threads, 9), sample(90/threads, 11))
		add("larson", threads, "mimalloc", sample(100/threads, 10), sample(100/threads, 10), sample(100/threads, 10))
	}
	add("mleak", 1, "pymalloc", sample(50, 1), sample(50, 1), sample(50, 1))
	add("mleak", 1, "mimalloc", sample(200, 4), sample(200, 4), sample(200, 4))
	add("sh6bench", 1, "mimalloc", sample(10, 4))
	r.Row("sh6bench", 1, "pymalloc").Error = "it fell over"
	add(TraceName("git"), 3, "pymalloc", sample(30, 3))
	add(TraceName("git"), 3, "goheap", sample(60, 12))
	for _, n := range []int{1000, 10_000} {
		s := Sample{Growth: workload.Growth{Blocks: n, MakeNs: 10, SwapNs: 20 + float64(n)/1000, FreeNs: 7, Overhead: 1.5}}
		row := &Row{Workload: Growth, Threads: 1, Impl: "pymalloc", Samples: []Sample{s}}
		r.Rows = append(r.Rows, row)
	}
	add(Collector, 1, "goheap", Sample{Collector: workload.Collector{Values: 10_000, Cycle: 1500 * time.Microsecond, CPU: 2 * time.Millisecond}})
	var decay []workload.Memory
	for at := -50 * time.Millisecond; at < 4*time.Second; at += 50 * time.Millisecond {
		m := workload.Memory{At: at, Resident: 256 << 20}
		if at >= time.Second {
			m.Resident = 8 << 20
		}
		decay = append(decay, m)
	}
	add(Decay, 1, "pymalloc", Sample{Decay: decay})
	return r
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want = bytes.ReplaceAll(want, []byte("\r\n"), []byte("\n")); !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

func TestMarkdown(t *testing.T) {
	var b bytes.Buffer
	if err := example().WriteMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "report.md", b.Bytes())
}

func TestComparison(t *testing.T) {
	older, newer := example(), example()
	for _, row := range newer.Rows {
		for i := range row.Samples {
			if row.Impl == "pymalloc" {
				row.Samples[i].Elapsed /= 2
			}
		}
	}
	var b bytes.Buffer
	if err := WriteComparison(&b, older, newer); err != nil {
		t.Fatal(err)
	}
	golden(t, "comparison.txt", b.Bytes())
}

// A quick run says that it is one wherever its figures are shown.
func TestQuickIsTold(t *testing.T) {
	for _, quick := range []bool{false, true} {
		r := example()
		r.Quick = quick
		dir := t.TempDir()
		if err := r.Write(dir); err != nil {
			t.Fatal(err)
		}
		var compared [2]bytes.Buffer
		for i, pair := range [][2]*Report{{r, example()}, {example(), r}} {
			if err := WriteComparison(&compared[i], pair[0], pair[1]); err != nil {
				t.Fatal(err)
			}
		}
		shown := map[string]string{"compared as the older": compared[0].String(), "compared as the newer": compared[1].String()}
		for _, name := range []string{"report.md", "time-1.svg", "memory-2.svg", "scaling.svg", "growth.svg", "decay.svg"} {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			shown[name] = string(b)
		}
		for name, text := range shown {
			if strings.Contains(text, "not comparable") != quick {
				t.Errorf("%s: quick is %v, and is not told so", name, quick)
			}
		}
	}
}

// A bar that is cut has its figure on top, and no other has one.
func TestCutBars(t *testing.T) {
	r := example()
	for i := range r.find("mleak", 1, "pymalloc").Samples {
		r.find("mleak", 1, "pymalloc").Samples[i].Elapsed = 1470 * time.Millisecond // 7.35 times mimalloc's
		r.find("larson", 1, "pymalloc").Samples[i].Elapsed = 50 * time.Millisecond
	}
	dir := t.TempDir()
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	svg, err := os.ReadFile(filepath.Join(dir, "time-1.svg"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(svg, []byte(">7.3</text>")) && !bytes.Contains(svg, []byte(">7.4</text>")) {
		t.Error("the bar of 7.35 has no figure")
	}
	if n := len(regexp.MustCompile(`>\d+\.\d</text>`).FindAll(svg, -1)); n != 1 {
		t.Errorf("%d bars have figures, want one", n)
	}
}

// There is no number of threads between 1 and 2, nor of blocks between 1,000 and 10,000.
func TestCountedAxes(t *testing.T) {
	dir := t.TempDir()
	if err := example().Write(dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{"scaling": {"1", "2"}, "growth": {"1,000", "10,000"}} {
		svg, err := os.ReadFile(filepath.Join(dir, name+".svg"))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		below := regexp.MustCompile(`<text x="[-\d.]+" y="(-[\d.]+)"[^>]*>([\d,.]+)</text>`).FindAllSubmatch(svg, -1)
		for _, mark := range below {
			if bytes.Equal(mark[1], below[0][1]) { // the axis of x is drawn first
				got = append(got, string(mark[2]))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: the marks are %q, want %q", name, got, want)
		}
	}
}

// What is written as JSON is read back whole.
func TestJSON(t *testing.T) {
	var b bytes.Buffer
	if err := example().WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	first := b.String()
	r, err := ReadJSON(&b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if string(again)+"\n" != first {
		t.Errorf("after reading and writing:\n%s\nbefore:\n%s", again, first)
	}
}

// Ratios are taken round by round: a slow spell that hits both is none.
func TestAgainst(t *testing.T) {
	row := &Row{Samples: []Sample{sample(10, 1), sample(100, 1), sample(20, 1)}}
	base := &Row{Samples: []Sample{sample(20, 1), sample(200, 1), sample(10, 1)}}
	if got, want := row.against(base, Sample.time), (Spread{0.5, 0.5, 2}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if s := row.against(nil, Sample.time); !math.IsNaN(s.Median) {
		t.Errorf("against nothing: %v", s)
	}
	if g := geomean([]float64{0.5, 2, math.NaN()}); math.Abs(g-1) > 1e-12 {
		t.Errorf("the geometric mean of a half and two is %v", g)
	}
}

// Every chart is drawn, as SVG and as PNG; of an empty report none.
func TestCharts(t *testing.T) {
	dir := t.TempDir()
	if err := example().Write(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"time-1", "time-2", "time-3", "memory-1", "scaling", "growth", "decay"} {
		for ending, magic := range map[string]string{".svg": "<?xml", ".png": "\x89PNG"} {
			b, err := os.ReadFile(filepath.Join(dir, name+ending))
			if err != nil {
				t.Error(err)
			} else if !bytes.HasPrefix(b, []byte(magic)) || len(b) < 2000 {
				t.Errorf("%s%s has %d bytes, and begins %q", name, ending, len(b), b[:min(len(b), 10)])
			}
		}
	}
	if names, err := new(Report).WriteCharts(t.TempDir()); err != nil || len(names) != 0 {
		t.Errorf("charts of an empty report: %v, %v", names, err)
	}
}
