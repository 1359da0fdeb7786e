package shard

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/pyarena/pyarena/internal/addr"
	"github.com/pyarena/pyarena/internal/headers"
	"github.com/pyarena/pyarena/internal/pin"
	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/sizeclass"
	"github.com/pyarena/pyarena/osmem"
)

const (
	life, id  = 1<<24 - 1, 12345
	worldSize = 1 << 20
	guard     = 0xABCD // behind each array
)

// world is the memory of shards, arrays and blocks.
type world struct {
	t        *testing.T
	next     uintptr
	end      uintptr
	sizes    map[uintptr]int   // of the arrays in use
	returned map[int][]uintptr // arrays that were given back, by size
}

func newWorld(t *testing.T) *world {
	t.Helper()
	p, err := osmem.MapAligned(worldSize, osmem.PageSize())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := osmem.Release(p, worldSize); err != nil {
			t.Error(err)
		}
	})
	return &world{t, uintptr(p), uintptr(p) + worldSize, map[uintptr]int{}, map[int][]uintptr{}}
}

// alloc returns n zero bytes.
func (w *world) alloc(n int) uintptr {
	w.t.Helper()
	p := w.next
	if w.next += uintptr(n+63) &^ 63; w.next > w.end {
		w.t.Fatal("the test needs more memory")
	}
	return p
}

func (w *world) shard(mode uint64) *Shard {
	w.t.Helper()
	s := (*Shard)(addr.Pointer(w.alloc(int(unsafe.Sizeof(Shard{})))))
	s.Init(life, id, -1, mode, 1)
	return s
}

// block returns memory for a block. It is no larger than its seal.
func (w *world) block() uintptr { w.t.Helper(); return w.alloc(pool.SealBytes) }

func (w *world) blocks(n int) (ps []uintptr) {
	w.t.Helper()
	for range n {
		ps = append(ps, w.block())
	}
	return ps
}

// array returns dirty memory for magazines of n places.
func (w *world) array(c uint8, n int) uintptr {
	w.t.Helper()
	size := ArrayBytes(c, n)
	var p uintptr
	if list := w.returned[size]; len(list) > 0 {
		p, w.returned[size] = list[len(list)-1], list[:len(list)-1]
	} else {
		p = w.alloc(size + 8)
	}
	w.dirty(p, size)
	w.sizes[p] = size
	*(*uint64)(addr.Pointer(p + uintptr(size))) = guard
	return p
}

func (w *world) dirty(p uintptr, size int) {
	b := unsafe.Slice((*byte)(addr.Pointer(p)), size)
	for i := range b {
		b[i] = 0xA5
	}
}

// free takes back what array returned.
func (w *world) free(p uintptr) {
	w.t.Helper()
	size, ok := w.sizes[p]
	if !ok {
		w.t.Fatalf("no array is at %#x", p)
	}
	if g := *(*uint64)(addr.Pointer(p + uintptr(size))); g != guard {
		w.t.Errorf("behind the array of %d bytes stands %#x", size, g)
	}
	w.dirty(p, size)
	delete(w.sizes, p)
	w.returned[size] = append(w.returned[size], p)
}

// push pushes a live block on loaded.
func push(t *testing.T, m *Class, p uintptr) {
	t.Helper()
	at := m.Room()
	if at == 0 {
		t.Fatalf("no room, with %d of %d blocks", m.Len(), m.Cap())
	}
	pool.Unseal(p)
	m.Push(addr.Pointer(p), at)
	if !pool.IsSealed(p) {
		t.Fatalf("%#x is not sealed after Push", p)
	}
}

// pop pops a block of loaded as malloc does, or returns 0.
func pop(t *testing.T, m *Class) uintptr {
	t.Helper()
	p := m.Peek()
	if !pool.IsSealedAt(p) {
		return 0
	}
	m.Pop(p)
	if pool.IsSealedAt(p) {
		t.Fatalf("%p is sealed after Pop", p)
	}
	return uintptr(p)
}

// contents returns what Each comes to, in order of addresses.
func contents(s *Shard, c uint8) (blocks []uintptr) {
	s.Each(c, func(p uintptr) { blocks = append(blocks, p) })
	slices.Sort(blocks)
	return blocks
}

func TestCaps(t *testing.T) {
	for c := range uint8(sizeclass.Count) {
		start, most, size := StartCap(c), MostCap(c), sizeclass.Size(c)
		if start < 2 || start > startBlocks || start > 2 && start*size > startBytes {
			t.Errorf("class %d of %d bytes begins with %d places", c, size, start)
		}
		if most < start || most > mostBlocks || most > start && most*size > mostBytes {
			t.Errorf("class %d of %d bytes has %d places at most, %d at first", c, size, most, start)
		}
		if n := outCap(c); n < 1 || n > outBlocks || n > 1 && n*size > outBytes {
			t.Errorf("class %d of %d bytes has %d places for outgoing", c, size, n)
		}
		if n := ArrayBytes(c, most); n > sizeclass.Max || n < 2*most*int(place) {
			t.Errorf("the magazines of class %d take %d bytes, and a block of metadata has %d at most", c, n, sizeclass.Max)
		}
		if d := ArrayBytes(c, start+1) - ArrayBytes(c, start); d != 2*int(place) {
			t.Errorf("class %d: a place more in both magazines takes %d bytes", c, d)
		}
	}
	if n := StartCap(0); n != startBlocks {
		t.Errorf("the smallest class begins with %d places, want %d", n, startBlocks)
	}
}

