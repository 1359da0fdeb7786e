package pool_test

import (
	"bytes"
	"encoding/binary"
	"testing"
	"unsafe"

	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/internal/sizeclass"
	"github.com/pyarena/pyarena/osmem"
)

const (
	me    = pool.FirstShard
	other = pool.FirstShard + 1
)

// geometries are the unit sizes of arenas and the most units of a pool there.
var geometries = []struct{ unitBytes, maxUnits int }{{4 << 10, 60}, {8 << 10, 62}, {16 << 10, 63}}

// fake is an arena of 64 units: headers, then units.
type fake struct {
	base                   unsafe.Pointer
	unitBytes, headerUnits int
	shapes                 [sizeclass.Count]sizeclass.Shape
}

func newFake(t testing.TB, unitBytes, maxUnits int) *fake {
	t.Helper()
	base, err := osmem.MapAligned(64*unitBytes, 64*unitBytes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := osmem.Release(base, 64*unitBytes); err != nil {
			t.Error(err)
		}
	})
	return &fake{base, unitBytes, 64 * pool.HeaderBytes / unitBytes, sizeclass.Shapes(unitBytes, maxUnits)}
}

func (f *fake) header(unit int) *pool.Header {
	return (*pool.Header)(unsafe.Add(f.base, unit*pool.HeaderBytes))
}

// place prepares the header of a pool at a unit, and those of its inner units.
func (f *fake) place(unit, units int, clean bool) *pool.Header {
	h := f.header(unit)
	h.Place(uint32(1000+unit), uint32(unit*(f.unitBytes-pool.HeaderBytes)), units, clean)
	for i := 1; i < units; i++ {
		f.header(unit + i).PlaceInner(i)
	}
	return h
}

// take returns an empty pool of class c, owned by me, at the first unit.
func (f *fake) take(c uint8) *pool.Header {
	h := f.place(f.headerUnits, int(f.shapes[c].Units), true)
	h.Format(c, &f.shapes[c])
	h.Own(me)
	return h
}

// headerOf finds the pool of a block as the allocator does.
func (f *fake) headerOf(p unsafe.Pointer) *pool.Header {
	h := f.header(int(uintptr(p)-uintptr(f.base)) / f.unitBytes)
	if h.Owner() == pool.Inner {
		h = h.Outer()
	}
	return h
}

// newPool is a pool of eight blocks or more, of size bytes, owned by me.
func newPool(t testing.TB, size int) *pool.Header {
	t.Helper()
	return newFake(t, 4<<10, 60).take(sizeclass.Of(size))
}

// alloc takes a block as malloc does, or returns nil if the pool has none.
func alloc(t testing.TB, h *pool.Header) unsafe.Pointer {
	t.Helper()
	for {
		if p := h.Pop(); p != nil {
			pool.Unseal(p)
			return p
		}
		ok, broken := h.Refill(0)
		if broken != nil {
			t.Fatalf("a link at %p is broken", broken)
		}
		if !ok {
			return nil
		}
	}
}

func allocAll(t testing.TB, h *pool.Header) (all []unsafe.Pointer) {
	t.Helper()
	for p := alloc(t, h); p != nil; p = alloc(t, h) {
		all = append(all, p)
	}
	if len(all) != int(h.Blocks()) {
		t.Fatalf("%d blocks were handed out of %d", len(all), h.Blocks())
	}
	return all
}

// push frees a block as another shard does, and wants that outcome.
func push(t testing.TB, h *pool.Header, p unsafe.Pointer, want pool.Outcome) {
	t.Helper()
	before := h.Owner()
	did, number, owner := h.PushRemote(p, other, true, false)
	if did != want || number != h.Number() || owner != before {
		t.Fatalf("PushRemote: outcome %d, number %d, owner %d; want %d, %d, %d", did, number, owner, want, h.Number(), before)
	}
}

func wantState(t testing.TB, h *pool.Header, p unsafe.Pointer, want pool.State, when string) {
	t.Helper()
	if s := h.StateOf(p); s != want {
		t.Fatalf("%s: the block at %p is %d, want %d", when, p, s, want)
	}
}

