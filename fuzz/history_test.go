package fuzz

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/pymalloc"
)

// call is what one call of a recorded history was, and when: numbers of one clock,
// that ticks at every call and return.
type call struct {
	what       outcome
	begin, end int
	by         int // goroutine
	p          uintptr
	place      int // among the calls that are open, see linearizable
}

// outcome is what a call did to the block at an address.
type outcome byte

const (
	handedOut outcome = iota // malloc returned it
	freed                    // free succeeded
	twice                    // free said ErrDoubleFree
	notOwned                 // free said ErrNotOwned
)

func (c *call) String() string {
	return fmt.Sprintf("goroutine %d, %d to %d: %s", c.by, c.begin, c.end, [...]string{"malloc", "free", "ErrDoubleFree", "ErrNotOwned"}[c.what])
}

// state is what the sequential specification knows of an address: whether a block is
// live there, which call has handed it out, and which has freed it. Both are nil if
// there never was one.
type state struct {
	live    bool
	from    *call
	freedBy *call
}

// then returns the state after a call, and whether the call may return what it did.
// The specification is pymalloc's documentation, but for the fourth point, which it
// does not tell:
//
//   - malloc hands out what is not live;
//   - free of a live block succeeds, whoever has it;
//   - free of one that is free says ErrDoubleFree, or ErrNotOwned when its arena was
//     given back or its pool serves another class by now; but free at the same moment
//     as the free that ended the block may succeed too, and changes nothing then;
//   - free of a block that is being handed out, which only a stale pointer can ask for,
//     frees it, but may go unnoticed by the next free;
//   - where there never was a block it says ErrNotOwned.
func (s state) then(c *call) (state, bool) {
	switch c.what {
	case handedOut:
		return state{live: true, from: c}, !s.live
	case freed:
		if s.live {
			return state{from: s.from, freedBy: c}, true
		}
		f := s.freedBy
		return s, f != nil && (c.begin < f.end || f.begin < s.from.end)
	case twice:
		return s, !s.live && s.freedBy != nil
	}
	return s, !s.live
}

// linearizable returns an error unless the calls on one address have an order that
// the specification allows and in which each comes between its begin and its end. It
// goes through begins and ends in time, with all the worlds that are possible: the
// state, and which of the open calls have taken effect. A call that ends has taken
// effect in all worlds that remain.
func linearizable(calls []*call) error {
	type world struct {
		state
		done uint64
	}
	type event struct {
		at int
		c  *call
	}
	var events []event
	for _, c := range calls {
		events = append(events, event{c.begin, c}, event{c.end, c})
	}
	slices.SortFunc(events, func(a, b event) int { return a.at - b.at })
	var open [64]*call
	worlds := map[world]bool{{}: true}
	for _, e := range events {
		if e.at == e.c.begin {
			e.c.place = slices.Index(open[:], nil) // there are fewer goroutines
			open[e.c.place] = e.c
			continue
		}
		// Everything that may have happened by now.
		todo := make([]world, 0, len(worlds))
		for w := range worlds {
			todo = append(todo, w)
		}
		for len(todo) > 0 {
			w := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			for i, c := range open {
				if c == nil || w.done>>i&1 != 0 {
					continue
				}
				if s, ok := w.then(c); ok {
					if next := (world{s, w.done | 1<<i}); !worlds[next] {
						worlds[next] = true
						todo = append(todo, next)
					}
				}
			}
		}
		bit := uint64(1) << e.c.place
		remain := map[world]bool{}
		for w := range worlds {
			if w.done&bit != 0 {
				remain[world{w.state, w.done &^ bit}] = true
			}
		}
		if open[e.c.place] = nil; len(remain) == 0 {
			return fmt.Errorf("no order fits %v", e.c)
		}
		worlds = remain
	}
	return nil
}

// checkHistory returns an error unless each address's part of a history is
// linearizable: the specification is a product of one for each address, so then the
// whole is (Herlihy and Wing).
func checkHistory(calls []call) error {
	byAddress := map[uintptr][]*call{}
	for i := range calls {
		byAddress[calls[i].p] = append(byAddress[calls[i].p], &calls[i])
	}
	for p, own := range byAddress {
		if err := linearizable(own); err != nil {
			text := ""
			for _, c := range own {
				text += "\n\t" + c.String()
			}
			return fmt.Errorf("%#x: %w, of%s", p, err, text)
		}
	}
	return nil
}

