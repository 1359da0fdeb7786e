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
	elemBytes    = int(unsafe.Sizeof(elem{}))
	segmentBytes = 1 << 20
	perSegment   = segmentBytes / elemBytes
	segments     = 256
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// refuse makes the operation fail from the n-th on until restore is called, or the
// test ends.
func refuse(t *testing.T, op osmem.Op, n int32) (restore func()) {
	var calls atomic.Int32
	restore = sync.OnceFunc(osmem.SetFault(func(o osmem.Op, _ int) error {
		if o == op && calls.Add(1) >= n {
			return osmem.ErrNoMemory
		}
		return nil
	}))
	t.Cleanup(restore)
	return restore
}

// table is what segments and arrays have in common.
type table interface {
	Cap() int
	Len() int
	Grow(n int) error
	CommittedBytes() int
	ReservedBytes() int
}

// row is a table whose elements can be found.
type row struct {
	table
	at func(i int) *elem
}

func rows() (segment *vmarray.Segment[elem], all map[string]row) {
	segment, array := new(vmarray.Segment[elem]), new(vmarray.Array[elem])
	return segment, map[string]row{
		"segment": {segment, func(i int) *elem { return (*elem)(unsafe.Add(segment.Base(), i*elemBytes)) }},
		"array":   {array, func(i int) *elem { return array.At(uint32(i)) }},
	}
}

// wantElems looks that the elements below written hold their index, and that those
// above are zero.
func (a row) wantElems(t *testing.T, written int) {
	t.Helper()
	for i := range a.Len() {
		want := elem{}
		if v := uint64(i); i < written {
			want = elem{v + 1, v + 2, v + 3}
		}
		if e := *a.at(i); e != want {
			t.Fatalf("element %d of %d is %v, want %v", i, a.Len(), e, want)
		}
	}
}

func (a row) write(from, to int) {
	for i := from; i < to; i++ {
		v := uint64(i)
		*a.at(i) = elem{v + 1, v + 2, v + 3}
	}
}

// Elements stay where they are while the table grows, and addresses are taken for
// what it holds.
func TestGrow(t *testing.T) {
	for name, most := range map[string]int{"segment": perSegment, "array": 3*perSegment + 100} {
		segment, all := rows()
		a := all[name]
		if a.Len() != 0 || a.CommittedBytes() != 0 || a.ReservedBytes() != 0 {
			t.Errorf("%s: the zero value: Len %d, %d bytes of %d", name, a.Len(), a.CommittedBytes(), a.ReservedBytes())
		}
		must(t, a.Grow(0))
		if a.ReservedBytes() != 0 {
			t.Errorf("%s: %d bytes are reserved for nothing", name, a.ReservedBytes())
		}
		piece, written := 2*max(16<<10, osmem.PageSize()), 0
		var places []*elem // of the first elements of segments, and some beside
		for want := 1; ; want = min(want+want/3+1, most) {
			before := a.CommittedBytes()
			must(t, a.Grow(want))
			if a.Len() < want || a.Len() > a.Cap() {
				t.Fatalf("%s: grown to %d: Len %d", name, want, a.Len())
			}
			bytes := a.CommittedBytes()
			if bytes < a.Len()*elemBytes || bytes > max(before, want*elemBytes)+piece {
				t.Fatalf("%s: grown to %d: %d bytes, with %d before", name, want, bytes, before)
			}
			if n := a.ReservedBytes(); n != (want+perSegment-1)/perSegment*segmentBytes {
				t.Fatalf("%s: grown to %d: %d bytes are reserved", name, want, n)
			}
			a.wantElems(t, written)
			a.write(written, a.Len())
			written = a.Len()
			for i, p := range places {
				if a.at(i*perSegment/2) != p {
					t.Fatalf("%s: element %d has moved", name, i*perSegment/2)
				}
			}
			for len(places)*perSegment/2 < a.Len() {
				places = append(places, a.at(len(places)*perSegment/2))
			}
			if want == most {
				break
			}
		}
		a.wantElems(t, written)

		calls := osmem.Calls()
		for _, less := range []int{most, most - 1, 1, 0, -1} {
			must(t, a.Grow(less))
		}
		if c := osmem.Calls().Sub(calls); c != (osmem.Counts{}) {
			t.Errorf("%s: grown to less: calls %+v, want none", name, c)
		}
		must(t, segment.Release())
	}
}

// Many small steps ask the system few times.
func TestPieces(t *testing.T) {
	var a vmarray.Array[uint32]
	calls := osmem.Calls()
	for n := 1; n <= 64<<10; n++ {
		must(t, a.Grow(n))
	}
	c := osmem.Calls().Sub(calls)
	if c.Commit == 0 || c.Commit > 256<<10/(16<<10) || c.Reserve != 1 {
		t.Errorf("%d commits and %d reserves for 256 KiB, want 1 to 16, and 1", c.Commit, c.Reserve)
	}
}

