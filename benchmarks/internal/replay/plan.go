// Package replay runs a trace on an allocator: once with every byte checked, or
// against the clock.
//
// A trace is made a Plan first. A block's id becomes a slot of a table of
// pointers; the slots of freed blocks are used again, so that the table is no
// larger than what a program would hold. Each thread of the trace gets its own
// list of ops and is run by a goroutine of its own. A block that several threads
// name has a slot that is never used again, and a counter of ops done: an op on
// it waits until those before it in the file are done. Nothing else orders the
// threads.
package replay

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"unsafe"

	"github.com/pyarena/pyarena/benchmarks/internal/offheap"
	"github.com/pyarena/pyarena/benchmarks/internal/trace"
)

// Op is a record of a trace, ready to run. It holds no pointer.
type Op struct {
	Slot uint32
	Size uint32 // bytes; of a free 0
	Old  uint32 // bytes before; of a new block 0
	Turn uint16 // ops on a shared block before this one
	Kind trace.Op
	Log  uint8 // of an aligned block: log2 of the alignment
}

var _ = [1]struct{}{}[unsafe.Sizeof(Op{})-16] // four to a cache line

// Thread is what one goroutine does.
type Thread struct {
	Ops     []Op
	Records []uint32 // of each op: its number in the trace
}

// Plan is a trace, ready to run.
type Plan struct {
	Program    string
	Records    int
	PeakBytes  uint64 // most bytes live at once, in the order of the trace
	PeakBlocks uint64
	Slots      int // of the table
	Shared     int // the first of them, for blocks that several threads name
	Threads    []Thread
}

// maxSize is the largest block that an Op can hold, and that any system has.
const maxSize = math.MaxInt32

// Build reads a trace to its end, or its first limit records if that is not 0.
func Build(r *trace.Reader, limit int) (*Plan, error) {
	p := &Plan{Program: r.Header().Program}
	var records []trace.Record
	owner := []int{} // by block: the only thread that names it, or shared
	const shared = -1
	threads := 0
	for limit == 0 || len(records) < limit {
		rec, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if rec.Size > maxSize || rec.Align > maxSize || uint64(len(records)) == math.MaxUint32 {
			return nil, fmt.Errorf("record %d: %v: size %d is more than a replay can hold", len(records), rec.Op, rec.Size)
		}
		records = append(records, rec)
		threads = max(threads, rec.Thread+1)
		if rec.Op.Makes() {
			owner = append(owner, rec.Thread)
		} else if owner[rec.Block] != rec.Thread {
			owner[rec.Block] = shared
		}
	}
	p.Records = len(records)
	p.Threads = make([]Thread, threads)

	slot := make([]uint32, len(owner)) // by block
	for id, o := range owner {
		if o == shared {
			slot[id] = uint32(p.Shared)
			p.Shared++
		}
	}
	p.Slots = p.Shared
	free := make([][]uint32, threads) // slots to be used again, by thread
	turns := make([]int, p.Shared)    // by shared slot
	sizes := make([]uint32, len(owner))
	var live, blocks uint64
	for i, rec := range records {
		mine := owner[rec.Block] != shared
		if rec.Op.Makes() {
			blocks++
			if mine {
				slot[rec.Block] = p.takeSlot(&free[rec.Thread])
			}
		}
		op := Op{Slot: slot[rec.Block], Size: uint32(rec.Size), Old: sizes[rec.Block], Kind: rec.Op}
		for uint64(1)<<op.Log < rec.Align {
			op.Log++
		}
		if !mine {
			if turns[op.Slot] > math.MaxUint16 {
				return nil, fmt.Errorf("record %d: %v: more ops on a block of several threads than a replay can order", i, rec.Op)
			}
			op.Turn = uint16(turns[op.Slot])
			turns[op.Slot]++
		} else if rec.Op == trace.Free {
			free[rec.Thread] = append(free[rec.Thread], op.Slot)
		}
		if rec.Op == trace.Free {
			blocks--
		}
		live += rec.Size - uint64(op.Old)
		sizes[rec.Block] = op.Size
		p.PeakBytes = max(p.PeakBytes, live)
		p.PeakBlocks = max(p.PeakBlocks, blocks)
		t := &p.Threads[rec.Thread]
		t.Ops = append(t.Ops, op)
		t.Records = append(t.Records, uint32(i))
	}
	return p, nil
}

// takeSlot returns the slot freed last, or a new one.
func (p *Plan) takeSlot(free *[]uint32) uint32 {
	if n := len(*free); n > 0 {
		s := (*free)[n-1]
		*free = (*free)[:n-1]
		return s
	}
	p.Slots++
	return uint32(p.Slots - 1)
}

// fileHeader begins a saved plan; the arrays of the threads follow.
type fileHeader struct {
	Plan Plan  // without the arrays
	Ops  []int // of each thread
}

// Save writes the plan for [Load], on this machine.
func (p *Plan) Save(w io.Writer) error {
	h := fileHeader{Plan: *p}
	h.Plan.Threads = nil
	for _, t := range p.Threads {
		h.Ops = append(h.Ops, len(t.Ops))
	}
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	parts := [][]byte{binary.NativeEndian.AppendUint64(nil, uint64(len(text))), text}
	for _, t := range p.Threads {
		parts = append(parts, offheap.Bytes(t.Ops), offheap.Bytes(t.Records))
	}
	for _, part := range parts {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// Load reads a saved plan. Its arrays lie outside the Go heap.
func Load(r io.Reader) (*Plan, error) {
	var n [8]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, err
	}
	text := make([]byte, binary.NativeEndian.Uint64(n[:]))
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, err
	}
	var h fileHeader
	if err := json.Unmarshal(text, &h); err != nil {
		return nil, err
	}
	p := &h.Plan
	for _, n := range h.Ops {
		ops, err := offheap.Slice[Op](n)
		if err != nil {
			return nil, err
		}
		records, err := offheap.Slice[uint32](n)
		if err != nil {
			return nil, err
		}
		for _, part := range [][]byte{offheap.Bytes(ops), offheap.Bytes(records)} {
			if _, err := io.ReadFull(r, part); err != nil {
				return nil, err
			}
		}
		p.Threads = append(p.Threads, Thread{ops, records})
	}
	return p, nil
}
