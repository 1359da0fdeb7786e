// Package headers is the table that leads from an address to the header of its unit.
//
//	root[address >> 30] ---> leaf of 1 GiB of addresses ---> a header for each unit of 16 KiB
//
// Headers stand outside the arenas, in tables that are never unmapped, so any address may
// be looked up at any time: one lookup tells whether it is foreign, free, in a pool, in a
// further unit of a pool, in a large run, or in the unit where a huge mapping begins. A
// leaf's pages are touched as they are needed. Where pointers have 32 bits, and on
// WebAssembly, a leaf is 64 MiB of addresses. Addresses of 2^48 and above, which no system
// hands out unless asked to, go through a short list of further leaves.
//
// # A header
//
// The first cache line is all that a free reads, and is written when its unit changes
// hands only. The count, the link and the first words of the bitmap share the second. Word
// says what the unit is and whose: 0 if it is free, or foreign, or empty.
//
//	Word      bits 40 … 63   id of the allocator's life, never 0
//	          bits 16 … 39   home: id of a shard, a hint, or 0
//	          bits  8 … 15   size class of a pool
//	          bits  0 …  7   kind in the low two, and how far back the pool begins, in units
//
// Any goroutine may call [Find], [Lookup] and [At]. Who may write a header is package pool's
// and package arena's to say.
package headers

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/pyarena/pyarena/internal/addr"
	"github.com/pyarena/pyarena/osmem"
)

const (
	// UnitLog is log2 of UnitBytes.
	UnitLog = 14
	// UnitBytes is the size of a unit, in bytes.
	UnitBytes = 1 << UnitLog
	// Bytes is the size of a header.
	Bytes = 1 << headerLog
	// LeafBytes is the address space that a leaf is for, and the largest that a
	// range given to Grow may straddle none of.
	LeafBytes = 1 << leafLog

	headerLog   = 8
	leafLog     = 26 + 4*wide
	leafUnits   = 1 << (leafLog - UnitLog)
	tableBytes  = leafUnits << headerLog
	rootEntries = 1 << (addressBits - leafLog)
	addressBits = 32 + 16*wide
	numberLog   = leafLog - UnitLog                       // bits of a unit's number in its leaf
	maxLeaves   = min(rootEntries+1, 1<<(32-numberLog)-1) // the last is for GrowPrepared
)

// Kind says what a unit is part of.
type Kind uint8

// The kinds of a unit.
const (
	None  Kind = iota // nothing, or the end of what begins elsewhere and has no inner units
	Pool              // the first unit of a pool
	Inner             // a further unit of a pool
	Large             // a large run, or the unit in which a huge mapping begins: see Class
)

// What is Large has one of these for a class.
const (
	Run      = iota // the first unit of a large run
	RunInner        // a further unit of one
	Huge            // the unit in which a huge mapping begins
)

// Word is the first word of a header.
type Word uint64

// MakeWord returns the word of a unit. back is 0 … 63.
func MakeWord(life uint32, k Kind, class uint8, back int) Word {
	return Word(uint64(life)<<40 | uint64(class)<<8 | uint64(back)<<2 | uint64(k))
}

// Kind returns what the unit is part of.
func (w Word) Kind() Kind { return Kind(w & 3) }

// Back returns how many units before this one its pool begins.
func (w Word) Back() int { return int(w >> 2 & 63) }

// Class returns the size class of a pool, or which kind of Large it is.
func (w Word) Class() uint8 { return uint8(w >> 8) }

// Home returns the id of the shard that the pool's blocks are best given to, or 0.
func (w Word) Home() uint32 { return uint32(w>>16) & (1<<24 - 1) }

// Life returns the id of the life that the unit belongs to.
func (w Word) Life() uint32 { return uint32(w >> 40) }

// Key returns what a shard compares: life and home.
func (w Word) Key() uint64 { return uint64(w) >> 16 }

// At returns the word with another home.
func (w Word) At(home uint32) Word { return w&^(1<<40-1<<16) | Word(home)<<16 }

// Is reports whether the unit is of that kind, and of the life.
func (w Word) Is(life uint32, k Kind) bool { return w.Life() == life && w.Kind() == k }

