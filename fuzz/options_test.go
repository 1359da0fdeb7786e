package fuzz

import (
	"errors"
	"math/bits"
	"testing"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/pymalloc"
)

// FuzzOptions: an allocator is made of just the options that are documented, and what
// is made works and keeps its limit.
func FuzzOptions(f *testing.F) {
	f.Add(0, 0, 0, int64(0), byte(0), 100)
	f.Add(256<<10, 256<<10, -1, int64(time.Hour), byte(1), 5000)
	f.Add(1<<20, 1<<20-1, 1, int64(-1), byte(2), 70_000)
	f.Add(3<<20, 8<<20, 1<<20, int64(1), byte(3), 1)
	f.Add(64<<20, 96<<20, 1<<20, int64(1), byte(2), 40<<20)
	f.Fuzz(func(t *testing.T, arena, limit, retain int, delay int64, keep byte, size int) {
		o := pymalloc.Options{
			ArenaBytes: arena, LimitBytes: limit, RetainBytes: retain,
			RetainDelay: time.Duration(delay), KeepAddresses: pymalloc.KeepAddresses(keep),
		}
		bytes := arena
		if arena == 0 {
			bytes = 1 << 20
		}
		valid := bytes >= 256<<10 && bytes <= 64<<20 && bits.OnesCount(uint(bytes)) == 1 &&
			(limit == 0 || limit >= bytes) && delay >= 0 && keep <= byte(pymalloc.KeepNever)
		a, err := pymalloc.NewAllocator(o)
		if (err == nil) != valid || err != nil && !errors.Is(err, pymalloc.ErrOptions) {
			t.Fatalf("NewAllocator(%+v): %v", o, err)
		}
		if err != nil {
			return
		}
		size = max(1, size&(64<<20-1))
		var ps []unsafe.Pointer
		for range 8 {
			p, err := a.UnsafeMalloc(size)
			if err != nil && !(limit > 0 && errors.Is(err, pymalloc.ErrLimit)) {
				t.Fatal(err)
			}
			if err == nil {
				ps = append(ps, p)
			}
		}
		if s := a.Stats(); s.LiveBlocks != uint64(len(ps)) || limit > 0 && s.HighWaterBytes > uint64(limit) {
			t.Fatalf("%d blocks, limit %d:\n%v", len(ps), limit, s)
		}
		for _, p := range ps {
			if err := a.UnsafeFree(p); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Trim(); err != nil {
			t.Fatal(err)
		}
		if s := a.Stats(); s.MappedBytes != 0 {
			t.Fatalf("%d bytes are mapped, and nothing is live", s.MappedBytes)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
