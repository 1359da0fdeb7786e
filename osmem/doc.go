// Package osmem gets pages from the operating system and gives them back.
//
// # States
//
// A region of address space is released, reserved or committed, and every
// exported function that takes or returns one is a transition between two of
// these states, or stays in one:
//
//	            Reserve,                        Commit
//	            MapAlignedReserved
//	 released  -------------------->  reserved  ------>  committed
//	           <--------------------            <------
//	                  Release                   Decommit
//
//	 released  ----------------- MapAligned ---------->  committed
//	           <----------------- Release -------------
//
//	 committed -- Protect, Advise, Lock, Unlock, ----->  committed
//	              Grow, Remap
//
//	released   not ours: the system may give the addresses to anyone
//	reserved   ours, inaccessible, without memory behind it
//	committed  readable and writable, zero at first; takes memory when touched
//
// Grow and Remap also take the bytes by which a region grows from released to
// committed, and those by which it shrinks back to released.
//
// # Where memory comes from
//
// From mmap through golang.org/x/sys/unix, and from VirtualAlloc through
// golang.org/x/sys/windows. Where there is neither (js, wasip1, plan9), in programs
// that are built with -race, and with the build tag pymalloc_goheap, the Go heap
// stands in: its regions take memory and are accessible in every state, and the race
// detector and checkptr see them. With the build tag pymalloc_mmap a program that is
// built with -race has mappings all the same.
//
// # Rules
//
// Sizes are in bytes and are rounded up to whole pages; addresses given must be
// multiples of [PageSize]. Any goroutine may call any function at any time, but
// not while it is pinned to its P. A range must be wholly the caller's, in the
// state that the function starts from, and not be changed by two goroutines at
// once: systems do not check this, and what lies beyond a region may be the
// program's own heap.
//
// A refusal is an [*Error] that wraps the system's cause, [ErrInvalid] for
// arguments that no system is asked about, or [errors.ErrUnsupported]. A refused
// call has changed nothing, except where the function says so.
package osmem
