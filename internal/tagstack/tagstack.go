// Package tagstack is a lock-free stack of pools, for usedpools.
//
// A node is the number of a header, and its link stands in that header. Headers are never
// unmapped, so a pop that has lost a race reads a stale link but never unmapped memory; the
// head carries a 32-bit tag that every change increments, so that the stale link does not
// get in (Treiber's stack with the counted pointer of IBM's System/370 Principles of
// Operation). A node is on at most one stack at a time. 0 is no node.
//
// Any goroutine may call any method; none blocks.
package tagstack

import (
	"sync/atomic"

	"github.com/pyarena/pyarena/internal/headers"
)

// Next returns the node after n. The caller holds the chain that n is part of.
func Next(n uint32) uint32 { return headers.At(n).Next.Load() }

// Link makes next the node after n. The caller holds n.
func Link(n, next uint32) { headers.At(n).Next.Store(next) }

// Stack is the head: tag<<32 | number. The zero value is empty.
type Stack struct {
	head atomic.Uint64
}

// Empty reports whether the stack had no node at some moment of the call.
func (s *Stack) Empty() bool { return uint32(s.head.Load()) == 0 }

// Push puts the chain first … last on top; the nodes between are linked already. What the
// caller wrote to the nodes' headers before is seen by whoever pops them.
func (s *Stack) Push(first, last uint32) {
	link := &headers.At(last).Next
	for {
		old := s.head.Load()
		link.Store(uint32(old))
		if s.head.CompareAndSwap(old, next(old, first)) {
			return
		}
	}
}

// Pop takes the top node, or returns 0.
func (s *Stack) Pop() uint32 {
	for {
		old := s.head.Load()
		n := uint32(old)
		if n == 0 {
			return 0
		}
		// Stale if n was popped since; then the tag has moved and the CAS fails.
		if s.head.CompareAndSwap(old, next(old, Next(n))) {
			return n
		}
	}
}

// next is the head that follows old: n on top, and the next tag.
func next(old uint64, n uint32) uint64 { return (old>>32+1)<<32 | uint64(n) }
