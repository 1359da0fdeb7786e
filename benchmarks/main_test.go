package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"
	"unsafe"

	"github.com/pyarena/pyarena/benchmarks/internal/impl"
	"github.com/pyarena/pyarena/benchmarks/internal/report"
	"github.com/pyarena/pyarena/benchmarks/internal/trace"
)

// TestMain is the program itself when a comparison under test calls it to measure.
func TestMain(m *testing.M) {
	implementations = append(implementations, impl.Info{Name: "flips-a-byte", Align: 1, GoHeap: true, New: newFlipper})
	if len(os.Args) > 1 && (os.Args[1] == measureCommand || os.Args[1] == probeCommand) {
		main()
	}
	os.Exit(m.Run())
}

// flipper is the Go heap, but the tenth malloc of a worker changes the ninth's
// block.
type flipper struct{ impl.Impl }

type flippingWorker struct {
	impl.Worker
	mallocs int
	last    []byte
}

func newFlipper(goroutines int) impl.Impl {
	for _, in := range impl.All() {
		if in.GoHeap {
			return flipper{in.New(goroutines)}
		}
	}
	panic("no implementation of the Go heap")
}

func (f flipper) Worker() impl.Worker { return &flippingWorker{Worker: f.Impl.Worker()} }

func (w *flippingWorker) Malloc(size int) (unsafe.Pointer, error) {
	if w.mallocs++; w.mallocs == 10 {
		w.last[len(w.last)-1]++
	}
	p, err := w.Worker.Malloc(size)
	w.last = unsafe.Slice((*byte)(p), size)
	return p, err
}

// program runs the command line, with its temporary files in a folder that must be
// empty afterwards.
func program(t *testing.T, ctx context.Context, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	tmp := t.TempDir()
	for _, name := range []string{"TMPDIR", "TMP", "TEMP"} {
		t.Setenv(name, tmp)
	}
	var out, errs bytes.Buffer
	code = run(ctx, args, &out, &errs)
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("temporary files %v are left (%v)", left, err)
	}
	return code, out.String(), errs.String()
}

// small writes a trace of two threads, of blocks of 1 to n bytes.
func small(t *testing.T, n int) (dir string) {
	t.Helper()
	dir = t.TempDir()
	err := writeFile(filepath.Join(dir, "small"+suffix), func(out io.Writer) error {
		w, err := trace.NewWriter(out, "nothing")
		if err != nil {
			return err
		}
		for i := range n {
			if err := w.Write(trace.Record{Thread: i % 2, Block: i, Size: uint64(i + 1)}); err != nil {
				return err
			}
			if i < 20 {
				continue
			}
			if err := w.Write(trace.Record{Op: trace.Free, Thread: i / 2 % 2, Block: i - 20}); err != nil {
				return err
			}
		}
		_, err = w.Close()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestCompare(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.json")
	code, stdout, stderr := program(t, t.Context(),
		"-traces", small(t, 2000), "-rounds", "2", "-impl", "^(pymalloc|goheap|modernc)", "-json", file)
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := report.ReadJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Traces) != 1 || len(r.Traces[0].Rows) != len(impl.All()) {
		t.Fatalf("reported %+v, want a trace on %d implementations", r.Traces, len(impl.All()))
	}
	for _, row := range r.Traces[0].Rows {
		if !strings.Contains(stdout, "\n  "+row.Impl+" ") {
			t.Errorf("no row of %s in the table:\n%s", row.Impl, stdout)
		}
		if len(row.Timings) != 2 || row.Timings[0].Elapsed <= 0 || row.Memory.Live == 0 {
			t.Errorf("%+v: want two rounds that took time, and live bytes", row)
		}
		if runtime.GOOS == "linux" && row.Memory.Resident == 0 {
			t.Errorf("%s: no resident memory", row.Impl)
		}
	}
	if got, want := strings.Count(stderr, "\n"), 3*len(impl.All()); got != want {
		t.Errorf("%d lines of progress, want %d:\n%s", got, want, stderr)
	}
}

func TestCompareFailsOnWrongContent(t *testing.T) {
	code, stdout, stderr := program(t, t.Context(),
		"-traces", small(t, 100), "-rounds", "1", "-impl", "^(pymalloc|flips-a-byte)$")
	if code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
	if want := "flips-a-byte: record "; !strings.Contains(stderr, want) || !strings.Contains(stderr, "was written as") {
		t.Errorf("stderr does not say what went wrong:\n%s", stderr)
	}
	if !strings.Contains(stdout, "FAILED") || !strings.Contains(stdout, "  pymalloc ") {
		t.Errorf("stdout lacks the failure, or the figures of the others:\n%s", stdout)
	}
}

func TestCompareStopsWhenInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if code, stdout, _ := program(t, ctx, "-traces", small(t, 100)); code != 1 || stdout != "" {
		t.Errorf("exit %d with output %q, want 1 and none", code, stdout)
	}
}

func TestWrongArguments(t *testing.T) {
	dir := small(t, 10)
	for _, args := range [][]string{
		{"-nonsense"},
		{"-traces", dir, "extra"},
		{"-traces", dir, "-rounds", "-1"},
		{"-traces", dir, "-time", "-1s"},
		{"-traces", dir, "-impl", "("},
		{"-traces", dir, "-trace", "("},
		{"-traces", dir, "-impl", "nothing"},
		{"-traces", dir, "-trace", "nothing"},
		{"-traces", t.TempDir()},
		{"trim"},
		{"trim", "-ops", "-1", "a", "b"},
		{"measure", "plan", "nothing"},
	} {
		if code, _, stderr := program(t, t.Context(), args...); code != 2 || stderr == "" {
			t.Errorf("%q: exit %d and message %q, want 2 and some", args, code, stderr)
		}
	}
}

func TestCompareNamesTheBadFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "bad"+suffix)
	if err := os.WriteFile(file, []byte("no gzip"), 0o666); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := program(t, t.Context(), "-traces", dir); code != 1 || !strings.Contains(stderr, file) {
		t.Errorf("exit %d and message %q, want 1 and %s", code, stderr, file)
	}
}

