package osmem_test

import (
	"errors"
	"runtime"
	"testing"
	"unsafe"

	"github.com/pyarena/pyarena/osmem"
)

// fuzzPages is the size of the region that FuzzStates works on.
const fuzzPages = 16

// modelPage is what one page must be like.
type modelPage struct {
	state  byte // 'r'eserved, 'c'ommitted, released '-'
	access osmem.Access
	value  byte // of every byte, while committed
}

// mover is a region that is resized and moves: pages of it are like each other.
type mover struct {
	p     unsafe.Pointer
	pages int
	value byte
}

// resize makes the region as many pages, in place or not, and compares all of it.
func (m *mover) resize(t *testing.T, pages int, inPlace bool) {
	old, size := m.pages*page, pages*page
	q, err := m.p, error(nil)
	if inPlace {
		err = osmem.Grow(m.p, old, size)
	} else {
		q, err = osmem.Remap(m.p, old, size)
	}
	switch {
	case err == nil:
		m.p, m.pages = q, pages
		wantAll(t, m.p, min(old, size), m.value, "what was there")
		if size > old {
			wantAll(t, unsafe.Add(m.p, old), size-old, 0, "what was added")
		}
	case runtime.GOOS != "linux" || onGoHeap:
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%v, want ErrUnsupported", err)
		}
	case !inPlace || !errors.Is(err, osmem.ErrNoMemory): // a neighbour may be in the way
		t.Error(err)
	}
	wantAll(t, m.p, min(old, m.pages*page), m.value, "after it")
	m.value++
	fill(m.p, m.pages*page, m.value)
}

// FuzzStates makes random transitions of random ranges of pages, and compares
// every page with the model after each. An input is three bytes a step: the
// operation, the first page, the number of pages. Another region is resized.
func FuzzStates(f *testing.F) {
	f.Add([]byte{1, 0, 16, 2, 0, 4, 4, 2, 6, 3, 0, 8, 1, 0, 8})
	f.Add([]byte{1, 2, 3, 1, 8, 4, 2, 9, 2, 5, 9, 1, 2, 10, 1, 3, 8, 1, 7, 0, 2})
	f.Add([]byte{1, 0, 16, 2, 0, 16, 5, 4, 4, 6, 8, 4, 3, 0, 16, 1, 0, 16})
	f.Add([]byte{1, 0, 16, 2, 0, 16, 7, 3, 2, 7, 7, 1, 4, 0, 3, 7, 0, 3})
	f.Add([]byte{1, 0, 16, 2, 1, 1, 6, 1, 1, 4, 1, 1, 5, 1, 1, 4, 0, 16, 5, 0, 1})
	f.Add([]byte{9, 0, 9, 8, 0, 3, 1, 0, 16, 9, 0, 15, 2, 0, 16, 8, 0, 0, 7, 3, 4, 9, 0, 7, 8, 0, 8})
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 3*64 {
			in = in[:3*64]
		}
		var model [fuzzPages]modelPage
		p := got(t)(osmem.MapAlignedReserved(fuzzPages*page, 4*page))
		for i := range model {
			model[i].state = 'r'
		}
		m := &mover{p: got(t)(osmem.MapAligned(page, page)), pages: 1}
		for step := byte(1); len(in) >= 3; step, in = step+1, in[3:] {
			if op := in[0] % 10; op >= 8 {
				m.resize(t, int(in[2])%fuzzPages+1, op == 8)
				continue
			}
			first := int(in[1]) % fuzzPages
			n := min(int(in[2])%fuzzPages+1, fuzzPages-first)
			fuzzStep(t, in[0]%10, unsafe.Add(p, first*page), model[first:first+n], step)
			checkModel(t, p, model[:])
		}
		must(t, osmem.Release(m.p, m.pages*page))
		for i, m := range model {
			if runtime.GOOS == "windows" && !onGoHeap {
				must(t, osmem.Release(p, fuzzPages*page)) // never in parts
				break
			}
			if m.state != '-' {
				must(t, osmem.Release(unsafe.Add(p, i*page), page))
			}
		}
	})
}

// fuzzStep does one operation on pages at p, if it is one for all of them.
func fuzzStep(t *testing.T, op byte, p unsafe.Pointer, pages []modelPage, value byte) {
	all := func(ok func(m modelPage) bool) bool {
		for _, m := range pages {
			if !ok(m) {
				return false
			}
		}
		return true
	}
	committed := all(func(m modelPage) bool { return m.state == 'c' })
	writable := committed && all(func(m modelPage) bool { return m.access == osmem.ReadWrite })
	size := len(pages) * page
	set := func(m modelPage) {
		for i := range pages {
			pages[i] = m
		}
	}
	fresh := modelPage{'c', osmem.ReadWrite, 0}
	switch op {
	case 0:
		if osmem.Commit(p, -size) == nil || osmem.Decommit(unsafe.Add(p, 1), size) == nil {
			t.Error("invalid arguments were accepted")
		}
	case 1:
		if all(func(m modelPage) bool { return m.state == 'r' }) {
			must(t, osmem.Commit(p, size))
			set(fresh)
		}
	case 2:
		if writable {
			fill(p, size, value)
			set(modelPage{'c', osmem.ReadWrite, value})
		}
	case 3:
		if committed {
			must(t, osmem.Decommit(p, size))
			set(modelPage{state: 'r'})
		}
	case 4:
		if writable {
			must(t, osmem.Advise(p, size, osmem.DontNeed))
			set(fresh)
		}
	case 5, 6:
		if committed {
			access := osmem.Access(value % 3)
			must(t, osmem.Protect(p, size, access))
			for i := range pages {
				pages[i].access = access
			}
		}
	case 7:
		if !all(func(m modelPage) bool { return m.state != '-' }) {
			return
		}
		if runtime.GOOS == "windows" && !onGoHeap {
			if len(pages) < fuzzPages && !errors.Is(osmem.Release(p, size), osmem.ErrInvalid) {
				t.Error("a part of a reservation was released")
			}
			return
		}
		must(t, osmem.Release(p, size))
		set(modelPage{state: '-'})
	}
}

// checkModel compares the ends and the middle of every page. Released pages may
// be someone else's by now.
func checkModel(t *testing.T, p unsafe.Pointer, model []modelPage) {
	for i, m := range model {
		at := unsafe.Add(p, i*page)
		switch {
		case m.state == '-':
		case m.state == 'r' || m.access == osmem.NoAccess:
			if !onGoHeap && !faults(load(at, page/2)) {
				t.Fatalf("page %d is accessible: %+v", i, m)
			}
		default:
			b := bytesAt(at, page)
			if b[0] != m.value || b[page/2] != m.value || b[page-1] != m.value {
				t.Fatalf("page %d holds %#x %#x %#x, want %+v", i, b[0], b[page/2], b[page-1], m)
			}
			if m.access == osmem.ReadOnly && !onGoHeap && !faults(store(at, 0)) {
				t.Fatalf("page %d is writable: %+v", i, m)
			}
		}
	}
}
