package pool

import (
	"testing"
	"unsafe"

	"github.com/pyarena/pyarena/internal/sizeclass"
)

// Memory that was never written is no seal, wherever it lies, nor is a small
// integer: a seal's high half is odd.
func TestZeroIsNoSeal(t *testing.T) {
	for link := uint32(0); link < 1<<26; link += sizeclass.Alignment * 1023 {
		var w uint64
		w = sealed(unsafe.Pointer(&w), link)
		if got, whole := unseal(w, unsafe.Pointer(&w)); !whole || got != link {
			t.Fatalf("link %#x was sealed, and is %#x, %v", link, got, whole)
		}
		if w>>32&1 == 0 {
			t.Fatalf("the seal %#x of link %#x has an even high half", w, link)
		}
		if uint32(w) == link && mask != 0 {
			t.Fatalf("the seal %#x shows its link %#x", w, link)
		}
	}
}
