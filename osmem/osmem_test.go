package osmem_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/pyarena/pyarena/internal/addr"
	"github.com/pyarena/pyarena/osmem"
)

var page = osmem.PageSize()

func Example() {
	size := 16 * osmem.PageSize()
	p, err := osmem.Reserve(size)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = osmem.Release(p, size) }()

	if err := osmem.Commit(p, osmem.PageSize()); err != nil { // only the first page
		fmt.Println(err)
		return
	}
	b := unsafe.Slice((*byte)(p), osmem.PageSize())
	fmt.Println("fresh:", b[0])
	b[0] = 42
	fmt.Println("written:", b[0])
	if err := osmem.Advise(p, osmem.PageSize(), osmem.DontNeed); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("dropped:", b[0])
	// Output:
	// fresh: 0
	// written: 42
	// dropped: 0
}

func bytesAt(p unsafe.Pointer, size int) []byte { return unsafe.Slice((*byte)(p), size) }

// must fails the test where an operation on memory does.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func got(t testing.TB) func(p unsafe.Pointer, err error) unsafe.Pointer {
	t.Helper()
	return func(p unsafe.Pointer, err error) unsafe.Pointer {
		t.Helper()
		must(t, err)
		return p
	}
}

func wantAll(t testing.TB, p unsafe.Pointer, size int, want byte, when string) {
	t.Helper()
	if n := bytes.Count(bytesAt(p, size), []byte{want}); n != size {
		t.Fatalf("%s: %d of %d bytes are not %#x", when, size-n, size, want)
	}
}

func fill(p unsafe.Pointer, size int, with byte) {
	b := bytesAt(p, size)
	for i := range b {
		b[i] = with
	}
}

// faults reports whether f touches what it may not.
func faults(f func()) (faulted bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(runtime.Error); !ok {
				panic(r)
			}
			faulted = true
		}
	}()
	f()
	return false
}

var sink byte

func load(p unsafe.Pointer, at int) func() {
	return func() { sink = *(*byte)(unsafe.Add(p, at)) }
}

func store(p unsafe.Pointer, at int) func() {
	return func() { *(*byte)(unsafe.Add(p, at)) = 1 }
}

// wantFault checks the first and the last byte of a region. On Go heap memory
// everything is accessible.
func wantFault(t testing.TB, p unsafe.Pointer, size int, when string) {
	t.Helper()
	if onGoHeap {
		return
	}
	for _, at := range []int{0, size - 1} {
		if !faults(load(p, at)) {
			t.Fatalf("%s: byte %d can be read", when, at)
		}
		if !faults(store(p, at)) {
			t.Fatalf("%s: byte %d can be written", when, at)
		}
	}
}

func TestPageSize(t *testing.T) {
	if page <= 0 || page&(page-1) != 0 {
		t.Fatalf("PageSize() = %d, want a power of two", page)
	}
}

// TestStates walks the diagram of the package comment.
func TestStates(t *testing.T) {
	size := 8 * page
	p := got(t)(osmem.Reserve(size))
	wantFault(t, p, size, "reserved")

	must(t, osmem.Commit(p, size))
	wantAll(t, p, size, 0, "committed")
	fill(p, size, 0xa5)

	must(t, osmem.Advise(p, 4*page, osmem.DontNeed))
	wantAll(t, p, 4*page, 0, "dropped")
	wantAll(t, unsafe.Add(p, 4*page), 4*page, 0xa5, "beside what was dropped")
	fill(p, 4*page, 0x5a)
	wantAll(t, p, 4*page, 0x5a, "written after being dropped")

	must(t, osmem.Decommit(p, 2*page))
	wantFault(t, p, 2*page, "decommitted")
	wantAll(t, unsafe.Add(p, 2*page), 2*page, 0x5a, "beside what was decommitted")
	must(t, osmem.Commit(p, 2*page))
	wantAll(t, p, 2*page, 0, "committed again")

	must(t, osmem.Decommit(p, size))
	wantFault(t, p, size, "decommitted whole")
	must(t, osmem.Commit(unsafe.Add(p, 3*page), page))
	wantAll(t, unsafe.Add(p, 3*page), page, 0, "one page committed")
	wantFault(t, p, 3*page, "before the page")
	wantFault(t, unsafe.Add(p, 4*page), 4*page, "behind the page")
	must(t, osmem.Release(p, size))
}

