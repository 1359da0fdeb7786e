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
	out         io.Writer
	live        bool
	done, total int
	begun       time.Time
}

func newProgress(out io.Writer, total int) *progress {
	return &progress{out: out, live: isTerminal(out), total: total, begun: time.Now()}
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
	if !p.live {
		return
	}
	left := ""
	if p.done > 0 {
		d := time.Since(p.begun) / time.Duration(p.done) * time.Duration(p.total-p.done)
		left = fmt.Sprintf("  (about %v left)", d.Round(time.Second))
	}
	fmt.Fprintf(p.out, "%s[%d/%d] %s%s", clearLine, p.done, p.total, what, left)
}

// step tells that a step is done.
func (p *progress) step(what, result string) {
	p.done++
	if !p.live {
		fmt.Fprintf(p.out, "[%d/%d] %s: %s\n", p.done, p.total, what, result)
	}
}

// close leaves the line empty.
func (p *progress) close() {
	if p.live {
		fmt.Fprint(p.out, clearLine)
	}
}