func TestTrim(t *testing.T) {
	in := filepath.Join(small(t, 100), "small"+suffix)
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "program=nothing threads=2 ops=180 peak_live_bytes=1890 peak_live_blocks=21 total_bytes=5050"},
		{[]string{"-ops", "3"}, "program=nothing threads=2 ops=3 peak_live_bytes=6 peak_live_blocks=3 total_bytes=6"},
		// The blocks of 80 to 99 bytes are live then, and that of 100 comes.
		{[]string{"-skip", "178"}, "program=nothing threads=2 ops=22 peak_live_bytes=1890 peak_live_blocks=21 total_bytes=1890"},
	} {
		out := filepath.Join(t.TempDir(), "out"+suffix)
		code, stdout, stderr := program(t, t.Context(), append(append([]string{"trim"}, c.args...), in, out)...)
		if code != 0 || stdout != c.want+"\n" {
			t.Errorf("%q: exit %d %s, printed %q, want %q", c.args, code, stderr, stdout, c.want)
			continue
		}
		p, err := readTrace(out, 0)
		if err != nil {
			t.Error(err)
		} else if got := fmt.Sprintf("peak_live_bytes=%d ", p.PeakBytes); !strings.Contains(c.want, got) {
			t.Errorf("%q: the plan has %s", c.args, got)
		}
	}
	out := filepath.Join(t.TempDir(), "out")
	if code, _, stderr := program(t, t.Context(), "trim", out, out); code != 1 || !strings.Contains(stderr, out) {
		t.Errorf("a missing file: exit %d, %s", code, stderr)
	}
}

// The committed traces are good, small, and replayed in part by -quick.
func TestQuick(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "*"+suffix))
	if err != nil || len(files) < 4 {
		t.Fatalf("testdata has %q (%v), want 4 traces", files, err)
	}
	var bytes int64
	for _, file := range files {
		s, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		bytes += s.Size()
		if _, err := readTrace(file, 0); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	if bytes > 2<<20 {
		t.Errorf("the traces are %d bytes together, want at most 2 MiB", bytes)
	}
	if testing.Short() {
		t.Skip("no replays in short mode")
	}
	if code, stdout, stderr := program(t, t.Context(), "-quick", "-impl", "^pymalloc$"); code != 0 || !strings.Contains(stdout, report.QuickNote) {
		t.Errorf("exit %d\n%s\n%s", code, stdout, stderr)
	}
}