func TestProtect(t *testing.T) {
	size := 4 * page
	p := got(t)(osmem.MapAligned(size, page))
	fill(p, size, 7)
	must(t, osmem.Protect(p, size, osmem.NoAccess))
	wantFault(t, p, size, "NoAccess")
	must(t, osmem.Protect(p, size, osmem.ReadOnly))
	wantAll(t, p, size, 7, "ReadOnly")
	if !onGoHeap && !faults(store(p, size-1)) {
		t.Error("ReadOnly memory can be written")
	}
	must(t, osmem.Protect(p, size, osmem.ReadWrite))
	wantAll(t, p, size, 7, "ReadWrite")
	fill(p, size, 8)
	wantAll(t, p, size, 8, "ReadWrite, written")
	must(t, osmem.Release(p, size))
}

// TestDecommitProtected: what was protected is decommitted and committed as any.
func TestDecommitProtected(t *testing.T) {
	for _, a := range []osmem.Access{osmem.NoAccess, osmem.ReadOnly, osmem.ReadWrite} {
		p := got(t)(osmem.MapAligned(page, page))
		fill(p, page, 9)
		must(t, osmem.Protect(p, page, a))
		must(t, osmem.Decommit(p, page))
		must(t, osmem.Commit(p, page))
		wantAll(t, p, page, 0, fmt.Sprintf("access %d, decommitted, committed", a))
		fill(p, page, 1)
		must(t, osmem.Release(p, page))
	}
}

func TestAligned(t *testing.T) {
	aligns := []int{1, 16, page, 2 * page, 64 << 10, 256 << 10, 1 << 20, 2 << 20, 16 << 20, 64 << 20}
	if onGoHeap { // takes size and alignment together in memory
		aligns = aligns[:8]
	}
	kinds := []struct {
		name   string
		obtain func(size, align int) (unsafe.Pointer, error)
		ready  bool
	}{
		{"MapAligned", osmem.MapAligned, true},
		{"MapAlignedReserved", osmem.MapAlignedReserved, false},
	}
	for _, kind := range kinds {
		for _, align := range aligns {
			for _, size := range []int{1, page - 1, page, page + 1, 64 << 10, 1 << 20, 1<<20 + 1, 3 << 20} {
				t.Run(fmt.Sprintf("%s/size=%d/align=%d", kind.name, size, align), func(t *testing.T) {
					var ps [3]unsafe.Pointer
					whole := (size + page - 1) &^ (page - 1)
					for i := range ps {
						p := got(t)(kind.obtain(size, align))
						if a := uintptr(max(align, page)); uintptr(p)%a != 0 {
							t.Errorf("%p is not a multiple of %#x", p, a)
						}
						if !kind.ready {
							wantFault(t, p, whole, "reserved")
							must(t, osmem.Commit(p, size))
						}
						b := bytesAt(p, whole)
						if b[0] != 0 || b[whole-1] != 0 {
							t.Error("not zero")
						}
						b[0], b[whole-1] = byte(i+1), byte(i+1)
						ps[i] = p
					}
					for i, p := range ps {
						b := bytesAt(p, whole)
						if b[0] != byte(i+1) || b[whole-1] != byte(i+1) {
							t.Errorf("region %d was overwritten", i)
						}
						must(t, osmem.Release(p, size))
					}
				})
			}
		}
	}
}

