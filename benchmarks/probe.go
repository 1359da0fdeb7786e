package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/pyarena/pyarena/benchmarks/internal/impl"
	"github.com/pyarena/pyarena/benchmarks/internal/proc"
	"github.com/pyarena/pyarena/benchmarks/internal/suite"
	"github.com/pyarena/pyarena/benchmarks/internal/workload"
)

// probeCommand is what a process of the suite calls itself with: one workload, on
// one implementation.
const probeCommand = "probe"

// suiteImplementations are those of the suite that are Go's.
func suiteImplementations() []impl.Info {
	all := append(slices.Clone(implementations), impl.Hardened(), impl.Canaries(), impl.SyncPool())
	if c, ok := impl.CMalloc(); ok {
		all = append(all, c)
	}
	return all
}

// probe measures one run, and prints it.
func probe(_ context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet(probeCommand, flag.ContinueOnError)
	if err := parse(f, args, stderr, "WHAT", "IMPL", "THREADS", "SCALE"); err != nil {
		return err
	}
	impls := suiteImplementations()
	i := slices.IndexFunc(impls, func(in impl.Info) bool { return in.Name == f.Arg(1) })
	if i < 0 {
		return usageError{fmt.Errorf("%s: no implementation %q", probeCommand, f.Arg(1))}
	}
	threads, err := strconv.Atoi(f.Arg(2))
	if err != nil {
		return usageError{err}
	}
	scale, err := strconv.Atoi(f.Arg(3))
	if err != nil {
		return usageError{err}
	}
	s, err := probeWhat(f.Arg(0), impls[i], threads, scale)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(s)
}

func probeWhat(what string, info impl.Info, threads, scale int) (s suite.Sample, err error) {
	runtime.GC()
	before := proc.ReadCollector()
	switch what {
	case suite.Decay:
		s.Decay, err = workload.Decay(info)
	case suite.Growth:
		s.Growth, err = workload.Grow(info, scale)
	case suite.Collector:
		s.Collector, err = workload.Collect(info, scale)
	default:
		all := workload.All()
		i := slices.IndexFunc(all, func(w workload.Workload) bool { return w.Name == what })
		if i < 0 {
			return s, usageError{fmt.Errorf("%s: no workload %q", probeCommand, what)}
		}
		proc.BringIn()
		s.BeginResident = proc.Resident()
		s.Result, err = all[i].Run(info, threads, scale)
		s.PeakResident = proc.PeakResident()
	}
	after := proc.ReadCollector()
	s.GCCycles, s.GCCPU = after.Cycles-before.Cycles, time.Duration((after.CPU-before.CPU)*float64(time.Second))
	return s, err
}
