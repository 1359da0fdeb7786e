// Package tagstack is a lock-free stack of numbers, for the shared usedpools,
// the shared empty pools and the shards' inboxes.
//
// A node is a 32-bit number (a pool's). Its link stands in a table outside the
// pools that is never unmapped, so a pop that has lost a race reads a stale
// link but never unmapped memory; the head carries a 32-bit tag that every
// change increments, so that the stale link does not get in (Treiber's stack
// with the counted pointer of IBM's System/370 Principles of Operation). A node
// is on at most one stack at a time. 0 is no node.
//
// Any goroutine may call any method; none blocks.
package tagstack

import (
	"sync/atomic"

	"github.com/pyarena/pyarena/internal/vmarray"
)

// Links is the table of next links, indexed by node number.
type Links struct {
	vmarray.Array[atomic.Uint32]
}

// Next returns the node after n. The caller holds the chain that n is part of.
func (l *Links) Next(n uint32) uint32 { return l.At(n).Load() }

// Link makes next the node after n. The caller holds n.
func (l *Links) Link(n, next uint32) { l.At(n).Store(next) }

// Stack is the head: tag<<32 | number. The zero value is empty.
type Stack struct {
	head atomic.Uint64
}

// Empty reports whether the stack had no node at some moment of the call.
func (s *Stack) Empty() bool { return uint32(s.head.Load()) == 0 }

// Push puts the chain first … last on top; the nodes between are linked
// already. What the caller wrote to the nodes' pools before is seen by whoever
// pops them.
func (s *Stack) Push(l *Links, first, last uint32) {
	for {
		old := s.head.Load()
		l.At(last).Store(uint32(old))
		if s.head.CompareAndSwap(old, next(old, first)) {
			return
		}
	}
}

// Pop takes the top node, or returns 0.
func (s *Stack) Pop(l *Links) uint32 {
	for {
		old := s.head.Load()
		n := uint32(old)
		if n == 0 {
			return 0
		}
		// Stale if n was popped since; then the tag has moved and the CAS fails.
		link := l.At(n).Load()
		if s.head.CompareAndSwap(old, next(old, link)) {
			return n
		}
	}
}

// TakeAll takes the whole chain and returns its first node, or 0.
func (s *Stack) TakeAll() uint32 {
	for {
		old := s.head.Load()
		if uint32(old) == 0 {
			return 0
		}
		if s.head.CompareAndSwap(old, next(old, 0)) {
			return uint32(old)
		}
	}
}

// next is the head that follows old: n on top, and the next tag.
func next(old uint64, n uint32) uint64 { return (old>>32+1)<<32 | uint64(n) }
