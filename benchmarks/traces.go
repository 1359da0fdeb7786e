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
	"runtime/debug"
	"strings"
	"time"

	"github.com/pyarena/pyarena/benchmarks/internal/impl"
	"github.com/pyarena/pyarena/benchmarks/internal/replay"
	"github.com/pyarena/pyarena/benchmarks/internal/report"
	"github.com/pyarena/pyarena/benchmarks/internal/trace"
)

const (
	suffix     = ".trace.gz"
	quickLimit = 50_000 // records

	// Rounds of a trace when the time decides.
	minRounds = 3
	maxRounds = 15
)

// comparison is what the flags ask for.
type comparison struct {
	traces []string // files
	impls  []impl.Info
	rounds int           // timed, of each trace; 0 for what time allows
	time   time.Duration // that all should take; 0 if rounds says
	limit  int           // records of each trace; 0 for all
	quick  bool
	json   string
}

// replayTraces is the main command.
func replayTraces(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	c, err := parseReplay(args, stderr)
	if err != nil {
		return err
	}
	r, err := c.run(ctx, newProgress(stderr, c.time))
	if err != nil {
		return err
	}
	if err := r.WriteText(stdout); err != nil {
		return err
	}
	if c.json != "" {
		if err := writeFile(c.json, r.WriteJSON); err != nil {
			return err
		}
	}
	return failures(r)
}

func parseReplay(args []string, stderr io.Writer) (*comparison, error) {
	c := new(comparison)
	f := flag.NewFlagSet("benchmarks", flag.ContinueOnError)
	dir := f.String("traces", "testdata", "replay all NAME"+suffix+" in this `directory`")
	quick := f.Bool("quick", false, fmt.Sprintf("one round of the first %d records of each trace", quickLimit))
	traceRE := f.String("trace", "", "only traces whose names match this `regexp`")
	implRE := f.String("impl", "", "only implementations whose names match this `regexp`")
	f.IntVar(&c.rounds, "rounds", 0, fmt.Sprintf("timed `rounds` of each trace; 0 for %d to %d, as -time allows", minRounds, maxRounds))
	f.DurationVar(&c.time, "time", time.Minute, "how long to take in all, about")
	f.StringVar(&c.json, "json", "", "write the figures to this `file`, too")
	if err := parse(f, args, stderr); err != nil {
		return nil, err
	}
	if *quick {
		c.rounds, c.limit, c.quick = 1, quickLimit, true
	}
	if c.rounds < 0 || c.time < 0 {
		return nil, usageError{fmt.Errorf("-rounds is %d and -time %v, want neither negative", c.rounds, c.time)}
	}
	if c.rounds > 0 {
		c.time = 0
	}
	traces, err := regexp.Compile(*traceRE)
	if err != nil {
		return nil, usageError{err}
	}
	impls, err := regexp.Compile(*implRE)
	if err != nil {
		return nil, usageError{err}
	}
	files, err := filepath.Glob(filepath.Join(*dir, "*"+suffix))
	if err != nil {
		return nil, usageError{err}
	}
	for _, file := range files {
		if traces.MatchString(nameOf(file)) {
			c.traces = append(c.traces, file)
		}
	}
	for _, in := range implementations {
		if impls.MatchString(in.Name) {
			c.impls = append(c.impls, in)
		}
	}
	if len(c.traces) == 0 || len(c.impls) == 0 {
		return nil, usageError{fmt.Errorf("%d traces in %s and %d implementations match, want at least one of each", len(c.traces), *dir, len(c.impls))}
	}
	return c, nil
}

func nameOf(file string) string { return strings.TrimSuffix(filepath.Base(file), suffix) }

// run measures, one trace after another.
func (c *comparison) run(ctx context.Context, p *progress) (*report.Report, error) {
	defer p.close()
	begun := time.Now()
	r := &report.Report{
		Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH,
		Procs: runtime.GOMAXPROCS(0), Modernc: moderncVersion(), Quick: c.quick,
	}
	dir, err := os.MkdirTemp("", "pyarena-benchmarks-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	for i, file := range c.traces {
		p.show("reading " + file)
		share := (c.time - time.Since(begun)) / time.Duration(len(c.traces)-i)
		t, err := c.replayTrace(ctx, file, filepath.Join(dir, "plan"), time.Now().Add(share), p)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		r.Traces = append(r.Traces, *t)
	}
	r.Seconds = time.Since(begun).Seconds()
	return r, nil
}

// replayTrace checks each implementation once, and then lets those that passed
// take turns for the timed rounds, until the deadline if the time decides.
func (c *comparison) replayTrace(ctx context.Context, file, planFile string, deadline time.Time, p *progress) (*report.Trace, error) {
	plan, err := readTrace(file, c.limit)
	if err != nil {
		return nil, err
	}
	if err := writeFile(planFile, plan.Save); err != nil {
		return nil, err
	}
	t := &report.Trace{
		Name: nameOf(file), Program: plan.Program, Records: plan.Records, Threads: len(plan.Threads),
		PeakBytes: plan.PeakBytes, PeakBlocks: plan.PeakBlocks,
	}
	plan = nil // it is large, and the processes read the file
	for _, in := range c.impls {
		t.Rows = append(t.Rows, report.Row{Impl: in.Name})
	}
	last := c.rounds
	if last == 0 {
		last = maxRounds
	}
	for round := range last + 1 {
		if c.rounds == 0 && round > minRounds && time.Now().After(deadline) {
			break
		}
		for i := range t.Rows {
			if err := measureRow(ctx, t, &t.Rows[i], planFile, round, p); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}

// measureRow adds a round to a row: round 0 is the checked one.
func measureRow(ctx context.Context, t *report.Trace, row *report.Row, planFile string, round int, p *progress) error {
	what := fmt.Sprintf("%s  %s  ", t.Name, row.Impl)
	if round == 0 {
		what += "checking contents"
	} else {
		what += fmt.Sprintf("round %d", round)
	}
	if row.Error != "" {
		p.step(what, "left out")
		return nil
	}
	p.show(what)
	m, err := measureApart(ctx, planFile, row.Impl, round == 0)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		row.Error = err.Error()
		p.step(what, "FAILED")
	case m.Memory != nil:
		row.Memory = *m.Memory
		p.step(what, "good")
	default:
		row.Timings = append(row.Timings, *m.Timing)
		p.step(what, m.Timing.Elapsed.Round(time.Millisecond).String())
	}
	return nil
}

// moderncVersion returns what this program was built with.
func moderncVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == "modernc.org/memory" {
				return m.Version
			}
		}
	}
	return "of unknown version"
}

func readTrace(file string, limit int) (*replay.Plan, error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	r, err := trace.NewReader(in)
	if err != nil {
		return nil, err
	}
	return replay.Build(r, limit)
}

// writeFile creates a file and lets write fill it.
func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// failures returns what went wrong, in one error.
func failures(r *report.Report) error {
	var errs []error
	for _, t := range r.Traces {
		for _, row := range t.Rows {
			if row.Error != "" {
				errs = append(errs, fmt.Errorf("%s: %s", t.Name, row.Error))
			}
		}
	}
	return errors.Join(errs...)
}
