// Command benchmarks replays allocation traces of real programs on pymalloc, on
// the Go heap and on modernc.org/memory, checks every byte of every block, and
// prints what each took: time, memory, collections, system calls.
//
//	go run -C benchmarks .                     everything, in about a minute
//	go run -C benchmarks . -quick              the beginnings of the traces, in seconds
//	go run -C benchmarks . suite               the field's workloads too, beside allocators for C
//	go run -C benchmarks . compare OLD NEW     two reports of the suite
//	go run -C benchmarks . objects             unsafeobj's objects beside Python's
//	go run -C benchmarks . soak -for 30m       pymalloc under the load of a server, for long
//	go run -C benchmarks . memory              what is held beyond what lives, where blocks leave holes
//	go run -C benchmarks . requests            a bystander beside an allocator, or a Space, a request
//	go run -C benchmarks . trim -ops N IN OUT  cut a trace to N records
//
// README.md beside it says how to read the tables.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
)

// command is a subcommand. Without one, the arguments are those of replayTraces.
type command func(ctx context.Context, args []string, stdout, stderr io.Writer) error

var commands = map[string]command{
	measureCommand: measure,
	probeCommand:   probe,
	"trim":         trim,
	"suite":        runSuite,
	"compare":      compareReports,
	"objects":      compareObjects,
	"soak":         runSoak,
	"memory":       runMemory,
	"requests":     runRequests,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run returns the exit code: 1 for a failure, 2 for wrong arguments.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	do := command(replayTraces)
	if len(args) > 0 && commands[args[0]] != nil {
		do, args = commands[args[0]], args[1:]
	}
	err := do(ctx, args, stdout, stderr)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.As(err, new(usageError)):
		fmt.Fprintln(stderr, "benchmarks:", err)
		return 2
	}
	fmt.Fprintln(stderr, "benchmarks:", err)
	return 1
}

// usageError is a wrong argument.
type usageError struct{ error }

// parse reads flags, and takes as many other arguments as are named.
func parse(f *flag.FlagSet, args []string, stderr io.Writer, names ...string) error {
	f.SetOutput(stderr)
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return usageError{err}
	}
	if f.NArg() != len(names) {
		return usageError{fmt.Errorf("%s: %d arguments, want %q", f.Name(), f.NArg(), names)}
	}
	return nil
}
