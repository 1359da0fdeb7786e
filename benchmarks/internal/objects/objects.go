// Package objects measures the objects of unsafeobj beside Python's, doing the same
// work.
package objects

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pyarena/pyarena/unsafeobj"
)

// script does in Python what work does here, and module through its C API.
var (
	//go:embed objects.py
	script string
	//go:embed capi/objects.c
	module []byte
)

// Figure is a measurement: nanoseconds per operation, or bytes.
type Figure struct {
	Name  string
	Value float64
}

// Python returns the figures of the python3 that is found, and its version; none if
// there is none.
func Python(ctx context.Context, n, rounds int) (figures []Figure, version string, err error) {
	path, err := exec.LookPath("python3")
	if err != nil {
		return nil, "", nil // there need not be one
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return nil, "", fmt.Errorf("python3: %w", err)
	}
	version = strings.TrimSpace(string(out))
	figures, err = ask(ctx, path, script, strconv.Itoa(n), strconv.Itoa(rounds))
	return figures, version, err
}

// ErrNoHeaders is returned where there is no C compiler, or no Python.h.
var ErrNoHeaders = errors.New("no C compiler, or no headers of Python's (python3-dev)")

// PythonC returns the figures of the same python3, of the same work in C.
func PythonC(ctx context.Context, n, rounds int) ([]Figure, error) {
	path, err := exec.LookPath("python3")
	if err != nil {
		return nil, ErrNoHeaders
	}
	include, err := exec.CommandContext(ctx, path, "-c", "import sysconfig; print(sysconfig.get_path('include'))").Output()
	if err != nil {
		return nil, fmt.Errorf("python3: %w", err)
	}
	headers := strings.TrimSpace(string(include))
	if _, err := os.Stat(filepath.Join(headers, "Python.h")); err != nil {
		return nil, ErrNoHeaders
	}
	dir, err := os.MkdirTemp("", "capi")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	source := filepath.Join(dir, "objects.c")
	if err := os.WriteFile(source, module, 0o600); err != nil {
		return nil, err
	}
	for _, cc := range []string{os.Getenv("CC"), "cc", "gcc", "clang"} {
		compiler, err := exec.LookPath(cc)
		if cc == "" || err != nil {
			continue
		}
		args := []string{"-O2", "-shared", "-fPIC", "-I" + headers, "-o", filepath.Join(dir, "capi.so"), source}
		if runtime.GOOS == "darwin" {
			args = append(args, "-undefined", "dynamic_lookup")
		}
		if out, err := exec.CommandContext(ctx, compiler, args...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w: %s", cc, err, out)
		}
		return ask(ctx, path, `
import sys
sys.path.insert(0, sys.argv[1])
import capi
for name, ns in capi.run(int(sys.argv[2]), int(sys.argv[3])):
    print(name, ns, sep="\t")
`, dir, strconv.Itoa(n), strconv.Itoa(rounds))
	}
	return nil, ErrNoHeaders
}

