// Package addrmap is the arena map: it tells, for any address, whether it lies
// in an arena or at the head of a huge mapping, and whose.
//
// The map is one for the process, in steps of 256 KiB, the smallest arena. Two
// levels, root and leaves, cover 48 bits of address: a lookup is two loads and
// no test. A leaf of 1 MiB covers 64 GiB, and its pages are touched as they are
// needed; where there is nothing, the root has a leaf that stays zero. Addresses
// above 48 bits, which no system hands out unless asked to, go through a short
// list of further leaves.
//
// Any goroutine may look up. Writers hold their own lock on the addresses they
// write: nobody else maps them.
package addrmap

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
	// StepBytes is the granularity of the map in bytes.
	StepBytes = 1 << stepLog

	stepLog     = 18
	leafLog     = 14 + 4*(^uintptr(0)>>63) // 4 GiB of address are all where pointers have 32 bits
	rootLog     = 12
	leafEntries = 1 << leafLog
	rootEntries = 1 << rootLog
	rootShift   = stepLog + leafLog
)

// Kind says what an address belongs to.
type Kind uint8

// The kinds of address.
const (
	None  Kind = iota // nothing of ours
	Arena             // an arena
	Huge              // the step in which a huge mapping begins
)

// Entry is what the map holds for a step: kind, log2 of the arena's bytes, and
// the id of the allocator. The zero Entry is that of foreign addresses.
type Entry uint32

// MakeEntry returns the entry of an arena or huge mapping of the allocator id,
// which must be below 1<<24.
func MakeEntry(k Kind, log2Bytes uint, id uint32) Entry {
	return Entry(uint32(k) | uint32(log2Bytes)<<2 | id<<8)
}

// Kind returns what the step is part of.
func (e Entry) Kind() Kind { return Kind(e & 3) }

// Log2Bytes returns the size of the step's arena as a power of two.
func (e Entry) Log2Bytes() uint { return uint(e>>2) & 63 }

// ID returns the id of the allocator.
func (e Entry) ID() uint32 { return uint32(e >> 8) }

type (
	leaf     [leafEntries]atomic.Uint32
	highLeaf struct {
		index uint64
		leaf  *leaf
	}
)

var (
	// root has the addresses of leaves, and one entry more that is never set.
	// Leaves are never freed and not the collector's, which need not look at the
	// root either.
	root      [rootEntries + 1]uintptr
	nothing   leaf // never written
	high      atomic.Pointer[[]highLeaf]
	growing   sync.Mutex // held to add root, leaves and high leaves
	spare     *leaf      // of Prepare
	metaBytes atomic.Uint64
)

func (l *leaf) at(p uintptr) *atomic.Uint32 { return &l[p>>stepLog&(leafEntries-1)] }
func (l *leaf) entry(p uintptr) Entry       { return Entry(l.at(p).Load()) }

// index returns the number of the leaf for address p.
func index(p uintptr) uint64 { return uint64(p) >> rootShift }

func init() {
	for i := range root {
		root[i] = uintptr(unsafe.Pointer(&nothing))
	}
}

// rootLeaf returns the leaf at root[i].
func rootLeaf(i uint64) *leaf {
	return (*leaf)(addr.Pointer(atomic.LoadUintptr(&root[i])))
}

// Is reports whether the entry of address p is e, which is not 0, if p is below
// 48 bits. It is inlined into the fast path of free; the slow path asks [Load].
func Is(p uintptr, e Entry) bool {
	l := unsafe.Pointer(rootLeaf(min(index(p), rootEntries)))
	// By address: an index into the array would test the pointer first.
	at := (*atomic.Uint32)(unsafe.Add(l, p>>stepLog&(leafEntries-1)*unsafe.Sizeof(atomic.Uint32{})))
	return Entry(at.Load()) == e
}

// Load returns the entry of address p.
func Load(p uintptr) Entry {
	return find(index(p)).entry(p)
}

type leaves []highLeaf

func highLeaves() leaves {
	if h := high.Load(); h != nil {
		return leaves(*h)
	}
	return nil
}

func (h leaves) find(index uint64) *leaf {
	for i := range h {
		if h[i].index == index {
			return h[i].leaf
		}
	}
	return &nothing
}

// Set gives all steps of the size bytes at p, a multiple of StepBytes, the entry
// e. It fails, with the map as it was, if memory for a leaf is refused.
func Set(p, size uintptr, e Entry) error {
	for at := index(p); at <= index(p+size-1); at++ {
		if err := grow(at); err != nil {
			return err
		}
	}
	store(p, size, e)
	return nil
}

// Prepare sees to it that the next SetPrepared cannot fail. The two are called by one
// at a time.
func Prepare() error {
	growing.Lock()
	defer growing.Unlock()
	if spare != nil {
		return nil
	}
	p, err := table(unsafe.Sizeof(leaf{}))
	spare = (*leaf)(p)
	return err
}

// SetPrepared gives the step of address p the entry e.
func SetPrepared(p uintptr, e Entry) {
	growing.Lock()
	if find(index(p)) == &nothing {
		publish(index(p), spare)
		spare = nil
	}
	growing.Unlock()
	store(p, 1, e)
}

// Clear removes the entries of the size bytes at p, a multiple of StepBytes.
func Clear(p, size uintptr) { store(p, size, 0) }

func store(p, size uintptr, e Entry) {
	// By offset: where the range ends with the address space, p+size is 0.
	for off := uintptr(0); off < size; off += StepBytes {
		find(index(p + off)).at(p + off).Store(uint32(e))
	}
}

// find returns the leaf of index.
func find(index uint64) *leaf {
	if index < rootEntries {
		return rootLeaf(index)
	}
	return highLeaves().find(index)
}

// grow makes the leaf of index if need be.
func grow(index uint64) error {
	growing.Lock()
	defer growing.Unlock()
	if find(index) != &nothing {
		return nil
	}
	p, err := table(unsafe.Sizeof(leaf{}))
	if err == nil {
		publish(index, (*leaf)(p))
	}
	return err
}

// publish adds a leaf, one of the high ones by a copy of their list. The caller holds
// growing.
func publish(index uint64, l *leaf) {
	if index < rootEntries {
		atomic.StoreUintptr(&root[index], uintptr(unsafe.Pointer(l)))
		return
	}
	list := append([]highLeaf(slices.Clip(highLeaves())), highLeaf{index, l})
	high.Store(&list)
}

// table returns zeroed memory that is never given back.
func table(size uintptr) (unsafe.Pointer, error) {
	p, err := osmem.MapAligned(int(size), osmem.PageSize())
	if err != nil {
		return nil, fmt.Errorf("arena map: %w", err)
	}
	metaBytes.Add(uint64(size))
	return p, nil
}

// MetadataBytes returns the size of the map's tables, memory and address space alike.
// The pages of them that were never written take no memory.
func MetadataBytes() uint64 { return metaBytes.Load() }
