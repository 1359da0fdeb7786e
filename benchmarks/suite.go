package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/pyarena/pyarena/benchmarks/internal/impl"
	"github.com/pyarena/pyarena/benchmarks/internal/peers"
	"github.com/pyarena/pyarena/benchmarks/internal/proc"
	"github.com/pyarena/pyarena/benchmarks/internal/replay"
	"github.com/pyarena/pyarena/benchmarks/internal/report"
	"github.com/pyarena/pyarena/benchmarks/internal/suite"
	"github.com/pyarena/pyarena/benchmarks/internal/workload"
)

// suiteRun is what the flags of the suite ask for.
type suiteRun struct {
	out     string
	source  string // of the C program
	only    *regexp.Regexp
	impls   *regexp.Regexp
	rounds  int
	scale   int // percent
	maxLive int
	quick   bool

	report  *suite.Report
	runners []runner
	dir     string // for files that go again
}

// runner runs workloads on one implementation, in processes of their own.
type runner struct {
	name string
	goes bool // it is Go's
	run  func(ctx context.Context, what string, threads, scale int) (suite.Sample, error)
	// replay runs a trace: a plan or a file of ops.
	replay func(ctx context.Context, plan, ops string) (suite.Sample, error)
}

// job is what one row of the report is of.
type job struct {
	what    string
	threads int
	scale   int
	rounds  int
	run     func(ctx context.Context, r runner) (suite.Sample, error)
}

func runSuite(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	s := new(suiteRun)
	f := flag.NewFlagSet("suite", flag.ContinueOnError)
	f.StringVar(&s.out, "o", "report", "write the report into this `folder`")
	f.StringVar(&s.source, "c", filepath.Join("c", "workload.c"), "`source` of the C program")
	only := f.String("only", "", "only workloads whose names match this `regexp`")
	impls := f.String("impl", "", "only implementations whose names match this `regexp`")
	f.IntVar(&s.rounds, "rounds", 5, "`times` that each workload is run on each implementation")
	f.IntVar(&s.scale, "scale", 100, "length of the workloads in `percent`")
	f.IntVar(&s.maxLive, "max", 10_000_000, "most live `blocks` of the growth and collector tables")
	f.BoolVar(&s.quick, "quick", false, "one short round, of fewer blocks, whose figures are not comparable")
	if err := parse(f, args, stderr); err != nil {
		return err
	}
	var err error
	if s.only, err = regexp.Compile(*only); err != nil {
		return usageError{err}
	}
	if s.impls, err = regexp.Compile(*impls); err != nil {
		return usageError{err}
	}
	if s.quick {
		s.rounds, s.scale, s.maxLive = 1, 10, 1_000_000
	}
	if s.rounds < 1 || s.scale < 1 || s.maxLive < 1000 {
		return usageError{fmt.Errorf("suite: -rounds is %d, -scale %d and -max %d, want at least 1, 1 and 1000", s.rounds, s.scale, s.maxLive)}
	}
	if s.dir, err = os.MkdirTemp("", "pyarena-suite-"); err != nil {
		return err
	}
	defer os.RemoveAll(s.dir)
	if err := s.run(ctx, newProgress(stderr, 0)); err != nil {
		return err
	}
	if err := s.report.Write(s.out); err != nil {
		return err
	}
	if err := s.report.WriteMarkdown(stdout); err != nil {
		return err
	}
	return tellFolder(stdout, s.out)
}

// tellFolder writes the last line of a command that has written a report.
func tellFolder(stdout io.Writer, dir string) error {
	dir, err := filepath.Abs(dir) // for go run -C runs it elsewhere than where it is called
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "\nreport in %s\n", dir)
	return err
}

// run measures everything, and fills the report.
func (s *suiteRun) run(ctx context.Context, p *progress) error {
	defer p.close()
	begun := time.Now()
	s.report = &suite.Report{
		Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, CPU: proc.CPU(), Procs: runtime.GOMAXPROCS(0),
		Versions: map[string]string{"modernc.org/memory": moderncVersion()}, Quick: s.quick,
	}
	s.findRunners(ctx)
	if len(s.runners) == 0 {
		return usageError{errors.New("suite: no implementation matches")}
	}
	jobs, err := s.jobs()
	if err != nil {
		return err
	}
	if len(jobs) == 0 {
		return usageError{errors.New("suite: no workload matches")}
	}
	for n, j := range jobs {
		for round := range j.rounds {
			for _, r := range s.runners {
				if err := s.measure(ctx, j, r, p, fmt.Sprintf("%d of %d, round %d: %s, %s, %s", n+1, len(jobs), round+1, j.what, report.Count(j.threads, "thread"), r.name)); err != nil {
					return err
				}
			}
		}
	}
	s.report.Seconds = time.Since(begun).Seconds()
	return nil
}

