package pymalloc

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"
)

// caller is what an Allocator and a Heap have in common.
type caller interface {
	UnsafeMalloc(size int) (unsafe.Pointer, error)
	UnsafeCalloc(size int) (unsafe.Pointer, error)
	UnsafeRealloc(p unsafe.Pointer, size int) (unsafe.Pointer, error)
	UnsafeAlignedMalloc(size, align int) (unsafe.Pointer, error)
	UnsafeFree(p unsafe.Pointer) error
	UnsafeMallocBatch(ps []unsafe.Pointer, size int) error
	UnsafeFreeBatch(ps []unsafe.Pointer) error
}

// stamped is a block whose bytes all have one value.
type stamped struct {
	p    unsafe.Pointer
	size int
	with byte
}

func (b stamped) bytes() []byte { return unsafe.Slice((*byte)(b.p), b.size) }

func (b stamped) stamp() stamped {
	for i := range b.bytes() {
		b.bytes()[i] = b.with
	}
	return b
}

func (b stamped) intact() bool {
	for _, x := range b.bytes() {
		if x != b.with {
			return false
		}
	}
	return true
}

// together is everything at once.
type together struct {
	*testing.T
	stop atomic.Bool
	wg   sync.WaitGroup
	seen [1 << 12]atomic.Uintptr // addresses of any allocator, live or not
	next atomic.Uint32
}

func (t *together) fail(format string, args ...any) {
	t.stop.Store(true)
	t.Errorf(format, args...)
}

func (t *together) note(p unsafe.Pointer) {
	t.seen[t.next.Add(1)%uint32(len(t.seen))].Store(uintptr(p))
}

// Everything at once: allocators with all options, calls of all kinds on them and on heaps that go
// from hand to hand, Trim, Check and Stats, lives that begin and end beside, one who frees what is
// not his, and GOMAXPROCS that changes. Every byte of every block is looked at, and nothing is left.
func TestTogether(t *testing.T) {
	length := 30 * time.Second
	if testing.Short() {
		length = 3 * time.Second
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8))
	options := []Options{
		{RetainBytes: -1, RetainDelay: time.Millisecond},
		{ArenaBytes: 256 << 10, LimitBytes: 24 << 20},
		{Hardened: true, RetainDelay: time.Millisecond},
		{Canaries: true, WipeOnFree: true, RetainBytes: -1, LimitBytes: 32 << 20},
		{WipeOnFree: true, KeepAddresses: KeepAlways},
	}
	all := &together{T: t}
	for range 2 {
		all.wg.Go(func() { all.shortLives(options) })
	}
	var ends []func()
	for _, o := range options {
		ends = append(ends, all.longLife(o))
	}
	all.wg.Go(all.stranger)
	for begun := time.Now(); time.Since(begun) < length && !all.stop.Load(); time.Sleep(50 * time.Millisecond) {
		runtime.GOMAXPROCS([]int{1, 2, 3, 8, 16, 70, 2}[rand.IntN(7)])
	}
	all.stop.Store(true)
	all.wg.Wait()
	for _, end := range ends {
		end()
	}
}

// shortLives opens and closes allocators, some of whose heaps outlive them.
func (t *together) shortLives(options []Options) {
	for !t.stop.Load() {
		a, err := NewAllocator(options[rand.IntN(len(options))])
		if err != nil {
			t.fail("NewAllocator: %v", err)
			return
		}
		for range 1 + rand.IntN(3) {
			h := a.AcquireHeap()
			for i := range rand.IntN(200) {
				size := 1 << rand.IntN(20)
				size += rand.IntN(size)
				m := caller(h)
				if i%2 == 0 {
					m = a
				}
				if p, err := m.UnsafeMalloc(size); err == nil {
					t.note(p)
				}
			}
			if err := a.Close(); err != nil {
				t.fail("Close: %v", err)
			}
			if rand.IntN(2) == 0 {
				h.Release()
			}
		}
	}
}

// longLife lets goroutines use an allocator, and returns what is to be called when they have ended.
func (t *together) longLife(o Options) (end func()) {
	a := newAllocator(t.T, o)
	handed := make(chan stamped, 256)
	heaps := make(chan *Heap, 4)
	for range 3 {
		heaps <- a.AcquireHeap()
	}
	for range 4 {
		t.wg.Go(func() { t.use(a, heaps, handed) })
	}
	t.wg.Go(func() {
		for !t.stop.Load() {
			switch rand.IntN(4) {
			case 0:
				if err := a.Trim(); err != nil {
					t.fail("Trim: %v, %+v", err, o)
				}
			case 1:
				if err := a.Check(); err != nil {
					t.fail("Check: %v, %+v", err, o)
				}
			case 2:
				if s := a.Stats(); s.Parts.Sum() != s.MappedBytes {
					t.fail("the parts of %d mapped bytes sum up to %d", s.MappedBytes, s.Parts.Sum())
				}
			case 3:
				time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
			}
		}
	})
	return func() {
		for range 3 {
			(<-heaps).Release()
		}
		for len(handed) > 0 {
			mustFree(t.T, a, (<-handed).p)
		}
		if !waitFor(func() bool {
			_ = a.Trim() // what is refused is left, and told below
			s := a.Stats()
			return s.MappedBytes == 0 && s.LiveBlocks == 0
		}) {
			t.Errorf("with everything freed, %+v:\n%v", o, a.Stats())
		}
		if err := a.Check(); err != nil {
			t.Error(err)
		}
	}
}

