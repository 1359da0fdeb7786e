package pool

import (
	"testing"

	"github.com/pyarena/pyarena/internal/sizeclass"
)

// Memory that was never written is no seal, wherever it lies: a word of zeros
// would be one at the address that the secret is, were it that of a block.
func TestZeroIsNoSeal(t *testing.T) {
	for range 1000 {
		if s := newSecret(); s%sizeclass.Alignment == 0 {
			t.Fatalf("the secret %#x may be the address of a block of zeros", s)
		}
	}
}