// The state word says the shard's life and id in any mode, and fast paths know the mode 0 only.
func TestState(t *testing.T) {
	w := newWorld(t)
	s := w.shard(0)
	modes := []uint64{Claimed, Closed, Canaries, Wipes}
	for _, ids := range [][2]uint32{{1, 1}, {1, 1<<24 - 1}, {1<<24 - 1, 1}, {life, id}, {1 << 23, 1 << 23}} {
		for set := range 1 << len(modes) {
			mode := uint64(0)
			for i, bit := range modes {
				if set>>i&1 == 1 {
					mode |= bit
				}
			}
			s.Init(ids[0], ids[1], 7, mode, 0)
			if s.Life() != ids[0] || s.ID() != ids[1] || s.Slot != 7 || s.Random == 0 {
				t.Fatalf("life %d, id %d, mode %#x: it has life %d, id %d, slot %d", ids[0], ids[1], mode, s.Life(), s.ID(), s.Slot)
			}
			if s.Plain() != (mode == 0) || s.Canaries() != (mode&Canaries != 0) || s.Wipes() != (mode&Wipes != 0) {
				t.Fatalf("mode %#x: plain %t, canaries %t, wipes %t", mode, s.Plain(), s.Canaries(), s.Wipes())
			}
			for _, class := range []uint8{0, 75, 255} {
				word := headers.MakeWord(ids[0], headers.Pool, class, 0).At(ids[1])
				if !s.Home(word) || s.Plainly(word) != (mode == 0) {
					t.Fatalf("mode %#x: home of its own pool: %t, plainly %t", mode, s.Home(word), s.Plainly(word))
				}
				for _, other := range []headers.Word{
					0, word.At(0), word.At(ids[1] ^ 1), word.At(ids[1] ^ 1<<23),
					headers.MakeWord(ids[0]^1, headers.Pool, class, 0).At(ids[1]),
					headers.MakeWord(ids[0]^1<<23, headers.Pool, class, 0).At(ids[1]),
				} {
					if s.Home(other) || s.Plainly(other) {
						t.Fatalf("mode %#x: the shard is the home of %#x, and its own is %#x", mode, other, word)
					}
				}
			}
			// A claimant comes and goes.
			was := s.State.Load()
			s.State.Or(Claimed)
			if s.Plain() || s.Life() != ids[0] || s.ID() != ids[1] {
				t.Fatalf("mode %#x, claimed: plain %t, life %d, id %d", mode, s.Plain(), s.Life(), s.ID())
			}
			s.State.And(^uint64(Claimed))
			if now := s.State.Load(); now != was&^Claimed {
				t.Fatalf("the state is %#x after a claim, and was %#x", now, was)
			}
		}
	}
}

// A pool's word leads to its class.
func TestOfPool(t *testing.T) {
	s := newWorld(t).shard(0)
	seen := map[*Class]bool{}
	for c := range uint8(sizeclass.Count) {
		for _, back := range []int{0, 63} {
			word := headers.MakeWord(life, headers.Inner, c, back).At(1<<24 - 1)
			if m := s.OfPool(word); m != s.Of(c) || m != &s.classes[c] {
				t.Errorf("class %d is at %p and by the pool's word at %p, want %p", c, s.Of(c), m, &s.classes[c])
			}
		}
		seen[s.Of(c)] = true
	}
	if len(seen) != sizeclass.Count {
		t.Errorf("%d classes, want %d", len(seen), sizeclass.Count)
	}
}

// wantEmpty checks that nothing comes out of a class, and goes in where it has magazines only.
func wantEmpty(t *testing.T, s *Shard, c uint8) {
	t.Helper()
	m := s.Of(c)
	var b pool.Hand
	if p := pop(t, m); p != 0 || m.Len() != 0 || m.Blocks() != 0 || m.Seem() != 0 || m.Swap() || contents(s, c) != nil {
		t.Errorf("class %d has %d blocks, in loaded %d, it seems %d, and %#x is popped", c, m.Blocks(), m.Len(), m.Seem(), p)
	}
	m.TakeOut(&b)
	m.TakeAny(&b)
	if b.N != 0 {
		t.Errorf("class %d: %d blocks are taken", c, b.N)
	}
	if has := m.Mags != 0; (m.Room() != 0) != has || m.RoomOut() != has || (m.Cap() != 0) != has || (m.Look() != 0) != has {
		t.Errorf("class %d with magazines: %t, room at %#x, for outgoing %t, %d places, looks like %#x", c, has, m.Room(), m.RoomOut(), m.Cap(), m.Look())
	}
}

