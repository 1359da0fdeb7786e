package soak

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/benchmarks/internal/report"
	"github.com/pyarena/pyarena/osmem"
	"github.com/pyarena/pyarena/pymalloc"
)

// config is a run of a moment, by so many goroutines. What is resident is as it
// may be: others run in this process too.
func config(goroutines int) Config {
	return Config{
		For: 400 * time.Millisecond, Cycle: 200 * time.Millisecond, LiveBytes: 2 << 20,
		Goroutines: goroutines, Growth: 1000, Seed: 1,
		Show: func(string) {}, Step: func(string, string) {},
	}
}

func allocator(t *testing.T, o pymalloc.Options) *pymalloc.Allocator {
	t.Helper()
	a, err := pymalloc.NewAllocator(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func TestRun(t *testing.T) {
	procs := runtime.GOMAXPROCS(0)
	c := config(4)
	var steps []string
	c.Step = func(what, _ string) { steps = append(steps, what) }
	r, err := Run(t.Context(), c, allocator(t, pymalloc.Options{RetainDelay: 50 * time.Millisecond}))
	if err != nil {
		t.Fatal(err)
	}
	if n := runtime.GOMAXPROCS(0); n != procs {
		t.Errorf("GOMAXPROCS is %d afterwards, was %d", n, procs)
	}
	n := r.Counts
	if n.Blocks == 0 || n.Blocks != n.Frees {
		t.Errorf("%d blocks were made, %d freed", n.Blocks, n.Frees)
	}
	if n.Requests == 0 || n.Bytes == 0 || n.Resizes == 0 || n.Messages == 0 || n.Batches == 0 || n.Heaps == 0 || r.Checks == 0 {
		t.Errorf("something was not done: %+v, %d checks", n, r.Checks)
	}
	if want := 2 * len(phases); r.Cycles != 2 || len(r.Phases) != want {
		t.Errorf("%d cycles, %d phases; want 2, %d", r.Cycles, len(r.Phases), want)
	}
	if want := 3*len(phases) + 2; len(steps) != want {
		t.Errorf("steps %q, want %d", steps, want)
	}
	if r.Begin.Mapped != 0 || r.End.Mapped != 0 || r.End.Live != 0 {
		t.Errorf("something is left: begin %+v, end %+v", r.Begin, r.End)
	}
	if runtime.GOOS == "linux" && (r.Begin.Resident == 0 || r.Begin.RSS < r.Begin.Resident || r.Begin.Pymalloc == 0 && !osmem.OnGoHeap || r.Begin.Pymalloc > r.Begin.Resident) {
		t.Errorf("resident memory at the begin: %+v", r.Begin)
	}
	if n := len(r.Samples); n < 3 || r.Samples[0] != r.Begin || r.Samples[n-1] != r.End {
		t.Errorf("%d samples, from %+v to %+v", n, r.Samples[0], r.Samples[n-1])
	}
}

// broken is an allocator in which something is wrong: what is not nil is done in
// place of the method.
type broken struct {
	*pymalloc.Allocator
	calloc  func(size int) (unsafe.Pointer, error)
	aligned func(size, align int) (unsafe.Pointer, error)
	realloc func(p unsafe.Pointer, size int) (unsafe.Pointer, error)
	malloc  func(size int) (unsafe.Pointer, error)
	free    func(p unsafe.Pointer) error
	check   func() error
}

func (b *broken) UnsafeMalloc(size int) (unsafe.Pointer, error) {
	if b.malloc != nil {
		return b.malloc(size)
	}
	return b.Allocator.UnsafeMalloc(size)
}

func (b *broken) UnsafeCalloc(size int) (unsafe.Pointer, error) {
	if b.calloc != nil {
		return b.calloc(size)
	}
	return b.Allocator.UnsafeCalloc(size)
}

func (b *broken) UnsafeAlignedMalloc(size, align int) (unsafe.Pointer, error) {
	if b.aligned != nil {
		return b.aligned(size, align)
	}
	return b.Allocator.UnsafeAlignedMalloc(size, align)
}

func (b *broken) UnsafeRealloc(p unsafe.Pointer, size int) (unsafe.Pointer, error) {
	if b.realloc != nil {
		return b.realloc(p, size)
	}
	return b.Allocator.UnsafeRealloc(p, size)
}

func (b *broken) UnsafeFree(p unsafe.Pointer) error {
	if b.free != nil {
		return b.free(p)
	}
	return b.Allocator.UnsafeFree(p)
}

func (b *broken) Check() error {
	if b.check != nil {
		return b.check()
	}
	return b.Allocator.Check()
}

// Whatever is wrong with the allocator ends the run, and is told. One goroutine
// serves, so that what is broken needs no lock.
func TestRunFindsFaults(t *testing.T) {
	fault := errors.New("a fault")
	for name, c := range map[string]struct {
		want  string
		wreck func(b *broken)
	}{
		"a resize loses a byte": {"was written as", func(b *broken) {
			b.realloc = func(p unsafe.Pointer, size int) (unsafe.Pointer, error) {
				*(*byte)(p)++
				return b.Allocator.UnsafeRealloc(p, size)
			}
		}},
		"a live block changes": {"was written as", func(b *broken) {
			var live unsafe.Pointer
			b.malloc = func(size int) (p unsafe.Pointer, err error) {
				live, err = b.Allocator.UnsafeMalloc(size)
				return live, err
			}
			b.free = func(p unsafe.Pointer) error {
				if p == live {
					live = nil
				}
				return b.Allocator.UnsafeFree(p)
			}
			b.realloc = func(p unsafe.Pointer, size int) (unsafe.Pointer, error) {
				if live != nil && live != p {
					*(*byte)(live)++
				}
				live = nil
				return b.Allocator.UnsafeRealloc(p, size)
			}
		}},
		"calloc is not zero": {"want 0 from calloc", func(b *broken) {
			b.calloc = func(size int) (unsafe.Pointer, error) {
				p, err := b.Allocator.UnsafeCalloc(size)
				*(*byte)(unsafe.Add(p, size-1)) = 1
				return p, err
			}
		}},
		"an address is not aligned": {"is no multiple of", func(b *broken) {
			b.aligned = func(size, align int) (unsafe.Pointer, error) {
				p, err := b.Allocator.UnsafeAlignedMalloc(size+16, max(align, 32))
				return unsafe.Add(p, 16), err
			}
		}},
		"an address is nil": {errNil.Error(), func(b *broken) {
			b.malloc = func(int) (unsafe.Pointer, error) { return nil, nil }
		}},
		"there is no memory": {"a fault", func(b *broken) {
			b.malloc = func(int) (unsafe.Pointer, error) { return nil, fault }
		}},
		"a free fails": {"a fault", func(b *broken) {
			b.free = func(unsafe.Pointer) error { return fault }
		}},
		"a block is freed already": {pymalloc.ErrDoubleFree.Error(), func(b *broken) {
			b.free = func(p unsafe.Pointer) error {
				return errors.Join(b.Allocator.UnsafeFree(p), b.Allocator.UnsafeFree(p))
			}
		}},
		"a free does nothing": {"are live after all were freed", func(b *broken) {
			b.free = func(unsafe.Pointer) error {
				b.free = nil
				return nil
			}
		}},
		"the structure decays": {"a fault", func(b *broken) {
			b.check = func() error { return fault }
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b := &broken{Allocator: allocator(t, pymalloc.Options{})}
			c.wreck(b)
			r, err := Run(t.Context(), config(1), b)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
			if r.Error != err.Error() {
				t.Errorf("the report has %q", r.Error)
			}
			var md bytes.Buffer
			if err := r.WriteMarkdown(&md); err != nil || !strings.Contains(md.String(), "FAILED: ") {
				t.Errorf("%v\n%s", err, &md)
			}
		})
	}
}

// What is resident, or still mapped, at the end decides.
func TestJudge(t *testing.T) {
	for _, c := range []struct {
		begin, end Sample
		want       string
	}{
		{Sample{Resident: 1000, Pymalloc: 100}, Sample{Resident: 1050, Pymalloc: 150}, ""},
		{Sample{Resident: 1000, Pymalloc: 100}, Sample{Resident: 900, Pymalloc: 90}, ""},
		{Sample{}, Sample{}, ""},
		{Sample{Resident: 1000, Pymalloc: 100}, Sample{Resident: 1060, Pymalloc: 151}, "6.0 % more, of which 5.1 are pymalloc's and 0.0"},
		{Sample{Resident: 1000, Pymalloc: 100}, Sample{Resident: 900, Pymalloc: 151}, "5.1 are pymalloc's"},
		{Sample{Resident: 1000, Objects: 100}, Sample{Resident: 1051, Objects: 151}, "5.1 objects on the Go heap"},
		{Sample{Resident: 1000, Pymalloc: 100, Objects: 100}, Sample{Resident: 1060, Pymalloc: 126, Objects: 125}, "2.6 are pymalloc's and 2.5 objects"},
		{Sample{Resident: 1000, Go: 500}, Sample{Resident: 1300, Go: 800}, ""},
		{Sample{Resident: 1000}, Sample{Resident: 1000, Mapped: 1}, "still mapped"},
	} {
		r := &run{Config: Config{Growth: 5}, report: &Report{Begin: c.begin, End: c.end}}
		r.judge()
		err := errors.Join(r.errs...)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("from %+v to %+v: %v, want %q", c.begin, c.end, err, c.want)
		}
	}
}

func TestRunStopsWhenInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := config(2)
	c.For, c.Cycle = time.Hour, time.Hour
	c.Show = func(string) { cancel() }
	if _, err := Run(ctx, c, allocator(t, pymalloc.Options{})); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want it to be cancelled", err)
	}
}

