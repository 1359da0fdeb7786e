package pymalloc

import (
	"unsafe"

	"github.com/pyarena/pyarena/internal/blocks"
)

func init() {
	blocks.Each = func(allocator any, f func(p unsafe.Pointer, first uint64)) {
		if t := allocator.(*Allocator).life.Load(); t != nil {
			t.Blocks(f)
		}
	}
}