// A class without magazines, or with empty ones, pops nothing.
func TestEmpty(t *testing.T) {
	w := newWorld(t)
	s := w.shard(0)
	if pool.IsSealed(bottom) {
		t.Fatal("the word that is to bear no seal bears one")
	}
	for c := range uint8(sizeclass.Count) {
		wantEmpty(t, s, c)
		b := pool.Hand{N: 2, P: [pool.Most]uintptr{5, 6}}
		if s.Of(c).Put(&b, 0); b.N != 2 || b.P[0] != 5 || b.P[1] != 6 || s.Of(c).PushOut(7) || s.Remove(c) != 0 {
			t.Errorf("class %d has no magazines, and %d blocks of 2 stay in the hand", c, b.N)
		}
	}
	for _, c := range []uint8{0, 31, sizeclass.Count - 1} {
		m, p := s.Of(c), w.block()
		if old := s.Install(c, w.array(c, StartCap(c)), StartCap(c)); old != 0 {
			t.Errorf("class %d had magazines at %#x", c, old)
		}
		for range 3 {
			wantEmpty(t, s, c)
			push(t, m, p)
			if m.Len() != 1 || m.Blocks() != 1 || m.Seem() != 1 || m.Peek() != addr.Pointer(p) {
				t.Errorf("class %d has %d blocks, %d in loaded, it seems %d; the next is %p", c, m.Blocks(), m.Len(), m.Seem(), m.Peek())
			}
			if got := pop(t, m); got != p {
				t.Errorf("class %d: popped %#x, want %#x", c, got, p)
			}
			wantEmpty(t, s, c)
			push(t, m, p)
			if got := m.Drop(); got != p || !pool.IsSealed(p) {
				t.Errorf("class %d: dropped %#x, want %#x, sealed", c, got, p)
			}
		}
		push(t, m, p)
		*(*uint64)(addr.Pointer(p)) ^= 1 // by a program that writes to a free block
		if got := pop(t, m); got != 0 || m.Len() != 1 || m.Drop() != p {
			t.Errorf("class %d: a block with a broken seal is popped: %#x", c, got)
		}
		old := m.Mags
		if got := s.Remove(c); got != old {
			t.Errorf("class %d: removed %#x, want %#x", c, got, old)
		}
		w.free(old)
		wantEmpty(t, s, c)
	}
}

// There is room for as many blocks as there are places, and no more.
func TestRoom(t *testing.T) {
	w := newWorld(t)
	s := w.shard(0)
	block := w.block() // the same each time: only the places count
	for _, c := range []uint8{0, 20, 31, 32, sizeclass.Count - 1} {
		for _, n := range []int{StartCap(c), min(StartCap(c)+1, MostCap(c)), MostCap(c)} {
			m := s.Of(c)
			p := w.array(c, n)
			s.Install(c, p, n)
			ends := p + uintptr(w.sizes[p])
			places := map[uintptr]bool{}
			for i := range n {
				at := m.Room()
				if at <= p || at+place > ends || places[at] || m.Len() != i || m.Cap() != n {
					t.Fatalf("class %d: room at %#x for block %d of %d, in the array from %#x to %#x", c, at, i, n, p, ends)
				}
				places[at] = true
				push(t, m, block)
			}
			if at := m.Room(); at != 0 || m.Len() != n || m.Blocks() != n || m.Seem() != n {
				t.Errorf("class %d: room at %#x with %d of %d blocks", c, at, m.Len(), n)
			}
			for i := range outCap(c) {
				if !m.RoomOut() || !m.PushOut(block) || places[m.Out] || m.Out+place > ends {
					t.Fatalf("class %d: no room for outgoing block %d of %d", c, i, outCap(c))
				}
				places[m.Out] = true
			}
			if m.Out+place != ends {
				t.Errorf("class %d: the last place of the array is at %#x, and it ends at %#x", c, m.Out, ends)
			}
			if all := n + outCap(c); m.RoomOut() || m.PushOut(block) || m.Blocks() != all || m.Seem() != all {
				t.Errorf("class %d: room for outgoing with %d blocks of %d, it seems %d", c, m.Blocks(), all, m.Seem())
			}
			for m.Blocks() > 0 {
				var b pool.Hand
				m.TakeAny(&b)
			}
			w.free(s.Remove(c))
		}
	}
}

// model is what is known of a class. Of loaded the top is last.
type model struct {
	*Class
	c                  uint8
	has                bool // magazines
	cap                int
	loaded, spare, out []uintptr
	outside            []uintptr
}

// takeOf takes what came to a hand out of one of the lists each.
func (m *model) takeOf(t *testing.T, blocks []uintptr, lists ...*[]uintptr) {
	t.Helper()
	for _, p := range blocks {
		found := false
		for _, list := range lists {
			if i := slices.Index(*list, p); i >= 0 && !found {
				*list = slices.Delete(*list, i, i+1)
				found = true
			}
		}
		if !found {
			t.Fatalf("class %d: %#x was taken from where it is not", m.c, p)
		}
		m.outside = append(m.outside, p)
	}
}

// choose takes a random block from outside.
func (m *model) choose(r *rand.Rand) uintptr {
	i := r.IntN(len(m.outside))
	p := m.outside[i]
	m.outside = slices.Delete(m.outside, i, i+1)
	return p
}

// install gives the class magazines of n places, or larger ones.
func (m *model) install(w *world, s *Shard, n int) {
	w.t.Helper()
	was := m.Mags
	old := s.Install(m.c, w.array(m.c, n), n)
	if old != was {
		w.t.Fatalf("class %d: the old magazines were at %#x, want %#x", m.c, old, was)
	}
	if old != 0 {
		w.free(old)
	}
	s.Extra += int32((n - max(m.cap, StartCap(m.c))) * sizeclass.Size(m.c) * 2)
	m.has, m.cap = true, n
}