// TestReleasePart: what stays is not harmed, and can be released later.
func TestReleasePart(t *testing.T) {
	size := 8 * page
	p := got(t)(osmem.MapAligned(size, page))
	fill(p, size, 3)
	if runtime.GOOS == "windows" && !onGoHeap {
		for _, part := range [][2]int{{0, 4}, {4, 4}, {2, 2}, {0, 9}} {
			err := osmem.Release(unsafe.Add(p, part[0]*page), part[1]*page)
			if !errors.Is(err, osmem.ErrInvalid) {
				t.Errorf("pages %d + %d of 8: %v, want ErrInvalid", part[0], part[1], err)
			}
			wantAll(t, p, size, 3, "after a refusal")
		}
		must(t, osmem.Release(p, size))
		return
	}
	must(t, osmem.Release(unsafe.Add(p, 2*page), 2*page))
	runtime.GC()
	wantAll(t, p, 2*page, 3, "before the hole")
	wantAll(t, unsafe.Add(p, 4*page), 4*page, 3, "behind the hole")
	must(t, osmem.Release(unsafe.Add(p, 6*page), 2*page))
	must(t, osmem.Release(p, 2*page))
	runtime.GC()
	wantAll(t, unsafe.Add(p, 4*page), 2*page, 3, "the last part")
	must(t, osmem.Release(unsafe.Add(p, 4*page), 2*page))
}

func TestAdvice(t *testing.T) {
	p := got(t)(osmem.MapAligned(2<<20, 2<<20))
	defer func() { must(t, osmem.Release(p, 2<<20)) }()
	fill(p, 2<<20, 6)
	for _, a := range []osmem.Advice{osmem.HugePage, osmem.NoHugePage, osmem.HugePage, osmem.Collapse, osmem.DontDump} {
		err := osmem.Advise(p, 2<<20, a)
		knows := runtime.GOOS == "linux" || a == osmem.DontDump && (runtime.GOOS == "freebsd" || runtime.GOOS == "dragonfly")
		if linux := knows && !onGoHeap; err == nil && !linux {
			t.Errorf("advice %d: accepted, want a refusal", a)
		} else if err != nil && !linux && !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("advice %d: %v, want ErrUnsupported", a, err)
		} else if err != nil {
			checkError(t, err, osmem.OpAdvise, p, 2<<20)
		}
		wantAll(t, p, 2<<20, 6, fmt.Sprintf("advice %d", a))
	}
}

// TestLock locks and unlocks a page, drops one that is locked, and asks for what is
// reserved alone.
func TestLock(t *testing.T) {
	p := got(t)(osmem.MapAligned(4*page, page))
	defer func() { must(t, osmem.Release(p, 4*page)) }()
	fill(p, 4*page, 9)
	if onGoHeap {
		for _, err := range []error{osmem.Lock(p, page), osmem.Unlock(p, page)} {
			if !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("%v, want ErrUnsupported", err)
			}
		}
		return
	}
	must(t, osmem.Lock(p, 2*page))
	wantAll(t, p, 4*page, 9, "locked")
	must(t, osmem.Unlock(p, page))
	must(t, osmem.Advise(p, 2*page, osmem.DontNeed))
	wantAll(t, p, 2*page, 0, "locked and dropped")
	wantAll(t, unsafe.Add(p, 2*page), 2*page, 9, "behind")

	// Nothing is there to be locked.
	q := got(t)(osmem.Reserve(page))
	checkError(t, osmem.Lock(q, page), osmem.OpLock, q, page)
	must(t, osmem.Release(q, page))
}

func checkError(t *testing.T, err error, op osmem.Op, p unsafe.Pointer, size int) {
	t.Helper()
	var e *osmem.Error
	switch {
	case !errors.As(err, &e):
		t.Errorf("%v (%T), want an *Error", err, err)
	case e.Op != op || e.Addr != uintptr(p) || e.Size != size || e.Err == nil:
		t.Errorf("%+v, want operation %v at %p with %d bytes and a cause", *e, op, p, size)
	case !strings.HasPrefix(e.Error(), fmt.Sprintf("osmem: %v %d bytes", op, size)) || !strings.Contains(e.Error(), e.Err.Error()):
		t.Errorf("text %q does not begin with the operation and size, or lacks the cause %q", e, e.Err)
	}
}

