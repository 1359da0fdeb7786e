package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/pyarena/pyarena/benchmarks/internal/impl"
	"github.com/pyarena/pyarena/benchmarks/internal/replay"
)

// measureCommand is what a process calls itself with: each measurement runs in a
// fresh process, so that none sees the memory of another.
const measureCommand = "measure"

// implementations are those that the main command compares.
var implementations = impl.All()

// measurement is what the process prints, one of the two.
type measurement struct {
	Memory *replay.Memory `json:"memory,omitempty"`
	Timing *replay.Timing `json:"timing,omitempty"`
}

// measure replays a saved plan on one implementation.
func measure(_ context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet(measureCommand, flag.ContinueOnError)
	check := f.Bool("check", false, "check contents and measure memory, instead of time")
	if err := parse(f, args, stderr, "PLAN", "IMPL"); err != nil {
		return err
	}
	impls := suiteImplementations()
	i := slices.IndexFunc(impls, func(in impl.Info) bool { return in.Name == f.Arg(1) })
	if i < 0 {
		return usageError{fmt.Errorf("%s: no implementation %q", measureCommand, f.Arg(1))}
	}
	file, err := os.Open(f.Arg(0))
	if err != nil {
		return err
	}
	defer file.Close()
	plan, err := replay.Load(file)
	if err != nil {
		return err
	}
	var m measurement
	if *check {
		got, err := replay.Check(plan, impls[i])
		if err != nil {
			return err
		}
		m.Memory = &got
	} else {
		got, err := replay.Time(plan, impls[i])
		if err != nil {
			return err
		}
		m.Timing = &got
	}
	return json.NewEncoder(stdout).Encode(m)
}

// measureApart runs measure in a process of its own.
func measureApart(ctx context.Context, plan, name string, check bool) (m measurement, err error) {
	return m, runSelf(ctx, &m, measureCommand, fmt.Sprintf("-check=%t", check), plan, name)
}

// runSelf runs this program with other arguments, and decodes what it prints.
func runSelf(ctx context.Context, result any, args ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var stdout, stderr bytes.Buffer
	c := exec.CommandContext(ctx, self, args...)
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%w: %s", err, head(stderr.String()))
	}
	return json.Unmarshal(stdout.Bytes(), result)
}

// head returns what a process said first, without the stacks of a crash.
func head(s string) string {
	s, _, _ = strings.Cut(s, "\n\ngoroutine ")
	return strings.TrimPrefix(strings.TrimSpace(s[:min(len(s), 2000)]), "benchmarks: ")
}