// step does something at random.
func (m *model) step(w *world, s *Shard, r *rand.Rand) {
	t := w.t
	t.Helper()
	held := 0 // of the hand, which the operation finds
	if r.IntN(3) == 0 {
		held = r.IntN(pool.Most + 1)
	}
	b := pool.Hand{N: held}
	switch op := r.IntN(20); {
	case op < 6: // push
		if m.has && len(m.loaded) < m.cap && len(m.outside) > 0 {
			p := m.choose(r)
			push(t, m.Class, p)
			m.loaded = append(m.loaded, p)
		}
	case op < 9: // pop, or drop
		if n := len(m.loaded); n > 0 && op == 8 {
			if p := m.Drop(); p != m.loaded[n-1] {
				t.Fatalf("class %d: dropped %#x, want %#x", m.c, p, m.loaded[n-1])
			}
		} else if p := pop(t, m.Class); n > 0 && p != m.loaded[n-1] || n == 0 && p != 0 {
			t.Fatalf("class %d: popped %#x, with %d blocks in loaded", m.c, p, n)
		}
		if n := len(m.loaded); n > 0 {
			m.outside = append(m.outside, m.loaded[n-1])
			m.loaded = m.loaded[:n-1]
		}
	case op < 12: // outgoing
		if len(m.outside) == 0 {
			break
		}
		p := m.choose(r)
		pool.Seal(p)
		room := m.has && len(m.out) < outCap(m.c)
		if m.RoomOut() != room || m.PushOut(p) != room {
			t.Fatalf("class %d: room for outgoing, or none, with %d blocks there", m.c, len(m.out))
		}
		if room {
			m.out = append(m.out, p)
		} else {
			m.outside = append(m.outside, p)
		}
	case op == 12:
		swaps := len(m.loaded) == 0 && len(m.spare) > 0
		if m.Swap() != swaps {
			t.Fatalf("class %d: Swap = %t with %d blocks and %d in the spare", m.c, !swaps, len(m.loaded), len(m.spare))
		}
		if swaps {
			m.loaded, m.spare = m.spare, nil
		}
	case op < 15:
		if !m.has || len(m.loaded) < m.cap {
			break
		}
		n, full := min(len(m.spare), pool.Most-held), len(m.spare) == m.cap
		if m.Flush(&b) != full || b.N-held != n {
			t.Fatalf("class %d: Flush of a spare of %d in %d to a hand with %d moves %d", m.c, len(m.spare), m.cap, held, b.N-held)
		}
		m.takeOf(t, b.P[held:b.N], &m.spare)
		if len(m.spare) == 0 {
			m.loaded, m.spare = nil, m.loaded
		}
	case op == 15:
		n := min(len(m.out), pool.Most-held)
		if m.TakeOut(&b); b.N-held != n {
			t.Fatalf("class %d: TakeOut of %d to a hand with %d moves %d", m.c, len(m.out), held, b.N-held)
		}
		m.takeOf(t, b.P[held:b.N], &m.out)
	case op == 16:
		n := min(len(m.loaded)+len(m.spare)+len(m.out), pool.Most-held)
		if m.TakeAny(&b); b.N-held != n {
			t.Fatalf("class %d: TakeAny of %d to a hand with %d moves %d", m.c, m.Blocks()+n, held, b.N-held)
		}
		m.takeOf(t, b.P[held:b.N], &m.out, &m.spare, &m.loaded)
	case op == 17:
		m.put(t, r)
	default: // larger magazines, or the first, or none
		n := len(m.loaded) + len(m.spare) + len(m.out)
		switch {
		case !m.has:
			m.install(w, s, StartCap(m.c))
		case n == 0 && r.IntN(4) == 0:
			w.free(s.Remove(m.c))
			m.has, m.cap = false, 0
		case m.cap < MostCap(m.c) && r.IntN(8) == 0:
			m.install(w, s, min(2*m.cap, MostCap(m.c)))
		}
	}
}

// put puts a hand of blocks in loaded.
func (m *model) put(t *testing.T, r *rand.Rand) {
	t.Helper()
	var b pool.Hand
	for range r.IntN(min(len(m.outside), pool.Most) + 1) {
		p := m.choose(r)
		pool.Seal(p)
		b.Add(p)
	}
	had := slices.Clone(b.P[:b.N])
	keep := r.IntN(3)
	n := max(min(m.cap-len(m.loaded), len(had)-keep), 0)
	m.Put(&b, keep)
	if b.N != len(had)-n {
		t.Fatalf("class %d: %d blocks of %d stay in the hand, want %d", m.c, b.N, len(had), len(had)-n)
	}
	for i := keep + n - 1; i >= keep; i-- { // the first is on top
		m.loaded = append(m.loaded, had[i])
	}
	left := had
	if n > 0 {
		left = slices.Concat(had[:keep], had[keep+n:])
	}
	if !slices.Equal(b.P[:b.N], left) {
		t.Fatalf("class %d: %x stay in the hand, want %x", m.c, b.P[:b.N], left)
	}
	m.outside = append(m.outside, left...)
}