// TestSuite runs a part of the suite, and compares the report with itself.
func TestSuite(t *testing.T) {
	dir := t.TempDir()
	code, stdout, stderr := program(t, t.Context(), "suite", "-quick", "-o", dir,
		"-only", "^(glibc-thread|trace sqlite.*|xmalloc-test)$", "-impl", "^(pymalloc|goheap|libc|mimalloc)$")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	for _, want := range []string{"| glibc-thread ", "| trace sqlite-mixed |", "**geometric mean**", "pymalloc | ", " goheap |", report.QuickNote} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is not in\n%s", want, stdout)
		}
	}
	if !strings.HasSuffix(stdout, "\nreport in "+dir+"\n") {
		t.Errorf("the last line does not name %s:\n%s", dir, stdout)
	}
	if strings.Contains(stdout+stderr, " 1 threads") || !strings.Contains(stderr, " 1 thread, ") {
		t.Errorf("one thread is not told so:\n%s", stderr)
	}
	lines := strings.Split(stdout, "\n")
	for i, line := range lines[1:] {
		if before := lines[i]; strings.HasPrefix(line, "| ") && strings.HasPrefix(before, "| ") &&
			utf8.RuneCountInString(line) != utf8.RuneCountInString(before) {
			t.Errorf("columns are not aligned:\n%s\n%s", before, line)
		}
	}
	if strings.Contains(stdout, "FAILED") {
		t.Errorf("something failed:\n%s", stdout)
	}
	file := filepath.Join(dir, "report.json")
	code, stdout, stderr = program(t, t.Context(), "compare", file, file)
	if code != 0 || !strings.Contains(stdout, "1.00") || strings.Contains(stdout, "NaN") {
		t.Errorf("compare: exit %d: %s%s", code, stdout, stderr)
	}
}

// TestArguments: what a command cannot do is told before it begins.
func TestArguments(t *testing.T) {
	for _, args := range [][]string{
		{"suite", "-rounds", "0"},
		{"suite", "-scale", "-1"},
		{"suite", "-only", "("},
		{"suite", "-impl", "no-such"},
		{"suite", "-only", "no-such"},
		{"suite", "extra"},
		{"compare", "one.json"},
		{"soak", "extra"},
		{"soak", "-for", "1ms"},
		{"soak", "-live", "much"},
		{"soak", "-live", "1KiB"},
		{"soak", "-goroutines", "0"},
	} {
		if code, _, stderr := program(t, t.Context(), args...); code != 2 || stderr == "" {
			t.Errorf("%q: exit %d, %q", args, code, stderr)
		}
	}
	if code, _, stderr := program(t, t.Context(), "compare", "no-such.json", "no-such.json"); code != 1 || stderr == "" {
		t.Errorf("compare of no files: exit %d, %q", code, stderr)
	}
}

// TestSoak runs the load of a server for a moment. What is resident is this test
// process's, and its other tests' too.
func TestSoak(t *testing.T) {
	args := []string{"soak", "-quick"}
	if testing.Short() {
		args = []string{"soak", "-for", "1s", "-cycle", "1s", "-live", "4MiB"}
	}
	dir := t.TempDir()
	code, stdout, stderr := program(t, t.Context(), append(args, "-growth", "100", "-o", dir)...)
	if code != 0 || !strings.Contains(stdout, "Nothing went wrong") || !strings.HasSuffix(stdout, "\nreport in "+dir+"\n") {
		t.Errorf("exit %d\n%s\n%s", code, stdout, stderr)
	}
	for _, name := range []string{"report.md", "report.json", "memory.svg", "memory.png"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	for _, want := range []string{"warm-up, grow: ", "shrink: ", "end: 0 blocks of 0 B; mapped 0 B"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("no progress %q in\n%s", want, stderr)
		}
	}
}

// A run that finds something exits with 1, and writes its report all the same.
func TestSoakFails(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	code, stdout, stderr := program(t, ctx, "soak", "-quick", "-o", dir)
	if code != 1 || !strings.Contains(stdout, "FAILED: context canceled") {
		t.Errorf("exit %d\n%s\n%s", code, stdout, stderr)
	}
	if _, err := os.Stat(filepath.Join(dir, "report.md")); err != nil {
		t.Error(err)
	}
}
