package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// progress tells how far a comparison is: on a terminal in a line that changes,
// elsewhere in a line for each step that is done.
type progress struct {
	out    io.Writer
	live   bool
	begun  time.Time
	budget time.Duration // that all should take; 0 if that is not known
}

func newProgress(out io.Writer, budget time.Duration) *progress {
	return &progress{out, isTerminal(out), time.Now(), budget}
}

func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	s, err := f.Stat()
	return err == nil && s.Mode()&os.ModeCharDevice != 0
}

// clearLine goes to the line's start and clears it.
const clearLine = "\r\x1b[K"

// show tells what is going on.
func (p *progress) show(what string) {
	if p.live {
		fmt.Fprintf(p.out, "%s%s %s", clearLine, p.clock(), what)
	}
}

// step tells that a step is done.
func (p *progress) step(what, result string) {
	if !p.live {
		fmt.Fprintf(p.out, "%s %s: %s\n", p.clock(), what, result)
	}
}

// clock tells how long it has taken, and will.
func (p *progress) clock() string {
	s := fmt.Sprintf("%.0f s", time.Since(p.begun).Seconds())
	if p.budget > 0 {
		s += fmt.Sprintf(" of about %.0f", p.budget.Seconds())
	}
	return "[" + s + "]"
}

// close leaves the line empty.
func (p *progress) close() {
	if p.live {
		fmt.Fprint(p.out, clearLine)
	}
}
