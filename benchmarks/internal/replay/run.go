package replay

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/benchmarks/internal/impl"
	"github.com/pyarena/pyarena/benchmarks/internal/offheap"
)

// run is what the goroutines of one replay share.
type run struct {
	plan   *Plan
	info   impl.Info
	impl   impl.Impl
	table  []unsafe.Pointer // by slot
	done   []atomic.Uint32  // by shared slot: ops done
	failed atomic.Bool
}

// newRun makes the arrays, all of them resident, and lets the collector finish
// with what is garbage so far. The table lies where the collector looks only if
// the blocks are its own.
func newRun(p *Plan, info impl.Info) (r *run, err error) {
	r = &run{plan: p, info: info}
	if info.GoHeap {
		r.table = make([]unsafe.Pointer, p.Slots)
	} else if r.table, err = offheap.Slice[unsafe.Pointer](p.Slots); err != nil {
		return nil, err
	}
	clear(r.table)
	// Small, and on the Go heap: the race detector sees no order made elsewhere.
	r.done = make([]atomic.Uint32, p.Shared)
	debug.FreeOSMemory()
	return r, nil
}

// all runs every thread's ops in a goroutine, and returns the time from the
// first's start to the last's end. begin is called last before that.
func (r *run) all(begin func(), thread func(t Thread, w impl.Worker) error) (time.Duration, error) {
	var ready, end sync.WaitGroup
	start := make(chan struct{})
	errs := make([]error, len(r.plan.Threads))
	for i, t := range r.plan.Threads {
		ready.Add(1)
		end.Go(func() {
			w := r.impl.Worker()
			defer w.Release()
			ready.Done()
			<-start
			if errs[i] = thread(t, w); errs[i] != nil {
				r.failed.Store(true)
			}
		})
	}
	ready.Wait()
	begin()
	from := time.Now()
	close(start)
	end.Wait()
	return time.Since(from), errors.Join(errs...)
}

// wait returns true when the ops before op on its block, of other threads, are
// done; false when another thread has failed.
func (r *run) wait(op *Op) bool {
	if int(op.Slot) >= r.plan.Shared {
		return true
	}
	for spins := 1; r.done[op.Slot].Load() != uint32(op.Turn); spins++ {
		if spins%64 == 0 {
			if r.failed.Load() {
				return false
			}
			runtime.Gosched()
		}
	}
	return true
}

// pass lets the next op on op's block go on.
func (r *run) pass(op *Op) {
	if int(op.Slot) < r.plan.Shared {
		r.done[op.Slot].Add(1)
	}
}

// RecordError is a record that an allocator failed.
type RecordError struct {
	Impl   string
	Record int // -1 for blocks that the trace leaves live
	Op     Op
	Err    error
}

func (e *RecordError) Error() string {
	at := fmt.Sprintf("record %d: %v", e.Record, e.Op.Kind)
	if e.Record < 0 {
		at = "after the last record"
	}
	return fmt.Sprintf("%s: %s: block of %d bytes: %v", e.Impl, at, max(e.Op.Old, e.Op.Size), e.Err)
}

// Unwrap returns what went wrong.
func (e *RecordError) Unwrap() error { return e.Err }

func (r *run) errorAt(t Thread, i int, err error) error {
	return &RecordError{r.info.Name, int(t.Records[i]), t.Ops[i], err}
}

var (
	errNil     = errors.New("no error, and no block")
	errContent = errors.New("wrong content")
)