func wantWord(t testing.TB, h *pool.Header, owner, post, n uint32) {
	t.Helper()
	if w := h.Word(); w.Owner() != owner || w.Post() != post || w.Len() != n {
		t.Fatalf("owner %d, post %d, %d remote; want %d, %d, %d", w.Owner(), w.Post(), w.Len(), owner, post, n)
	}
}

// wantCounts looks at the equation of the package comment.
func wantCounts(t testing.TB, h *pool.Header, live, inUse int) {
	t.Helper()
	set := 0
	for i := range h.Blocks() {
		if !h.IsInUse(i) {
			set++
		}
	}
	if int(h.Live()) != live || int(h.InUse()) != inUse || int(h.Blocks())-set != live {
		t.Fatalf("live %d, in use %d, %d of %d bits set; want %d and %d", h.Live(), h.InUse(), set, h.Blocks(), live, inUse)
	}
}

// TestBlocks hands out and frees every block of a pool of every class, in every
// geometry.
func TestBlocks(t *testing.T) {
	for _, g := range geometries {
		f := newFake(t, g.unitBytes, g.maxUnits)
		for c := range uint8(sizeclass.Count) {
			s := f.shapes[c]
			if s.Blocks > pool.MaxBlocks {
				t.Fatalf("class %d has %d blocks, a header has bits for %d", c, s.Blocks, pool.MaxBlocks)
			}
			h := f.take(c)
			if h.Class() != c || h.Size() != int(s.Size) || h.Blocks() != s.Blocks || h.Units() != int(s.Units) || h.Bytes() != s.Blocks*s.Size {
				t.Fatalf("class %d: %d blocks of %d, in %d units: want %+v", h.Class(), h.Blocks(), h.Size(), h.Units(), s)
			}
			start := unsafe.Add(f.base, f.headerUnits*f.unitBytes)
			if h.Start() != start || h.Number() != uint32(1000+f.headerUnits) || h.Owner() != me || !h.IsQuiet(pool.OwnerWord(me)) {
				t.Fatalf("starts at %p, number %d, owner %d", h.Start(), h.Number(), h.Owner())
			}
			for i := range s.Blocks {
				at := unsafe.Add(start, int(i*s.Size))
				wantState(t, h, at, pool.Foreign, "never handed out")
				if p := alloc(t, h); p != at {
					t.Fatalf("block %d of class %d is at %p, want %p", i, c, p, at)
				}
				if h.Index(at) != i || f.headerOf(at) != h || f.headerOf(unsafe.Add(at, int(s.Size-1))) != h {
					t.Fatalf("block %d of class %d is not found", i, c)
				}
				wantState(t, h, at, pool.InUse, "handed out")
				for _, off := range []int{1, 8, 16, int(s.Size) / 2, int(s.Size) - 1} {
					if off%int(s.Size) != 0 {
						wantState(t, h, unsafe.Add(at, off), pool.Foreign, "the middle of a block")
					}
				}
				if h.HasBlock() != (i+1 < s.Blocks) {
					t.Fatalf("HasBlock() = %v with %d of %d live", h.HasBlock(), i+1, s.Blocks)
				}
			}
			wantCounts(t, h, int(s.Blocks), int(s.Blocks))
			if p := alloc(t, h); p != nil {
				t.Fatalf("block %p from a full pool", p)
			}
			for off := int(s.Blocks * s.Size); off < int(s.Units)*f.unitBytes; off += 16 {
				wantState(t, h, unsafe.Add(start, off), pool.Foreign, "behind the last block")
			}

			h.SetTrip(1)
			for n := range s.Blocks {
				i := (n*7 + 3) % s.Blocks // some order
				for !h.IsInUse(i) {
					i = (i + 1) % s.Blocks
				}
				if tripped := h.Push(i); tripped != (h.Live() == 1) {
					t.Fatalf("live %d: tripped %v", h.Live(), tripped)
				}
				wantState(t, h, unsafe.Add(start, int(i*s.Size)), pool.Freed, "freed")
			}
			wantCounts(t, h, 0, 0)
			if !h.Retire(0) {
				t.Fatal("an empty pool was not retired")
			}
		}
	}
}

