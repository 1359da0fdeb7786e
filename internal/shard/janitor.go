package shard

import (
	"runtime"
	"sync"
	"time"
)

// The janitor comes for allocators in which something was freed, after their
// RetainDelay, and goes when there is nothing left to give back. It is one timer
// for the process, made at init: a timer that is first armed inside a
// testing/synctest bubble belongs to the bubble. When it fires, its function
// runs on a goroutine of its own that ends with the round.
var janitor struct {
	mu    sync.Mutex
	timer *time.Timer
	due   map[*Table]time.Time // the zero time: as soon as the clock can be read
	last  time.Time            // the end of the last round
}

// minRound is the least time between two rounds: each may stop the world twice.
const minRound = time.Second

func init() {
	janitor.due = map[*Table]time.Time{}
	janitor.timer = time.AfterFunc(1<<62, janitorRound)
	janitor.timer.Stop()
}

// arm makes the janitor come. Not pinned.
func (t *Table) arm() {
	if !t.armed.Load() && t.armed.CompareAndSwap(false, true) {
		t.armSlow()
	}
}

func (t *Table) armSlow() {
	janitor.mu.Lock()
	defer janitor.mu.Unlock()
	if t.closed.Load() {
		return // disarmed, or about to be
	}
	now := time.Now()
	if inBubble(now) {
		// A bubble's clock says nothing, and setting a timer goes by it. The
		// next collection's cleanup runs outside.
		janitor.due[t] = time.Time{}
		runtime.AddCleanup(new([16]byte), func(struct{}) { janitorRound() }, struct{}{})
		return
	}
	janitor.due[t] = now.Add(t.conf.RetainDelay)
	setTimer(now)
}

// disarm makes the janitor forget the table.
func (t *Table) disarm() {
	janitor.mu.Lock()
	defer janitor.mu.Unlock()
	delete(janitor.due, t)
}

// inBubble reports whether now was read inside a synctest bubble: such a time
// has no monotonic part.
func inBubble(now time.Time) bool { return now == now.Round(0) }

// setTimer sets the timer to the earliest table. The caller holds mu.
func setTimer(now time.Time) {
	if len(janitor.due) == 0 {
		return
	}
	var first time.Time
	for _, due := range janitor.due {
		if first.IsZero() || due.Before(first) {
			first = due
		}
	}
	if earliest := janitor.last.Add(minRound); first.Before(earliest) {
		first = earliest
	}
	janitor.timer.Reset(max(first.Sub(now), time.Millisecond))
}

// janitorRound serves the tables that are due.
func janitorRound() {
	janitor.mu.Lock()
	now := time.Now()
	var serve []*Table
	for t, due := range janitor.due {
		switch {
		case due.IsZero():
			janitor.due[t] = now.Add(t.conf.RetainDelay)
		case !due.After(now):
			serve = append(serve, t)
			delete(janitor.due, t)
		}
	}
	janitor.mu.Unlock()

	for _, t := range serve {
		t.armed.Store(false) // what is freed from now on arms it again
	}
	for _, t := range tick(serve) {
		t.arm()
	}

	janitor.mu.Lock()
	defer janitor.mu.Unlock()
	now = time.Now()
	if len(serve) > 0 {
		janitor.last = now
	}
	setTimer(now)
}