// TestInvalid: each is refused with ErrInvalid and the system is not asked.
func TestInvalid(t *testing.T) {
	size := 4 * page
	p := got(t)(osmem.MapAligned(size, page))
	defer func() { must(t, osmem.Release(p, size)) }()
	fill(p, size, 5)
	defer osmem.SetFault(func(op osmem.Op, size int) error {
		t.Errorf("%v of %d bytes reached the system", op, size)
		return nil
	})()

	type result struct {
		name string
		op   osmem.Op
		err  error
	}
	var all []result
	add := func(name string, op osmem.Op, err error) { all = append(all, result{name, op, err}) }
	odd, huge := unsafe.Add(p, 1), math.MaxInt-math.MaxInt%page
	for _, n := range []int{0, -1, -page, math.MinInt, math.MaxInt, math.MaxInt - 1, math.MaxInt - page + 2} {
		name := fmt.Sprint("size ", n)
		_, err := osmem.Reserve(n)
		add(name, osmem.OpReserve, err)
		_, err = osmem.MapAligned(n, page)
		add(name, osmem.OpMap, err)
		_, err = osmem.MapAlignedReserved(n, page)
		add(name, osmem.OpReserve, err)
		add(name, osmem.OpCommit, osmem.Commit(p, n))
		add(name, osmem.OpDecommit, osmem.Decommit(p, n))
		add(name, osmem.OpRelease, osmem.Release(p, n))
		add(name, osmem.OpProtect, osmem.Protect(p, n, osmem.ReadOnly))
		add(name, osmem.OpAdvise, osmem.Advise(p, n, osmem.DontNeed))
		add(name, osmem.OpLock, osmem.Lock(p, n))
		add(name, osmem.OpUnlock, osmem.Unlock(p, n))
		add(name, osmem.OpRemap, osmem.Grow(p, n, page))
		add(name, osmem.OpRemap, osmem.Grow(p, page, n))
		_, err = osmem.Remap(p, n, page)
		add(name, osmem.OpRemap, err)
		_, err = osmem.Remap(p, page, n)
		add(name, osmem.OpRemap, err)
	}
	for _, align := range []int{0, -1, -page, 3, page + 1, 3 * page, math.MinInt, math.MaxInt} {
		name := fmt.Sprint("align ", align)
		_, err := osmem.MapAligned(page, align)
		add(name, osmem.OpMap, err)
		_, err = osmem.MapAlignedReserved(page, align)
		add(name, osmem.OpReserve, err)
	}
	_, err := osmem.MapAligned(huge-page, 1<<20)
	add(fmt.Sprint("together ", huge-page), osmem.OpMap, err)
	_, err = osmem.MapAligned(math.MaxInt/2+1, math.MaxInt/2+1)
	add(fmt.Sprint("together ", math.MaxInt/2+1), osmem.OpMap, err)
	for _, bad := range []struct {
		name string
		p    unsafe.Pointer
		size int
	}{{"nil", nil, page}, {fmt.Sprintf("unaligned %#x", uintptr(odd)), odd, page}, {fmt.Sprint("end ", 2*page), addr.Pointer(-uintptr(page)), 2 * page}} {
		add(bad.name, osmem.OpCommit, osmem.Commit(bad.p, bad.size))
		add(bad.name, osmem.OpDecommit, osmem.Decommit(bad.p, bad.size))
		add(bad.name, osmem.OpRelease, osmem.Release(bad.p, bad.size))
		add(bad.name, osmem.OpProtect, osmem.Protect(bad.p, bad.size, osmem.NoAccess))
		add(bad.name, osmem.OpAdvise, osmem.Advise(bad.p, bad.size, osmem.DontNeed))
		add(bad.name, osmem.OpLock, osmem.Lock(bad.p, bad.size))
		add(bad.name, osmem.OpUnlock, osmem.Unlock(bad.p, bad.size))
		add(bad.name, osmem.OpRemap, osmem.Grow(bad.p, bad.size, 2*page))
		_, err := osmem.Remap(bad.p, bad.size, 2*page)
		add(bad.name, osmem.OpRemap, err)
	}
	add("access 3", osmem.OpProtect, osmem.Protect(p, page, 3))
	add("access 255", osmem.OpProtect, osmem.Protect(p, page, 255))
	add("advice 5", osmem.OpAdvise, osmem.Advise(p, page, 5))
	add("advice 255", osmem.OpAdvise, osmem.Advise(p, page, 255))

	for _, r := range all {
		var e *osmem.Error
		if !errors.As(r.err, &e) || !errors.Is(r.err, osmem.ErrInvalid) || e.Op != r.op {
			t.Errorf("%v, %s: %v (%T), want an *Error with ErrInvalid", r.op, r.name, r.err, r.err)
		} else if text := r.err.Error(); !strings.Contains(text, ";") || !strings.Contains(text, r.op.String()) {
			t.Errorf("%v, %s: %q does not name the operation, or what to do", r.op, r.name, text)
		} else if _, value, ok := strings.Cut(r.name, " "); ok && !strings.Contains(text, value) {
			t.Errorf("%v, %s: %q does not name the value", r.op, r.name, text)
		}
	}
	wantAll(t, p, size, 5, "after all refusals")
}

