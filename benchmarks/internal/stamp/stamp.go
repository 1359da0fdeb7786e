// Package stamp fills blocks with content that tells whose it is, and checks it.
//
// The content is a pattern of 8-byte words, each the seed of the block exclusive-or
// its offset in bytes. Seeds of different blocks differ in half their bits, so that
// no block's content passes for another's, nor at another offset.
package stamp

import (
	"encoding/binary"
	"fmt"
	"unsafe"
)

// Seed returns the seed of the n-th block.
func Seed(n uint64) uint64 {
	z := (n + 1) * 0x9e3779b97f4a7c15 // splitmix64
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Fill fills the bytes of block p from from up to to, not included. from is a
// multiple of 8.
func Fill(p unsafe.Pointer, from, to int, seed uint64) {
	b := unsafe.Slice((*byte)(p), to)[from:]
	word := uint64(from)
	for ; len(b) >= 8; b = b[8:] {
		binary.LittleEndian.PutUint64(b, seed^word)
		word += 8
	}
	if len(b) > 0 {
		var last [8]byte
		binary.LittleEndian.PutUint64(last[:], seed^word)
		copy(b, last[:])
	}
}

// Verify compares the first size bytes of block p to the pattern.
func Verify(p unsafe.Pointer, size int, seed uint64) error {
	b := unsafe.Slice((*byte)(p), size)
	word := uint64(0)
	for ; len(b) >= 8; b = b[8:] {
		if binary.LittleEndian.Uint64(b) != seed^word {
			return wrongByte(b[:8], size, seed, word)
		}
		word += 8
	}
	return wrongByte(b, size, seed, word)
}

// wrongByte returns which of the up to 8 bytes at an offset is wrong, or nil.
func wrongByte(b []byte, size int, seed, offset uint64) error {
	var want [8]byte
	binary.LittleEndian.PutUint64(want[:], seed^offset)
	for i, got := range b {
		if got != want[i] {
			return fmt.Errorf("byte %d of %d is %#02x, was written as %#02x", offset+uint64(i), size, got, want[i])
		}
	}
	return nil
}

// VerifyZero checks that the first size bytes of p are zero.
func VerifyZero(p unsafe.Pointer, size int) error {
	b := unsafe.Slice((*byte)(p), size)
	for i := 0; len(b) > 0; {
		if len(b) >= 8 && binary.LittleEndian.Uint64(b) == 0 {
			b, i = b[8:], i+8
			continue
		}
		if b[0] != 0 {
			return fmt.Errorf("byte %d of %d is %#02x, want 0 from calloc", i, size, b[0])
		}
		b, i = b[1:], i+1
	}
	return nil
}