// check compares the class with the model.
func (m *model) check(t *testing.T, s *Shard) {
	t.Helper()
	all := slices.Concat(m.loaded, m.spare, m.out)
	if m.Len() != len(m.loaded) || m.Blocks() != len(all) || m.Seem() != len(all) || m.Cap() != m.cap || (m.Mags != 0) != m.has {
		t.Fatalf("class %d has %d blocks, %d in loaded, %d places, it seems %d; want %d, %d, %d", m.c, m.Blocks(), m.Len(), m.Cap(), m.Seem(), len(all), len(m.loaded), m.cap)
	}
	if room := m.Room() != 0; room != (len(m.loaded) < m.cap) || m.RoomOut() != (m.has && len(m.out) < outCap(m.c)) {
		t.Fatalf("class %d: room %t, for outgoing %t, with %d of %d blocks, and %d", m.c, room, m.RoomOut(), len(m.loaded), m.cap, len(m.out))
	}
	slices.Sort(all)
	if got := contents(s, m.c); !slices.Equal(got, all) {
		t.Fatalf("class %d has %x, want %x", m.c, got, all)
	}
	if n := len(m.loaded); n > 0 && m.Peek() != addr.Pointer(m.loaded[n-1]) || n == 0 && pool.IsSealedAt(m.Peek()) {
		t.Fatalf("class %d: %p is next, with %d blocks in loaded", m.c, m.Peek(), n)
	}
}

// Random operations on some classes of a shard against models: no block is lost or comes out
// twice, and loaded is a stack.
func TestModel(t *testing.T) {
	steps := 200_000
	if testing.Short() {
		steps = 20_000
	}
	w := newWorld(t)
	s := w.shard(0)
	r := rand.New(rand.NewPCG(1, 2))
	var models []*model
	for _, c := range []uint8{0, 31, 40, sizeclass.Count - 1} {
		models = append(models, &model{Class: s.Of(c), c: c, outside: w.blocks(8 * outCap(c))})
	}
	removed := 0
	for step := range steps {
		m := models[r.IntN(len(models))]
		m.step(w, s, r)
		m.check(t, s)
		for n := 0; step%(steps/8) == 0 && n < 200; n++ { // nothing moves, but for the rotor
			var b pool.Hand
			c, old := s.Rotate(uint8(r.IntN(sizeclass.Count)), &b)
			for _, m := range models {
				if m.c == c {
					m.takeOf(t, b.P[:b.N], &m.out, &m.spare, &m.loaded)
					b.N = 0
				}
				if m.c == c && old != 0 {
					w.free(old)
					m.has, m.cap = false, 0
					removed++
				}
				m.check(t, s)
			}
			if b.N != 0 {
				t.Fatalf("the rotor has taken %d blocks of class %d", b.N, c)
			}
		}
	}
	if removed == 0 {
		t.Error("the rotor has removed no magazines")
	}
	for _, m := range models {
		for m.Blocks() > 0 {
			var b pool.Hand
			m.TakeAny(&b)
			m.takeOf(t, b.P[:b.N], &m.out, &m.spare, &m.loaded)
		}
		if all := slices.Compact(slices.Sorted(slices.Values(m.outside))); len(all) != 8*outCap(m.c) {
			t.Errorf("class %d: %d blocks are left of %d", m.c, len(all), 8*outCap(m.c))
		}
		if m.has {
			w.free(s.Remove(m.c))
		}
		wantEmpty(t, s, m.c)
	}
	if s.Extra != 0 || len(w.sizes) != 0 {
		t.Errorf("%d bytes are counted as grown by, and %d arrays are in use", s.Extra, len(w.sizes))
	}
}

// Flush makes room: the blocks of the spare go to the hand, as far as there is room, and what
// was loaded becomes the spare.
func TestFlush(t *testing.T) {
	const c = 0
	w := newWorld(t)
	for _, x := range []struct {
		spare, held, moved int
		full, room         bool
	}{
		{0, 0, 0, false, true},
		{0, pool.Most, 0, false, true},
		{1, 0, 1, false, true},
		{1, pool.Most, 0, false, false},
		{64, 0, 64, true, true},
		{64, 1, 63, true, false},
		{63, 1, 63, false, true},
	} {
		s := w.shard(0)
		m := &model{Class: s.Of(c), c: c}
		p := w.array(c, 64)
		s.Install(c, p, 64)
		fill := func(n int) (blocks []uintptr) {
			blocks = w.blocks(n)
			for _, p := range blocks {
				push(t, m.Class, p)
			}
			return blocks
		}
		if x.spare > 0 { // which is what was loaded when it was full
			first := fill(64)
			if m.Flush(&pool.Hand{}) || m.Magazines().NSpare != 64 {
				t.Fatal("the first Flush does not make loaded the spare")
			}
			b := pool.Hand{N: x.spare}
			m.TakeAny(&b)
			m.takeOf(t, b.P[x.spare:b.N], &first)
			m.spare = first
		}
		m.loaded, m.cap, m.has = fill(64), 64, true
		m.check(t, s)
		b := pool.Hand{N: x.held}
		if full := m.Flush(&b); full != x.full || b.N != x.held+x.moved || (m.Room() != 0) != x.room {
			t.Errorf("a spare of %d, a hand with %d: full %t, %d in the hand, room %t; want %t, %d, %t", x.spare, x.held, full, b.N, m.Room() != 0, x.full, x.held+x.moved, x.room)
		}
		m.takeOf(t, b.P[x.held:b.N], &m.spare)
		if x.room {
			m.loaded, m.spare = nil, m.loaded
		}
		m.check(t, s)
		w.free(p)
	}
}