// use calls an allocator, or one of its heaps, and frees all in the end.
func (t *together) use(a *Allocator, heaps chan *Heap, handed chan stamped) {
	var live []stamped
	for !t.stop.Load() {
		m, h := caller(a), (*Heap)(nil)
		if rand.IntN(2) == 0 {
			h = <-heaps
			m = h
		}
		for range 50 + rand.IntN(300) {
			live = t.call(m, live, handed)
		}
		if h != nil {
			if rand.IntN(4) == 0 {
				h.Release()
				h = a.AcquireHeap()
			}
			heaps <- h
		}
	}
	for _, b := range live {
		t.free(a, b)
	}
}

func (t *together) free(m caller, b stamped) {
	if !b.intact() {
		t.fail("block %p of %d bytes is damaged", b.p, b.size)
	}
	if err := m.UnsafeFree(b.p); err != nil {
		t.fail("free of a live block: %v", err)
	}
}

// refused reports whether err is one that a limit explains, and fails on others.
func (t *together) refused(err error) bool {
	if err != nil && !errors.Is(err, ErrLimit) {
		t.fail("%v", err)
	}
	return err != nil
}

// call does one of all calls.
func (t *together) call(m caller, live []stamped, handed chan stamped) []stamped {
	size := 1 + rand.IntN(1<<rand.IntN(16))
	switch rand.IntN(40) {
	case 0:
		size = 1 + rand.IntN(400<<10)
	case 1:
		size = 32<<10 - 20 + rand.IntN(24)
	}
	take := func(i int) (b stamped) {
		b = live[i]
		live[i] = live[len(live)-1]
		live = live[:len(live)-1]
		return b
	}
	add := func(p unsafe.Pointer) {
		t.note(p)
		if got := UnsafeUsableSize(p); got < size {
			t.fail("%d usable bytes of %d", got, size)
		}
		live = append(live, stamped{p, size, byte(1 + rand.IntN(255))}.stamp())
	}
	k := rand.IntN(12)
	if len(live) >= 300 {
		k = 11
	}
	switch {
	case k < 4:
		if p, err := m.UnsafeMalloc(size); !t.refused(err) {
			add(p)
		}
	case k < 5:
		if p, err := m.UnsafeCalloc(size); !t.refused(err) {
			if !(stamped{p, size, 0}).intact() {
				t.fail("%d bytes from UnsafeCalloc are not zero", size)
			}
			add(p)
		}
	case k < 6:
		align := 1 << rand.IntN(16)
		if p, err := m.UnsafeAlignedMalloc(size, align); !t.refused(err) {
			if uintptr(p)%uintptr(align) != 0 {
				t.fail("%p is no multiple of %d", p, align)
			}
			add(p)
		}
	case k < 7 && len(live) > 0:
		i := rand.IntN(len(live))
		b := live[i]
		if p, err := m.UnsafeRealloc(b.p, size); !t.refused(err) {
			if !(stamped{p, min(size, b.size), b.with}).intact() {
				t.fail("UnsafeRealloc from %d to %d bytes lost what they held", b.size, size)
			}
			live[i] = stamped{p, size, b.with}.stamp()
		}
	case k < 8:
		ps := make([]unsafe.Pointer, 1+rand.IntN(40))
		t.refused(m.UnsafeMallocBatch(ps, min(size, 3000)))
		if err := m.UnsafeFreeBatch(ps); err != nil {
			t.fail("%v", err)
		}
	case k < 9 && len(live) > 0:
		select {
		case handed <- live[len(live)-1]:
			live = live[:len(live)-1]
		default:
		}
	case k < 10:
		select {
		case b := <-handed:
			t.free(m, b)
		default:
		}
	case len(live) > 0:
		t.free(m, take(rand.IntN(len(live))))
	}
	return live
}

// stranger calls an allocator of its own with addresses of the others.
func (t *together) stranger() {
	a := newAllocator(t.T, Options{})
	h := a.AcquireHeap()
	defer h.Release()
	for !t.stop.Load() {
		p := t.seen[rand.IntN(len(t.seen))].Load()
		if p == 0 {
			runtime.Gosched()
			continue
		}
		at := pointerAt(p + uintptr([]int{0, 0, 8, 16, 4096, 1 << 14, -16, 1 << 20}[rand.IntN(8)]))
		if at == nil {
			continue // no memory of any allocator
		}
		var err error
		switch rand.IntN(4) {
		case 0:
			err = a.UnsafeFree(at)
		case 1:
			err = h.UnsafeFree(at)
		case 2:
			_, err = h.UnsafeRealloc(at, 100)
		case 3:
			a.Owns(at)
			err = a.UnsafeFreeBatch([]unsafe.Pointer{at, nil, at})
		}
		if !errors.Is(err, ErrNotOwned) {
			t.fail("a stranger: %v", err)
		}
	}
}