// TestTooLarge: sizes that are valid and that no system can give.
func TestTooLarge(t *testing.T) {
	if bits.UintSize == 32 {
		t.Skip("what a 32-bit int can say, a system may well give")
	}
	size := math.MaxInt - math.MaxInt%page - 2*page
	refused := func(op osmem.Op, at unsafe.Pointer, size int) func(unsafe.Pointer, error) {
		return func(p unsafe.Pointer, err error) {
			t.Helper()
			checkError(t, err, op, at, size)
			if p != nil {
				t.Errorf("%v of %d bytes: %p beside the error, want nil", op, size, p)
			}
		}
	}
	for _, size := range []int{1 << (bits.UintSize - 4), math.MaxInt/2 + 1, size} {
		refused(osmem.OpReserve, nil, size)(osmem.Reserve(size))
		for _, align := range []int{1, page, 1 << 30} {
			refused(osmem.OpMap, nil, size)(osmem.MapAligned(size, align))
			refused(osmem.OpReserve, nil, size)(osmem.MapAlignedReserved(size, align))
		}
	}
	refused(osmem.OpMap, nil, page)(osmem.MapAligned(page, math.MaxInt/2+1))
	refused(osmem.OpReserve, nil, page)(osmem.MapAlignedReserved(page, math.MaxInt/2+1))

	p := got(t)(osmem.MapAligned(page, page))
	fill(p, page, 4)
	refused(osmem.OpRemap, p, size)(osmem.Remap(p, page, size))
	checkError(t, osmem.Grow(p, page, size), osmem.OpRemap, p, size)
	wantAll(t, p, page, 4, "after the refusals")
	must(t, osmem.Release(p, page))
}

// program uses every operation once or more, and cleans up after an error. It
// says how many regions it could not release.
func program() (lost int, err error) {
	size := 4 * page
	release := func(p unsafe.Pointer) {
		if e := osmem.Release(p, size); e != nil {
			err = errors.Join(err, e)
			if osmem.Release(p, size) != nil {
				lost++
			}
		}
	}
	p, err := osmem.Reserve(size)
	if err != nil {
		return lost, err
	}
	defer release(p)
	if err = osmem.Commit(p, size); err != nil {
		return lost, err
	}
	if err = osmem.Protect(p, size, osmem.ReadOnly); err != nil {
		return lost, err
	}
	if err = osmem.Decommit(p, size); err != nil {
		return lost, err
	}
	q, err := osmem.MapAligned(size, 1<<20)
	if err != nil {
		return lost, err
	}
	defer release(q)
	if err = osmem.Advise(q, size, osmem.DontNeed); err != nil {
		return lost, err
	}
	if err = osmem.Grow(q, size, size); errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return lost, err
}

