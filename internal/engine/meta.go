package engine

import (
	"sync"
	"time"
	"unsafe"

	"github.com/pyarena/pyarena/internal/addr"
	"github.com/pyarena/pyarena/internal/arena"
	"github.com/pyarena/pyarena/internal/headers"
	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/sizeclass"
)

// meta returns the metadata allocator. It is a life without shards: shards and magazines are
// its blocks, taken from pools and given to them one at a time. So an allocator, a Heap and a
// Space cost no mapping of their own, and what they leave goes back as everything does.
func meta() *Life {
	metadata.once.Do(func() {
		g, err := arena.NewGeometry(arena.DefaultBytes)
		if err != nil {
			panic(err) // the default is one that there is
		}
		metadata.life = Open(Config{Geometry: g, RetainBytes: 4 << 20, RetainDelay: time.Second}, nil)
	})
	return metadata.life
}

var metadata struct {
	once sync.Once
	life *Life
}

// metaAlloc returns zeroed memory of size bytes, at most sizeclass.Max.
func metaAlloc(size int) (unsafe.Pointer, error) {
	l := meta()
	c := sizeclass.Of(size)
	for {
		var b pool.Hand
		if _, err := l.fill(0, c, &b, 1); err != nil {
			return nil, err
		}
		if p := b.P[0]; take(p) {
			clear(unsafe.Slice((*byte)(addr.Pointer(p)), size))
			return addr.Pointer(p), nil
		}
		l.lost.Add(1) // by a program that writes where it should not
	}
}

func metaFree(p unsafe.Pointer) { metaFreeAt(uintptr(p)) }

func metaFreeAt(p uintptr) {
	l := meta()
	if !pool.SealOnce(p) {
		l.strange.Add(1)
		return
	}
	var b pool.Hand
	b.Add(p)
	l.scatter(&b)
	l.arm()
}

// MetaBytes returns the memory of shards, magazines and headers, and the address space that
// they take.
func MetaBytes() (memory, reserved uint64) {
	arenas := meta().Budget.Mapped()
	return arenas + arena.HeaderBytes(), arenas + headers.Reserved()
}