// ask runs a script that prints figures.
func ask(ctx context.Context, python, script string, args ...string) (figures []Figure, err error) {
	out, err := exec.CommandContext(ctx, python, append([]string{"-c", script}, args...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("python3: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "\t")
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("python3 printed %q", line)
		}
		figures = append(figures, Figure{name, v})
	}
	return figures, nil
}

// bench is what the work needs.
type bench struct {
	s    *unsafeobj.Space
	n    int
	keys []unsafeobj.Ref[unsafeobj.String]
	x    unsafeobj.Ref[unsafeobj.Int]
	d    unsafeobj.Ref[unsafeobj.Dict]
}

// work has a loop for each, as the C program has: a call of a function for each round
// would be counted too.
var work = []struct {
	name string
	f    func(*bench) error
}{
	{"int", func(b *bench) error {
		for i := range b.n {
			r, err := b.s.Int(int64(1000 + i))
			if err != nil {
				return err
			}
			r.Release()
		}
		return nil
	}},
	{"float", func(b *bench) error {
		for i := range b.n {
			r, err := b.s.Float(float64(i))
			if err != nil {
				return err
			}
			r.Release()
		}
		return nil
	}},
	{"str", func(b *bench) error {
		for range b.n {
			r, err := b.s.String("twelve bytes")
			if err != nil {
				return err
			}
			r.Release()
		}
		return nil
	}},
	{"list", func(b *bench) error {
		for range b.n {
			r, err := b.s.List()
			if err != nil {
				return err
			}
			r.Release()
		}
		return nil
	}},
	{"tuple", func(b *bench) error {
		for range b.n {
			r, err := b.s.Tuple(b.x.Object(), b.x.Object())
			if err != nil {
				return err
			}
			r.Release()
		}
		return nil
	}},
	{"append", func(b *bench) error {
		l, err := b.s.List()
		if err != nil {
			return err
		}
		defer l.Release()
		for range b.n {
			if err := l.Get().Append(b.x.Object()); err != nil {
				return err
			}
		}
		return nil
	}},
	{"dict set", func(b *bench) (err error) {
		b.d.Release()
		if b.d, err = b.s.Dict(); err != nil {
			return err
		}
		for i := range b.n {
			if err := b.d.Get().Set(b.keys[i].Object(), b.x.Object()); err != nil {
				return err
			}
		}
		return nil
	}},
	{"dict get", func(b *bench) error {
		for i := range b.n {
			r, err := b.d.Get().Get(b.keys[i].Object())
			if err != nil {
				return err
			}
			r.Release()
		}
		return nil
	}},
	{"dict delete", func(b *bench) error {
		for i := range b.n {
			if err := b.d.Get().Delete(b.keys[i].Object()); err != nil {
				return err
			}
		}
		return nil
	}},
	{"cycles", (*bench).cycles},
}

// cycles makes rings of four lists, and collects them.
func (b *bench) cycles() error {
	for range b.n / 4 {
		var ring [4]unsafeobj.Ref[unsafeobj.List]
		var err error
		for i := range ring {
			if ring[i], err = b.s.List(); err != nil {
				return err
			}
		}
		for i := range ring {
			if err := ring[i].Get().Append(ring[(i+1)%4].Object()); err != nil {
				return err
			}
		}
		for i := range ring {
			ring[i].Release()
		}
	}
	_, err := b.s.Collect(2)
	return err
}

func newBench(n int, shared bool) (*bench, error) {
	s, err := unsafeobj.NewSpace(unsafeobj.SpaceOptions{Shared: shared})
	if err != nil {
		return nil, err
	}
	b := &bench{s: s, n: n}
	if b.x, err = s.Int(1000); err != nil {
		return nil, err
	}
	for i := range n {
		k, err := s.String("key" + strconv.Itoa(i))
		if err != nil {
			return nil, err
		}
		b.keys = append(b.keys, k)
	}
	return b, nil
}

// close reports objects that were left, too.
func (b *bench) close() error {
	for i := range b.keys {
		b.keys[i].Release()
	}
	b.x.Release()
	b.d.Release()
	return b.s.Close()
}

// Go returns the figures of a Space.
func Go(ctx context.Context, n, rounds int, shared bool) ([]Figure, error) {
	b, err := newBench(n, shared)
	if err != nil {
		return nil, err
	}
	spent := make([][]time.Duration, len(work))
	for range rounds {
		for i, w := range work {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			start := time.Now()
			if err := w.f(b); err != nil {
				return nil, err
			}
			spent[i] = append(spent[i], time.Since(start))
		}
	}
	var figures []Figure
	for i, w := range work {
		slices.Sort(spent[i])
		figures = append(figures, Figure{w.name, float64(spent[i][rounds/2]) / float64(n)})
	}
	sizes, err := b.sizes()
	if err != nil {
		return nil, err
	}
	return append(figures, sizes...), b.close()
}

// sizes returns bytes per object.
func (b *bench) sizes() ([]Figure, error) {
	dict := func(n int) map[int]int {
		m := map[int]int{}
		for i := range n {
			m[i] = i
		}
		return m
	}
	var figures []Figure
	var err error
	add := func(name string, r unsafeobj.AnyRef, e error) {
		figures = append(figures, Figure{name, float64(unsafeobj.SizeOf(r.Object()))})
		r.Release()
		err = errors.Join(err, e)
	}
	fromGo := func(name string, v any) {
		r, e := b.s.FromGo(v)
		add(name, r, e)
	}
	fromGo("bytes of an int", 1000)
	fromGo("bytes of a float", 1.5)
	fromGo("bytes of a str of 12", "twelve bytes")
	none := slices.Repeat([]unsafeobj.Object{unsafeobj.None()}, 10)
	l, e := b.s.List(none...)
	add("bytes of a list of 10", l.Any(), e)
	t, e := b.s.Tuple(none[:2]...)
	add("bytes of a tuple of 2", t.Any(), e)
	fromGo("bytes of a dict of 5", dict(5))
	fromGo("bytes of a dict of 1000", dict(1000))
	return figures, err
}

// Collection returns how long the Go collector takes while n objects live in a
// Space, and how long with none.
func Collection(ctx context.Context, n int) (with, without time.Duration, err error) {
	s, err := unsafeobj.NewSpace(unsafeobj.SpaceOptions{})
	if err != nil {
		return 0, 0, err
	}
	l, err := s.List()
	if err != nil {
		return 0, 0, err
	}
	for i := 0; i < n-1 && ctx.Err() == nil; i++ {
		x, err := s.Float(float64(i))
		if err != nil {
			return 0, 0, err
		}
		if err := l.Get().Append(x.Object()); err != nil {
			return 0, 0, err
		}
		x.Release()
	}
	with = collect()
	l.Release()
	if err := s.Close(); err != nil {
		return 0, 0, err
	}
	without = collect() // last, so that what was garbage before is gone
	return with, without, ctx.Err()
}

// collect is the median of some collections.
func collect() time.Duration {
	var spent [9]time.Duration
	for i := range spent {
		start := time.Now()
		runtime.GC()
		spent[i] = time.Since(start)
	}
	slices.Sort(spent[:])
	return spent[len(spent)/2]
}