// TestLowestFirst: the lowest block of the current word of the bitmap is handed
// out first, and then those of the lowest word, so the end of a pool is not touched.
func TestLowestFirst(t *testing.T) {
	h := newPool(t, 16) // 256 blocks
	all := allocAll(t, h)
	for _, i := range []uint32{200, 7, 100, 63, 64, 3} {
		h.Push(i)
	}
	for _, i := range []int{200, 3, 7, 63, 64, 100} {
		if p := alloc(t, h); p != all[i] {
			t.Fatalf("block %d was handed out, want %d", h.Index(p), i)
		}
	}
	// The owner may prefer the word of a block that was just freed.
	h.Push(9)
	h.Push(130)
	h.SetCurrent(130)
	if p := h.Pop(); p != all[130] {
		t.Errorf("block %d was handed out, want 130", h.Index(p))
	}
}

// TestZero: what is said to be zero is, until a block is used a second time; a
// pool that was not clean, or was of another class, claims nothing.
func TestZero(t *testing.T) {
	f := newFake(t, 4<<10, 60)
	use := func(h *pool.Header) (zeros int) {
		for {
			p, zero := h.PopZero()
			if p == nil {
				if ok, _ := h.Refill(0); !ok {
					return zeros
				}
				continue
			}
			b := unsafe.Slice((*byte)(p), h.Size())
			if zero {
				zeros++
				if n := bytes.Count(b, []byte{0}); n != len(b) {
					t.Fatalf("%d bytes of block %d are not zero", len(b)-n, h.Index(p))
				}
			}
			for i := range b {
				b[i] = 0xee
			}
		}
	}
	freeAll := func(h *pool.Header) {
		for i := range h.Blocks() {
			h.Push(i)
		}
	}
	wantZeros := func(h *pool.Header, want uint32, when string) {
		t.Helper()
		if zeros := use(h); zeros != int(want) {
			t.Errorf("%s: %d blocks were said to be zero, want %d", when, zeros, want)
		}
		freeAll(h)
	}
	small, large := sizeclass.Of(64), sizeclass.Of(128)
	h := f.take(small)
	h.PopZero()
	h.Push(0)
	wantZeros(h, h.Blocks()-1, "one block was used")
	wantZeros(h, 0, "all were used")

	h.Retire(0)
	h.Format(small, &f.shapes[small])
	h.Own(me)
	wantZeros(h, 0, "retired, and of the same class again")
	h.Retire(0)
	h.Format(large, &f.shapes[large])
	h.Own(me)
	wantZeros(h, 0, "formatted anew")

	h = f.place(f.headerUnits+1, 1, false)
	h.Format(small, &f.shapes[small])
	h.Own(me)
	wantZeros(h, 0, "not clean")

	h = f.place(f.headerUnits+2, 1, true)
	h.Format(small, &f.shapes[small])
	h.Format(large, &f.shapes[large]) // before any block was handed out
	h.Own(me)
	wantZeros(h, h.Blocks(), "formatted twice")

	// Retired with a block on the remote list, whose link is in the block.
	h = f.place(f.headerUnits+3, 1, true)
	h.Format(small, &f.shapes[small])
	h.Own(me)
	p := alloc(t, h)
	*(*uint64)(p) = 1
	push(t, h, p, pool.Pushed)
	if !h.Retire(0) {
		t.Fatal("not retired with all blocks on the remote list")
	}
	h.Own(me)
	wantZeros(h, h.Blocks()-1, "retired with a remote list")
}