func TestFault(t *testing.T) {
	var ops []osmem.Op
	restore := osmem.SetFault(func(op osmem.Op, size int) error {
		if size != 4*page {
			t.Errorf("%v: the hook was told %d bytes, want %d", op, size, 4*page)
		}
		ops = append(ops, op)
		return nil
	})
	lost, err := program()
	restore()
	must(t, err)
	seen := map[osmem.Op]bool{}
	for _, op := range ops {
		seen[op] = true
	}
	if lost != 0 || len(seen) != 8 {
		t.Fatalf("%d regions lost, operations %v; want 0 and all 8", lost, ops)
	}

	mapped := mappings(t)
	for n, op := range ops {
		t.Run(fmt.Sprintf("%d-%v", n, op), func(t *testing.T) {
			before, calls := osmem.Calls(), 0
			restore := osmem.SetFault(func(osmem.Op, int) error {
				if calls++; calls == n+1 {
					return osmem.ErrNoMemory
				}
				return nil
			})
			lost, err := program()
			restore()
			var e *osmem.Error
			if !errors.As(err, &e) || !errors.Is(err, osmem.ErrNoMemory) || e.Op != op || e.Size != 4*page {
				t.Errorf("%v, want an *Error of %v, %d bytes, with ErrNoMemory", err, op, 4*page)
			}
			c := osmem.Calls().Sub(before)
			if lost != 0 || c.Reserve+c.Map != c.Release {
				t.Errorf("%d regions lost, %+v", lost, c)
			}
			if lost, err := program(); lost != 0 || err != nil {
				t.Errorf("afterwards: %d regions lost, %v", lost, err)
			}
		})
	}
	if now := mappings(t); now > mapped+2 { // the runtime may map something itself
		t.Errorf("%d mappings before, %d after", mapped, now)
	}
}

// The calls that try do what the others do, count alike, and return the cause of a
// refusal as it is, without an allocation.
func TestTry(t *testing.T) {
	p := got(t)(osmem.MapAligned(page, page))
	fill(p, page, 4)
	cause := errors.New("no")
	restore := osmem.SetFault(func(osmem.Op, int) error { return cause })
	for name, try := range map[string]func(unsafe.Pointer, int) error{"release": osmem.TryRelease, "decommit": osmem.TryDecommit} {
		var err error
		if n := testing.AllocsPerRun(100, func() { err = try(p, page) }); n != 0 || err != cause {
			t.Errorf("%s: %v with %v allocations, want the cause with none", name, err, n)
		}
		if err := try(nil, page); !errors.Is(err, osmem.ErrInvalid) {
			t.Errorf("%s of nil: %v, want ErrInvalid", name, err)
		}
	}
	restore()
	wantAll(t, p, page, 4, "after refusals")
	before := osmem.Calls()
	must(t, osmem.TryDecommit(p, page))
	must(t, osmem.Commit(p, page))
	wantAll(t, p, page, 0, "after TryDecommit")
	must(t, osmem.TryRelease(p, page))
	want := osmem.Counts{Decommit: 1, Commit: 1, Release: 1}
	if c := osmem.Calls().Sub(before); c != want {
		t.Errorf("%+v, want %+v", c, want)
	}
}

func TestFaultRestore(t *testing.T) {
	one, two := errors.New("one"), errors.New("two")
	ask := func() error {
		p, err := osmem.Reserve(page)
		if err == nil {
			must(t, osmem.Release(p, page))
		}
		return err
	}
	restore1 := osmem.SetFault(func(osmem.Op, int) error { return one })
	restore2 := osmem.SetFault(func(osmem.Op, int) error { return two })
	if err := ask(); !errors.Is(err, two) {
		t.Errorf("%v, want two", err)
	}
	restore2()
	if err := ask(); !errors.Is(err, one) {
		t.Errorf("%v, want one", err)
	}
	restoreNil := osmem.SetFault(nil)
	must(t, ask())
	restoreNil()
	if err := ask(); !errors.Is(err, one) {
		t.Errorf("%v, want one again", err)
	}
	restore1()
	must(t, ask())
}

func TestCalls(t *testing.T) {
	before := osmem.Calls()
	_, err := program()
	must(t, err)
	want := osmem.Counts{Reserve: 1, Commit: 1, Decommit: 1, Release: 2, Map: 1, Protect: 1, Advise: 1}
	if runtime.GOOS == "linux" && !onGoHeap {
		want.Remap = 1
	}
	if c := osmem.Calls().Sub(before); c != want {
		t.Errorf("%+v, want %+v", c, want)
	}
	before = osmem.Calls()
	restore := osmem.SetFault(func(osmem.Op, int) error { return osmem.ErrNoMemory })
	defer restore()
	_, _ = program()
	_, _ = osmem.Reserve(-1)
	if c := osmem.Calls().Sub(before); c != (osmem.Counts{}) {
		t.Errorf("refused operations were counted: %+v", c)
	}
}

