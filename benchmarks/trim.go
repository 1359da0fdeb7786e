package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"

	"github.com/pyarena/pyarena/benchmarks/internal/trace"
)

// trim cuts a part out of a trace.
func trim(_ context.Context, args []string, stdout, stderr io.Writer) (err error) {
	f := flag.NewFlagSet("trim", flag.ContinueOnError)
	skip := f.Int("skip", 0, "`records` to leave out first; blocks that live then are made at the start")
	ops := f.Int("ops", math.MaxInt, "`records` to keep")
	if err := parse(f, args, stderr, "IN", "OUT"); err != nil {
		return err
	}
	if *skip < 0 || *ops < 0 {
		return usageError{fmt.Errorf("trim: -skip is %d and -ops %d, want neither negative", *skip, *ops)}
	}
	in, err := os.Open(f.Arg(0))
	if err != nil {
		return err
	}
	defer in.Close()
	r, err := trace.NewReader(in)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Arg(0), err)
	}
	out, err := os.Create(f.Arg(1))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	w, err := trace.NewWriter(out, r.Header().Program)
	if err != nil {
		return err
	}
	if err := trace.Cut(w, r, *skip, *ops); err != nil {
		return fmt.Errorf("%s: %w", f.Arg(0), err)
	}
	h, err := w.Close()
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, h)
	return nil
}
