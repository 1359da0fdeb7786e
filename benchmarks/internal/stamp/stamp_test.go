package stamp

import (
	"bytes"
	"testing"
	"unsafe"
)

func TestEveryByteCounts(t *testing.T) {
	for size := range 40 {
		b := make([]byte, size+8)
		p := unsafe.Pointer(unsafe.SliceData(b))
		Fill(p, 0, size, Seed(1))
		if err := Verify(p, size, Seed(1)); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if !bytes.Equal(b[size:], make([]byte, 8)) {
			t.Errorf("%d bytes: stamped beyond the end", size)
		}
		for i := range size {
			b[i] ^= 1
			if Verify(p, size, Seed(1)) == nil {
				t.Errorf("%d bytes: byte %d is not checked", size, i)
			}
			b[i] ^= 1
		}
		clear(b)
		for i := range size {
			b[i] = 1
			if VerifyZero(p, size) == nil {
				t.Errorf("%d bytes: calloc's byte %d is not checked", size, i)
			}
			b[i] = 0
		}
		if err := VerifyZero(p, size); err != nil {
			t.Error(err)
		}
	}
}
