package pool

import (
	"testing"

	"github.com/pyarena/pyarena/internal/sizeclass"
)

// Memory that was never written is no seal, wherever it lies: a block is sealed
// for any address if the secret is even.
func TestZeroIsNoSeal(t *testing.T) {
	if secret%sizeclass.Alignment == 0 {
		t.Errorf("the secret %#x may be the address of a block of zeros", secret)
	}
}