// Larger magazines have what was in the old ones, in its order, whichever half was loaded.
func TestInstall(t *testing.T) {
	w := newWorld(t)
	for _, c := range []uint8{0, 20, 31} {
		s := w.shard(0)
		m := s.Of(c)
		n := StartCap(c)
		s.Install(c, w.array(c, n), n)
		var loaded, spare, out []uintptr
		for _, p := range w.blocks(outCap(c) - 1) {
			pool.Seal(p)
			m.PushOut(p)
			out = append(out, p)
		}
		for n < MostCap(c) {
			for m.Room() != 0 {
				p := w.block()
				push(t, m, p)
				loaded = append(loaded, p)
			}
			var b pool.Hand
			for m.Room() == 0 {
				b.N = 0
				m.Flush(&b)
				for _, p := range b.P[:b.N] {
					spare = slices.DeleteFunc(spare, func(q uintptr) bool { return p == q })
				}
			}
			loaded, spare = nil, loaded
			for range 1 + n/3 {
				p := w.block()
				push(t, m, p)
				loaded = append(loaded, p)
			}
			n = min(2*n, MostCap(c))
			w.free(s.Install(c, w.array(c, n), n))
			(&model{m, c, true, n, loaded, spare, out, nil}).check(t, s)
		}
		for i := len(loaded) - 1; i >= 0; i-- {
			if p := pop(t, m); p != loaded[i] {
				t.Fatalf("class %d: popped %#x, want %#x", c, p, loaded[i])
			}
		}
		if !m.Swap() {
			t.Fatalf("class %d: the spare is gone", c)
		}
		for i := len(spare) - 1; i >= 0; i-- {
			if p := pop(t, m); p != spare[i] {
				t.Fatalf("class %d: popped %#x of what was the spare, want %#x", c, p, spare[i])
			}
		}
		var b pool.Hand
		m.TakeOut(&b)
		got := b.P[:b.N]
		slices.Sort(got)
		if !slices.Equal(got, out) {
			t.Errorf("class %d: %x were outgoing, want %x", c, got, out)
		}
		s.Extra = int32((n - StartCap(c)) * sizeclass.Size(c) * 2)
		if w.free(s.Remove(c)); s.Extra != 0 {
			t.Errorf("class %d: %d bytes are counted as grown by when the magazines are gone", c, s.Extra)
		}
	}
}

// Look tells that something has moved.
func TestLook(t *testing.T) {
	w := newWorld(t)
	s := w.shard(0)
	m := s.Of(0)
	s.Install(0, w.array(0, 64), 64)
	last := m.Look()
	moved := func(what string) {
		t.Helper()
		if now := m.Look(); now == last || now == 0 {
			t.Errorf("%s: it looks as it did, like %#x", what, now)
		}
		last = m.Look()
	}
	blocks := w.blocks(2)
	push(t, m, blocks[0])
	moved("Push")
	pool.Seal(blocks[1])
	m.PushOut(blocks[1])
	moved("PushOut")
	pop(t, m)
	moved("Pop")
	m.TakeOut(&pool.Hand{})
	moved("TakeOut")
	for m.Room() != 0 {
		push(t, m, blocks[0])
	}
	moved("filled")
	m.Flush(&pool.Hand{})
	moved("Flush")
	m.Swap()
	moved("Swap")
	if again := m.Look(); again != last {
		t.Errorf("it looks like %#x, and nothing has moved since %#x", again, last)
	}
}

// visit calls Rotate until it has looked at class c, and returns what it has found.
func visit(t *testing.T, s *Shard, c, atWork uint8) (b pool.Hand, old uintptr) {
	t.Helper()
	for range sizeclass.Count {
		was := s.Of(c).Magazines().Idle
		moved := s.Of(c).Magazines().Moved
		at, gone := s.Rotate(atWork, &b)
		if gone != 0 || b.N > 0 {
			if at != c {
				t.Fatalf("the rotor has taken %d blocks of class %d, and nothing else than %d has magazines", b.N, at, c)
			}
			return b, gone
		}
		if g := s.Of(c).Magazines(); g.Idle != was || g.Moved != moved {
			return b, 0
		}
	}
	t.Fatalf("the rotor does not come to class %d", c)
	return b, 0
}

