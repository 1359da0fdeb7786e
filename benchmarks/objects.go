package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/dustin/go-humanize"

	"github.com/pyarena/pyarena/benchmarks/internal/objects"
)

// compareObjects measures unsafeobj's objects beside Python's.
func compareObjects(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("objects", flag.ContinueOnError)
	n := f.Int("n", 1_000_000, "operations in a round, and keys of the dict")
	rounds := f.Int("rounds", 5, "rounds, of which the median is printed")
	live := f.Int("live", 10_000_000, "objects that live while the Go collector runs")
	if err := parse(f, args, stderr); err != nil {
		return err
	}
	if *n < 4 || *rounds < 1 || *live < 1 {
		return usageError{fmt.Errorf("objects: -n %d -rounds %d -live %d: too little to measure", *n, *rounds, *live)}
	}
	owned, err := objects.Go(ctx, *n, *rounds, false)
	if err != nil {
		return err
	}
	shared, err := objects.Go(ctx, *n, *rounds, true)
	if err != nil {
		return err
	}
	python, version, err := objects.Python(ctx, *n, *rounds)
	if err != nil {
		return err
	}
	if version == "" {
		fmt.Fprintln(stdout, "There is no python3 here to compare with.")
	}
	inC, err := objects.PythonC(ctx, *n, *rounds)
	if errors.Is(err, objects.ErrNoHeaders) {
		fmt.Fprintln(stdout, "Python's C API is not compared with:", err)
	} else if err != nil {
		return err
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "ns per operation, or bytes\tSpace\tshared Space\t%s\tits C API\t\n", version)
	for i, o := range owned {
		fmt.Fprintf(w, "%s\t%.1f\t%.1f\t%s\t%s\t\n", o.Name, o.Value, shared[i].Value, figure(python, i), figure(inC, i))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	with, without, err := objects.Collection(ctx, *live)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "\nA collection of Go's: %v with %s objects, %v with none\n", with, humanize.Comma(int64(*live)), without)
	return err
}

func figure(of []objects.Figure, i int) string {
	if i >= len(of) {
		return "-"
	}
	return fmt.Sprintf("%.1f", of[i].Value)
}
