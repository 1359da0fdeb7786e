package fuzz

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pyarena/pyarena/pymalloc"
	"github.com/pyarena/pyarena/unsafeobj"
)

// offHeap is a value, onHeap its shadow.
type (
	offHeap struct {
		ID   uint64
		Name unsafeobj.Str
		Tags unsafeobj.Slice[uint16]
		Next unsafeobj.Ptr[offHeap]
	}
	onHeap struct {
		id   uint64
		name string
		tags []uint16
		next *onHeap
		at   *offHeap
	}
)

// typed runs a program of calls on typed values.
type typed struct {
	t      *testing.T
	m      unsafeobj.Memory
	other  *pymalloc.Allocator // nothing here is its
	values []*onHeap
	bytes  elements[byte]
	odd    elements[[3]uint16]
	words  elements[uint64]
	none   elements[struct{}]
	texts  [][2]string // off heap and its shadow
	blocks uint64      // that are live
}

// ok reports whether a call that may be refused at the limit has succeeded.
func (m *typed) ok(err error) bool {
	m.t.Helper()
	if err != nil && !errors.Is(err, pymalloc.ErrLimit) {
		m.t.Fatal(err)
	}
	return err == nil
}

// refused checks the error of misuse.
func (m *typed) refused(err error, want ...error) {
	m.t.Helper()
	bad, ok := errors.AsType[*unsafeobj.MisuseError](err)
	if !ok || !slices.ContainsFunc(want, func(w error) bool { return errors.Is(bad, w) }) {
		m.t.Fatalf("%v, want a MisuseError with one of %v", err, want)
	}
}

// gone checks that what is free already cannot be freed.
func (m *typed) gone(err error) {
	m.t.Helper()
	m.refused(err, pymalloc.ErrDoubleFree, pymalloc.ErrNotOwned)
}

// elements are slices of one type, each with its shadow.
type elements[T comparable] struct {
	all []pair[T]
}

type pair[T comparable] struct{ got, want []T }

func (p pair[T]) check(t *testing.T) {
	t.Helper()
	if !slices.Equal(p.got, p.want) {
		t.Fatalf("%T is %v, want %v", p.got, p.got, p.want)
	}
}

// step runs one call on slices of T; value makes an element of a byte.
func (e *elements[T]) step(m *typed, in *input, value func(byte) T) {
	m.t.Helper()
	op, n := in.byte(), in.intn(600)
	if len(e.all) == 0 || op%10 == 0 {
		e.make(m, n, int(op)*3)
		return
	}
	i := n % len(e.all)
	p := &e.all[i]
	p.check(m.t)
	vs := make([]T, in.intn(40))
	for j := range vs {
		vs[j] = value(in.byte())
	}
	var err error
	switch op % 10 {
	case 1, 2: // values
		had := p.got != nil
		if p.got, err = unsafeobj.Append(m.m, p.got, vs...); m.ok(err) {
			p.want = append(p.want, vs...)
		}
		m.count(had, p.got != nil)
	case 3: // a part of itself
		from := max(in.intn(len(p.want)+1), len(p.want)-1000)
		had := p.got != nil
		if p.got, err = unsafeobj.Append(m.m, p.got, p.got[from:]...); m.ok(err) {
			p.want = append(p.want, p.want[from:]...)
		}
		m.count(had, p.got != nil)
	case 4:
		had := p.got != nil
		if p.got, err = unsafeobj.Grow(m.m, p.got, n); m.ok(err) && cap(p.got)-len(p.got) < n {
			m.t.Fatalf("room for %d, want %d", cap(p.got)-len(p.got), n)
		}
		m.count(had, p.got != nil)
	case 5:
		c, err := unsafeobj.Clone(m.m, p.got)
		if m.ok(err) {
			m.blocks++
			e.all = append(e.all, pair[T]{c, slices.Clone(p.want)})
		}
	case 6: // cut at the end, or written to
		k := in.intn(len(p.want) + 1)
		p.got, p.want = p.got[:k], p.want[:k:k]
		for j := range min(k, len(vs)) {
			p.got[j], p.want[j] = vs[j], vs[j]
		}
	case 7: // bad frees, and requests that cannot be
		if p.got == nil {
			m.refused(unsafeobj.FreeSlice(m.m, p.got), unsafeobj.ErrNil)
			break
		}
		m.refused(unsafeobj.FreeSlice(m.other, p.got), pymalloc.ErrNotOwned)
		if len(p.got) > 1 && &p.got[0] != &p.got[1] {
			m.refused(unsafeobj.FreeSlice(m.m, p.got[1:]), pymalloc.ErrNotOwned)
			q, err := unsafeobj.Grow(m.m, p.got[1:], cap(p.got))
			m.refused(err, pymalloc.ErrNotOwned)
			if &q[0] != &p.got[1] {
				m.t.Fatal("a slice was moved that is none")
			}
		}
		_, err := unsafeobj.Grow(m.m, p.got, -1-n)
		m.refused(err, unsafeobj.ErrLength)
		if k := len(p.got); k > 0 {
			_, err = unsafeobj.Grow(m.m, p.got, math.MaxInt-n%k)
			m.refused(err, unsafeobj.ErrLength)
		}
		_, err = unsafeobj.MakeSlice[T](m.m, n+1, n)
		m.refused(err, unsafeobj.ErrLength)
	default:
		e.free(m, i)
	}
}

