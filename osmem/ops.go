package osmem

import (
	"fmt"
	"sync/atomic"
)

// Op is what the system is asked to do.
type Op uint8

// The operations. MapAlignedReserved counts as OpReserve, Grow as OpRemap.
const (
	OpReserve Op = iota
	OpCommit
	OpDecommit
	OpRelease
	OpMap
	OpProtect
	OpAdvise
	OpRemap
	OpLock
	OpUnlock
	numOps
)

var opNames = [numOps]string{"reserve", "commit", "decommit", "release", "map", "protect", "advise", "remap", "lock", "unlock"}

// String returns the operation's name, as it stands in errors.
func (op Op) String() string {
	if op < numOps {
		return opNames[op]
	}
	return fmt.Sprintf("Op(%d)", uint8(op))
}

// Counts is how often each operation has succeeded.
type Counts struct {
	Reserve, Commit, Decommit, Release, Map, Protect, Advise, Remap, Lock, Unlock uint64
}

// Sub returns how often each operation has succeeded between earlier and c.
func (c Counts) Sub(earlier Counts) Counts {
	return Counts{
		Reserve:  c.Reserve - earlier.Reserve,
		Commit:   c.Commit - earlier.Commit,
		Decommit: c.Decommit - earlier.Decommit,
		Release:  c.Release - earlier.Release,
		Map:      c.Map - earlier.Map,
		Protect:  c.Protect - earlier.Protect,
		Advise:   c.Advise - earlier.Advise,
		Remap:    c.Remap - earlier.Remap,
		Lock:     c.Lock - earlier.Lock,
		Unlock:   c.Unlock - earlier.Unlock,
	}
}

var (
	calls [numOps]atomic.Uint64
	fault atomic.Pointer[func(Op, int) error]
)

// Calls returns how often each operation has succeeded since the process began.
// Beside running operations each figure is exact and their sum is not. Any
// goroutine may call it.
func Calls() Counts {
	return Counts{
		Reserve:  calls[OpReserve].Load(),
		Commit:   calls[OpCommit].Load(),
		Decommit: calls[OpDecommit].Load(),
		Release:  calls[OpRelease].Load(),
		Map:      calls[OpMap].Load(),
		Protect:  calls[OpProtect].Load(),
		Advise:   calls[OpAdvise].Load(),
		Remap:    calls[OpRemap].Load(),
		Lock:     calls[OpLock].Load(),
		Unlock:   calls[OpUnlock].Load(),
	}
}

// SetFault makes every operation with valid arguments ask f first, with its size
// in bytes (a remap's new one). An error that f returns becomes the cause of an
// [*Error], and the system is not asked. nil removes the function in place;
// restore puts it back.
//
// It is for tests, and any goroutine may call it: f must be ready to be called
// by all of them. Unused, it costs an operation one atomic load.
func SetFault(f func(op Op, size int) error) (restore func()) {
	var next *func(Op, int) error
	if f != nil {
		next = &f
	}
	old := fault.Swap(next)
	return func() { fault.Store(old) }
}

// perform does an operation with checked arguments: it asks the fault hook, then
// the system, and counts. It returns the cause of a refusal.
func perform(op Op, size int, do func() error) error {
	if f := fault.Load(); f != nil {
		if err := (*f)(op, size); err != nil {
			return err
		}
	}
	err := do()
	if err == nil {
		calls[op].Add(1)
	}
	return err
}
