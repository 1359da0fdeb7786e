package shard

import (
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"
)

// The janitor comes for allocators in which something was freed, after their
// RetainDelay, and goes when there is nothing left to give back. It is one timer
// for the process, made at init: a timer that is first armed inside a
// testing/synctest bubble belongs to the bubble. When it fires, its function
// runs on a goroutine of its own that ends with the round.
//
// It also drains shards that were detached, at once.
var janitor struct {
	mu       sync.Mutex
	timer    *time.Timer
	due      map[*Table]time.Time // the zero time: as soon as the clock can be read
	last     time.Time            // the end of the last round
	detached map[*Table]struct{}
}

// minRound is the least time between two rounds: each may stop the world.
const minRound = time.Second

func init() {
	janitor.due, janitor.detached = map[*Table]time.Time{}, map[*Table]struct{}{}
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

// callDetached makes the janitor drain the detached shards of the table. now is of
// no bubble.
func callDetached(t *Table, now time.Time) {
	janitor.mu.Lock()
	defer janitor.mu.Unlock()
	janitor.detached[t] = struct{}{}
	setTimer(now)
}

// disarm makes the janitor forget the table.
func (t *Table) disarm() {
	janitor.mu.Lock()
	defer janitor.mu.Unlock()
	delete(janitor.due, t)
	delete(janitor.detached, t)
}

// inBubble reports whether now was read inside a synctest bubble: such a time
// has no monotonic part.
func inBubble(now time.Time) bool { return now == now.Round(0) }

// setTimer sets the timer to what is to be done first. The caller holds mu.
func setTimer(now time.Time) {
	wait, set := time.Duration(0), false
	sooner := func(at time.Time) {
		if left := at.Sub(now); !set || left < wait {
			wait, set = left, true
		}
	}
	for _, due := range janitor.due {
		sooner(due)
	}
	if set {
		wait = max(wait, janitor.last.Add(minRound).Sub(now))
	}
	if len(janitor.detached) > 0 {
		sooner(now)
	}
	if set {
		janitor.timer.Reset(max(wait, time.Millisecond))
	}
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
		case !due.After(now) && !janitor.last.Add(minRound).After(now):
			serve = append(serve, t)
			delete(janitor.due, t)
		}
	}
	detached := slices.Collect(maps.Keys(janitor.detached))
	clear(janitor.detached)
	janitor.mu.Unlock()

	for _, t := range detached {
		t.drainDetached()
	}
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
