package vmarray_test

import (
	"errors"
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/pyarena/pyarena/internal/vmarray"
	"github.com/pyarena/pyarena/osmem"
)

// elem has a size that divides no page, so that elements straddle pieces.
type elem struct{ a, b, c uint64 }

const (
	elemBytes   = int(unsafe.Sizeof(elem{}))
	wideBytes   = 256 << 20 // limits of one array, by platform
	narrowBytes = 2 << 20
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refuse makes the operation fail until restore is called, or the test ends.
func refuse(t *testing.T, op osmem.Op) (restore func()) {
	restore = sync.OnceFunc(osmem.SetFault(func(o osmem.Op, _ int) error {
		if o == op {
			return osmem.ErrNoMemory
		}
		return nil
	}))
	t.Cleanup(restore)
	return restore
}

// wantElems looks that the elements below written hold their index, that those
// above are zero, and that all stand in a row from Base.
func wantElems(t *testing.T, a *vmarray.Array[elem], written int) {
	t.Helper()
	for i := range a.Len() {
		e := a.At(uint32(i))
		if unsafe.Pointer(e) != unsafe.Add(a.Base(), i*elemBytes) {
			t.Fatalf("element %d of the array at %p is at %p", i, a.Base(), e)
		}
		want := elem{}
		if v := uint64(i); i < written {
			want = elem{v + 1, v + 2, v + 3}
		}
		if *e != want {
			t.Fatalf("element %d of %d is %v, want %v", i, a.Len(), *e, want)
		}
	}
}

func write(a *vmarray.Array[elem], from, to int) {
	for i := from; i < to; i++ {
		v := uint64(i)
		*a.At(uint32(i)) = elem{v + 1, v + 2, v + 3}
	}
}

func TestZero(t *testing.T) {
	var a vmarray.Array[elem]
	if a.Cap() != 0 || a.Len() != 0 || a.Base() != nil || a.CommittedBytes() != 0 {
		t.Errorf("a zero array has Cap %d, Len %d, Base %p, %d bytes", a.Cap(), a.Len(), a.Base(), a.CommittedBytes())
	}
	must(t, a.Grow(0))
	if a.Grow(1) == nil {
		t.Error("a zero array has grown")
	}
	must(t, a.Release())
}

// TestGrow: elements keep addresses and contents through every step, and each
// step takes about as much memory as it needs.
func TestGrow(t *testing.T) {
	const n = 20_000
	var a vmarray.Array[elem]
	must(t, a.Init(n))
	t.Cleanup(func() { must(t, a.Release()) })
	if a.Cap() != n || a.Len() != 0 || a.CommittedBytes() != 0 || uintptr(a.Base())%uintptr(osmem.PageSize()) != 0 {
		t.Fatalf("made for %d: Cap %d, Len %d, Base %p, %d bytes", n, a.Cap(), a.Len(), a.Base(), a.CommittedBytes())
	}
	base := a.Base()
	must(t, a.Init(7)) // done already
	if a.Cap() != n || a.Base() != base {
		t.Errorf("Init again: Cap %d, Base %p; want %d, %p", a.Cap(), a.Base(), n, base)
	}

	piece, written := 2*max(16<<10, osmem.PageSize()), 0
	for want := 1; ; want = min(want+want/3+1, n) {
		before := a.CommittedBytes()
		must(t, a.Grow(want))
		if a.Base() != base || a.Cap() != n {
			t.Fatalf("grown to %d: Base %p, Cap %d; want %p, %d", want, a.Base(), a.Cap(), base, n)
		}
		if a.Len() < want || a.Len() > n {
			t.Fatalf("grown to %d: Len %d", want, a.Len())
		}
		bytes := int(a.CommittedBytes())
		if bytes < a.Len()*elemBytes || bytes > max(int(before), want*elemBytes)+piece {
			t.Fatalf("grown to %d: %d bytes, with %d before", want, bytes, before)
		}
		wantElems(t, &a, written)
		write(&a, written, a.Len())
		written = a.Len()
		if want == n {
			break
		}
	}
	wantElems(t, &a, n)
	if a.Len() != n {
		t.Errorf("grown to Cap: Len %d, want %d", a.Len(), n)
	}

	calls := osmem.Calls()
	for _, less := range []int{n, n - 1, 1, 0, -1} {
		must(t, a.Grow(less))
	}
	if c := osmem.Calls().Sub(calls); c != (osmem.Counts{}) || a.Len() != n {
		t.Errorf("grown to less: Len %d, want %d; calls %+v, want none", a.Len(), n, c)
	}
}

// TestPieces: many small steps ask the system few times.
func TestPieces(t *testing.T) {
	var a vmarray.Array[uint32]
	must(t, a.Init(64<<10))
	calls := osmem.Calls()
	for n := 1; n <= a.Cap(); n++ {
		must(t, a.Grow(n))
	}
	if c := osmem.Calls().Sub(calls).Commit; c == 0 || c > 256<<10/(16<<10) {
		t.Errorf("%d commits for 256 KiB, want 1 to 16", c)
	}
	must(t, a.Release())
}

func TestLimit(t *testing.T) {
	var a vmarray.Array[elem]
	must(t, a.Init(100))
	must(t, a.Grow(10))
	write(&a, 0, 10)
	for _, n := range []int{101, 1000, math.MaxInt} {
		err := a.Grow(n)
		if err == nil || !strings.Contains(err.Error(), "100") {
			t.Errorf("grown to %d of 100: %v, want an error that tells the limit", n, err)
		}
	}
	wantElems(t, &a, 10)
	must(t, a.Grow(100))
	if a.Len() != 100 {
		t.Errorf("Len %d, want 100", a.Len())
	}
	must(t, a.Release())

	must(t, a.Init(math.MaxInt)) // as many as the platform's limit allows
	if a.Cap() != wideBytes/elemBytes && a.Cap() != narrowBytes/elemBytes {
		t.Errorf("Cap %d, want %d or %d", a.Cap(), wideBytes/elemBytes, narrowBytes/elemBytes)
	}
	if a.Grow(a.Cap()+1) == nil {
		t.Error("grown beyond the platform's limit")
	}
	must(t, a.Grow(a.Cap()/100))
	must(t, a.Release())
}

// TestRelease: what was given back can be used anew, and starts from zero.
func TestRelease(t *testing.T) {
	var a vmarray.Array[elem]
	for _, n := range []int{3000, 10, 5000} {
		before := osmem.Calls()
		must(t, a.Init(n))
		must(t, a.Grow(n))
		wantElems(t, &a, 0)
		write(&a, 0, n)
		must(t, a.Release())
		if c := osmem.Calls().Sub(before); c.Reserve != 1 || c.Release != 1 {
			t.Errorf("%d regions reserved, %d released; want 1 and 1", c.Reserve, c.Release)
		}
		if a.Cap() != 0 || a.Len() != 0 || a.Base() != nil || a.CommittedBytes() != 0 {
			t.Errorf("released: Cap %d, Len %d, Base %p, %d bytes", a.Cap(), a.Len(), a.Base(), a.CommittedBytes())
		}
		must(t, a.Release())
	}
}

// TestRefused: after each refusal nothing has changed, and the same call works.
func TestRefused(t *testing.T) {
	var a vmarray.Array[elem]
	restore := refuse(t, osmem.OpReserve)
	if err := a.Init(1000); !errors.Is(err, osmem.ErrNoMemory) || a.Cap() != 0 || a.Base() != nil {
		t.Fatalf("Init: %v, Cap %d, Base %p; want ErrNoMemory, 0, nil", err, a.Cap(), a.Base())
	}
	restore()
	must(t, a.Init(20_000))

	restore = refuse(t, osmem.OpCommit)
	if err := a.Grow(1); !errors.Is(err, osmem.ErrNoMemory) || a.Len() != 0 || a.CommittedBytes() != 0 {
		t.Fatalf("first Grow: %v, Len %d, %d bytes; want ErrNoMemory, 0, 0", err, a.Len(), a.CommittedBytes())
	}
	restore()
	must(t, a.Grow(1))
	n, bytes := a.Len(), a.CommittedBytes()
	write(&a, 0, n)

	restore = refuse(t, osmem.OpCommit)
	if err := a.Grow(n + 1); !errors.Is(err, osmem.ErrNoMemory) || a.Len() != n || a.CommittedBytes() != bytes {
		t.Errorf("Grow: %v, Len %d, %d bytes; want ErrNoMemory, %d, %d", err, a.Len(), a.CommittedBytes(), n, bytes)
	}
	wantElems(t, &a, n)
	restore()
	must(t, a.Grow(n+1))
	wantElems(t, &a, n)

	restore = refuse(t, osmem.OpRelease)
	n = a.Len()
	write(&a, 0, n)
	if err := a.Release(); !errors.Is(err, osmem.ErrNoMemory) || a.Cap() != 20_000 || a.Len() != n {
		t.Errorf("Release: %v, Cap %d, Len %d; want ErrNoMemory, 20000, %d", err, a.Cap(), a.Len(), n)
	}
	wantElems(t, &a, n)
	restore()
	must(t, a.Release())
}

// TestReaders: whoever reads below Len, while others grow, touches only memory
// that is there, and sees an element whole once its number was published.
func TestReaders(t *testing.T) {
	const n = 60_000
	var a vmarray.Array[atomic.Uint64]
	must(t, a.Init(n))
	var published atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			first := a.At(0)
			for at, done := 0, false; !done; {
				known := int(published.Load())
				done = known == n
				for range 1000 {
					at++
					if i := at % max(a.Len(), 1); a.Len() != 0 {
						v := a.At(uint32(i)).Load()
						if v != uint64(i+1) && (v != 0 || i < known) {
							t.Errorf("element %d is %d, with %d published", i, v, known)
							return
						}
					}
				}
				if known > 0 && first.Load() != 1 {
					t.Error("element 0 has moved")
					return
				}
				runtime.Gosched()
			}
		})
	}
	for i := range n {
		must(t, a.Grow(i+1))
		a.At(uint32(i)).Store(uint64(i + 1))
		published.Store(int64(i + 1))
		if i%1000 == 0 {
			runtime.Gosched()
		}
	}
	wg.Wait()
	must(t, a.Release())
}