// count notes a block that a slice has now and had not.
func (m *typed) count(had, has bool) {
	if has && !had {
		m.blocks++
	}
}

func (e *elements[T]) make(m *typed, n, more int) {
	m.t.Helper()
	if n%16 == 0 {
		e.all = append(e.all, pair[T]{})
		return
	}
	s, err := unsafeobj.MakeSlice[T](m.m, n, n+more)
	if !m.ok(err) {
		return
	}
	if m.blocks++; cap(s) != n+more {
		m.t.Fatalf("capacity %d, want %d", cap(s), n+more)
	}
	var zero T
	for i, v := range s[:cap(s)] {
		if v != zero {
			m.t.Fatalf("element %d of %d is %v", i, cap(s), v)
		}
	}
	e.all = append(e.all, pair[T]{s, make([]T, n)})
}

func (e *elements[T]) free(m *typed, i int) {
	m.t.Helper()
	p := e.all[i]
	p.check(m.t)
	e.all = slices.Delete(e.all, i, i+1)
	if p.got == nil {
		return
	}
	if err := unsafeobj.FreeSlice(m.m, p.got); err != nil {
		m.t.Fatal(err)
	}
	m.blocks--
	m.gone(unsafeobj.FreeSlice(m.m, p.got))
}

// value runs one call on structs that hold strings, slices and pointers themselves.
func (m *typed) value(in *input) {
	m.t.Helper()
	op := in.byte()
	if len(m.values) == 0 || op%6 == 0 {
		p, err := unsafeobj.NewOf(m.m, offHeap{ID: uint64(op)})
		if op%2 == 0 {
			if err == nil {
				err = unsafeobj.Free(m.m, p)
			}
			if err == nil {
				p, err = unsafeobj.New[offHeap](m.m)
			}
		}
		if m.ok(err) {
			m.blocks++
			m.values = append(m.values, &onHeap{id: p.ID, at: p})
			if op%2 == 0 && (p.ID != 0 || p.Name.String() != "" || p.Tags.View() != nil || p.Next.Get() != nil) {
				m.t.Fatalf("a new value is %+v", *p)
			}
		}
		return
	}
	i := in.intn(len(m.values))
	v := m.values[i]
	v.check(m.t)
	switch op % 6 {
	case 1:
		text := strings.Repeat("name", in.intn(100))
		s, err := unsafeobj.NewStr(m.m, text)
		if !m.ok(err) {
			return
		}
		m.count(false, text != "")
		v.freeName(m)
		v.at.Name, v.name = s, text
	case 2:
		tags := make([]uint16, in.intn(30))
		for j := range tags {
			tags[j] = uint16(in.byte())
		}
		had := v.at.Tags.View() != nil
		if m.ok(v.at.Tags.Append(m.m, tags...)) {
			v.tags = append(v.tags, tags...)
		}
		m.count(had, v.at.Tags.View() != nil)
	case 3:
		v.next = m.values[in.intn(len(m.values))]
		v.at.Next = unsafeobj.PtrTo(v.next.at)
	case 4:
		m.refused(unsafeobj.Free(m.other, v.at), pymalloc.ErrNotOwned)
		m.refused(unsafeobj.Free(m.m, &v.at.Tags), pymalloc.ErrNotOwned)
		m.refused(unsafeobj.Free[offHeap](m.m, nil), unsafeobj.ErrNil)
		if _, err := unsafeobj.New[onHeap](m.m); !errors.Is(err, unsafeobj.ErrGoPointer) {
			m.t.Fatalf("a type with Go pointers: %v", err)
		}
	case 5:
		m.freeValue(i)
	}
}

func (v *onHeap) check(t *testing.T) {
	t.Helper()
	next := v.at.Next.Get()
	if v.at.ID != v.id || v.at.Name.String() != v.name || !slices.Equal(v.at.Tags.View(), v.tags) ||
		v.next == nil && next != nil || v.next != nil && next != v.next.at {
		t.Fatalf("%+v, want %+v", *v.at, *v)
	}
}