// Header describes a unit. The zero Header is that of a free or foreign one.
type Header struct {
	word    atomic.Uint64
	Start   uintptr       // address of the first block
	Usable  uintptr       // of a run: usable bytes
	Inverse uint32        // of the odd part of Size, see sizeclass.Index
	Size    uint32        // bytes of a block
	Blocks  uint32        // of the pool
	Carved  atomic.Uint32 // blocks below it were handed out once, and are sealed when free
	Units   uint32        // of the pool or run
	Number  uint32        // of this unit, for At
	Last    uint32        // id of the life of whose what the unit was last
	Lost    atomic.Uint32 // blocks that were found damaged, and are not handed out again
	Rotate  uint8         // see sizeclass.Index
	Tail    uint8         // bytes of a block that are not the caller's
	Clean   bool          // nothing was ever written to the units
	kept    bool          // nobody uses it, and its page was not dropped: see Drop
	_       [64 - 2*unsafe.Sizeof(uintptr(0)) - 44]byte

	Count atomic.Int32 // bits that are set, but for what is under way
	Next  atomic.Uint32
	Bits  [16]atomic.Uint64 // of a pool: bit i says that block i is free, and in no magazine

	Arena Arena
}

var _ [Bytes]byte = [unsafe.Sizeof(Header{})]byte{}

// Arena is what is known of an arena, in the header of its first unit; the bitmaps have
// their words for 64 units each in the headers of every 64th. It is package arena's.
type Arena struct {
	Free, Dirty     uint64
	Base            uint64 // its address
	Links           [2]Links
	NFree, Row      uint32 // free units; the most of them in a row
	Since, Position uint32 // when it became free; its place in the list of all
}

// Links are the arenas before and after in a list, by the numbers of their first units.
type Links struct{ Next, Prev uint32 }

// Load returns the header's word.
func (h *Header) Load() Word { return Word(h.word.Load()) }

// Store sets the word. Whoever finds it finds what was written to the header before.
func (h *Header) Store(w Word) { h.word.Store(uint64(w)) }

// Plus returns the header of the unit n units on, in the same leaf.
func (h *Header) Plus(n int) *Header {
	return (*Header)(unsafe.Add(unsafe.Pointer(h), n<<headerLog))
}

// First returns where the pool, run or mapping begins.
func (h *Header) First() unsafe.Pointer { return addr.Pointer(h.Start) }

type highLeaf struct {
	index uint64
	table uintptr
}

var (
	root     [rootEntries]atomic.Uintptr   // where tables begin
	tables   [maxLeaves + 1]atomic.Uintptr // the same by the numbers of leaves, which begin at 1
	high     atomic.Pointer[[]highLeaf]
	growing  sync.Mutex // held to add a leaf
	leaves   uint32
	spare    uintptr      // a table, of Prepare
	reserved atomic.Int64 // bytes of tables
	foreign  Header       // never written
)

// Find returns the header of the unit of address p. For a foreign address it is one that is
// never written, or one that is zero. It is inlined into the fast path of free, and knows
// addresses below 2^48 only: [Lookup] knows all.
func Find(p uintptr) *Header {
	if i := p >> leafLog; i < rootEntries {
		if table := root[i].Load(); table != 0 {
			return in(table, p)
		}
	}
	return &foreign
}

// Lookup is Find for any address.
func Lookup(p uintptr) *Header {
	if index := uint64(p) >> leafLog; index >= rootEntries {
		for _, l := range highLeaves() {
			if l.index == index {
				return in(l.table, p)
			}
		}
		return &foreign
	}
	return Find(p)
}

func in(table, p uintptr) *Header {
	return (*Header)(addr.Pointer(table + p>>(UnitLog-headerLog)&((leafUnits-1)<<headerLog)))
}

func highLeaves() []highLeaf {
	if h := high.Load(); h != nil {
		return *h
	}
	return nil
}

// At returns the header with number n, which Number returned.
func At(n uint32) *Header {
	return (*Header)(addr.Pointer(tables[n>>numberLog].Load() + uintptr(n%leafUnits)<<headerLog))
}

