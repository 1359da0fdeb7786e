package fuzz

import (
	"fmt"
	"slices"
	"unsafe"

	"github.com/pyarena/pyarena/pymalloc"
)

// source is what hands out blocks: an allocator or a heap.
type source interface {
	UnsafeMalloc(size int) (unsafe.Pointer, error)
	UnsafeCalloc(size int) (unsafe.Pointer, error)
	UnsafeRealloc(p unsafe.Pointer, size int) (unsafe.Pointer, error)
	UnsafeAlignedMalloc(size, align int) (unsafe.Pointer, error)
	UnsafeFree(p unsafe.Pointer) error
}

// block is a live block as the shadow knows it.
type block struct {
	p    unsafe.Pointer
	size int  // bytes asked for, all of them stamped
	seed byte // of the stamp
}

func (b block) end() uintptr { return uintptr(b.p) + uintptr(b.size) }

func (b block) bytes() []byte { return unsafe.Slice((*byte)(b.p), b.size) }

// stamp writes the block's contents: dense where it is small, at its ends and on
// every page where it is large.
func (b block) stamp() {
	for i := 0; i < b.size; i = b.next(i) {
		b.bytes()[i] = b.seed ^ byte(i)
	}
}

// check returns an error unless the contents are those of stamp, up to n bytes.
func (b block) check(n int) error {
	for i := 0; i < n; i = b.next(i) {
		if got := b.bytes()[i]; got != b.seed^byte(i) {
			return fmt.Errorf("byte %d of the block of %d bytes at %p is %#x, want %#x", i, b.size, b.p, got, b.seed^byte(i))
		}
	}
	return nil
}

func (b block) next(i int) int {
	if i < 256 || i >= b.size-256 {
		return i + 1
	}
	return min(i+509, b.size-256)
}

// shadow is the live blocks of an allocator, by address.
type shadow struct {
	blocks []block
	usable uint64 // bytes
	seed   byte
}

// find returns where the first block that ends after p is.
func (s *shadow) find(p uintptr) int {
	i, _ := slices.BinarySearchFunc(s.blocks, p, func(b block, p uintptr) int {
		if b.end() <= p {
			return -1
		}
		return 1
	})
	return i
}

// add enters a block that was handed out, and stamps it.
func (s *shadow) add(p unsafe.Pointer, size, align int) error {
	switch n := pymalloc.UnsafeUsableSize(p); {
	case p == nil:
		return fmt.Errorf("%d bytes: nil and no error", size)
	case uintptr(p)%uintptr(align) != 0:
		return fmt.Errorf("%d bytes at %p: not aligned to %d", size, p, align)
	case n < size:
		return fmt.Errorf("%d bytes at %p: usable size is %d", size, p, n)
	}
	s.seed += 37
	b := block{p, size, s.seed}
	i := s.find(uintptr(p))
	if i < len(s.blocks) && uintptr(s.blocks[i].p) < b.end() {
		return fmt.Errorf("%d bytes at %p overlap %d bytes at %p", size, p, s.blocks[i].size, s.blocks[i].p)
	}
	b.stamp()
	s.blocks = slices.Insert(s.blocks, i, b)
	s.usable += uint64(pymalloc.UnsafeUsableSize(p))
	return nil
}

// remove takes the i-th block out, whose contents must be whole up to n bytes.
func (s *shadow) remove(i int) (block, error) {
	b := s.blocks[i]
	s.blocks = slices.Delete(s.blocks, i, i+1)
	s.usable -= uint64(pymalloc.UnsafeUsableSize(b.p))
	return b, b.check(b.size)
}

// agrees returns an error unless the statistics are exactly those of the shadow.
func (s *shadow) agrees(st pymalloc.Stats) error {
	var classes uint64
	for _, c := range st.Classes {
		classes += c.Live
	}
	switch {
	case st.LiveBlocks != uint64(len(s.blocks)):
		return fmt.Errorf("LiveBlocks is %d, want %d", st.LiveBlocks, len(s.blocks))
	case st.InUseBytes != s.usable:
		return fmt.Errorf("InUseBytes is %d, want %d", st.InUseBytes, s.usable)
	case st.MappedBytes != st.Parts.Sum():
		return fmt.Errorf("MappedBytes is %d, its parts are %d", st.MappedBytes, st.Parts.Sum())
	case classes+st.Runs.Blocks+st.Huge.Blocks != st.LiveBlocks:
		return fmt.Errorf("LiveBlocks is %d, those of classes, runs and mappings are %d", st.LiveBlocks, classes+st.Runs.Blocks+st.Huge.Blocks)
	case st.HighWaterBytes < st.MappedBytes:
		return fmt.Errorf("HighWaterBytes is %d, MappedBytes %d", st.HighWaterBytes, st.MappedBytes)
	}
	return nil
}