// TestRemote: what others free is on the remote list, then on the chain, and then
// free; at no time can it be handed out twice or counted as in use.
func TestRemote(t *testing.T) {
	h := newPool(t, 16)
	all := allocAll(t, h)
	n := len(all)
	if h.Collect() {
		t.Error("an empty remote list was collected")
	}
	for i, p := range all[:100] {
		push(t, h, p, pool.Pushed)
		wantState(t, h, p, pool.Freed, "on the remote list")
		wantWord(t, h, me, pool.Quiet, uint32(i+1))
		wantCounts(t, h, n, n-i-1)
	}
	if h.IsQuiet(pool.OwnerWord(me)) || h.HasBlock() {
		t.Error("a pool with a remote list is quiet, or has blocks before they are collected")
	}
	if !h.Collect() {
		t.Fatal("nothing was collected")
	}
	wantWord(t, h, me, pool.Quiet, 0)
	wantCounts(t, h, n, n-100)
	for _, p := range all[:100] {
		wantState(t, h, p, pool.Freed, "on the chain")
	}
	if h.IsQuiet(pool.OwnerWord(me)) || !h.HasBlock() {
		t.Error("a pool with a chain is quiet, or has no blocks")
	}
	if ok, broken := h.Refill(0); !ok || broken != nil {
		t.Fatalf("Refill() = %v, %p", ok, broken)
	}
	if live := int(h.Live()); live == n || live < n-64 {
		t.Errorf("one Refill freed %d blocks, want some and not all", n-live)
	}
	wantCounts(t, h, int(h.Live()), n-100)

	seen := map[unsafe.Pointer]bool{}
	for range 100 {
		p := alloc(t, h)
		if i := h.Index(p); p == nil || i >= 100 || seen[p] {
			t.Fatalf("block %d at %p was handed out", i, p)
		}
		seen[p] = true
		wantState(t, h, p, pool.InUse, "handed out again")
	}
	if p := alloc(t, h); p != nil {
		t.Fatalf("a block %p too many", p)
	}
	wantCounts(t, h, n, n)
	if !h.IsQuiet(pool.OwnerWord(me)) || h.IsQuiet(pool.OwnerWord(other)) {
		t.Error("not quiet, or another's")
	}
}

// TestOwnFree: a push by the owner's own id, or onto what is no owned pool, does
// nothing.
func TestOwnFree(t *testing.T) {
	f := newFake(t, 4<<10, 60)
	h := f.take(sizeclass.Of(512))
	p := alloc(t, h)
	*(*uint64)(p) = 77
	if did, _, _ := h.PushRemote(p, me, true, false); did != pool.Mine {
		t.Errorf("outcome %d, want Mine", did)
	}
	push(t, f.place(f.headerUnits+8, 2, true), p, pool.Refused) // Free
	push(t, f.header(f.headerUnits+9), p, pool.Refused)         // Inner
	f.header(f.headerUnits + 8).PlaceRun(5000)
	push(t, f.header(f.headerUnits+8), p, pool.Refused) // Run
	if v := *(*uint64)(p); v != 77 || h.InUse() != 1 {
		t.Errorf("the block holds %d, %d in use; want 77 and 1", v, h.InUse())
	}
	wantWord(t, h, me, pool.Quiet, 0)
}

// TestPost: the first remote free onto a full pool is to be posted, and no other.
func TestPost(t *testing.T) {
	h := newPool(t, 256)
	all := allocAll(t, h)
	push(t, h, all[0], pool.Pushed)
	if h.Fill() {
		t.Fatal("a pool with a remote list was marked as full")
	}
	wantWord(t, h, me, pool.Quiet, 1)
	all[0] = alloc(t, h)

	for range 2 {
		if !h.Fill() {
			t.Fatal("a full pool was not marked so")
		}
		wantWord(t, h, me, pool.Want, 0)
	}
	if !h.IsQuiet(pool.OwnerWord(me)) {
		t.Error("a full pool is not quiet: its owner frees the slow way")
	}
	push(t, h, all[1], pool.Post)
	wantWord(t, h, me, pool.Posted, 1)
	push(t, h, all[2], pool.Pushed)
	wantWord(t, h, me, pool.Posted, 2)

	// A posted pool stays with its owner, whatever becomes of its blocks.
	for _, p := range append(all[3:], all[0]) {
		push(t, h, p, pool.Pushed)
	}
	if h.Retire(0) || h.Share() || h.Abandon() {
		t.Fatal("a posted pool was given away")
	}
	wantWord(t, h, me, pool.Posted, h.Blocks())
	all = allocAll(t, h)
	if !h.Fill() || h.Abandon() {
		t.Fatal("a posted pool is not full, or was abandoned")
	}
	push(t, h, all[0], pool.Pushed)
	wantWord(t, h, me, pool.Posted, 1)
	h.Unpost()
	wantWord(t, h, me, pool.Quiet, 1)
	if h.Fill() {
		t.Error("full, with a remote list")
	}
	if p := alloc(t, h); p != all[0] {
		t.Errorf("the block pushed before Unpost is lost")
	}
}