// Grow makes headers for the size bytes at p, which do not straddle two leaves, and returns
// the first of them, with its number set.
func Grow(p uintptr, size int) (*Header, error) {
	index := uint64(p) >> leafLog
	if (uint64(p)+uint64(size)-1)>>leafLog != index {
		panic(fmt.Sprintf("headers: %d bytes at %#x straddle two leaves", size, p))
	}
	growing.Lock()
	defer growing.Unlock()
	n := slot(index)
	if n == 0 {
		table, err := newTable(maxLeaves - 1)
		if err != nil {
			return nil, err
		}
		n = add(index, table)
	}
	h := numbered(p, n)
	if h.kept {
		h.kept = false
		kept.Add(int64(-(size >> UnitLog << headerLog)))
	}
	return h, nil
}

// Prepare sees to it that the next GrowPrepared finds what it needs. The two are called by
// one at a time.
func Prepare() (err error) {
	growing.Lock()
	defer growing.Unlock()
	if spare == 0 {
		spare, err = newTable(maxLeaves)
	}
	return err
}

// GrowPrepared is Grow for the unit of p, after Prepare.
func GrowPrepared(p uintptr) *Header {
	growing.Lock()
	defer growing.Unlock()
	n := slot(uint64(p) >> leafLog)
	if n == 0 {
		n = add(uint64(p)>>leafLog, spare)
		spare = 0
	}
	return numbered(p, n)
}

// numbered returns the header of the unit of p, in leaf n, with its number set.
func numbered(p uintptr, n uint32) *Header {
	h := Lookup(p)
	h.Number = n<<numberLog | uint32(p>>UnitLog%leafUnits)
	return h
}

// slot returns the number of the leaf with the given index, or 0. The caller holds growing.
func slot(index uint64) uint32 {
	if index < rootEntries && root[index].Load() == 0 {
		return 0
	}
	table := uintptr(unsafe.Pointer(Lookup(uintptr(index << leafLog))))
	for n := leaves; n > 0; n-- {
		if tables[n].Load() == table {
			return n
		}
	}
	return 0
}

// newTable returns a table for a leaf, if there are fewer than most. The caller holds growing.
func newTable(most uint32) (uintptr, error) {
	if leaves >= most {
		return 0, fmt.Errorf("table of headers: memory in more than %d ranges of %d bytes of addresses", most, LeafBytes)
	}
	p, err := osmem.MapAligned(tableBytes, osmem.PageSize())
	if err != nil {
		return 0, fmt.Errorf("table of headers: %w", err)
	}
	_ = osmem.Advise(p, tableBytes, osmem.NoHugePage) // not every system knows it
	reserved.Add(tableBytes)
	return uintptr(p), nil
}

// add adds a leaf. The caller holds growing.
func add(index uint64, table uintptr) uint32 {
	leaves++
	tables[leaves].Store(table)
	if index < rootEntries {
		root[index].Store(table)
	} else {
		list := append(slices.Clip(highLeaves()), highLeaf{index, table})
		high.Store(&list)
	}
	return leaves
}

// keepBytes of headers that nobody uses are kept: what is mapped next is likely to need them.
const keepBytes = 1 << 20

// kept are the bytes of headers that nobody uses, and whose pages were not dropped.
var kept atomic.Int64

// Drop gives back the memory of the headers of the size bytes at p, which Grow made, and all of
// whose words are 0, where no other header is on their pages, unless little is kept. They read as
// zero then. Nobody else may use the headers meanwhile: the addresses are the caller's still.
func Drop(p uintptr, size int) {
	h := Lookup(p)
	at, n := uintptr(unsafe.Pointer(h)), size>>UnitLog<<headerLog
	droppable := canDrop && (at|uintptr(n))&uintptr(osmem.PageSize()-1) == 0
	if droppable && kept.Load()+int64(n) > keepBytes && osmem.Advise(addr.Pointer(at), n, osmem.DontNeed) == nil {
		return // it is zero in all that counts
	}
	h.kept = true
	kept.Add(int64(n))
}

// Reserved returns the address space of the tables, in bytes.
func Reserved() uint64 {
	return uint64(reserved.Load())
}