func TestLimit(t *testing.T) {
	_, all := rows()
	for name, most := range map[string]int{"segment": perSegment, "array": segments * perSegment} {
		a := all[name]
		must(t, a.Grow(10))
		n := a.Len()
		a.write(0, n)
		for _, n := range []int{most + 1, most + 1000, math.MaxInt} {
			err := a.Grow(n)
			if err == nil || !strings.Contains(err.Error(), "at most") {
				t.Errorf("%s: grown to %d of %d: %v, want an error that tells the limit", name, n, most, err)
			}
		}
		if a.Cap() != most || a.Len() != n || a.ReservedBytes() != segmentBytes {
			t.Errorf("%s: Cap %d, Len %d, %d bytes reserved; want %d, %d, %d", name, a.Cap(), a.Len(), a.ReservedBytes(), most, n, segmentBytes)
		}
		a.wantElems(t, n)
		must(t, a.Grow(100))
	}
}

// What was given back can be used anew, and starts from zero.
func TestRelease(t *testing.T) {
	segment, all := rows()
	a := all["segment"]
	for _, n := range []int{3000, 10, 5000} {
		before := osmem.Calls()
		must(t, a.Grow(n))
		a.wantElems(t, 0)
		a.write(0, n)
		must(t, segment.Release())
		if c := osmem.Calls().Sub(before); c.Reserve != 1 || c.Release != 1 {
			t.Errorf("%d regions reserved, %d released; want 1 and 1", c.Reserve, c.Release)
		}
		if a.Len() != 0 || segment.Base() != nil || a.CommittedBytes() != 0 || a.ReservedBytes() != 0 {
			t.Errorf("released: Len %d, Base %p, %d bytes of %d", a.Len(), segment.Base(), a.CommittedBytes(), a.ReservedBytes())
		}
		must(t, segment.Release())
	}
}

// After each refusal nothing is lost, and the same call works.
func TestRefused(t *testing.T) {
	for _, name := range []string{"segment", "array"} {
		segment, all := rows()
		a, written := all[name], 0
		refused := func(op osmem.Op, n int32, to, length, committed, reserved int) {
			t.Helper()
			restore := refuse(t, op, n)
			err := a.Grow(to)
			restore()
			if !errors.Is(err, osmem.ErrNoMemory) || a.Len() != length || a.CommittedBytes() != committed || a.ReservedBytes() != reserved {
				t.Fatalf("%s: Grow(%d), %v refused: %v, Len %d, %d bytes of %d; want %d, %d of %d", name, to, op, err,
					a.Len(), a.CommittedBytes(), a.ReservedBytes(), length, committed, reserved)
			}
			a.wantElems(t, written)
		}
		grow := func(n int) {
			t.Helper()
			must(t, a.Grow(n))
			a.wantElems(t, written)
			a.write(written, a.Len())
			written = a.Len()
		}
		refused(osmem.OpReserve, 1, 1, 0, 0, 0)
		refused(osmem.OpCommit, 1, 1, 0, 0, segmentBytes)
		grow(1)
		refused(osmem.OpCommit, 1, a.Len()+1, a.Len(), a.CommittedBytes(), segmentBytes)
		grow(a.Len() + 1)
		if name == "array" { // what it got before the refusal is there
			refused(osmem.OpReserve, 2, 2*perSegment+1, 2*perSegment, 2*segmentBytes, 2*segmentBytes)
			refused(osmem.OpCommit, 1, 2*perSegment+1, 2*perSegment, 2*segmentBytes, 3*segmentBytes)
			grow(2*perSegment + 1)
			continue
		}
		restore := refuse(t, osmem.OpRelease, 1)
		if err := segment.Release(); !errors.Is(err, osmem.ErrNoMemory) || segment.Base() == nil || a.Len() != written {
			t.Errorf("Release: %v, Base %p, Len %d; want ErrNoMemory, the same, %d", err, segment.Base(), a.Len(), written)
		}
		a.wantElems(t, written)
		restore()
		must(t, segment.Release())
	}
}

// Who reads below Len, while others grow, touches only memory that is there, and sees
// an element whole once its number was published.
func TestReaders(t *testing.T) {
	const n = 2*segmentBytes/8 + 10_000
	var a vmarray.Array[atomic.Uint64]
	var published atomic.Int64
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for at, done := 0, false; !done; {
				known := int(published.Load())
				done = known == n
				for range 1000 {
					at += 7919
					if i := at % max(a.Len(), 1); a.Len() != 0 {
						v := a.At(uint32(i)).Load()
						if v != uint64(i+1) && (v != 0 || i < known) {
							t.Errorf("element %d is %d, with %d published", i, v, known)
							return
						}
					}
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
}