// TestAbandon: an abandoned pool becomes that of its first freer, if the freer can have
// pools.
func TestAbandon(t *testing.T) {
	for _, size := range []int{16, 64, 512, 4096} {
		h := newPool(t, size)
		all := allocAll(t, h)
		n := len(all)
		if !h.Fill() || !h.Abandon() {
			t.Fatal("a full pool was not abandoned")
		}
		wantWord(t, h, pool.Abandoned, pool.Quiet, 0)
		push(t, h, all[n/2], pool.Adopted)
		wantWord(t, h, other, pool.Quiet, 0)
		wantCounts(t, h, n, n-1)
		if p := alloc(t, h); p != all[n/2] {
			t.Fatalf("the block is at %p, freed was %p", p, all[n/2])
		}
		wantCounts(t, h, n, n)
		if alloc(t, h) != nil {
			t.Error("more blocks than were freed")
		}
	}

	// A freer that cannot have pools makes it Shared instead.
	h := newPool(t, 64)
	all := allocAll(t, h)
	if !h.Fill() || !h.Abandon() {
		t.Fatal("a full pool was not abandoned")
	}
	for i, p := range all {
		want := pool.Pushed
		if i == 0 {
			want = pool.Unclaimed
		}
		if did, _, _ := h.PushRemote(p, pool.Nobody, false, false); did != want {
			t.Fatalf("free %d of a freer that cannot adopt: outcome %d, want %d", i, did, want)
		}
	}
	wantWord(t, h, pool.Shared, pool.Quiet, uint32(len(all)))

	h = newPool(t, 512)
	all = allocAll(t, h)
	push(t, h, all[0], pool.Pushed)
	if h.Abandon() {
		t.Error("a pool with a remote list was abandoned")
	}
	wantWord(t, h, me, pool.Quiet, 1)
}

// TestShare: a shared pool is nobody's, gathers what is freed, and keeps it for
// whoever takes it.
func TestShare(t *testing.T) {
	h := newPool(t, 64)
	all := allocAll(t, h)
	push(t, h, all[0], pool.Pushed)
	h.Push(5)
	if !h.Share() {
		t.Fatal("not shared")
	}
	wantWord(t, h, pool.Shared, pool.Quiet, 1)
	for i, p := range all[10:40] {
		push(t, h, p, pool.Pushed)
		wantWord(t, h, pool.Shared, pool.Quiet, uint32(i+2))
	}
	h.Take(other)
	wantWord(t, h, other, pool.Quiet, 31)
	if did, _, _ := h.PushRemote(all[1], other, true, false); did != pool.Mine {
		t.Errorf("outcome %d for the new owner, want Mine", did)
	}
	got := 0
	for p := alloc(t, h); p != nil; p = alloc(t, h) {
		got++
	}
	if got != 32 {
		t.Errorf("%d blocks were free, want 32", got)
	}

	// Full when shared: who takes it is not waited for by a post.
	if !h.Fill() || !h.Share() {
		t.Fatal("a full pool was not shared")
	}
	wantWord(t, h, pool.Shared, pool.Quiet, 0)
	push(t, h, all[2], pool.Pushed)
}