func TestReport(t *testing.T) {
	begin := Sample{Resident: 10 << 20, RSS: 20 << 20, Go: 8 << 20, Tables: 1 << 20, Pymalloc: 300 << 10}
	full := Sample{At: time.Minute, Phase: "churn", Resident: 300 << 20, Mapped: 280 << 20, InUse: 256 << 20, Live: 1_000_000}
	end := Sample{At: 2 * time.Minute, Phase: "end", Resident: 10<<20 + 1<<19, RSS: 20<<20 + 1<<19, Pymalloc: 400 << 10}
	r := &Report{
		Go: "go1.99", For: 2 * time.Minute, Cycles: 1, LiveBytes: 256 << 20, Accepted: 5, Checks: 1234,
		Begin: begin, End: end, Samples: []Sample{begin, full, end}, Phases: []Phase{{1, "churn", full}},
	}
	dir := t.TempDir()
	if err := report.WriteFolder(dir, r); err != nil {
		t.Fatal(err)
	}
	md, err := os.ReadFile(filepath.Join(dir, "report.md"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(string(md)), " ") // columns are filled with spaces
	for _, want := range []string{
		"Nothing went wrong: 1,234 checks", "| beginning | 10 MiB | 300 KiB | 0 B | 20 MiB | 8.0 MiB | 0 B | 1.0 MiB |",
		"Resident memory: +2.5 % with files, +5.0 % without. Pymalloc has +1.0 of the latter, and objects on the Go heap +0.0: together at most 5.0 are accepted. The rest, +4.0, is", "| 1 | churn | 1,000,000 | 256 MiB | 280 MiB | 300 MiB |", "](memory.svg)",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, md)
		}
	}
	for ending, magic := range map[string]string{".svg": "<?xml", ".png": "\x89PNG"} {
		b, err := os.ReadFile(filepath.Join(dir, "memory"+ending))
		if err != nil || !bytes.HasPrefix(b, []byte(magic)) || len(b) < 2000 {
			t.Errorf("memory%s: %v, %d bytes", ending, err, len(b))
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	got := new(Report)
	if err := json.Unmarshal(b, got); err != nil || got.End != end || got.Samples[1] != full || got.Phases[0] != r.Phases[0] {
		t.Errorf("read back: %v, %+v", err, got)
	}
}
