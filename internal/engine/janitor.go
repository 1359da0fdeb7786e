package engine

import (
	"container/heap"
	"runtime"
	"sync"
	"time"
)

// The janitor comes for allocators in which something was freed, after their RetainDelay, and
// goes when there is nothing left to give back; and for those that were closed, soon. It is
// one timer for the process, made at init: a timer that is first armed inside a
// testing/synctest bubble belongs to the bubble. When it fires, its function runs on a
// goroutine of its own that ends with the round. It holds no lock of two allocators at once.
var janitor struct {
	mu     sync.Mutex
	timer  *time.Timer
	due    lives     // by the time at which they are due
	set    time.Time // what the timer is set to; zero if it is not
	graves bool      // closed lives are to be unmapped
	last   time.Time // the end of the last round
}

const (
	// minRound is the least time between two rounds.
	minRound = time.Second
	// graveDelay is how long the pages of a closed life stay.
	graveDelay = 20 * time.Millisecond
)

// lives is a heap by time.
type lives []*Life

func (h lives) Len() int           { return len(h) }
func (h lives) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h lives) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].dueAt, h[j].dueAt = i, j
}

func (h *lives) Push(x any) {
	l := x.(*Life)
	l.dueAt = len(*h)
	*h = append(*h, l)
}

func (h *lives) Pop() any {
	old := *h
	l := old[len(old)-1]
	l.dueAt = -1
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return l
}

func init() {
	janitor.timer = time.AfterFunc(1<<62, janitorRound)
	janitor.timer.Stop()
}

// stir notes that something may have been freed.
func (l *Life) stir() { l.reclaims.stir() }

// arm makes the janitor come. Not in a section.
func (l *Life) arm() {
	if !l.armed.Load() && l.armed.CompareAndSwap(false, true) {
		l.armSlow()
	}
}

func (l *Life) armSlow() {
	janitor.mu.Lock()
	defer janitor.mu.Unlock()
	if l.closed.Load() || l.dueAt >= 0 {
		return // disarmed, or about to be
	}
	now := time.Now()
	if inBubble(now) {
		l.due = time.Time{} // as soon as the clock can be read
		heap.Push(&janitor.due, l)
		callOutside()
		return
	}
	l.due = now.Add(l.conf.RetainDelay)
	heap.Push(&janitor.due, l)
	setTimer(now)
}

// disarm makes the janitor forget the life.
func (l *Life) disarm() {
	janitor.mu.Lock()
	defer janitor.mu.Unlock()
	if l.dueAt >= 0 {
		heap.Remove(&janitor.due, l.dueAt)
	}
}

// callFuneral makes the janitor come for closed lives.
func callFuneral() {
	janitor.mu.Lock()
	defer janitor.mu.Unlock()
	if janitor.graves {
		return
	}
	janitor.graves = true
	if now := time.Now(); inBubble(now) {
		callOutside()
	} else {
		setTimer(now)
	}
}

// callOutside makes the janitor come outside of the synctest bubble that the caller is in: a
// bubble's clock says nothing, and setting a timer goes by it. The next collection's cleanup
// runs outside.
func callOutside() {
	runtime.AddCleanup(new([16]byte), func(struct{}) { janitorRound() }, struct{}{})
}

// inBubble reports whether now was read inside a synctest bubble: such a time has no
// monotonic part.
func inBubble(now time.Time) bool { return now == now.Round(0) }

// setTimer sets the timer to what is to be done first. The caller holds mu.
func setTimer(now time.Time) {
	var at time.Time
	if len(janitor.due) > 0 {
		at = janitor.due[0].due
		if soonest := janitor.last.Add(minRound); at.Before(soonest) {
			at = soonest
		}
	}
	if g := now.Add(graveDelay); janitor.graves && (at.IsZero() || g.Before(at)) {
		at = g
	}
	if at.IsZero() || !janitor.set.IsZero() && !at.Before(janitor.set) {
		return
	}
	janitor.set = at
	janitor.timer.Reset(max(at.Sub(now), time.Millisecond))
}

// janitorRound serves the lives that are due.
func janitorRound() {
	janitor.mu.Lock()
	now := time.Now()
	janitor.set = time.Time{}
	buries := janitor.graves
	janitor.graves = false
	var serve []*Life
	for len(janitor.due) > 0 && !janitor.last.Add(minRound).After(now) && !janitor.due[0].due.After(now) {
		l := heap.Pop(&janitor.due).(*Life)
		if l.due.IsZero() {
			l.due = now.Add(l.conf.RetainDelay)
			heap.Push(&janitor.due, l)
			continue
		}
		serve = append(serve, l)
	}
	janitor.mu.Unlock()

	if buries {
		unearthAll()
		if cool(false) {
			callFuneral() // for what somebody may want until then
		}
	}
	for _, l := range serve {
		l.armed.Store(false) // what is freed from now on arms it again
		if l.tick() {
			l.arm()
		}
	}

	janitor.mu.Lock()
	defer janitor.mu.Unlock()
	now = time.Now()
	if len(serve) > 0 {
		janitor.last = now
	}
	setTimer(now)
}