// TestRetire: only a pool without blocks in use ends its owner's ownership, be its
// blocks free, on the chain or on the remote list; all are free then.
func TestRetire(t *testing.T) {
	f := newFake(t, 4<<10, 60)
	for remote := 0; remote <= 64; remote += 16 {
		for chained := 0; remote+chained <= 64; chained += 16 {
			h := f.take(sizeclass.Of(64))
			all := allocAll(t, h)
			if len(all) != 64 {
				t.Fatal("not 64 blocks")
			}
			for _, p := range all[:chained] {
				push(t, h, p, pool.Pushed)
			}
			h.Collect()
			for _, p := range all[chained : chained+remote] {
				push(t, h, p, pool.Pushed)
			}
			for i := chained + remote; i < 64; i++ {
				if h.Retire(0) {
					t.Fatalf("retired with %d blocks in use", 64-i)
				}
				wantWord(t, h, me, pool.Quiet, uint32(remote))
				h.Push(uint32(i))
			}
			if !h.Retire(0) {
				t.Fatalf("not retired: %d on the chain, %d remote, the rest free", chained, remote)
			}
			wantWord(t, h, pool.Free, pool.Quiet, 0)
			wantCounts(t, h, 0, 0)
			want := pool.Refused
			if remote+chained > 0 {
				want = pool.Double
			}
			push(t, h, all[0], want)
			if remote+chained == 0 && (!h.WasBlock(all[0]) || h.WasBlock(unsafe.Add(all[0], 1))) {
				t.Error("a free of a block that is gone is not known as such, or one that was none is")
			}
			h.Own(other)
			allocAll(t, h)
		}
	}
}

// TestFormat: a pool that was of the class is ready; one of another is cut anew.
func TestFormat(t *testing.T) {
	f := newFake(t, 16<<10, 63)
	h := f.take(sizeclass.Of(16))
	for _, size := range []int{16, 16, 2048, 48, 512, 16} {
		c := sizeclass.Of(size)
		h.Format(c, &f.shapes[c])
		h.Own(me)
		all := allocAll(t, h)
		if h.Class() != c || len(all) != int(f.shapes[c].Blocks) {
			t.Fatalf("class %d with %d blocks, want %d with %d", h.Class(), len(all), c, f.shapes[c].Blocks)
		}
		for _, p := range all {
			push(t, h, p, pool.Pushed)
		}
		if !h.Retire(0) {
			t.Fatal("not retired")
		}
	}
}

// TestSeal: what a program may write to a block does not look like a freed one,
// the bytes of a freed block among it.
func TestSeal(t *testing.T) {
	h := newPool(t, 64)
	a, b := alloc(t, h), alloc(t, h)
	size := h.Size()
	push(t, h, a, pool.Pushed)
	copy(unsafe.Slice((*byte)(b), size), unsafe.Slice((*byte)(a), size))
	wantState(t, h, b, pool.InUse, "a copy of a freed block")
	for i := range uint64(1 << 16) {
		*(*uint64)(b) = i * 0x9e3779b97f4a7c15
		wantState(t, h, b, pool.InUse, "random bytes")
		*(*uint64)(b) = i
		wantState(t, h, b, pool.InUse, "a small number")
	}

	// A block that a shard keeps in hand is sealed, and unsealed when handed out.
	pool.Seal(b)
	wantState(t, h, b, pool.Freed, "kept")
	pool.Unseal(b)
	wantState(t, h, b, pool.InUse, "handed out")
	if *(*uint64)(b) != 0 {
		t.Error("unsealed to what is not zero")
	}
}

