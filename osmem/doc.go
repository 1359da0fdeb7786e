// Package osmem gets pages from the operating system and gives them back.
//
// # States
//
// A region of address space is in one of three states, and every exported
// function is a transition between two of them, or stays in one:
//
//	              Reserve, MapAlignedReserved
//	released ------------------------------------> reserved   inaccessible, no memory
//	   ^  ^  \                                     |      ^
//	   |  |   \  MapAligned                 Commit |      | Decommit
//	   |  |    \                                   v      |
//	   |  |     +--------------------------------> committed  readable, writable, zero at first
//	   |  +---- Release --------------------------/   Advise, Protect, Grow, Remap
//	   +------- Release (of reserved)
//
// Memory comes from mmap through golang.org/x/sys/unix, and from VirtualAlloc
// through golang.org/x/sys/windows. Where there is neither (js, wasip1, plan9),
// and with the build tag pymalloc_goheap, the Go heap stands in: its regions are
// always accessible, and the race detector and checkptr see them.
//
// # Rules
//
// All sizes are in bytes and are rounded up to whole pages; addresses must be
// multiples of the page size. Any goroutine may call anything; nothing here
// may be called while pinned to a P. A refusal is an [*Error] with the
// operation, the size and the system's cause; a refused call has changed
// nothing.
package osmem