// measure adds a sample to a row. A run that fails is the row's last one.
func (s *suiteRun) measure(ctx context.Context, j job, r runner, p *progress, what string) error {
	row := s.report.Row(j.what, j.threads, r.name)
	if row.Error != "" {
		return nil
	}
	p.show(what)
	sample, err := j.run(ctx, r)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errLeftOut):
		s.report.Rows = slices.DeleteFunc(s.report.Rows, func(other *suite.Row) bool { return other == row })
		return nil
	case err != nil:
		row.Error = err.Error()
		p.step(what, "FAILED")
		return nil
	}
	row.Samples = append(row.Samples, sample)
	p.step(what, sample.Elapsed.Round(time.Millisecond).String())
	if want := s.report.Rows[slices.IndexFunc(s.report.Rows, func(o *suite.Row) bool {
		return o.Workload == j.what && o.Threads == j.threads && len(o.Samples) > 0
	})].Samples[0]; want.Bytes != sample.Bytes || want.Mallocs != sample.Mallocs || want.Sum != sample.Sum {
		return fmt.Errorf("%s: %s asked for other blocks than the first: %+v, %+v", j.what, r.name, sample.Result, want.Result)
	}
	return nil
}

// errLeftOut is what a runner returns for a workload that it does not do.
var errLeftOut = errors.New("left out")

// findRunners finds what there is to compare, and notes what there is not.
func (s *suiteRun) findRunners(ctx context.Context) {
	note := func(format string, args ...any) {
		s.report.Notes = append(s.report.Notes, fmt.Sprintf(format, args...))
	}
	for _, in := range suiteImplementations() {
		if s.impls.MatchString(in.Name) {
			s.runners = append(s.runners, runner{
				name: in.Name, goes: true,
				run: func(ctx context.Context, what string, threads, scale int) (suite.Sample, error) {
					return probeApart(ctx, what, in.Name, threads, scale)
				},
				replay: func(ctx context.Context, plan, _ string) (suite.Sample, error) {
					return replayApart(ctx, plan, in.Name)
				},
			})
		}
	}
	if !cgoEnabled() {
		note("cgo-malloc is left out: this program was built without cgo.")
	}
	note("github.com/xDarkicex/memory is left out: it could not be had from a module proxy when this was written.")
	program, err := peers.Build(ctx, s.source, s.dir)
	if err != nil {
		note("The C allocators are left out: %v.", err)
		return
	}
	found, missing := peers.Find()
	for _, name := range missing {
		note("%s is left out: its library is not installed (PYARENA_PEERS=%s=FILE names one).", name, name)
	}
	for _, peer := range found {
		if !s.impls.MatchString(peer.Name) {
			continue
		}
		if peer.Library != "" {
			file, _ := filepath.EvalSymlinks(peer.Library)
			s.report.Versions[peer.Name] = filepath.Base(file)
		}
		s.runners = append(s.runners, runner{
			name: peer.Name,
			run: func(ctx context.Context, what string, threads, scale int) (sample suite.Sample, err error) {
				args := []string{what, strconv.Itoa(threads), strconv.Itoa(scale)}
				switch what {
				case suite.Decay:
					args = args[:1]
				case suite.Growth:
					args = []string{what, strconv.Itoa(scale)}
				}
				return sample, program.Run(ctx, peer, &sample, args...)
			},
			replay: func(ctx context.Context, _, ops string) (sample suite.Sample, err error) {
				if ops == "" {
					return sample, errLeftOut
				}
				return sample, program.Run(ctx, peer, &sample, "replay", ops)
			},
		})
	}
}