// TestBroken: a link that was written to is not followed. The blocks before it are
// free again, it and those behind it stay live, and the pool goes on.
func TestBroken(t *testing.T) {
	for name, damage := range map[string]func(link []byte, in, out unsafe.Pointer){
		"cleared":             func(link []byte, _, _ unsafe.Pointer) { clear(link) },
		"low byte":            func(link []byte, _, _ unsafe.Pointer) { link[0] ^= 0x10 },
		"a bit":               func(link []byte, _, _ unsafe.Pointer) { link[2] ^= 0x40 },
		"high byte":           func(link []byte, _, _ unsafe.Pointer) { link[7]++ },
		"a number":            func(link []byte, _, _ unsafe.Pointer) { binary.NativeEndian.PutUint64(link, 42) },
		"an address":          func(link []byte, in, _ unsafe.Pointer) { binary.NativeEndian.PutUint64(link, uint64(uintptr(in))) },
		"a neighbour's link":  func(link []byte, in, _ unsafe.Pointer) { copy(link, unsafe.Slice((*byte)(in), 8)) },
		"another pool's link": func(link []byte, _, out unsafe.Pointer) { copy(link, unsafe.Slice((*byte)(out), 8)) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, 4<<10, 60)
			h := f.take(sizeclass.Of(64))
			all := allocAll(t, h)
			rest := f.place(f.headerUnits+1, 1, true)
			rest.Format(sizeclass.Of(64), &f.shapes[sizeclass.Of(64)])
			rest.Own(me)
			foreign := alloc(t, rest)
			push(t, rest, foreign, pool.Pushed)

			for _, p := range all[:20] {
				push(t, h, p, pool.Pushed)
			}
			damage(unsafe.Slice((*byte)(all[8]), 8), all[9], foreign)
			var broken unsafe.Pointer
			freed := 0
			for {
				if h.Pop() != nil {
					freed++
					continue
				}
				ok, bad := h.Refill(0)
				if bad != nil {
					if broken != nil {
						t.Fatal("broken twice")
					}
					broken = bad
				}
				if !ok {
					break
				}
			}
			if broken != all[8] || freed != 11 {
				t.Fatalf("broken is %p, and %d blocks were free; want %p and 11", broken, freed, all[8])
			}
			wantCounts(t, h, 64, 64) // nine of them for ever
			push(t, h, all[30], pool.Pushed)
			if p := alloc(t, h); p != all[30] {
				t.Errorf("the pool handed out %p, want %p", p, all[30])
			}
		})
	}
}

// TestRun: units that are no pools.
func TestRun(t *testing.T) {
	f := newFake(t, 4<<10, 60)
	h := f.place(10, 5, true)
	h.PlaceRun(5*4096 - 100)
	if h.Owner() != pool.Run || h.Usable() != 5*4096-100 || h.Units() != 5 || h.Start() != unsafe.Add(f.base, 10*4096) {
		t.Errorf("owner %d, %d usable, %d units, starts at %p", h.Owner(), h.Usable(), h.Units(), h.Start())
	}
	for i := 1; i < 5; i++ {
		if in := f.header(10 + i); in.Owner() != pool.Inner || in.Outer() != h {
			t.Errorf("unit %d: owner %d, part of %p, want %p", i, in.Owner(), in.Outer(), h)
		}
	}
	h.Unplace()
	if h.Owner() != pool.Free || !h.WasBlock(h.Start()) || h.WasBlock(unsafe.Add(h.Start(), 16)) {
		t.Errorf("owner %d; or a run that is gone is not known as such", h.Owner())
	}
	f.place(10, 1, true)
	if h.WasBlock(h.Start()) {
		t.Error("a pool that had no block yet is taken for a run that is gone")
	}
}

// What was handed out of a pool of another class, or before the units were a run, is no
// block any more.
func TestCarvedAnew(t *testing.T) {
	f, c := newFake(t, 16<<10, 60), sizeclass.Of(64)
	h := f.place(f.headerUnits, 1, true)
	for _, class := range []uint8{c, c + 1} {
		h.Format(class, &f.shapes[class])
		h.Own(me)
		middle := unsafe.Add(h.Start(), 50*h.Size())
		wantState(t, h, middle, pool.Foreign, "never handed out")
		for _, p := range allocAll(t, h) {
			h.Push(h.Index(p))
		}
		wantState(t, h, middle, pool.Freed, "handed out")
		if !h.Retire(0) || !h.WasBlock(middle) {
			t.Fatal("not retired, or its blocks are not known any more")
		}
	}
	middle := unsafe.Add(h.Start(), 50*h.Size())
	h = f.place(f.headerUnits, 1, false)
	h.PlaceRun(10_000)
	h.Unplace()
	if h.WasBlock(middle) || !h.WasBlock(h.Start()) {
		t.Error("the middle of a run that was freed is taken for a block, or its begin for none")
	}
}