func (v *onHeap) freeName(m *typed) {
	m.t.Helper()
	stale := v.at.Name
	if err := v.at.Name.Free(m.m); err != nil {
		m.t.Fatal(err)
	}
	if v.name != "" {
		m.blocks--
		m.gone(stale.Free(m.m))
	}
}

func (m *typed) freeValue(i int) {
	m.t.Helper()
	v := m.values[i]
	v.check(m.t)
	m.values = slices.Delete(m.values, i, i+1)
	for _, w := range m.values {
		if w.next == v {
			w.next, w.at.Next = nil, unsafeobj.Ptr[offHeap]{}
		}
	}
	v.freeName(m)
	if v.at.Tags.View() != nil {
		stale := v.at.Tags
		if err := v.at.Tags.Free(m.m); err != nil {
			m.t.Fatal(err)
		}
		m.blocks--
		m.gone(stale.Free(m.m))
	}
	if err := unsafeobj.Free(m.m, v.at); err != nil {
		m.t.Fatal(err)
	}
	m.blocks--
	m.gone(unsafeobj.Free(m.m, v.at))
}

// text runs one call on strings.
func (m *typed) text(in *input) {
	m.t.Helper()
	if n := in.intn(1000); n%3 != 0 || len(m.texts) == 0 {
		want := strings.Repeat(string(rune('a'+n%26)), n%8*n)
		s, err := unsafeobj.CloneString(m.m, want)
		if m.ok(err) {
			m.count(false, want != "")
			m.texts = append(m.texts, [2]string{s, want})
		}
	} else {
		m.freeText(n % len(m.texts))
	}
}

func (m *typed) freeText(i int) {
	m.t.Helper()
	s := m.texts[i]
	m.texts = slices.Delete(m.texts, i, i+1)
	if s[0] != s[1] {
		m.t.Fatalf("a string is %q, want %q", s[0], s[1])
	}
	if len(s[0]) > 1 {
		m.refused(unsafeobj.FreeString(m.m, s[0][1:]), pymalloc.ErrNotOwned)
	}
	if err := unsafeobj.FreeString(m.m, s[0]); err != nil {
		m.t.Fatal(err)
	}
	if s[0] != "" {
		m.blocks--
		m.gone(unsafeobj.FreeString(m.m, s[0]))
	}
}

// freeAll frees what is left.
func (m *typed) freeAll() {
	for len(m.values) > 0 {
		m.freeValue(0)
	}
	for len(m.texts) > 0 {
		m.freeText(0)
	}
	for len(m.bytes.all) > 0 {
		m.bytes.free(m, 0)
	}
	for len(m.odd.all) > 0 {
		m.odd.free(m, 0)
	}
	for len(m.words.all) > 0 {
		m.words.free(m, 0)
	}
	for len(m.none.all) > 0 {
		m.none.free(m, 0)
	}
}

// FuzzTyped: typed values are as Go's own, whatever moves them; bad frees are refused
// and change nothing; at the limit values stay as they were; as many blocks are live
// as values have.
func FuzzTyped(f *testing.F) {
	f.Add([]byte("typed values: make, append, grow, clone, free and free again"))
	f.Add([]byte{0, 0, 0, 1, 1, 0, 9, 0, 3, 7, 7, 7, 0, 3, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 8})
	f.Fuzz(func(t *testing.T, data []byte) {
		in := input(data)
		in = in[:min(len(in), 3000)]
		kind := in.byte()
		o := pymalloc.Options{ArenaBytes: 256 << 10, RetainDelay: time.Hour}
		if kind%4 == 0 {
			o.LimitBytes = 2 * o.ArenaBytes
		}
		a, err := pymalloc.NewAllocator(o)
		if err != nil {
			t.Fatal(err)
		}
		m := &typed{t: t, m: a, other: new(pymalloc.Allocator)}
		if kind%8 > 3 {
			h := a.AcquireHeap()
			defer h.Release()
			m.m = h
		}
		for len(in) > 0 {
			switch in.byte() % 8 {
			case 0, 1:
				m.bytes.step(m, &in, func(b byte) byte { return b })
			case 2:
				m.odd.step(m, &in, func(b byte) [3]uint16 { return [3]uint16{uint16(b), 1, uint16(b) << 8} })
			case 3:
				m.words.step(m, &in, func(b byte) uint64 { return uint64(b) << 56 })
			case 4:
				m.none.step(m, &in, func(byte) struct{} { return struct{}{} })
			case 5, 6:
				m.value(&in)
			case 7:
				m.text(&in)
			}
			if n := a.Stats().LiveBlocks; n != m.blocks {
				t.Fatalf("%d blocks are live, want %d", n, m.blocks)
			}
		}
		m.freeAll()
		if n := a.Stats().LiveBlocks; n != 0 || m.blocks != 0 {
			t.Fatalf("%d blocks are left, the shadow has %d", n, m.blocks)
		}
	})
}