// jobs returns what is to be measured, in the order of the report.
func (s *suiteRun) jobs() (jobs []job, err error) {
	add := func(what string, threads, scale, rounds int, keep func(r runner) bool) {
		if s.only.MatchString(what) {
			jobs = append(jobs, job{what, threads, scale, rounds, func(ctx context.Context, r runner) (suite.Sample, error) {
				if !keep(r) {
					return suite.Sample{}, errLeftOut
				}
				return r.run(ctx, what, threads, scale)
			}})
		}
	}
	all := func(runner) bool { return true }
	for _, threads := range threadCounts() {
		for _, w := range workload.All() {
			if w.Threads == 0 || w.Threads == 1 && threads == 1 || w.Threads == 2 && threads > 1 {
				add(w.Name, threads, s.scale, s.rounds, all)
			}
		}
	}
	files, err := filepath.Glob(filepath.Join("testdata", "*"+suffix))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if name := suite.TraceName(nameOf(file)); s.only.MatchString(name) {
			j, err := s.traceJob(name, file)
			if err != nil {
				return nil, err
			}
			jobs = append(jobs, j)
		}
	}
	for n := 1000; n <= s.maxLive; n *= 10 {
		add(suite.Growth, 1, n, 1, func(r runner) bool { return r.name != "syncpool" })
	}
	for n := 10_000; ; n *= 10 {
		n = min(n, 3*s.maxLive)
		add(suite.Collector, 1, n, 1, func(r runner) bool { return r.name == "pymalloc" || r.name == "goheap" })
		if n == 3*s.maxLive {
			break
		}
	}
	add(suite.Decay, 1, 1, 1, func(r runner) bool { return r.name != "syncpool" })
	return jobs, nil
}

// threadCounts returns 1, 2, 4, … and the number of processors.
func threadCounts() (counts []int) {
	procs := runtime.GOMAXPROCS(0)
	for n := 1; n < procs; n *= 2 {
		counts = append(counts, n)
	}
	return append(counts, procs)
}

// traceJob prepares the replay of a trace.
func (s *suiteRun) traceJob(name, file string) (j job, err error) {
	limit := 0
	if s.scale < 100 {
		limit = quickLimit
	}
	plan, err := readTrace(file, limit)
	if err != nil {
		return j, err
	}
	base := filepath.Join(s.dir, nameOf(file))
	if err := writeFile(base+".plan", plan.Save); err != nil {
		return j, err
	}
	ops := base + ".ops"
	if err := writeFile(ops, plan.WriteOps); errors.Is(err, replay.ErrThreads) {
		ops = ""
	} else if err != nil {
		return j, err
	}
	return job{name, len(plan.Threads), s.scale, s.rounds, func(ctx context.Context, r runner) (suite.Sample, error) {
		sample, err := r.replay(ctx, base+".plan", ops)
		sample.Result = workload.Result{Elapsed: sample.Elapsed} // counts are of one language
		return sample, err
	}}, nil
}

// probeApart runs probe in a process of its own.
func probeApart(ctx context.Context, what, impl string, threads, scale int) (sample suite.Sample, err error) {
	return sample, runSelf(ctx, &sample, probeCommand, what, impl, strconv.Itoa(threads), strconv.Itoa(scale))
}

// replayApart times a trace in one process.
func replayApart(ctx context.Context, plan, impl string) (sample suite.Sample, err error) {
	m, err := measureApart(ctx, plan, impl, false)
	if err != nil {
		return sample, err
	}
	sample.Elapsed, sample.GCCycles = m.Timing.Elapsed, m.Timing.GCCycles
	sample.PeakResident, sample.BeginResident = m.Timing.PeakResident, m.Timing.BeginResident
	return sample, nil
}

// compareReports tells what has changed between two reports of the suite.
func compareReports(_ context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("compare", flag.ContinueOnError)
	if err := parse(f, args, stderr, "OLD.json", "NEW.json"); err != nil {
		return err
	}
	var reports [2]*suite.Report
	for i := range reports {
		file, err := os.Open(f.Arg(i))
		if err != nil {
			return err
		}
		defer file.Close()
		if reports[i], err = suite.ReadJSON(file); err != nil {
			return fmt.Errorf("%s: %w", f.Arg(i), err)
		}
	}
	return suite.WriteComparison(stdout, reports[0], reports[1])
}

// cgoEnabled tells whether malloc of C can be called.
func cgoEnabled() bool {
	_, ok := impl.CMalloc()
	return ok
}
