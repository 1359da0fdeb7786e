// Package trace reads and writes allocation traces: every call that a program
// made to malloc, calloc, realloc, free and their aligned relatives, in one
// order that could have happened. A trace has no addresses and no contents, only
// sizes, threads and which block is meant.
//
// A file NAME.trace.gz is one gzip stream. Decompressed it holds the line
// "pymtrace 1", a header line of key=value pairs, and the records: an op byte and
// its fields as unsigned varints.
//
//	op  name           fields                 meaning
//	0   alloc          thread, size           a new block
//	1   free           thread, delta          gives a block back
//	2   realloc        thread, delta, size    changes a block's size; it keeps its id
//	3   alloc_aligned  thread, size, align    a new block at a multiple of align
//	4   calloc         thread, size           a new block of zero bytes
//
// The n-th record that makes a block makes the block with id n, from 0. A delta
// names a block counted back from the next id. Threads are numbered from 0 in the
// order of their first records.
package trace

import (
	"fmt"
	"math"
)

const magic = "pymtrace 1\n"

// Op is what a record does.
type Op uint8

// The ops, with their bytes in a file.
const (
	Alloc Op = iota
	Free
	Realloc
	AllocAligned
	Calloc
	numOps
)

var opNames = [numOps]string{"alloc", "free", "realloc", "alloc_aligned", "calloc"}

// String returns the op's name in the format.
func (op Op) String() string {
	if op < numOps {
		return opNames[op]
	}
	return fmt.Sprintf("op %d", uint8(op))
}

// Makes reports whether the op makes a new block.
func (op Op) Makes() bool { return op == Alloc || op == AllocAligned || op == Calloc }

// Record is one call.
type Record struct {
	Op     Op
	Thread int
	Block  int    // its id
	Size   uint64 // bytes; of a free 0
	Align  uint64 // of an AllocAligned, bytes; else 0
}

// Header is what a file says about its records.
type Header struct {
	Program        string
	Threads        int
	Ops            int
	PeakLiveBytes  uint64
	PeakLiveBlocks uint64
	TotalBytes     uint64 // sizes of all allocations, and new sizes of all reallocs
}

func (h Header) String() string {
	return fmt.Sprintf("program=%s threads=%d ops=%d peak_live_bytes=%d peak_live_blocks=%d total_bytes=%d",
		h.Program, h.Threads, h.Ops, h.PeakLiveBytes, h.PeakLiveBlocks, h.TotalBytes)
}

// FormatError is a breach of the format.
type FormatError struct {
	Record int // counted from 0; -1 for what stands before the records, or is the whole file's
	Reason string
}

func (e *FormatError) Error() string {
	if e.Record < 0 {
		return "trace: " + e.Reason
	}
	return fmt.Sprintf("trace: record %d: %s", e.Record, e.Reason)
}

// ledger follows the blocks of a trace: it refuses records that cannot have
// happened, and sums up the header.
type ledger struct {
	sum        Header
	sizes      []uint64 // by block id; dead for a freed one
	liveBytes  uint64
	liveBlocks uint64
}

const dead = math.MaxUint64

// enter takes a record, or returns what is wrong with it.
func (l *ledger) enter(r Record) (reason string) {
	if r.Thread < 0 || r.Thread > l.sum.Threads {
		return fmt.Sprintf("%v: thread %d: the next new thread is %d", r.Op, r.Thread, l.sum.Threads)
	}
	if r.Op.Makes() {
		if r.Block != l.blocks() {
			return fmt.Sprintf("%v: block %d: the next id is %d", r.Op, r.Block, l.blocks())
		}
	} else {
		if r.Block < 0 || r.Block >= l.blocks() {
			return fmt.Sprintf("%v: block %d: %d blocks were made", r.Op, r.Block, l.blocks())
		}
		if l.sizes[r.Block] == dead {
			return fmt.Sprintf("%v: block %d: it is free already", r.Op, r.Block)
		}
	}
	switch r.Op {
	case Free:
		l.liveBytes -= l.sizes[r.Block]
		l.liveBlocks--
		l.sizes[r.Block] = dead
	case Realloc:
		if r.Size == 0 {
			return "realloc: size 0: it is at least 1"
		}
		if reason := l.fits(r, l.liveBytes-l.sizes[r.Block]); reason != "" {
			return reason
		}
		l.liveBytes += r.Size - l.sizes[r.Block]
		l.sizes[r.Block] = r.Size
	case AllocAligned, Alloc, Calloc:
		if r.Op == AllocAligned && (r.Align == 0 || r.Align&(r.Align-1) != 0) {
			return fmt.Sprintf("alloc_aligned: alignment %d: it is a power of two", r.Align)
		}
		if reason := l.fits(r, l.liveBytes); reason != "" {
			return reason
		}
		l.sizes = append(l.sizes, r.Size)
		l.liveBytes += r.Size
		l.liveBlocks++
	default:
		return fmt.Sprintf("%v is unknown", r.Op)
	}
	l.sum.Ops++
	l.sum.Threads = max(l.sum.Threads, r.Thread+1)
	l.sum.TotalBytes += r.Size
	l.sum.PeakLiveBytes = max(l.sum.PeakLiveBytes, l.liveBytes)
	l.sum.PeakLiveBlocks = max(l.sum.PeakLiveBlocks, l.liveBlocks)
	return ""
}

// blocks returns how many were made, which is the next id.
func (l *ledger) blocks() int { return len(l.sizes) }

// fits refuses sizes whose sums overflow.
func (l *ledger) fits(r Record, others uint64) (reason string) {
	if r.Size > math.MaxInt64-others || r.Size > math.MaxInt64-l.sum.TotalBytes {
		return fmt.Sprintf("%v: size %d: the sizes add up to more than 63 bits", r.Op, r.Size)
	}
	return ""
}
