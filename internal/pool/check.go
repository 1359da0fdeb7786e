package pool

import (
	"fmt"
	"math/bits"
	"unsafe"
)

// Check returns what is wrong with the pool: its bitmap, its count of live
// blocks and its lists must tell the same, and the links of freed blocks be
// whole. Owner only; others may push blocks meanwhile.
func (h *Header) Check() error {
	if h.blocks == 0 || h.blocks > MaxBlocks || h.size != h.size2 || h.start != h.start2 {
		return h.fault("%d blocks of %d bytes, as malloc sees it of %d: no pool is like that", h.blocks, h.size, h.size2)
	}
	free, last := uint32(0), int32(-1)
	for i := range uint32(len(h.free)) {
		w, n := h.free[i], min(64, h.blocks-min(h.blocks, i*64))
		if n < 64 && w>>n != 0 {
			return h.fault("its bitmap has blocks beyond the last: word %d is %#x", i, w)
		}
		free += uint32(bits.OnesCount64(w))
		if used := ^w & (^uint64(0) >> (64 - n)); n > 0 && used != 0 {
			last = int32(i*64) + 63 - int32(bits.LeadingZeros64(used))
		}
	}
	if free+h.live != h.blocks {
		return h.fault("%d live and %d free blocks of %d", h.live, free, h.blocks)
	}
	if last >= int32(h.carved) {
		return h.fault("block %d is in use, %d were handed out so far", last, h.carved)
	}
	for i := range h.blocks {
		if p := unsafe.Add(h.Start(), int(i*h.size)); h.Tail() > 0 && h.IsInUse(i) && h.Overrun(p) {
			return h.fault("block %p was written to beyond its end", p)
		}
	}
	if h.broken {
		if p := h.brokenBlock(); p != nil {
			return h.fault("block %p was written to after it was freed", p)
		}
	}
	w := h.Word()
	var seen [MaxBlocks / 64]uint64
	if err := h.checkList("chain", h.chain, h.chainLen, &seen); err != nil {
		return err
	}
	if err := h.checkList("remote list", w.head(), w.Len(), &seen); err != nil {
		return err
	}
	if h.chainLen+w.Len() > h.live {
		return h.fault("%d blocks were freed by others, %d are live", h.chainLen+w.Len(), h.live)
	}
	return nil
}

// checkList walks a list of n sealed blocks that begins at the distance link,
// and adds them to those seen.
func (h *Header) checkList(name string, link, n uint32, seen *[MaxBlocks / 64]uint64) error {
	for at := range n {
		p := unsafe.Add(unsafe.Pointer(h), link)
		i := h.Index(p)
		if link == 0 || i >= h.blocks {
			return h.fault("its %s of %d blocks ends after %d", name, n, at)
		}
		next, whole := unseal(word(p), p)
		switch {
		case !whole:
			return h.fault("block %p on its %s was written to after it was freed", p, name)
		case !h.IsInUse(i) || seen[i/64]>>(i%64)&1 == 1:
			return h.fault("block %p on its %s is free twice", p, name)
		}
		seen[i/64] |= 1 << (i % 64)
		link = next
	}
	return nil
}

func (h *Header) fault(format string, args ...any) error {
	return fmt.Errorf("pool at %p, of %d-byte blocks: "+format, append([]any{h.Start(), h.size}, args...)...)
}