// A class in which nothing moves for some visits is scattered, and has no magazines then.
func TestRotate(t *testing.T) {
	for _, x := range []struct {
		c      uint8
		blocks int
	}{{0, 0}, {1, 1}, {3, 64}, {5, 64 + 7}, {6, 2*64 + 7}, {40, 9}, {sizeclass.Count - 1, 2}} {
		t.Run(fmt.Sprintf("%d of class %d", x.blocks, x.c), func(t *testing.T) {
			w := newWorld(t)
			s := w.shard(0)
			m := s.Of(x.c)
			n := MostCap(x.c)
			array := w.array(x.c, n)
			s.Install(x.c, array, n)
			var all []uintptr
			for i, p := range w.blocks(x.blocks) {
				pool.Seal(p)
				if i%3 > 0 || !m.PushOut(p) {
					push(t, m, p)
				}
				all = append(all, p)
			}
			stays := func(what string, times int) {
				t.Helper()
				for i := range times {
					if b, old := visit(t, s, x.c, x.c+1); b.N != 0 || old != 0 || m.Blocks() != x.blocks {
						t.Fatalf("%s, visit %d: %d blocks of %d are taken", what, i, b.N, x.blocks)
					}
				}
			}
			stays("at first", 1+visits-1)
			p := w.block() // something moves
			push(t, m, p)
			if visit(t, s, x.c, x.c+1); pop(t, m) != p {
				t.Fatal("another block is popped")
			}
			stays("after that", 1+visits-1)

			// The class that is at work is not looked at.
			for range 3 * sizeclass.Count {
				var b pool.Hand
				if _, old := s.Rotate(x.c, &b); old != 0 || b.N != 0 {
					t.Fatal("the rotor takes from the class that is at work")
				}
			}
			var got []uintptr
			rounds := max((x.blocks+pool.Most-1)/pool.Most, 1)
			for i := range rounds {
				var b pool.Hand
				var old uintptr
				if i == 0 {
					b, old = visit(t, s, x.c, x.c+1)
				} else { // goes on where it was
					_, old = s.Rotate(x.c+1, &b)
				}
				got = append(got, b.P[:b.N]...)
				if last := i == rounds-1; last != (old == array) || last != (m.Mags == 0) || !last && (old != 0 || b.N != pool.Most) {
					t.Fatalf("step %d of %d: %d blocks, and the magazines at %#x are gone, of %#x", i, rounds, b.N, old, array)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, all) {
				t.Errorf("%d blocks are taken, want %d", len(got), len(all))
			}
			wantEmpty(t, s, x.c)
			w.free(array)
		})
	}
}

// The rotor goes on at the class that it could not empty, and comes to all classes in turn.
func TestRotateAll(t *testing.T) {
	w := newWorld(t)
	s := w.shard(0)
	classes := []uint8{0, 1, 9, 40, 74, 75}
	left := map[uintptr]uint8{}
	for _, c := range classes {
		s.Install(c, w.array(c, StartCap(c)), StartCap(c))
		for range 2 {
			p := w.block()
			push(t, s.Of(c), p)
			left[p] = c
		}
	}
	gone := map[uint8]bool{}
	for range (visits + 2) * sizeclass.Count {
		var b pool.Hand
		c, old := s.Rotate(sizeclass.Count, &b)
		for _, p := range b.P[:b.N] {
			if of, ok := left[p]; !ok || of != c {
				t.Fatalf("a block of class %d is said to be one of class %d, or came before", of, c)
			}
			delete(left, p)
		}
		if old != 0 {
			gone[c] = true
			w.free(old)
		}
	}
	if len(left) != 0 || len(gone) != len(classes) || len(w.sizes) != 0 {
		t.Errorf("%d blocks are left, and %d classes of %d are gone", len(left), len(gone), len(classes))
	}
}

// Shuffle leaves the same blocks in the hand, and every order comes about as often.
func TestShuffle(t *testing.T) {
	s := newWorld(t).shard(0)
	for n := range pool.Most + 1 {
		var b pool.Hand
		for i := range n {
			b.Add(uintptr(i) + 1)
		}
		want := slices.Clone(b.P[:])
		changed := false
		for range 4 {
			s.Shuffle(&b)
			changed = changed || !slices.Equal(b.P[:n], want[:n])
			if slices.Sort(b.P[:n]); b.N != n || !slices.Equal(b.P[:], want) {
				t.Fatalf("%d blocks of %d after Shuffle: %v", b.N, n, b.P[:b.N])
			}
		}
		if !changed && n > 4 {
			t.Errorf("the order of %d blocks stays", n)
		}
	}
	const times = 12_000
	counts := map[[3]uintptr]int{}
	for range times {
		b := pool.Hand{N: 3, P: [pool.Most]uintptr{1, 2, 3}}
		s.Shuffle(&b)
		counts[[3]uintptr(b.P[:3])]++
	}
	for order, n := range counts {
		if n < times/6*9/10 || n > times/6*11/10 {
			t.Errorf("the order %v came about %d times in %d", order, n, times)
		}
	}
	if len(counts) != 6 {
		t.Errorf("%d orders of 3 blocks", len(counts))
	}
}

// claims is shards that their goroutines use in sections, and that somebody else claims.
type claims struct {
	*testing.T
	shards []*Shard
	base   uintptr // of the blocks
	holder []atomic.Int32
	value  []int // written by who holds the block
	failed atomic.Bool
}

var claimed = []uint8{0, 31} // the classes

const blockBytes = 64

func (x *claims) fail(what string, p uintptr) {
	if !x.failed.Swap(true) {
		x.Errorf("%s: %#x", what, p)
	}
}

// got notes that me has taken p, and gives that it will not have it any more.
func (x *claims) got(p uintptr, me int32) {
	i := (p - x.base) / blockBytes
	if i >= uintptr(len(x.holder)) || !x.holder[i].CompareAndSwap(0, me) {
		x.fail("a block came to two, or is none", p)
		return
	}
	x.value[i]++
}

func (x *claims) gives(p uintptr, me int32) {
	i := (p - x.base) / blockBytes
	x.value[i]++
	if !x.holder[i].CompareAndSwap(me, 0) {
		x.fail("a block was taken from who holds it", p)
	}
}

// own uses a shard until stopped, and returns what it has then. me is above 0.
func (x *claims) own(s *Shard, me int32, own []uintptr, begun *atomic.Int32, stopped *atomic.Bool) []uintptr {
	r := rand.New(rand.NewPCG(uint64(me), 1))
	for n := 0; !stopped.Load() && !x.failed.Load(); n++ {
		c := claimed[r.IntN(len(claimed))]
		op := r.IntN(8)
		var b pool.Hand
		var next uintptr
		if len(own) > 0 {
			next = own[len(own)-1]
		}
		var came, went uintptr
		s.Begin()
		if s.Plain() {
			m := s.Of(c)
			switch {
			case op < 3:
				if p := m.Peek(); pool.IsSealedAt(p) {
					m.Pop(p)
					came = uintptr(p)
				} else {
					m.Swap()
				}
			case op < 6 && next != 0:
				if at := m.Room(); at != 0 {
					x.gives(next, me)
					m.Push(addr.Pointer(next), at)
					went = next
				} else if m.Mags != 0 {
					m.Flush(&b)
				}
			case op == 6 && next != 0 && m.RoomOut():
				x.gives(next, me)
				pool.Seal(next)
				pool.Freed(next)
				m.PushOut(next)
				went = next
			case op == 7:
				m.TakeOut(&b)
			}
		}
		s.End()
		if went != 0 {
			own = own[:len(own)-1]
		}
		if came != 0 {
			x.got(came, me)
			own = append(own, came)
		}
		for _, p := range b.P[:b.N] {
			if !pool.IsSealed(p) {
				x.fail("a block of a magazine is not sealed", p)
			}
			pool.Taken(p)
			pool.Unseal(p)
			x.got(p, me)
			own = append(own, p)
		}
		if n == 0 {
			begun.Add(1)
		}
		if n%16 == 0 {
			runtime.Gosched()
		}
	}
	return own
}

// drain takes all out of the shard, which is claimed, and puts part of what there is back.
func (x *claims) drain(s *Shard, mine []uintptr, r *rand.Rand) []uintptr {
	for _, c := range claimed {
		m := s.Of(c)
		for m.Blocks() > 0 {
			var b pool.Hand
			m.TakeAny(&b)
			mine = append(mine, b.P[:b.N]...)
		}
		r.Shuffle(len(mine), func(i, j int) { mine[i], mine[j] = mine[j], mine[i] })
		var b pool.Hand
		n := r.IntN(min(len(mine), pool.Most) + 1)
		for _, p := range mine[:n] {
			b.Add(p)
		}
		mine = mine[n:]
		m.Put(&b, 0)
		mine = append(mine, b.P[:b.N]...)
	}
	return mine
}

// A claimant that has set the bit, passed a barrier and seen the section over has the magazines
// alone, and no block is lost or doubled on the way.
func TestClaim(t *testing.T) {
	const owners, each = 3, 200
	rounds := 300
	if testing.Short() {
		rounds = 40
	}
	w := newWorld(t)
	x := &claims{T: t, holder: make([]atomic.Int32, owners*each), value: make([]int, owners*each)}
	all := w.blocks(owners * each)
	x.base = all[0]
	if all[len(all)-1] != x.base+(owners*each-1)*blockBytes {
		t.Fatal("the blocks are not in a row")
	}
	var begun atomic.Int32
	var stopped atomic.Bool
	var wg sync.WaitGroup
	ends := make([][]uintptr, owners)
	for i := range owners {
		s := w.shard(0)
		for _, c := range claimed {
			s.Install(c, w.array(c, StartCap(c)), StartCap(c))
		}
		x.shards = append(x.shards, s)
		own := slices.Clone(all[i*each : (i+1)*each])
		for _, p := range own {
			x.got(p, int32(i+1))
		}
		wg.Go(func() { ends[i] = x.own(s, int32(i+1), own, &begun, &stopped) })
	}
	for _, s := range x.shards { // who looks without a claim
		wg.Go(func() {
			for !stopped.Load() {
				if n := s.Of(0).Seem(); n < 0 || n > 2*mostBlocks+outBlocks {
					t.Errorf("a class seems to have %d blocks", n)
				}
				s.Of(0).Look()
				runtime.Gosched()
			}
		})
	}
	for begun.Load() < owners && !x.failed.Load() {
		runtime.Gosched()
	}
	r := rand.New(rand.NewPCG(9, 9))
	var mine []uintptr
	for round := 0; round < rounds && !x.failed.Load(); round++ {
		for _, s := range x.shards {
			if !s.Claim.CompareAndSwap(Free, Taken) {
				t.Fatal("the shard is claimed by another")
			}
			s.State.Or(Claimed)
		}
		pin.Barrier()
		for _, s := range x.shards {
			if round%2 == 0 {
				s.Await()
				mine = x.drain(s, mine, r)
			} else if s.Over() {
				mine = x.drain(s, mine, r)
			}
			s.State.And(^uint64(Claimed))
			s.Claim.Store(Free)
		}
	}
	stopped.Store(true)
	wg.Wait()
	left := slices.Concat(append(ends, mine)...)
	for _, s := range x.shards {
		for _, c := range claimed {
			left = append(left, contents(s, c)...)
		}
	}
	slices.Sort(left)
	if !slices.Equal(left, all) {
		t.Errorf("%d blocks are left, %d of them once, of %d", len(left), len(slices.Compact(left)), len(all))
	}
}
