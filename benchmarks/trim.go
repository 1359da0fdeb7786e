package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/pyarena/pyarena/benchmarks/internal/trace"
)

// trim cuts a trace to its first records; the header is made anew.
func trim(_ context.Context, args []string, stdout, stderr io.Writer) (err error) {
	f := flag.NewFlagSet("trim", flag.ContinueOnError)
	ops := f.Int("ops", 1_000_000, "`records` to keep")
	if err := parse(f, args, stderr, "IN", "OUT"); err != nil {
		return err
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
	for range *ops {
		rec, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.Arg(0), err)
		}
		if err := w.Write(rec); err != nil {
			return err
		}
	}
	h, err := w.Close()
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, h)
	return nil
}