// recorder makes calls, and writes them down.
type recorder struct {
	clock *atomic.Int64
	me    int
	calls []call
	lost  int // mallocs that failed with ErrCorrupted
}

func (r *recorder) malloc(src source, size int) (unsafe.Pointer, error) {
	c := call{what: handedOut, by: r.me, begin: int(r.clock.Add(1))}
	p, err := src.UnsafeMalloc(size)
	c.end = int(r.clock.Add(1))
	if err != nil {
		if errors.Is(err, pymalloc.ErrCorrupted) {
			r.lost++
			return nil, nil
		}
		return nil, err
	}
	c.p = uintptr(p)
	r.calls = append(r.calls, c)
	return p, nil
}

func (r *recorder) free(src source, p unsafe.Pointer) error {
	c := call{by: r.me, p: uintptr(p), begin: int(r.clock.Add(1))}
	err := src.UnsafeFree(p)
	c.end = int(r.clock.Add(1))
	switch {
	case err == nil:
		c.what = freed
	case errors.Is(err, pymalloc.ErrDoubleFree):
		c.what = twice
	case errors.Is(err, pymalloc.ErrNotOwned):
		c.what = notOwned
	default:
		return err
	}
	r.calls = append(r.calls, c)
	return nil
}

// badFrees says which frees of blocks that are free, or may be, a history has.
type badFrees int

const (
	noFrees     badFrees = iota
	lateFrees            // of what the same goroutine has freed
	racingFrees          // of what others may be freeing
)