func TestOpString(t *testing.T) {
	for op, want := range map[osmem.Op]string{
		osmem.OpReserve: "reserve", osmem.OpCommit: "commit", osmem.OpDecommit: "decommit", osmem.OpRelease: "release",
		osmem.OpMap: "map", osmem.OpProtect: "protect", osmem.OpAdvise: "advise", osmem.OpRemap: "remap",
		osmem.OpLock: "lock", osmem.OpUnlock: "unlock", 200: "Op(200)",
	} {
		if s := op.String(); s != want {
			t.Errorf("Op(%d) is %q, want %q", op, s, want)
		}
	}
}

func TestRemap(t *testing.T) {
	old, next := 4*page, 64*page
	p := got(t)(osmem.MapAligned(old, page))
	fill(p, old, 1)
	if runtime.GOOS != "linux" || onGoHeap {
		_, err := osmem.Remap(p, old, next)
		if !errors.Is(err, errors.ErrUnsupported) || !errors.Is(osmem.Grow(p, old, next), errors.ErrUnsupported) {
			t.Errorf("%v, want ErrUnsupported", err)
		}
		wantAll(t, p, old, 1, "after a refusal")
		must(t, osmem.Release(p, old))
		return
	}
	q := got(t)(osmem.Remap(p, old, next))
	wantAll(t, q, old, 1, "what was there")
	wantAll(t, unsafe.Add(q, old), next-old, 0, "what was added")
	fill(q, next, 2)

	q = got(t)(osmem.Remap(q, next, old))
	wantAll(t, q, old, 2, "shrunk")
	must(t, osmem.Release(q, old))
}

// TestGrow grows into room that is known to be free, and against a neighbour.
func TestGrow(t *testing.T) {
	if runtime.GOOS != "linux" || onGoHeap {
		t.Skip("only Linux grows in place")
	}
	p := got(t)(osmem.MapAligned(8*page, page))
	fill(p, 8*page, 1)
	must(t, osmem.Grow(p, 8*page, 4*page))
	wantAll(t, p, 4*page, 1, "shrunk")
	must(t, osmem.Grow(p, 4*page, 6*page)) // nothing else maps here, save the runtime at the wrong moment
	wantAll(t, p, 4*page, 1, "what was there")
	wantAll(t, unsafe.Add(p, 4*page), 2*page, 0, "what was added")
	must(t, osmem.Release(p, 6*page))

	p = got(t)(osmem.MapAligned(8*page, page))
	fill(p, 8*page, 2)
	must(t, osmem.Protect(unsafe.Add(p, 4*page), 4*page, osmem.ReadOnly))
	err := osmem.Grow(p, 4*page, 5*page)
	checkError(t, err, osmem.OpRemap, p, 5*page)
	if !errors.Is(err, osmem.ErrNoMemory) {
		t.Errorf("%v, want ErrNoMemory", err)
	}
	wantAll(t, p, 8*page, 2, "after the refusal")
	must(t, osmem.Release(p, 8*page))
}

// TestConcurrent runs all operations beside changing fault hooks. Its claims are
// that nothing is lost and that -race is silent.
func TestConcurrent(t *testing.T) {
	before := osmem.Calls()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				p, err := osmem.MapAligned(4*page, 64<<10)
				if err != nil {
					continue // by a hook
				}
				fill(p, 4*page, 1)
				_ = osmem.Advise(p, page, osmem.DontNeed)
				_ = osmem.Decommit(p, 2*page)
				_ = osmem.Protect(unsafe.Add(p, 2*page), page, osmem.NoAccess)
				for osmem.Release(p, 4*page) != nil {
					runtime.Gosched()
				}
			}
		})
	}
	wg.Go(func() {
		for range 200 {
			n := 0
			var mu sync.Mutex
			restore := osmem.SetFault(func(osmem.Op, int) error {
				mu.Lock()
				defer mu.Unlock()
				if n++; n%3 == 0 {
					return osmem.ErrNoMemory
				}
				return nil
			})
			runtime.Gosched()
			restore()
			_ = osmem.Calls()
		}
	})
	wg.Wait()
	if c := osmem.Calls().Sub(before); c.Map != c.Release {
		t.Errorf("%d mapped, %d released", c.Map, c.Release)
	}
}