// record lets goroutines malloc and free, on the allocator and on heaps, and pass
// blocks to each other through slots, and returns what they did. A block in a slot is
// freed by whoever takes it out; a racing free leaves it there.
func record(t *testing.T, seed uint64, goroutines, steps int, kind badFrees) []call {
	t.Helper()
	a, err := pymalloc.NewAllocator(pymalloc.Options{ArenaBytes: 256 << 10, RetainBytes: -1, RetainDelay: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	var (
		clock atomic.Int64
		slots [8]unsafe.Pointer // atomic
		wg    sync.WaitGroup
	)
	rs, errs := make([]recorder, goroutines), make([]error, goroutines)
	for me := range goroutines {
		r := &rs[me]
		r.me, r.clock = me, &clock
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, uint64(me)))
			var src source = a
			if me%2 == 1 {
				h := a.AcquireHeap()
				defer h.Release()
				src = h
			}
			var late unsafe.Pointer // freed by us
			for range steps {
				slot := &slots[rnd.IntN(len(slots))]
				var err error
				switch op := rnd.IntN(16); {
				case op < 7:
					size := []int{16, 48, 512, 2000, 9000, 100 << 10, 400 << 10}[min(rnd.IntN(6)*rnd.IntN(3), 6)]
					var p unsafe.Pointer
					if p, err = r.malloc(src, size); p != nil && err == nil {
						if p = atomic.SwapPointer(slot, p); p != nil {
							late, err = p, r.free(src, p)
						}
					}
				case op < 12:
					if p := atomic.SwapPointer(slot, nil); p != nil {
						late, err = p, r.free(src, p)
					}
				case op < 13:
					if late != nil && kind >= lateFrees { // twice, unless it was handed out again
						err = r.free(src, late)
					}
				case op < 14:
					if p := atomic.LoadPointer(slot); p != nil { // no block begins there
						err = r.free(src, unsafe.Add(p, 8))
					}
				case op < 15:
					if p := atomic.LoadPointer(slot); p != nil && kind >= racingFrees { // it stays there for others
						err = r.free(src, p)
					}
				default:
					if rnd.IntN(40) == 0 {
						err = a.Trim()
					}
					runtime.Gosched()
				}
				if err != nil {
					errs[me] = err
					return
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	var all []call
	for i := range rs {
		all = append(all, rs[i].calls...)
		if rs[i].lost > 0 {
			t.Logf("%d mallocs found a list corrupted", rs[i].lost)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	return all
}

// What goroutines see of malloc and free, bad frees included, is as if one call came
// after the other.
func TestLinearizable(t *testing.T) {
	rounds := 30
	if testing.Short() {
		rounds = 10
	}
	kinds := map[string]badFrees{"middle": noFrees, "late": lateFrees, "racing": racingFrees}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			var seen [4]int
			for seed := range rounds {
				h := record(t, uint64(seed), 2+seed%7, 2000, kind)
				for _, c := range h {
					seen[c.what]++
				}
				if err := checkHistory(h); err != nil {
					t.Errorf("seed %d: %v", seed, err)
				}
			}
			t.Logf("%d mallocs, %d frees, %d ErrDoubleFree, %d ErrNotOwned", seen[0], seen[1], seen[2], seen[3])
		})
	}
}

// The checker takes what the specification allows, and refuses what it does not.
func TestLinearizableRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		ok    bool
		calls []call // goroutine and address are not looked at
	}{
		{"in turn", true, []call{{what: handedOut, begin: 1, end: 2}, {what: freed, begin: 3, end: 4}, {what: handedOut, begin: 5, end: 6}}},
		{"handed out twice", false, []call{{what: handedOut, begin: 1, end: 2}, {what: handedOut, begin: 3, end: 4}}},
		{"handed out twice at once", false, []call{{what: handedOut, begin: 1, end: 3}, {what: handedOut, begin: 2, end: 4}}},
		{"handed out while it is freed", true, []call{{what: handedOut, begin: 1, end: 2}, {what: freed, begin: 3, end: 6}, {what: handedOut, begin: 4, end: 5}}},
		{"handed out before it is freed", false, []call{{what: handedOut, begin: 1, end: 2}, {what: handedOut, begin: 3, end: 4}, {what: freed, begin: 5, end: 6}}},
		{"freed before it was handed out", false, []call{{what: freed, begin: 1, end: 2}, {what: handedOut, begin: 3, end: 4}}},
		{"freed twice in turn", false, []call{{what: handedOut, begin: 1, end: 2}, {what: freed, begin: 3, end: 4}, {what: freed, begin: 5, end: 6}}},
		{"freed twice at once", true, []call{{what: handedOut, begin: 1, end: 2}, {what: freed, begin: 3, end: 5}, {what: freed, begin: 4, end: 6}}},
		{"freed twice at once, handed out twice", false, []call{
			{what: handedOut, begin: 1, end: 2},
			{what: freed, begin: 3, end: 5},
			{what: freed, begin: 4, end: 6},
			{what: handedOut, begin: 7, end: 8},
			{what: handedOut, begin: 9, end: 10},
		}},
		{"the second free comes late", true, []call{
			{what: handedOut, begin: 1, end: 2},
			{what: freed, begin: 3, end: 5},
			{what: freed, begin: 4, end: 11},
			{what: handedOut, begin: 7, end: 8},
			{what: handedOut, begin: 9, end: 10},
		}},
		{"refused in turn", true, []call{{what: handedOut, begin: 1, end: 2}, {what: freed, begin: 3, end: 4}, {what: twice, begin: 5, end: 6}, {what: notOwned, begin: 7, end: 8}}},
		{"refused before the free has returned", true, []call{{what: handedOut, begin: 1, end: 2}, {what: freed, begin: 3, end: 6}, {what: twice, begin: 4, end: 5}}},
		{"a live block refused", false, []call{{what: handedOut, begin: 1, end: 2}, {what: twice, begin: 3, end: 4}, {what: freed, begin: 5, end: 6}}},
		{"a live block not owned", false, []call{{what: handedOut, begin: 1, end: 2}, {what: notOwned, begin: 3, end: 4}, {what: freed, begin: 5, end: 6}}},
		{"free where no block was", false, []call{{what: twice, begin: 1, end: 2}}},
		{"refused where no block was", true, []call{{what: notOwned, begin: 1, end: 2}}},
	} {
		if err := checkHistory(c.calls); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// A recorded history of which one call is forged.
	h := record(t, 1, 4, 500, noFrees)
	if err := checkHistory(h); err != nil {
		t.Fatal(err)
	}
	forged, refused := 0, 0
	for i := range h {
		if h[i].what == freed {
			was := h[i].what
			h[i].what = notOwned // of a live block
			forged++
			if checkHistory(h) != nil {
				refused++
			}
			h[i].what = was
			if forged == 20 {
				break
			}
		}
	}
	if forged == 0 || refused != forged {
		t.Errorf("%d of %d forged histories are refused", refused, forged)
	}
}
